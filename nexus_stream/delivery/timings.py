"""Port for the durations of a stage's work; the histograms are in observability/metrics_stage.py."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Timings", "Untimed"]


class Timings(Protocol):
    """Receives durations, up to once per record, so every method must be cheap."""

    def settled(self, seconds: float) -> None:
        """Note the time from a session's first snapshot to the end of settling."""
        ...

    def done(self, seconds: float) -> None:
        """Note the time from due (settled, or emitted) to durable."""
        ...

    def arrived(self, seconds: float) -> None:
        """Note the time from the gateway's acceptance of a conversation to the commit of its row."""
        ...


class Untimed:
    """`Timings` that does nothing."""

    def settled(self, seconds: float) -> None:
        """Nothing."""

    def done(self, seconds: float) -> None:
        """Nothing."""

    def arrived(self, seconds: float) -> None:
        """Nothing."""
