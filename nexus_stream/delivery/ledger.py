"""The ledger of offsets: which records were read, which are finished, and which offset may be committed.

A stage calls ``begin`` for each record in read order, and ``done`` when the record's effects are durable. Faust's own
bookkeeping is not used: it commits past an offset that is still in flight (its guard is off by one,
``Consumer._new_offset`` in faust/transport/consumer.py), and past any offset whose agent raised.

The committable offset of a partition is its lowest unfinished offset; without one, one past the last offset read.
Memory grows with the unfinished offsets, never with the number of offsets: the ledger remembers only about as many
finished offsets as unfinished ones. Gaps (compaction, transactions) cost nothing.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field

from nexus_stream.delivery.received import TopicPartition

__all__ = ["OffsetLedger"]

# A heap is rebuilt when its finished offsets exceed its unfinished offsets by more than this.
_MAX_FINISHED = 64


@dataclass(slots=True)
class _Partition:
    # Offset -> the record's time in Unix milliseconds, 0 if not known.
    unfinished: dict[int, int] = field(default_factory=dict)
    # Smallest first. A finished offset leaves the heap only when it reaches the top.
    heap: list[int] = field(default_factory=list)
    next_offset: int = 0
    committed: int = 0

    def finish(self, offset: int) -> None:
        self.unfinished.pop(offset, None)
        # Finished offsets behind a slow one never reach the top. The rebuild's cost is spread over as many calls.
        if len(self.heap) > 2 * len(self.unfinished) + _MAX_FINISHED:
            self.heap = sorted(self.unfinished)

    def committable(self) -> int:
        while self.heap and self.heap[0] not in self.unfinished:
            heapq.heappop(self.heap)
        return self.heap[0] if self.heap else self.next_offset


class OffsetLedger:
    """Offsets of the currently assigned partitions."""

    def __init__(self) -> None:
        self._partitions: dict[TopicPartition, _Partition] = {}

    def begin(self, tp: TopicPartition, offset: int, timestamp_ms: int = 0) -> None:
        """Note that the record was read and is unfinished. A second read (a seek back) makes it unfinished again."""
        partition = self._partitions.get(tp)
        if partition is None:
            # Reading starts at the committed offset, so this offset is already committed.
            partition = self._partitions[tp] = _Partition(committed=offset)
        if offset not in partition.unfinished:
            partition.unfinished[offset] = timestamp_ms
            heapq.heappush(partition.heap, offset)
        partition.next_offset = max(partition.next_offset, offset + 1)

    def done(self, tp: TopicPartition, offset: int) -> None:
        """Note that the record's effects are durable, or that a lower unfinished offset protects it."""
        partition = self._partitions.get(tp)
        if partition is not None:
            partition.finish(offset)

    def committable(self) -> dict[TopicPartition, int]:
        """Per partition the offset to commit (the next to read), if it is above the last committed offset."""
        offsets: dict[TopicPartition, int] = {}
        for tp, partition in self._partitions.items():
            offset = partition.committable()
            if offset > partition.committed:
                offsets[tp] = offset
        return offsets

    def committed(self, offsets: dict[TopicPartition, int]) -> None:
        """Note the offsets that the broker has committed."""
        for tp, offset in offsets.items():
            partition = self._partitions.get(tp)
            if partition is not None:
                partition.committed = offset

    def forget(self, partitions: Iterable[TopicPartition] | None = None) -> None:
        """Drop revoked partitions, all by default; if assigned again they start at the committed offset."""
        for tp in list(self._partitions) if partitions is None else partitions:
            self._partitions.pop(tp, None)

    def positions(self) -> dict[TopicPartition, int]:
        """Per partition the offset below which every record is finished."""
        return {tp: partition.committable() for tp, partition in self._partitions.items()}

    def read_positions(self) -> dict[TopicPartition, int]:
        """Per partition the next offset to read."""
        return {tp: partition.next_offset for tp, partition in self._partitions.items()}

    def unfinished(self) -> int:
        """Number of unfinished records of all partitions."""
        return sum(len(partition.unfinished) for partition in self._partitions.values())

    def unfinished_times(self) -> dict[TopicPartition, dict[int, int]]:
        """Per partition every unfinished offset with its record's time in Unix milliseconds (0: not known)."""
        return {tp: dict(partition.unfinished) for tp, partition in self._partitions.items()}

    def is_unfinished(self, tp: TopicPartition, offset: int) -> bool:
        """Whether that record was read and is unfinished."""
        partition = self._partitions.get(tp)
        return partition is not None and offset in partition.unfinished
