"""What a backfill's state consists of, and how far it is.

From: store.py, run.py. To: every step of a run, and progress.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from nexus_stream.contracts.headers import Headers

__all__ = ["Chunk", "Counts", "Item", "Progress", "View"]


@dataclass(frozen=True, slots=True)
class Item:
    """One session's newest snapshot.

    Attributes:
        value: The conversation as it is to be sent.
        attempts: Batches it was in so far.
        problems: What was wrong with Claude's last answer.
        improves: Only rules have read it so far.
        answer: The header's value; None for a record without it.
    """

    id: int
    session: bytes
    value: bytes
    headers: Headers
    timestamp_ms: int
    fingerprint: str | None
    state: str
    attempts: int
    problems: str | None
    improves: bool
    answer: bytes | None
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cost_usd: float


@dataclass(frozen=True, slots=True)
class Chunk:
    """The requests of one batch."""

    id: int
    state: str
    batch_id: str | None
    requests: int
    reserved_usd: float
    intended_at: float


@dataclass(frozen=True, slots=True)
class Counts:
    """How far the run is.

    Attributes:
        states: Items by state.
        outcomes: Items that are ready, sent or skipped, by how they ended.
        open_batches: Batches that exist or may exist at Anthropic.
        cost_usd: Of all answers so far, at batch price.
    """

    states: dict[str, int]
    outcomes: dict[str, int]
    open_batches: int
    cost_usd: float

    @property
    def total(self) -> int:
        """Sessions that are not skipped."""
        return sum(count for state, count in self.states.items() if state != "skipped")

    @property
    def unfinished(self) -> int:
        """Sessions that are not on the topic yet."""
        return self.total - self.states.get("sent", 0)


@dataclass(frozen=True, slots=True)
class View:
    """How far it is, to be shown."""

    counts: Counts
    eta_seconds: float | None
    latest_end: float | None


class Progress(Protocol):
    """Shows how far it is."""

    def update(self, view: View) -> None:
        """Something may have changed."""
        ...

    def note(self, text: str) -> None:
        """Something to know; no personal data."""
        ...
