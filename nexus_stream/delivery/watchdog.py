"""The progress watchdog: detects a partition that has records to read but makes no progress without a reason.

Faust's own lag counts the records that were read, so it does not grow while a worker is stalled. Therefore a separate
client reads the end offsets from the broker (kafka/group_offsets.py).

A partition stalls in one of three ways. Each has its own test:

1. No partition moves, although there are unfinished records.
2. Other partitions move, but this one has unread records and none is read. Only a full bound on pending work explains
   this, because records are read in the order of arrival.
3. Other partitions move, but this one's oldest unfinished record does not end. Work is done in the order of its due
   time. So the record was skipped if work with a much later due time is done. A retry of the record explains the delay.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass

from nexus_stream.delivery.received import TopicPartition

__all__ = ["Progress", "Standing"]


@dataclass(frozen=True, slots=True)
class Standing:
    """The progress of a stage at one moment.

    Attributes:
        positions: Per owned partition the offset below which every record is finished.
        read: Per owned partition the next offset to read.
        end_offsets: Per partition of the topic one past the last record; empty if the broker does not answer.
        excused: True while the stage waits for Claude, Supabase or the broker, rebalances, recovers, or owns nothing.
        is_full: A bound on pending work is reached, so nothing is read.
        tried_again: Partitions with a failed record that is being retried.
        newest_due_done: The latest due time among the finished work; monotonic seconds.
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
        """Number of records on owned partitions that were not read yet."""
        return sum(max(0, self.end_offsets.get(tp, 0) - position) for tp, position in self.read.items())

    @property
    def lag(self) -> int:
        """Number of unfinished records on owned partitions: high watermark minus the committable offset."""
        return sum(self.lag_of(tp) for tp in self.positions)

    def lag_of(self, tp: TopicPartition) -> int:
        """Number of unfinished records of one partition."""
        return max(0, self.end_offsets.get(tp, 0) - self.positions[tp])


@dataclass(slots=True)
class _Partition:
    """A partition's positions, and since when each has not moved."""

    position: int
    read: int
    ended_at: float
    read_at: float


class Progress:
    """Remembers when the stage last moved, and when each partition did.

    Args:
        stalled_after_seconds: Must be above the longest time of a healthy record: maximum wait plus retries.
        now: Monotonic seconds.

    Attributes:
        stalled: The partitions without progress for too long.
    """

    def __init__(self, *, stalled_after_seconds: float, now: float) -> None:
        self._stalled_after_seconds = stalled_after_seconds
        self._moved_at = now
        self._partitions: dict[TopicPartition, _Partition] = {}
        self.stalled: tuple[TopicPartition, ...] = ()

    def observe(self, standing: Standing, now: float) -> float | None:
        """Compare a new standing with the previous one.

        Returns:
            Seconds without progress, of all partitions or of the worst one, if too long; otherwise None.
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
        """Keep the previous times of an unmoved partition, unless it has nothing to do or a reason to wait."""
        before = self._partitions.get(tp)
        if before is None:
            return
        has_unread = standing.end_offsets.get(tp, 0) > partition.read
        if before.read == partition.read and has_unread and not standing.is_full:
            partition.read_at = before.read_at
        if before.position == partition.position < partition.read and tp not in standing.tried_again:
            partition.ended_at = before.ended_at

    def _still_seconds(self, tp: TopicPartition, partition: _Partition, standing: Standing, now: float) -> float:
        """Seconds without progress and without an explanation."""
        unread_for = now - partition.read_at
        # The record was due at most one maximum wait after `ended_at`. `stalled_after_seconds` is longer than that.
        was_skipped = standing.newest_due_done >= partition.ended_at + self._stalled_after_seconds
        unfinished_for = now - partition.ended_at if was_skipped else 0.0
        return max(unread_for, unfinished_for)
