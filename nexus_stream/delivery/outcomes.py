"""Every way a record can end, as types. A forgotten case fails the type check, not production.

"Try again later" is no outcome, because nothing was decided: a step raises a RetryableError, and one loop waits.
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
    RETOLD = "retold"


@dataclass(frozen=True, slots=True)
class Enriched:
    """Extracted, stored and emitted. The fields are for logs."""

    extractor: str = field(default="", compare=False)
    is_cached: bool = field(default=False, compare=False)
    attempts: int = field(default=1, compare=False)
    # How many snapshots of the session this extraction stands for.
    snapshots: int = field(default=1, compare=False)
    # Fields that the extractor claimed and that no turn of the user holds.
    dropped_fields: tuple[str, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Reemitted:
    """The stored result was emitted again: redelivered, with a new fingerprint, or with a newer snapshot's facts."""

    cause: ReemitCause


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Equal to a snapshot that is stored, pending or being extracted."""


@dataclass(frozen=True, slots=True)
class Stale:
    """Older than the stored snapshot."""


@dataclass(frozen=True, slots=True)
class Superseded:
    """Replaced before its extraction by a newer snapshot that has all of the user's words."""

    by: Received | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Rerouted:
    """Sent to its session's partition, because its producer keyed it differently."""


@dataclass(frozen=True, slots=True)
class DeadLettered:
    """Set aside with its reason. ``read_by``: who read it instead, so that there is a record too; for logs."""

    reason: Reason
    read_by: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Stored:
    """Written by the sink, or already in the database."""


@dataclass(frozen=True, slots=True)
class Suppressed:
    """Part of an erased session: nothing of it is kept."""


@dataclass(frozen=True, slots=True)
class Erased:
    """A command: the session was deleted, and stays suppressed."""


@dataclass(frozen=True, slots=True)
class Unblocked:
    """A command: an erased session may be stored again."""


@dataclass(frozen=True, slots=True)
class Expired:
    """A command: the session was deleted because it was idle for long."""


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
