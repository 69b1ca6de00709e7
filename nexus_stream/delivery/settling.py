"""Settling: a session's newest snapshot waits until the chat is quiet. It is then extracted once for all snapshots.

`offer` adds each decoded snapshot. `take` returns settled work, at most one per session. Pure data: no task, no clock,
no I/O. The caller passes "now" (monotonic seconds).

A newer snapshot replaces a pending one only if it begins with all of its turns. Otherwise (the site shortened its
history) both stay, in order, and are extracted one after the other.

Offsets: a `Work` has one unfinished offset, the offset of its first record (``hold``). Later snapshots of the work come
from the same partition at higher offsets. While the hold is unfinished, the ledger cannot commit past it. So the later
offsets are marked done at once, and the ledger remembers only one offset per live session.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from nexus_stream.contracts.conversation import Conversation, cumulative_hashes, digest
from nexus_stream.delivery.ordering import MAX_CHAIN, Relation, relate, snapshot_time_ms
from nexus_stream.delivery.received import Received

__all__ = ["MAX_FINGERPRINTS", "Joined", "Settling", "Snapshot", "Work"]

# Per session, both in its pending work and in its stored state.
MAX_FINGERPRINTS = 8


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One decoded conversation, with the fields that order it."""

    record: Received
    conversation: Conversation
    chain: tuple[str, ...]
    digest: str
    snapshot_at_ms: int

    @classmethod
    def of(cls, record: Received, conversation: Conversation) -> Snapshot:
        """Make the snapshot of a record."""
        return cls(
            record=record,
            conversation=conversation,
            chain=tuple(cumulative_hashes(conversation.messages)[-MAX_CHAIN:]),
            digest=digest(conversation),
            snapshot_at_ms=snapshot_time_ms(conversation.enqueued_at_ms, record.timestamp_ms),
        )

    @property
    def turns(self) -> int:
        """Number of turns."""
        return len(self.conversation.messages)

    @property
    def source_offset(self) -> int:
        """Offset of its record."""
        return self.record.offset

    @property
    def size_bytes(self) -> int:
        """Its size for the bound on pending bytes."""
        return len(self.record.value or b"")


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
        """The snapshot replaced a pending one (``superseded``). ``dropped``: the snapshot before that one, if any."""

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

    def offer(self, snapshot: Snapshot, now: float) -> Joined.Any:
        """Place a snapshot in its session's work: by content first, by time second."""
        key = snapshot.conversation.key
        queue = self._sessions.get(key)
        if not queue:
            return Joined.Unknown()
        fingerprint = snapshot.conversation.fingerprint
        place: int | None = None
        for index in range(len(queue) - 1, -1, -1):
            work = queue[index]
            relation = relate(snapshot, work.snapshot)
            if relation is Relation.EQUAL:
                if snapshot.digest == work.snapshot.digest:
                    work.note_fingerprint(fingerprint)
                    return Joined.Duplicate()
                # The same turns with another consent: the later snapshot counts.
                relation = (
                    Relation.EXTENDS if snapshot.snapshot_at_ms >= work.snapshot.snapshot_at_ms else Relation.PREFIX
                )
            if relation is Relation.PREFIX:
                if fingerprint not in work.fingerprints and not work.fingerprints:
                    work.note_fingerprint(fingerprint)
                return Joined.Stale()
            if relation is Relation.EXTENDS and not work.in_flight and place is None:
                return self._replace(work, snapshot, now)
            if relation in {Relation.EXTENDS, Relation.LATER} and place is None:
                place = index + 1
        if place is None:
            # Older than all work. It is too late if work is in flight; otherwise the stored state must decide.
            return Joined.Stale() if queue[0].in_flight else Joined.Unknown()
        return Joined.Added(self.add(snapshot, now, place))

    def add(self, snapshot: Snapshot, now: float, place: int = 0) -> Work:
        """Add a snapshot as new work, at that place of its session's queue."""
        work = Work(
            key=snapshot.conversation.key,
            snapshot=snapshot,
            hold=snapshot.record,
            first_at=now,
            due_at=now + min(self._settle_seconds, self._max_wait_seconds),
        )
        work.note_fingerprint(snapshot.conversation.fingerprint)
        queue = self._sessions.setdefault(work.key, deque())
        queue.insert(place, work)
        # Work that was first in its queue is now second. `finish` makes it ready again.
        if place == 0 and len(queue) > 1 and queue[1] in self._ready:
            self._ready.remove(queue[1])
        heapq.heappush(self._due_heap, (work.due_at, next(self._sequence), work))
        return work

    def _replace(self, work: Work, snapshot: Snapshot, now: float) -> Joined.Replaced:
        superseded, dropped = work.snapshot, work.replaced
        work.replaced = superseded
        work.snapshot = snapshot
        work.snapshots += 1
        work.note_fingerprint(snapshot.conversation.fingerprint)
        if not work.is_due:
            # The due time only moves later, so `_settle_heap` corrects the heap's entry when it reaches the top.
            work.due_at = min(now + self._settle_seconds, work.first_at + self._max_wait_seconds)
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
            if work.due_at > due_at:
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
