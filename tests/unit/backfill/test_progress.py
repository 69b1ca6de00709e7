"""The progress of a backfill as text."""

from __future__ import annotations

from nexus_stream.backfill.progress import LineProgress, described
from nexus_stream.backfill.records import Counts, View


def view(sent: int, eta: float | None = None, end: float | None = None) -> View:
    return View(Counts({"sent": sent, "batched": 10 - sent, "skipped": 5}, {}, 1, 0.12), eta, end)


def test_counts_cost_and_time_left():
    assert described(view(4, 3725)) == "4 of 10 sent, 6 in 1 batch(es), 0 pending, 0.1200 USD, about 1:02:05 left"
    assert described(view(0, end=1_790_000_000)).endswith("these batches end by 2026-09-21 14:13 UTC")
    assert "left" not in described(view(10))


def test_lines_are_printed_on_change_not_too_often_and_at_the_end():
    lines: list[str] = []
    now = [0.0]
    progress = LineProgress(lines.append, lambda: now[0])
    progress.update(view(1))
    progress.update(view(2))
    assert len(lines) == 1
    now[0] = 31
    progress.update(view(2))
    progress.update(view(2))
    assert len(lines) == 2
    progress.update(view(10))
    assert lines[-1].startswith("10 of 10 sent")
    progress.note("waiting")
    progress.note("waiting")
    assert lines.count("waiting") == 1
