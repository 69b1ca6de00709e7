"""Decide which of two snapshots of a session is newer: by content first, by their place only if content cannot decide.

A snapshot holds the history as the site knows it: all of it, or its newest turns. The user's words decide
(contracts/said.py). A snapshot with all words of another and more is newer, whatever the clocks say. Snapshots with the
same words are one extraction. Only unrelated snapshots (the site restarted its history, the user edited a turn) are
ordered by place: by offset, which is the broker's word. A record that returns to the topic (a redrive, a backfill) has
a late offset, so its time counts instead.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Protocol

from nexus_stream.contracts.said import Said, fits

__all__ = [
    "MAX_CLOCK_AHEAD_MS",
    "MAX_CLOCK_BEHIND_MS",
    "MAX_STEPS",
    "Placed",
    "Relation",
    "is_later",
    "joined",
    "missing_steps",
    "relate",
    "snapshot_time_ms",
]

# `enqueuedAt` is the gateway's clock, or what another producer wrote. It may differ this far from the broker's receipt:
# ahead by a clock's error, behind by the longest wait for the broker's acknowledgement.
MAX_CLOCK_AHEAD_MS = 5_000
MAX_CLOCK_BEHIND_MS = 60_000
# Steps kept per session. More than a snapshot may have turns (NEXUS_MAX_TURNS), so a full history is recognised.
MAX_STEPS = 256


class Relation(Enum):
    """The relation of a new snapshot to a known snapshot."""

    EQUAL = auto()  # the same turns and consent
    RETOLD = auto()  # the user said the same; the text around the user's words is newer
    TOLD = auto()  # the user said the same; the text around the user's words is older
    EXTENDS = auto()  # all the user said in the known snapshot, then more
    PREFIX = auto()  # the known snapshot has all of the new one
    PRECEDES = auto()  # words from before the known snapshot's cut, then a part of its words
    LATER = auto()  # unrelated, and later by place
    EARLIER = auto()  # unrelated, and earlier by place


class Placed(Protocol):
    """The fields that ordering compares; snapshots and session states have them."""

    @property
    def said(self) -> Said:
        """The user's words: the newest `MAX_STEPS` steps."""
        ...

    @property
    def digest(self) -> str:
        """A hash that is equal for equal turns with equal consent."""
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
    def is_returned(self) -> bool:
        """Whether its record came back to the topic, so that its offset says nothing about its age."""
        ...

    @property
    def source_partition(self) -> int:
        """Partition of the snapshot's record."""
        ...

    @property
    def source_offset(self) -> int:
        """Offset of the snapshot's record."""
        ...


def snapshot_time_ms(enqueued_at_ms: int | None, received_ms: int, *, is_old: bool = False) -> int:
    """Time of a snapshot: the gateway's time, bounded by Kafka's time of the record.

    Args:
        enqueued_at_ms: ``enqueuedAt``, if the record has it.
        received_ms: Kafka's time of the record, the first one if it came back to the topic.
        is_old: The snapshot may be much older than that: a backfill writes old histories.
    """
    if enqueued_at_ms is None:
        return received_ms
    earliest_ms = 0 if is_old else received_ms - MAX_CLOCK_BEHIND_MS
    return min(max(enqueued_at_ms, earliest_ms), received_ms + MAX_CLOCK_AHEAD_MS)


def relate(new: Placed, known: Placed) -> Relation:
    """The relation of ``new`` to ``known``."""
    if new.digest == known.digest:
        return Relation.EQUAL
    by_words = _by_words(new.said, known.said)
    if by_words is None:
        return Relation.LATER if is_later(new, known) else Relation.EARLIER
    if by_words is Relation.RETOLD and not is_later(new, known):
        return Relation.TOLD
    return by_words


def is_later(new: Placed, known: Placed) -> bool:
    """Whether ``new`` is later by place: by offset, or by time if the later offset is that of a return."""
    if new.source_partition == known.source_partition:
        _, second = sorted((new, known), key=lambda placed: placed.source_offset)
        if not second.is_returned:
            # Written after the other one, and after its return.
            return second is new
    new_place = (new.snapshot_at_ms, new.turns, new.source_offset)
    return new_place > (known.snapshot_at_ms, known.turns, known.source_offset)


def _by_words(new: Said, known: Said) -> Relation | None:
    """The relation by the user's words: RETOLD if they are the same, None if they are unrelated."""
    missing = missing_steps(new, known)
    if missing is None:
        # The new snapshot may begin earlier. It is newer if it has all of the known one.
        older = missing_steps(known, new)
        if older is None:
            return None
        return Relation.EXTENDS if len(known) <= len(new) - older else Relation.PRECEDES
    more = len(new) - (len(known) - missing)
    return Relation.EXTENDS if more > 0 else Relation.PREFIX if more < 0 else Relation.RETOLD


def missing_steps(new: Said, known: Said) -> int | None:
    """How many of the known first steps the new snapshot lacks because the site cut its history.

    Returns:
        0 if both begin with the same words. None if the new snapshot begins at no step of the known one.
    """
    if not new or not known:
        return 0
    for missing in range(len(known)):
        # zip ends with the shorter one: the rest of the longer one is what the other lacks.
        if all(map(fits, new, known[missing:])):
            return missing
    return None


def joined(known: Said, new: Said) -> Said:
    """All that is known of the user's words after a new snapshot; bounded. Unrelated words are forgotten."""
    if not known:
        return new[-MAX_STEPS:]
    missing = missing_steps(new, known)
    if missing is not None:
        return _put_together(known, new, missing)
    older = missing_steps(known, new)
    return new[-MAX_STEPS:] if older is None else _put_together(new, known, older)


def _put_together(first: Said, second: Said, begins_at: int) -> Said:
    """Steps that overlap, from the second one's beginning on. The longer form of a step knows what was answered."""
    overlap = tuple(max(one, other, key=len) for one, other in zip(first[begins_at:], second, strict=False))
    rest = max(first[begins_at + len(overlap) :], second[len(overlap) :], key=len)
    return (*first[:begins_at], *overlap, *rest)[-MAX_STEPS:]
