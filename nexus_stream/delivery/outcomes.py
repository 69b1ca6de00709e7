"""Every way a record can end, as types: a new one fails the type check, not production.

"Try again later" is not an outcome, since nothing was decided: a step raises a RetryableError and one loop waits.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from nexus_stream.delivery.received import Received
from nexus_stream.errors import Reason

__all__ = [
    "DeadLettered",
    "Dropped",
    "Duplicate",
    "Enriched",
    "Erased",
    "Expired",
    "Outcome",
    "ReemitCause",
    "Reemitted",
    "Rerouted",
    "Stale",
    "Stored",
    "Superseded",
    "Suppressed",
    "Unblocked",
]


class ReemitCause(StrEnum):
    """Why a stored result is emitted again without a call."""

    REDELIVERED = "redelivered"
    FINGERPRINT = "fingerprint"


@dataclass(frozen=True, slots=True)
class Enriched:
    """Extracted, stored and emitted. What it says beside that is for logs."""

    extractor: str = field(default="", compare=False)
    is_cached: bool = field(default=False, compare=False)
    attempts: int = field(default=1, compare=False)
    # How many snapshots of the session it stands for.
    snapshots: int = field(default=1, compare=False)
    # What the extractor claimed and no turn of the user holds.
    dropped_fields: tuple[str, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Reemitted:
    """The stored result was emitted again: redelivered after a crash, or with a fingerprint that is new."""

    cause: ReemitCause


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Equal to what is known, waits or runs."""


@dataclass(frozen=True, slots=True)
class Stale:
    """Older than what is known."""


@dataclass(frozen=True, slots=True)
class Superseded:
    """A newer snapshot that begins with all of its turns took its place before it was extracted."""

    by: Received | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Rerouted:
    """Keyed differently by its producer: sent on to the partition of its session."""


@dataclass(frozen=True, slots=True)
class DeadLettered:
    """Set aside with its reason."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Stored:
    """Written by the sink, or already there."""


@dataclass(frozen=True, slots=True)
class Suppressed:
    """Of an erased session: nothing of it is kept."""


@dataclass(frozen=True, slots=True)
class Erased:
    """A command: the session was forgotten and stays away."""


@dataclass(frozen=True, slots=True)
class Unblocked:
    """A command: an erased session may come back."""


@dataclass(frozen=True, slots=True)
class Expired:
    """A command: the session was forgotten, because it was idle for long."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """The partition was revoked: the next owner reads the record again."""


Outcome = (
    Enriched
    | Reemitted
    | Duplicate
    | Stale
    | Superseded
    | Rerouted
    | DeadLettered
    | Stored
    | Suppressed
    | Erased
    | Unblocked
    | Expired
    | Dropped
)
