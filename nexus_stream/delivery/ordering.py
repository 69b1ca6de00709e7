"""Decide which of two snapshots of a session is newer: by content first, by time only if the content cannot decide.

Every message holds the whole history. So if a snapshot begins with all turns of another, it is newer, whatever the
clocks say. Only unrelated snapshots (the site shortened or restarted its history) are ordered by time.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Protocol

__all__ = ["MAX_CHAIN", "MAX_CLOCK_AHEAD_MS", "Placed", "Relation", "relate", "snapshot_time_ms"]

# A producer's clock may be wrong, so its time may be at most this far ahead of the broker's time.
MAX_CLOCK_AHEAD_MS = 5_000
# Hashes stored per session: a late snapshot is recognised as a prefix up to 256 turns back.
MAX_CHAIN = 256


class Relation(Enum):
    """The relation of a new snapshot to a known snapshot."""

    EQUAL = auto()  # the same turns (consent or tenant may still differ: compare digests)
    EXTENDS = auto()  # all turns of the known snapshot, then more
    PREFIX = auto()  # the known snapshot has all turns of the new one, then more
    LATER = auto()  # unrelated, and later by time
    EARLIER = auto()  # unrelated, and earlier by time


class Placed(Protocol):
    """The fields that ordering compares; snapshots and session states have them."""

    @property
    def chain(self) -> tuple[str, ...]:
        """The newest `MAX_CHAIN` cumulative turn hashes."""
        ...

    @property
    def turns(self) -> int:
        """Number of turns of the snapshot."""
        ...

    @property
    def snapshot_at_ms(self) -> int:
        """Time of the snapshot, Unix milliseconds."""
        ...

    @property
    def source_offset(self) -> int:
        """Offset of the snapshot's record."""
        ...


def snapshot_time_ms(enqueued_at_ms: int | None, record_timestamp_ms: int) -> int:
    """Time of a snapshot: the gateway's time, at most 5 s ahead of the broker's time."""
    if enqueued_at_ms is None:
        return record_timestamp_ms
    return min(enqueued_at_ms, record_timestamp_ms + MAX_CLOCK_AHEAD_MS)


def _hash_at(placed: Placed, turns: int) -> str | None:
    """The cumulative hash of the first ``turns`` turns, if the bounded chain still holds it."""
    index = len(placed.chain) - 1 - (placed.turns - turns)
    return placed.chain[index] if 0 <= index < len(placed.chain) else None


def relate(new: Placed, known: Placed) -> Relation:
    """The relation of ``new`` to ``known``."""
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
