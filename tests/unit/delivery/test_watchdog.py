"""The watchdog tells a stall from a wait."""

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
def test_nothing_to_do_or_a_reason_to_wait_is_no_stall(progress, quiet):
    progress.observe(quiet, 0)
    assert progress.observe(quiet, 1000) is None


def test_an_unreachable_broker_is_no_stall(progress):
    away = Standing({TP: 3}, {TP: 3}, {}, excused=False)
    progress.observe(away, 0)
    assert progress.observe(away, 1000) is None


def test_lag_counts_what_is_unfinished_and_unread_what_was_not_read():
    assert standing(3, read=7).lag == 7
    assert standing(3, read=7).unread == 3


OTHER = ("ingestion", 1)


def two(mine: tuple[int, int], other: tuple[int, int], *, end: int = 100, **more: Any) -> Standing:
    """Two partitions, each (finished, read); the other one moves in the tests below, ours does not."""
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
        # Work goes on, room is taken as soon as there is some, and our partition is not its turn.
        assert progress.observe(two((3, 3), (now, now), end=1000, is_full=now % 20 == 0), now) is None


def test_a_record_that_is_passed_over_is_a_stall(progress):
    for now in range(0, 200, 5):
        # Ours is read to the end; what is done was due within a minute of when ours stopped: the line is long.
        assert progress.observe(two((3, 100), (now, 100), newest_due_done=59), now) is None
    assert progress.observe(two((3, 100), (99, 100), newest_due_done=61), 200) == 200
    assert progress.stalled == (TP,)


def test_a_record_that_is_tried_again_is_not_passed_over(progress):
    for now in range(0, 600, 5):
        standing = two((3, 1000), (now, 1000), end=1000, newest_due_done=now, tried_again={TP})
        assert progress.observe(standing, now) is None


def test_an_excuse_begins_every_partitions_time_anew(progress):
    progress.observe(two((3, 3), (1, 1)), 0)
    progress.observe(Standing({TP: 3}, {TP: 3}, {TP: 10}, excused=True), 59)
    assert progress.observe(two((3, 3), (2, 2)), 62) is None


def test_a_partition_that_went_is_forgotten(progress):
    progress.observe(two((3, 3), (1, 1)), 0)
    progress.observe(Standing({OTHER: 2}, {OTHER: 2}, {TP: 100, OTHER: 100}, excused=False), 30)
    # It came back: its time begins now.
    assert progress.observe(two((3, 3), (3, 3)), 61) is None
    assert progress.observe(two((3, 3), (4, 4)), 100) is None
