"""Settling: a session's newest snapshot waits until the chat is quiet, then leaves once for all it replaced.

From: the enrichment stage offers each decoded snapshot. To: `take` hands out settled work, one at a time per session.
Pure data and an injected "now" (seconds, monotonic); no task, no clock, no I/O.

A newer snapshot takes the place of a waiting one only if it begins with all of its turns. Otherwise (the site shortened
its history) both stay, in order, and are extracted one after the other.

Offsets: a `Work` has one unfinished offset, that of its first record (``hold``). Whatever joins it later came from the
same partition at a higher offset, so while the hold is unfinished the ledger cannot commit past it, and the later
offsets can be done at once. That keeps the ledger's memory at one offset a live session.
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

# Of one session, in its work and in its state.
MAX_FINGERPRINTS = 8


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One decoded conversation with what orders it."""

    record: Received
    conversation: Conversation
    chain: tuple[str, ...]
    digest: str
    snapshot_at_ms: int

    @classmethod
    def of(cls, record: Received, conversation: Conversation) -> Snapshot:
        """The snapshot a record carries."""
        return cls(
            record=record,
            conversation=conversation,
            chain=tuple(cumulative_hashes(conversation.messages)[-MAX_CHAIN:]),
            digest=digest(conversation),
            snapshot_at_ms=snapshot_time_ms(conversation.enqueued_at_ms, record.timestamp_ms),
        )

    @property
    def turns(self) -> int:
        """How many turns it has."""
        return len(self.conversation.messages)

    @property
    def source_offset(self) -> int:
        """The offset of its record."""
        return self.record.offset

    @property
    def size_bytes(self) -> int:
        """What it counts for against the bound on pending bytes."""
        return len(self.record.value or b"")


@dataclass(slots=True, eq=False)
class Work:
    """One extraction to be made: the newest snapshot, and what finishes with it."""

    key: bytes
    snapshot: Snapshot
    hold: Received
    first_at: float
    due_at: float
    # Seen on this snapshot or on any that it stands for, the current one last.
    fingerprints: list[str] = field(default_factory=list)
    # The snapshot it took the place of: extracted instead, should this one be dead-lettered.
    replaced: Snapshot | None = None
    snapshots: int = 1
    is_due: bool = False
    in_flight: bool = False
    # Its session was erased: whatever it yields is thrown away.
    cancelled: bool = False
    attempts: int = 0
    # It failed since it left, at no fault of its own perhaps: `attempts` alone would not tell.
    is_tried_again: bool = False

    def note_fingerprint(self, fingerprint: str | None) -> None:
        """Remember a fingerprint; the last one noted is the current one."""
        if fingerprint is None:
            return
        if fingerprint in self.fingerprints:
            self.fingerprints.remove(fingerprint)
        self.fingerprints.append(fingerprint)
        # What waits for long, while the model is away say, may be repeated with ever new ones.
        del self.fingerprints[:-MAX_FINGERPRINTS]


class Joined:
    """What became of an offered snapshot (a plain enum would lose the superseded snapshot)."""

    @dataclass(frozen=True, slots=True)
    class Added:
        """It waits as work of its own."""

        work: Work

    @dataclass(frozen=True, slots=True)
    class Replaced:
        """It took the place of a waiting snapshot, which is superseded; the one that had replaced is let go."""

        work: Work
        superseded: Snapshot
        let_go: Snapshot | None

    @dataclass(frozen=True, slots=True)
    class Duplicate:
        """The same snapshot waits or runs."""

    @dataclass(frozen=True, slots=True)
    class Stale:
        """A newer one waits or runs."""

    @dataclass(frozen=True, slots=True)
    class Unknown:
        """Earlier than all that waits and nothing runs: only the table can tell."""

    Any = Added | Replaced | Duplicate | Stale | Unknown


