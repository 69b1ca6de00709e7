"""The ledger of offsets: what is read, what is finished, what may be committed.

From: a stage calls ``begin`` for each record in the order it is read and ``done`` when its effects are durable. To:
the commit timer. Faust's own bookkeeping is not used: it commits past an offset that is still in flight (its guard is
off by one, ``Consumer._new_offset`` in faust/transport/consumer.py), and past any offset whose agent raised.

The committable offset of a partition is its lowest unfinished offset, or one past the last one read. Of finished
offsets behind it no more are remembered than there are unfinished ones, and a few: memory follows unfinished work and
never the number of offsets; gaps (compaction, transactions) cost nothing.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field

from nexus_stream.delivery.received import TopicPartition

__all__ = ["OffsetLedger"]

# Finished offsets that a heap may hold beyond as many as are unfinished, before it is made anew.
_MAX_FINISHED = 64


@dataclass(slots=True)
class _Partition:
    # Offset -> the record's time, Unix milliseconds; 0 where it is not known.
    unfinished: dict[int, int] = field(default_factory=dict)
    # Smallest first; offsets leave it lazily, when they come to the top and are finished.
    heap: list[int] = field(default_factory=list)
    next_offset: int = 0
    committed: int = 0

    def finish(self, offset: int) -> None:
        self.unfinished.pop(offset, None)
        # Behind a head that takes long, finished ones never come to the top. Each rebuild is paid for by as many calls.
        if len(self.heap) > 2 * len(self.unfinished) + _MAX_FINISHED:
            self.heap = sorted(self.unfinished)

    def committable(self) -> int:
        while self.heap and self.heap[0] not in self.unfinished:
            heapq.heappop(self.heap)
        return self.heap[0] if self.heap else self.next_offset


class OffsetLedger:
    """Offsets of the partitions that are owned now."""

    def __init__(self) -> None:
        self._partitions: dict[TopicPartition, _Partition] = {}

    def begin(self, tp: TopicPartition, offset: int, timestamp_ms: int = 0) -> None:
        """Note that the record was read and is unfinished. Reading it again (a seek back) makes it unfinished again."""
        partition = self._partitions.get(tp)
        if partition is None:
            # Reading begins where the group's commits ended, so this much is committed already.
            partition = self._partitions[tp] = _Partition(committed=offset)
        if offset not in partition.unfinished:
            partition.unfinished[offset] = timestamp_ms
            heapq.heappush(partition.heap, offset)
        partition.next_offset = max(partition.next_offset, offset + 1)

    def done(self, tp: TopicPartition, offset: int) -> None:
        """Note that the record's effects are durable, or that an unfinished lower offset stands for it."""
        partition = self._partitions.get(tp)
        if partition is not None:
            partition.finish(offset)

    def committable(self) -> dict[TopicPartition, int]:
        """Per partition the offset to commit (the next to read), where it is ahead of the last committed one."""
        offsets: dict[TopicPartition, int] = {}
        for tp, partition in self._partitions.items():
            offset = partition.committable()
            if offset > partition.committed:
                offsets[tp] = offset
        return offsets

    def committed(self, offsets: dict[TopicPartition, int]) -> None:
        """Note what the broker has taken."""
        for tp, offset in offsets.items():
            partition = self._partitions.get(tp)
            if partition is not None:
                partition.committed = offset

    def forget(self, partitions: Iterable[TopicPartition] | None = None) -> None:
        """Drop the partitions, all by default: they were revoked and begin anew at the committed offset."""
        for tp in list(self._partitions) if partitions is None else partitions:
            self._partitions.pop(tp, None)

    def positions(self) -> dict[TopicPartition, int]:
        """Per partition the offset below which all is finished."""
        return {tp: partition.committable() for tp, partition in self._partitions.items()}

    def read_positions(self) -> dict[TopicPartition, int]:
        """Per partition the next offset to read."""
        return {tp: partition.next_offset for tp, partition in self._partitions.items()}

    def unfinished(self) -> int:
        """How many records are unfinished, over all partitions."""
        return sum(len(partition.unfinished) for partition in self._partitions.values())

    def unfinished_times(self) -> dict[TopicPartition, dict[int, int]]:
        """Per partition every unfinished offset with its record's time, Unix milliseconds (0: not known)."""
        return {tp: dict(partition.unfinished) for tp, partition in self._partitions.items()}

    def is_unfinished(self, tp: TopicPartition, offset: int) -> bool:
        """Whether that record was read and is not finished."""
        partition = self._partitions.get(tp)
        return partition is not None and offset in partition.unfinished
