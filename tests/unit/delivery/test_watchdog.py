"""The watchdog distinguishes a stall from a wait."""

from __future__ import annotations

from typing import Any

import pytest

from nexus_stream.delivery.watchdog import Progress, Standing

TP = ("ingestion", 0)


def standing(position: int, *, end: int = 10, read: int | None = None, excused: bool = False) -> Standing:
    return Standing({TP: position}, {TP: position if read is None else read}, {TP: end}, excused)


@pytest.fixture
def progress() -> Progress:
    return Progress(stalled_after_seconds=60, now=0)


def test_lag_without_movement_is_a_stall(progress):
    assert progress.observe(standing(3), 0) is None
    assert progress.observe(standing(3), 59) is None
    assert progress.observe(standing(3), 61) == 61


def test_any_movement_ends_it(progress):
    progress.observe(standing(3), 0)
    assert progress.observe(standing(3), 61) is not None
    assert progress.observe(standing(3, read=4), 62) is None
    assert progress.observe(standing(4, read=4), 100) is None


@pytest.mark.parametrize("quiet", [standing(10), standing(3, excused=True)])
def test_no_work_or_a_reason_to_wait_is_not_a_stall(progress, quiet):
    progress.observe(quiet, 0)
    assert progress.observe(quiet, 1000) is None


def test_an_unreachable_broker_is_not_a_stall(progress):
    away = Standing({TP: 3}, {TP: 3}, {}, excused=False)
    progress.observe(away, 0)
    assert progress.observe(away, 1000) is None


def test_lag_counts_unfinished_records_and_unread_counts_unread_ones():
    assert standing(3, read=7).lag == 7
    assert standing(3, read=7).unread == 3


OTHER = ("ingestion", 1)


def two(mine: tuple[int, int], other: tuple[int, int], *, end: int = 100, **more: Any) -> Standing:
    """Two partitions, each (finished, read). In the tests below the other one moves, this one does not."""
    return Standing(
        {TP: mine[0], OTHER: other[0]}, {TP: mine[1], OTHER: other[1]}, {TP: end, OTHER: end}, excused=False, **more
    )


def test_one_partition_that_is_not_read_while_others_are_is_a_stall(progress):
    for now in range(0, 60, 5):
        assert progress.observe(two((3, 3), (now, now)), now) is None
    assert progress.observe(two((3, 3), (61, 61)), 61) == 61
    assert progress.stalled == (TP,)
    assert progress.observe(two((4, 4), (62, 62)), 62) is None
    assert progress.stalled == ()


def test_a_bound_on_pending_work_explains_that_nothing_is_read(progress):
    for now in range(0, 600, 5):
        # Work continues, but the other partition takes all free room.
        assert progress.observe(two((3, 3), (now, now), end=1000, is_full=now % 20 == 0), now) is None


def test_a_skipped_record_is_a_stall(progress):
    for now in range(0, 200, 5):
        # This partition is read to the end. Finished work was due within a minute of its stop: the queue is just long.
        assert progress.observe(two((3, 100), (now, 100), newest_due_done=59), now) is None
    assert progress.observe(two((3, 100), (99, 100), newest_due_done=61), 200) == 200
    assert progress.stalled == (TP,)


def test_a_retried_record_is_not_skipped(progress):
    for now in range(0, 600, 5):
        standing = two((3, 1000), (now, 1000), end=1000, newest_due_done=now, tried_again={TP})
        assert progress.observe(standing, now) is None


def test_an_excuse_restarts_every_partitions_time(progress):
    progress.observe(two((3, 3), (1, 1)), 0)
    progress.observe(Standing({TP: 3}, {TP: 3}, {TP: 10}, excused=True), 59)
    assert progress.observe(two((3, 3), (2, 2)), 62) is None


def test_a_revoked_partition_is_forgotten(progress):
    progress.observe(two((3, 3), (1, 1)), 0)
    progress.observe(Standing({OTHER: 2}, {OTHER: 2}, {TP: 100, OTHER: 100}, excused=False), 30)
    # The partition came back: its time starts now.
    assert progress.observe(two((3, 3), (3, 3)), 61) is None
    assert progress.observe(two((3, 3), (4, 4)), 100) is None
