"""Show the progress of a backfill on standard error: a bar on a terminal, otherwise a line from time to time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from nexus_stream.backfill.records import View

__all__ = ["BarProgress", "LineProgress", "described", "shown_progress"]

_LINE_SECONDS: Final = 30.0


def described(view: View) -> str:
    """Describe the progress in one line."""
    counts = view.counts
    states = counts.states
    parts = [
        f"{states.get('sent', 0):,} of {counts.total:,} sent",
        f"{states.get('batched', 0):,} in {counts.open_batches} batch(es)",
        f"{states.get('pending', 0):,} pending",
        f"{counts.cost_usd:.4f} USD",
    ]
    if counts.unfinished:
        parts.append(_remaining(view))
    return ", ".join(parts)


def _remaining(view: View) -> str:
    if view.eta_seconds is not None:
        minutes, seconds = divmod(round(view.eta_seconds), 60)
        hours, minutes = divmod(minutes, 60)
        return f"about {hours}:{minutes:02}:{seconds:02} left"
    if view.latest_end is not None:
        # No batch has ended yet, so only Anthropic's promised end is known.
        moment = datetime.fromtimestamp(view.latest_end, UTC)
        return f"these batches end by {moment:%Y-%m-%d %H:%M} UTC"
    return "time left unknown"


class LineProgress:
    """Prints a line when a count changed, at most every 30 s, and at the end.

    Args:
        write: Prints a line.
        now: Seconds, monotonic.
    """

    def __init__(self, write: Callable[[str], None], now: Callable[[], float] = time.monotonic) -> None:
        self._write = write
        self._now = now
        self._last_at = float("-inf")
        self._last = ""
        self._last_note = ""

    def update(self, view: View) -> None:
        """See `Progress`."""
        text = described(view)
        if text == self._last or (view.counts.unfinished and self._now() - self._last_at < _LINE_SECONDS):
            return
        self._last, self._last_at = text, self._now()
        self._write(text)

    def note(self, text: str) -> None:
        """See `Progress`; a repeated note is printed once."""
        if text != self._last_note:
            self._last_note = text
            self._write(text)


class BarProgress:
    """Redraws a bar."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID = progress.add_task("backfill", total=None)
        self._last_note = ""

    def update(self, view: View) -> None:
        """See `Progress`."""
        self._progress.update(
            self._task,
            total=view.counts.total,
            completed=view.counts.states.get("sent", 0),
            description=described(view),
        )

    def note(self, text: str) -> None:
        """See `Progress`; a repeated note is printed once."""
        if text != self._last_note:
            self._last_note = text
            self._progress.console.print(text, markup=False, highlight=False)


@contextmanager
def shown_progress() -> Iterator[BarProgress | LineProgress]:
    """Show a bar if standard error is a terminal, else lines."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield LineProgress(lambda text: click.echo(text, err=True))
        return
    with Progress(BarColumn(), TextColumn("{task.description}"), console=console) as progress:
        yield BarProgress(progress)
