"""Settling: a session's newest snapshot waits until the chat is quiet. It is then extracted once for all snapshots.

`offer` adds each decoded snapshot. `take` returns settled work, at most one per session. Pure data: no task, no clock,
no I/O. The caller passes "now" (monotonic seconds).

A newer snapshot replaces a pending one only if it has all of the user's words (delivery/ordering.py). If the site cut
its history at the beginning, the cut turns are kept beside the new snapshot until they were read. Otherwise (the site
restarted its history) both stay, in order, and are extracted one after the other.

Offsets: a `Work` has one unfinished offset, the offset of its first record (``hold``). Later snapshots of the work come
from the same partition at higher offsets. While the hold is unfinished, the ledger cannot commit past it. So the later
offsets are marked done at once, and the ledger remembers only one offset per live session.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from nexus_stream.contracts.conversation import Conversation, Message, digest
from nexus_stream.contracts.headers import ANSWER_HEADER, HOP_HEADER, REDRIVE_HEADER
from nexus_stream.contracts.said import Said, said_steps
from nexus_stream.delivery.ordering import (
    MAX_STEPS,
    Relation,
    is_later,
    joined,
    missing_steps,
    relate,
    snapshot_time_ms,
)
from nexus_stream.delivery.received import Received

__all__ = ["MAX_FINGERPRINTS", "Joined", "Settling", "Snapshot", "Work"]

# Per session, both in its pending work and in its stored state.
MAX_FINGERPRINTS = 8
# A snapshot that tells nothing new waits at least this long: an answer that still streams is told once, at its end.
_RETOLD_SETTLE_SECONDS = 2.0
_RETOLD_MAX_WAIT_SECONDS = 10.0
_SAME_WORDS = frozenset({Relation.EQUAL, Relation.RETOLD, Relation.TOLD})


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One decoded conversation, with the fields that order it.

    Attributes:
        said: The user's words, with those of ``earlier``.
        earlier: Turns before the conversation's first user turn. The site cut them off, and nobody has read them yet.
    """

    record: Received
    conversation: Conversation
    said: Said
    digest: str
    snapshot_at_ms: int
    is_returned: bool
    earlier: tuple[Message, ...] = ()

    @classmethod
    def of(cls, record: Received, conversation: Conversation) -> Snapshot:
        """Make the snapshot of a record."""
        cut = conversation.cut
        return cls(
            record=record,
            conversation=conversation,
            said=said_steps(conversation.messages, answers_known_from=0 if cut is None else cut.until)[-MAX_STEPS:],
            digest=digest(conversation),
            snapshot_at_ms=_snapshot_at_ms(record, conversation),
            is_returned=record.origin_ms is not None,
        )

    @property
    def turns(self) -> int:
        """Number of turns of the conversation."""
        return len(self.conversation.messages)

    @property
    def messages(self) -> tuple[Message, ...]:
        """All turns to read: the earlier ones, then the conversation's."""
        if not self.earlier:
            return self.conversation.messages
        return (*self.earlier, *self.conversation.messages[_user_turns(self.conversation.messages)[0] :])

    @property
    def source_partition(self) -> int:
        """Partition of its record."""
        return self.record.partition

    @property
    def source_offset(self) -> int:
        """Offset of its record."""
        return self.record.offset

    @property
    def is_sent_back(self) -> bool:
        """Whether it brings an answer, or an operator redrives it: then it counts although its words are known."""
        header = self.record.header
        return header(ANSWER_HEADER) is not None or header(REDRIVE_HEADER) is not None

    @property
    def size_bytes(self) -> int:
        """Its size for the bound on pending bytes."""
        return len(self.record.value or b"") + sum(len(message.content) for message in self.earlier)

    def says_otherwise(self, other: Snapshot) -> bool:
        """Whether the consent differs: with the same words, the later snapshot counts."""
        return self.conversation.metadata.consent != other.conversation.metadata.consent

    def identifies(self, other: Snapshot) -> bool:
        """Whether it claims or proves an identity that the other one does not."""
        mine, theirs = self.conversation.metadata, other.conversation.metadata
        is_same = (mine.identity, mine.identity_proven) == (theirs.identity, theirs.identity_proven)
        return mine.identity is not None and not is_same and (mine.identity_proven or not theirs.identity_proven)

    def behind(self, unread: Snapshot, max_turns: int | None = MAX_STEPS) -> Snapshot | None:
        """This newer snapshot, with those turns of an unread snapshot that its site cut off.

        Returns:
            None if the turns are too many to be read at once.
        """
        missing = missing_steps(self.said, unread.said)
        if not missing:
            return self
        earlier = unread.messages[: _user_turns(unread.messages)[-len(unread.said) :][missing]]
        if max_turns is not None and len(earlier) + self.turns > max_turns:
            return None
        return replace(self, earlier=earlier, said=joined(unread.said, self.said))