class Settling:
    """Work that waits or runs, by session key.

    Args:
        settle_seconds: Quiet time after the newest snapshot.
        max_wait_seconds: The longest a session waits after its first snapshot, however busy the chat is.
    """

    def __init__(self, *, settle_seconds: float, max_wait_seconds: float) -> None:
        self._settle_seconds = settle_seconds
        self._max_wait_seconds = max_wait_seconds
        # In the order of extraction; only the first of a session may be in flight.
        self._sessions: dict[bytes, deque[Work]] = {}
        self._due_heap: list[tuple[float, int, Work]] = []
        self._sequence = itertools.count()
        self._ready: deque[Work] = deque()

    def __len__(self) -> int:
        return len(self._sessions)

    def works(self) -> Iterator[Work]:
        """Everything that waits or runs."""
        for queue in self._sessions.values():
            yield from queue

    def has(self, key: bytes) -> bool:
        """Whether work of that session waits or runs."""
        return key in self._sessions

    def offer(self, snapshot: Snapshot, now: float) -> Joined.Any:
        """Place a snapshot among its session's live work, by content first and time second."""
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
                # The same turns with another consent: the later one counts.
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
            # Earlier than everything live. Behind running work it is late; before waiting work only the table can tell.
            return Joined.Stale() if queue[0].in_flight else Joined.Unknown()
        return Joined.Added(self.add(snapshot, now, place))

    def add(self, snapshot: Snapshot, now: float, place: int = 0) -> Work:
        """Let a snapshot wait as work of its own, at that place of its session's queue."""
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
        # A later one that was first in line is no longer; its turn comes again when this one is finished.
        if place == 0 and len(queue) > 1 and queue[1] in self._ready:
            self._ready.remove(queue[1])
        heapq.heappush(self._due_heap, (work.due_at, next(self._sequence), work))
        return work

    def _replace(self, work: Work, snapshot: Snapshot, now: float) -> Joined.Replaced:
        superseded, let_go = work.snapshot, work.replaced
        work.replaced = superseded
        work.snapshot = snapshot
        work.snapshots += 1
        work.note_fingerprint(snapshot.conversation.fingerprint)
        if not work.is_due:
            # Only ever later: the heap's old entry is corrected when it comes up.
            work.due_at = min(now + self._settle_seconds, work.first_at + self._max_wait_seconds)
        return Joined.Replaced(work, superseded, let_go)

    def next_due(self) -> float | None:
        """When the next work is due; now or earlier if some is ready. None if nothing waits."""
        if self._ready:
            return float("-inf")
        self._settle_heap(float("-inf"))
        return self._due_heap[0][0] if self._due_heap else None

    def _settle_heap(self, now: float) -> None:
        """Move what is due at ``now`` to the ready line and correct entries whose time was moved."""
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
        """How much work is settled and may leave."""
        self._settle_heap(now)
        return len(self._ready)

    def take(self, now: float, limit: int) -> list[Work]:
        """Hand out settled work, at most ``limit``; it is in flight until `finish`."""
        self._settle_heap(now)
        taken = [self._ready.popleft() for _ in range(min(limit, len(self._ready)))]
        for work in taken:
            work.in_flight = True
        return taken

    def finish(self, work: Work) -> None:
        """Forget work that was in flight; its session's next one may leave."""
        queue = self._sessions.get(work.key)
        if not queue or queue[0] is not work:
            return
        queue.popleft()
        if not queue:
            del self._sessions[work.key]
        elif queue[0].is_due:
            self._ready.append(queue[0])

    def fall_back(self, work: Work) -> Snapshot | None:
        """After the newest snapshot was dead-lettered, put the one it replaced in its place; None if there is none."""
        if work.replaced is None or work.cancelled:
            return None
        work.snapshot, work.replaced = work.replaced, None
        work.attempts = 0
        work.is_tried_again = False
        work.in_flight = False
        self._ready.append(work)
        return work.snapshot

    def cancel(self, key: bytes) -> list[Work]:
        """Forget all work of a session, because it was erased; returns what it was, each marked as cancelled.

        Work that waited ends here: its hold may be done at once, since the erasing record has a higher offset of the
        same partition and is unfinished. Work in flight ends where it runs, and its hold with it.
        """
        works = list(self._sessions.pop(key, ()))
        for work in works:
            work.cancelled = True
        if works:
            # Not left to come up by themselves: they hold what was said.
            self._due_heap = [entry for entry in self._due_heap if not entry[2].cancelled]
            heapq.heapify(self._due_heap)
            self._ready = deque(work for work in self._ready if not work.cancelled)
        return works

    def clear(self) -> None:
        """Forget everything: the partitions were revoked."""
        self._sessions.clear()
        self._due_heap.clear()
        self._ready.clear()
