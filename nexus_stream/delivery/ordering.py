"""Which of two snapshots of a session is newer: by content first, by clocks only when content cannot tell.

The whole history travels in every message, so a snapshot that begins with all turns of another is newer than it,
whatever any clock says. Only unrelated ones (the site shortened or restarted its history) are ordered by time.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Protocol

__all__ = ["MAX_CHAIN", "MAX_CLOCK_AHEAD_MS", "Placed", "Relation", "relate", "snapshot_time_ms"]

# A producer's clock may be wrong; the broker's receipt bounds how far ahead it can claim to be.
MAX_CLOCK_AHEAD_MS = 5_000
# Hashes kept per session: 256 turns back a late snapshot is still recognised as a prefix.
MAX_CHAIN = 256


class Relation(Enum):
    """How a snapshot stands to a known one."""

    EQUAL = auto()  # the same turns (consent or tenant may still differ: compare digests)
    EXTENDS = auto()  # all turns of the known one, then more
    PREFIX = auto()  # the known one has all of these turns, then more
    LATER = auto()  # unrelated, and later by time
    EARLIER = auto()  # unrelated, and earlier by time


class Placed(Protocol):
    """What ordering looks at; snapshots and session states both have it."""

    @property
    def chain(self) -> tuple[str, ...]:
        """Cumulative turn hashes, the newest `MAX_CHAIN` of them."""
        ...

    @property
    def turns(self) -> int:
        """How many turns the snapshot has."""
        ...

    @property
    def snapshot_at_ms(self) -> int:
        """When it was taken."""
        ...

    @property
    def source_offset(self) -> int:
        """The offset of the record that carried it."""
        ...


def snapshot_time_ms(enqueued_at_ms: int | None, record_timestamp_ms: int) -> int:
    """When a snapshot was taken: the gateway's time, unless it lies more than 5 s ahead of the broker's."""
    if enqueued_at_ms is None:
        return record_timestamp_ms
    return min(enqueued_at_ms, record_timestamp_ms + MAX_CLOCK_AHEAD_MS)


def _hash_at(placed: Placed, turns: int) -> str | None:
    """The cumulative hash over the first ``turns`` turns, if the bounded chain still has it."""
    index = len(placed.chain) - 1 - (placed.turns - turns)
    return placed.chain[index] if 0 <= index < len(placed.chain) else None


def relate(new: Placed, known: Placed) -> Relation:
    """How ``new`` stands to ``known``."""
    last_new, last_known = new.chain[-1], known.chain[-1]
    if new.turns == known.turns and last_new == last_known:
        return Relation.EQUAL
    if new.turns > known.turns and _hash_at(new, known.turns) == last_known:
        return Relation.EXTENDS
    if new.turns < known.turns and _hash_at(known, new.turns) == last_new:
        return Relation.PREFIX
    new_place = (new.snapshot_at_ms, new.turns, new.source_offset)
    known_place = (known.snapshot_at_ms, known.turns, known.source_offset)
    return Relation.LATER if new_place > known_place else Relation.EARLIER
