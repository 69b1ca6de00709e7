"""Who is told how long a stage's work took; histograms live behind it (observability/metrics_stage.py)."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Timings", "Untimed"]


class Timings(Protocol):
    """Told once a record at the most, so every method must be cheap."""

    def settled(self, seconds: float) -> None:
        """A session's work left settling, so long after its first snapshot was seen."""
        ...

    def done(self, seconds: float) -> None:
        """Work became durable, so long after it was due (settled, or emitted)."""
        ...

    def arrived(self, seconds: float) -> None:
        """A conversation's row was committed, so long after the gateway had taken it."""
        ...


class Untimed:
    """Nobody is told."""

    def settled(self, seconds: float) -> None:
        """Nothing."""

    def done(self, seconds: float) -> None:
        """Nothing."""

    def arrived(self, seconds: float) -> None:
        """Nothing."""
