"""The records of a backfill's state and progress."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from nexus_stream.contracts.headers import ANSWER_HEADER, ORIGIN_TIMESTAMP_HEADER, Headers

__all__ = ["Chunk", "Counts", "Item", "ProgressDisplay", "View", "origin_headers"]


def origin_headers(timestamp_ms: int) -> Headers:
    """The header that says when a record was first written, Unix milliseconds."""
    return ((ORIGIN_TIMESTAMP_HEADER, str(timestamp_ms).encode()),)


@dataclass(frozen=True, slots=True)
class Item:
    """One session's newest snapshot.

    Attributes:
        value: The conversation in the form in which it will be sent.
        attempts: Number of batches that it was in so far.
        problems: The problems of Claude's last answer.
        improves: Whether its answer improves a record of the offline rules, or of another model or prompt.
        answer: The header's value; None for a record without the header.
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

    @property
    def sent_headers(self) -> Headers:
        """The headers of its record; they say how old it is, because its offset will not."""
        answer = () if self.answer is None else ((ANSWER_HEADER, self.answer),)
        return (*self.headers, *origin_headers(self.timestamp_ms), *answer)


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
    """The counts of a run.

    Attributes:
        states: Number of items by state.
        outcomes: Number of items that are ready, sent or skipped, by outcome.
        open_batches: Number of batches that exist or may exist at Anthropic.
        cost_usd: Cost of all answers so far, at batch price.
    """

    states: dict[str, int]
    outcomes: dict[str, int]
    open_batches: int
    cost_usd: float

    @property
    def total(self) -> int:
        """Number of sessions that are not skipped."""
        return sum(count for state, count in self.states.items() if state != "skipped")

    @property
    def unfinished(self) -> int:
        """Number of sessions that are not on the topic yet."""
        return self.total - self.states.get("sent", 0)


@dataclass(frozen=True, slots=True)
class View:
    """The progress to show."""

    counts: Counts
    eta_seconds: float | None
    latest_end: float | None


class ProgressDisplay(Protocol):
    """Shows the progress of a run."""

    def update(self, view: View) -> None:
        """Show the view, which may have changed."""
        ...

    def note(self, text: str) -> None:
        """Show a note for the operator; no personal data."""
        ...
