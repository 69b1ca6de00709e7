"""The watchdog tells a stall from a wait."""

from __future__ import annotations

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
