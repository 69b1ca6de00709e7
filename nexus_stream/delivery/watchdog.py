"""The progress watchdog: notices a partition that has records to read, no reason to wait, and does not move.

From: worker/health.py tells it now and then where the partitions stand. To: readiness and liveness, one log event, and
the exit code if configured. Faust's own lag is read-based and stands still exactly while a worker is stalled, so end
offsets are asked from the broker by a separate client (kafka/group_offsets.py).

A partition stands still in one of three ways, and each is judged by what would explain it:

1. Nothing moves on any partition, though something is there.
2. Others move; this one has unread records and none is read. A bound on pending work explains it, and so does nothing
   else: records are read in the order they arrive.
3. Others move; this one's oldest unfinished record does not end. Work leaves in the order in which it is due, so it
   has been passed over when something that was due long after it is done. A record that is tried again is explained.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass

from nexus_stream.delivery.received import TopicPartition

__all__ = ["Progress", "Standing"]


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a stage stands at one moment.

    Attributes:
        positions: Per owned partition the offset below which all is finished.
        read: Per owned partition the next offset to read.
        end_offsets: Per partition of the topic one past the last record; empty when the broker does not answer.
        excused: Waiting for Claude, Supabase or the broker, rebalancing, recovering, or owning nothing.
        is_full: A bound on pending work is reached, so nothing is read.
        tried_again: Partitions with a record that failed and is tried again.
        newest_due_done: Of all work that is done the latest time it was due; seconds, monotonic.
    """

    positions: Mapping[TopicPartition, int]
    read: Mapping[TopicPartition, int]
    end_offsets: Mapping[TopicPartition, int]
    excused: bool
    is_full: bool = False
    tried_again: Set[TopicPartition] = frozenset()
    newest_due_done: float = float("-inf")

    @property
    def unread(self) -> int:
        """Records on owned partitions that were not read yet."""
        return sum(max(0, self.end_offsets.get(tp, 0) - position) for tp, position in self.read.items())

    @property
    def lag(self) -> int:
        """Records on owned partitions that are not finished: high watermark minus what can be committed."""
        return sum(self.lag_of(tp) for tp in self.positions)

    def lag_of(self, tp: TopicPartition) -> int:
        """Records of one partition that are not finished."""
        return max(0, self.end_offsets.get(tp, 0) - self.positions[tp])


@dataclass(slots=True)
class _Partition:
    """Where a partition stood, and since when."""

    position: int
    read: int
    ended_at: float
    read_at: float


class Progress:
    """Remembers when anything last moved, and when each partition did.

    Args:
        stalled_after_seconds: Above the longest a healthy record may take: maximum wait plus retries.
        now: Seconds, monotonic.

    Attributes:
        stalled: The partitions that stand still for too long.
    """

    def __init__(self, *, stalled_after_seconds: float, now: float) -> None:
        self._stalled_after_seconds = stalled_after_seconds
        self._moved_at = now
        self._partitions: dict[TopicPartition, _Partition] = {}
        self.stalled: tuple[TopicPartition, ...] = ()

    def observe(self, standing: Standing, now: float) -> float | None:
        """Take a new standing in.

        Returns:
            Seconds without any movement if that is too long, of all partitions or of the worst one, else None.
        """
        seen = {tp: _Partition(at, standing.read.get(tp, at), now, now) for tp, at in standing.positions.items()}
        places = {tp: (partition.position, partition.read) for tp, partition in seen.items()}
        before = {tp: (partition.position, partition.read) for tp, partition in self._partitions.items()}
        if standing.excused or places != before or standing.lag == 0:
            self._moved_at = now
        if not standing.excused:
            for tp, partition in seen.items():
                self._keep_times(tp, partition, standing)
        self._partitions = seen
        still = now - self._moved_at
        if still >= self._stalled_after_seconds:
            self.stalled = tuple(sorted(tp for tp in seen if standing.lag_of(tp) > 0))
            return still
        stills = {tp: self._still_seconds(tp, partition, standing, now) for tp, partition in seen.items()}
        self.stalled = tuple(sorted(tp for tp, seconds in stills.items() if seconds >= self._stalled_after_seconds))
        return max((stills[tp] for tp in self.stalled), default=None)

    def _keep_times(self, tp: TopicPartition, partition: _Partition, standing: Standing) -> None:
        """Since when it has stood where it stands; now, if it has nothing to do there or a reason to wait."""
        before = self._partitions.get(tp)
        if before is None:
            return
        has_unread = standing.end_offsets.get(tp, 0) > partition.read
        if before.read == partition.read and has_unread and not standing.is_full:
            partition.read_at = before.read_at
        if before.position == partition.position < partition.read and tp not in standing.tried_again:
            partition.ended_at = before.ended_at

    def _still_seconds(self, tp: TopicPartition, partition: _Partition, standing: Standing, now: float) -> float:
        """How long it has stood still without an explanation."""
        unread_for = now - partition.read_at
        # It was read before it was seen here, and due at the latest a maximum wait after that, which is less.
        passed_over = standing.newest_due_done >= partition.ended_at + self._stalled_after_seconds
        unfinished_for = now - partition.ended_at if passed_over else 0.0
        return max(unread_for, unfinished_for)