def _snapshot_at_ms(record: Received, conversation: Conversation) -> int:
    origin_ms = record.origin_ms
    if origin_ms is None:
        return snapshot_time_ms(conversation.enqueued_at_ms, record.timestamp_ms)
    if record.header(HOP_HEADER) is not None:
        # The broker's first receipt: no producer's clock has a word in it.
        return origin_ms
    return snapshot_time_ms(conversation.enqueued_at_ms, origin_ms, is_old=True)


def _user_turns(messages: tuple[Message, ...]) -> list[int]:
    return [index for index, message in enumerate(messages) if message.role == "user"]


@dataclass(slots=True, eq=False)
class Work:
    """One extraction to make: the newest snapshot, and the data of the snapshots it replaced."""

    key: bytes
    snapshot: Snapshot
    hold: Received
    first_at: float
    due_at: float
    # Fingerprints of this snapshot and of all it replaced, the current one last.
    fingerprints: list[str] = field(default_factory=list)
    # The previous snapshot, which is extracted instead if this one is dead-lettered.
    replaced: Snapshot | None = None
    snapshots: int = 1
    # The user's words are in the state, or in the work before. The stored result is emitted again, without a call.
    is_retold: bool = False
    # It was queued behind other work, which may have read its words when its turn comes.
    may_be_read: bool = False
    is_due: bool = False
    in_flight: bool = False
    # The session was erased, so the result is discarded.
    cancelled: bool = False
    attempts: int = 0
    # The work failed since it was taken. Differs from `attempts`: a general failure is not an attempt.
    is_tried_again: bool = False

    def note_fingerprint(self, fingerprint: str | None) -> None:
        """Remember a fingerprint as the current one."""
        if fingerprint is None:
            return
        if fingerprint in self.fingerprints:
            self.fingerprints.remove(fingerprint)
        self.fingerprints.append(fingerprint)
        # Bounded: while work waits for long (the model is unavailable), its snapshot may repeat with new fingerprints.
        del self.fingerprints[:-MAX_FINGERPRINTS]


class Joined:
    """The result of an offered snapshot (a plain enum could not hold the superseded snapshot)."""

    @dataclass(frozen=True, slots=True)
    class Added:
        """The snapshot is new work."""

        work: Work

    @dataclass(frozen=True, slots=True)
    class Replaced:
        """The snapshot replaced a pending one (``superseded``). ``dropped``: the snapshot that is kept no longer."""

        work: Work
        superseded: Snapshot
        dropped: Snapshot | None

    @dataclass(frozen=True, slots=True)
    class Duplicate:
        """The same snapshot is pending or in flight."""

    @dataclass(frozen=True, slots=True)
    class Stale:
        """A newer snapshot is pending or in flight."""

    @dataclass(frozen=True, slots=True)
    class Unknown:
        """Older than all pending snapshots, and none is in flight: compare it with the stored state."""

    Any = Added | Replaced | Duplicate | Stale | Unknown


class Settling:
    """Pending work and work in flight, by session key.

    Args:
        settle_seconds: Quiet time after the newest snapshot.
        max_wait_seconds: Longest wait after a session's first snapshot, also in a busy chat.
    """

    def __init__(self, *, settle_seconds: float, max_wait_seconds: float) -> None:
        self._settle_seconds = settle_seconds
        self._max_wait_seconds = max_wait_seconds
        # In the order of extraction; only the first work of a session may be in flight.
        self._sessions: dict[bytes, deque[Work]] = {}
        self._due_heap: list[tuple[float, int, Work]] = []
        self._sequence = itertools.count()
        self._ready: deque[Work] = deque()

    def __len__(self) -> int:
        return len(self._sessions)

    def works(self) -> Iterator[Work]:
        """All work, pending and in flight."""
        for queue in self._sessions.values():
            yield from queue

    def has(self, key: bytes) -> bool:
        """Whether that session has work, pending or in flight."""
        return key in self._sessions

    def offer(self, snapshot: Snapshot, now: float, *, is_known: bool = False) -> Joined.Any:
        """Place a snapshot in its session's work: by content first, by its place in the topic second.

        Args:
            snapshot: The snapshot.
            now: Monotonic seconds.
            is_known: The stored state has all of the snapshot. So it is no new work unless content says so.
        """
        key = snapshot.conversation.key
        queue = self._sessions.get(key)
        if not queue:
            return Joined.Unknown()
        fingerprint = snapshot.conversation.fingerprint
        place: int | None = None
        for index in range(len(queue) - 1, -1, -1):
            work = queue[index]
            relation = relate(snapshot, work.snapshot)
            if snapshot.is_sent_back and not is_known and relation in _SAME_WORDS:
                return Joined.Added(self.add(snapshot, now, index + 1))
            if relation is Relation.EQUAL:
                if not snapshot.identifies(work.snapshot):
                    work.note_fingerprint(fingerprint)
                    return Joined.Duplicate()
                relation = Relation.RETOLD
            if relation in {Relation.RETOLD, Relation.TOLD} and snapshot.says_otherwise(work.snapshot):
                # The same words with another consent: the later snapshot counts.
                relation = Relation.EXTENDS if is_later(snapshot, work.snapshot) else Relation.PREFIX
            if relation is Relation.TOLD or (relation is Relation.RETOLD and place is not None):
                # Older than the work, or of a history that ended.
                work.note_fingerprint(fingerprint)
                return Joined.Duplicate()
            if relation is Relation.PREFIX:
                if fingerprint not in work.fingerprints and not work.fingerprints:
                    work.note_fingerprint(fingerprint)
                return Joined.Stale()
            # A retelling must not take the place of a snapshot that brings an answer.
            may_replace = relation is Relation.EXTENDS or not work.snapshot.is_sent_back
            if relation in {Relation.EXTENDS, Relation.RETOLD} and may_replace and not work.in_flight and place is None:
                whole = snapshot.behind(work.snapshot)
                if whole is not None:
                    return self._replace(work, whole, now, is_retold=relation is Relation.RETOLD)
            if relation is Relation.RETOLD:
                return Joined.Added(self.add(snapshot, now, index + 1, is_retold=work.in_flight))
            is_behind = relation in {Relation.EXTENDS, Relation.LATER} or (
                # Its words are older, but nobody has read them.
                relation is Relation.PRECEDES and work.in_flight
            )
            if is_behind and place is None:
                place = index + 1
        if place is None or is_known:
            # Older than all work. It is too late if work is in flight; otherwise the stored state must decide.
            return Joined.Stale() if queue[0].in_flight and not is_known else Joined.Unknown()
        return Joined.Added(self.add(snapshot, now, place))

    def add(self, snapshot: Snapshot, now: float, place: int = 0, *, is_retold: bool = False) -> Work:
        """Add a snapshot as new work, at that place of its session's queue.

        Args:
            snapshot: The snapshot.
            now: Monotonic seconds.
            place: 0 is the front.
            is_retold: The user's words are read, or are being read. No call is made.
        """
        work = Work(
            key=snapshot.conversation.key,
            snapshot=snapshot,
            hold=snapshot.record,
            first_at=now,
            due_at=self._due_at(now, now, is_retold=is_retold),
            is_retold=is_retold,
            may_be_read=is_retold or place > 0,
        )
        work.note_fingerprint(snapshot.conversation.fingerprint)
        queue = self._sessions.setdefault(work.key, deque())
        queue.insert(place, work)
        # Work that was first in its queue is now second. `finish` makes it ready again.
        if place == 0 and len(queue) > 1 and queue[1] in self._ready:
            self._ready.remove(queue[1])
        heapq.heappush(self._due_heap, (work.due_at, next(self._sequence), work))
        return work

    def _due_at(self, now: float, first_at: float, *, is_retold: bool) -> float:
        settle, max_wait = self._settle_seconds, self._max_wait_seconds
        if is_retold:
            settle, max_wait = max(settle, _RETOLD_SETTLE_SECONDS), max(max_wait, _RETOLD_MAX_WAIT_SECONDS)
        return min(now + settle, first_at + max_wait)

    def _replace(self, work: Work, snapshot: Snapshot, now: float, *, is_retold: bool) -> Joined.Replaced:
        superseded = work.snapshot
        # If the new snapshot is dead-lettered, the one before is tried: not if it says the same.
        dropped = superseded if is_retold else work.replaced
        if not is_retold:
            work.replaced = superseded
        work.snapshot = snapshot
        work.snapshots += 1
        work.note_fingerprint(snapshot.conversation.fingerprint)
        if work.is_retold and not is_retold:
            # New words: the wait for them begins now.
            work.is_retold, work.first_at = False, now
        if not work.is_due:
            before, work.due_at = work.due_at, self._due_at(now, work.first_at, is_retold=work.is_retold)
            # `_settle_heap` corrects the heap's entry of a later time when it reaches the top.
            if work.due_at < before:
                heapq.heappush(self._due_heap, (work.due_at, next(self._sequence), work))
        return Joined.Replaced(work, superseded, dropped)

    def next_due(self) -> float | None:
        """Time when the next work is due; minus infinity if work is ready, None if none is pending."""
        if self._ready:
            return float("-inf")
        self._settle_heap(float("-inf"))
        return self._due_heap[0][0] if self._due_heap else None

    def _settle_heap(self, now: float) -> None:
        """Move the work that is due at ``now`` to the ready queue, and correct entries with a changed due time."""
        while self._due_heap:
            due_at, _, work = self._due_heap[0]
            if work.is_due:
                heapq.heappop(self._due_heap)
            elif work.due_at > due_at:
                heapq.heapreplace(self._due_heap, (work.due_at, next(self._sequence), work))
            elif due_at <= now:
                heapq.heappop(self._due_heap)
                work.is_due = True
                if self._sessions[work.key][0] is work:
                    self._ready.append(work)
            else:
                return

    def ready(self, now: float) -> int:
        """Number of settled works that can be taken."""
        self._settle_heap(now)
        return len(self._ready)

    def take(self, now: float, limit: int) -> list[Work]:
        """Return settled work, at most ``limit``; it is in flight until `finish`."""
        self._settle_heap(now)
        taken = [self._ready.popleft() for _ in range(min(limit, len(self._ready)))]
        for work in taken:
            work.in_flight = True
        return taken

    def finish(self, work: Work) -> None:
        """Forget work that was in flight; the session's next work may become ready."""
        queue = self._sessions.get(work.key)
        if not queue or queue[0] is not work:
            return
        queue.popleft()
        if not queue:
            del self._sessions[work.key]
        elif queue[0].is_due:
            self._ready.append(queue[0])

    def fall_back(self, work: Work) -> Snapshot | None:
        """After the newest snapshot was dead-lettered, use the previous one; None if there is none."""
        if work.replaced is None or work.cancelled:
            return None
        work.snapshot, work.replaced = work.replaced, None
        work.attempts = 0
        work.is_tried_again = False
        work.in_flight = False
        self._ready.append(work)
        return work.snapshot

    def cancel(self, key: bytes) -> list[Work]:
        """Forget all work of an erased session; returns that work, marked as cancelled.

        The caller may mark the hold of pending work as done at once, because the erase command is unfinished and has a
        higher offset of the same partition. The hold of work in flight is done when that work ends.
        """
        works = list(self._sessions.pop(key, ()))
        for work in works:
            work.cancelled = True
        if works:
            # Remove the entries now, because they hold the conversation's text.
            self._due_heap = [entry for entry in self._due_heap if not entry[2].cancelled]
            heapq.heapify(self._due_heap)
            self._ready = deque(work for work in self._ready if not work.cancelled)
        return works

    def clear(self) -> None:
        """Forget all work, because the partitions were revoked."""
        self._sessions.clear()
        self._due_heap.clear()
        self._ready.clear()
