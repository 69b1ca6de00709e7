"""The lag of a stage's partitions: unfinished records by kind, for the metrics, the status and the watchdog.

The stage's ledger knows the offsets that were read. A client queries the broker for the end offsets every two seconds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from nexus_stream.contracts.status import PartitionLag
from nexus_stream.delivery.received import TopicPartition
from nexus_stream.delivery.watchdog import Standing
from nexus_stream.kafka.group_offsets import GroupOffsets
from nexus_stream.settings import Settings

if TYPE_CHECKING:
    from nexus_stream.delivery.stage import Stage

__all__ = ["StageLag", "partition_lags"]

_INTERVAL_SECONDS = 2.0
# An older answer is useless: the broker may be unreachable, or the loop may hang.
_KNOWN_FOR_SECONDS = 15.0


def partition_lags(
    positions: Mapping[TopicPartition, int],
    read: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
    unfinished: Mapping[TopicPartition, Mapping[int, int]],
    settling: frozenset[tuple[TopicPartition, int]],
    now_ms: int,
) -> tuple[PartitionLag, ...]:
    """Unfinished records of each owned partition, by kind.

    Args:
        positions: Offset below which every record is finished.
        read: Next offset to read.
        ends: One past the last record; partitions may be missing.
        unfinished: Offsets that were read and are unfinished, with their records' times in Unix milliseconds.
        settling: The unfinished offsets that are still settling.
        now_ms: Unix milliseconds.
    """
    lags = []
    for tp in sorted(positions):
        of_partition = unfinished.get(tp, {})
        overdue = {offset: time_ms for offset, time_ms in of_partition.items() if (tp, offset) not in settling}
        times = [time_ms for time_ms in overdue.values() if time_ms > 0]
        lags.append(
            PartitionLag(
                topic=tp[0],
                partition=tp[1],
                unread=max(0, ends.get(tp, 0) - read.get(tp, 0)),
                settling=len(of_partition) - len(overdue),
                overdue=len(overdue),
                oldest_age_seconds=max(0.0, (now_ms - min(times)) / 1000) if times else 0.0,
            )
        )
    return tuple(lags)


class StageLag:
    """The lag of one stage. Its numbers are current while `run` runs.

    Args:
        settings: Broker.
        stage: The stage that owns the partitions.
        group: The worker's consumer group.
    """

    def __init__(self, settings: Settings, stage: Stage, group: str) -> None:
        self._stage = stage
        self._epoch = stage.assignment.epoch
        self._offsets = GroupOffsets(settings, group, stage.topic)
        self._answered_at: float | None = None
        self._ends: dict[TopicPartition, int] = {}
        # The start offsets of partitions from which nothing was read yet.
        self._starts: dict[TopicPartition, int] = {}

    @property
    def is_known(self) -> bool:
        """Whether the broker reported the partitions' end offsets lately."""
        return self._answered_at is not None and time.monotonic() - self._answered_at < _KNOWN_FOR_SECONDS

    async def run(self) -> None:
        """Query the broker every two seconds, until cancelled."""
        try:
            while True:
                await self._ask()
                await asyncio.sleep(_INTERVAL_SECONDS)
        finally:
            await self._offsets.close()

    async def _ask(self) -> None:
        # Queried once: nobody commits on an assigned partition until a record of it was read.
        missing = self._nothing_read_yet() - self._starts.keys()
        # A rebalance during the query begins a new dictionary, and the answer does not belong in it.
        before_rebalance = self._starts
        answer = await self._offsets.ends_and_starts({partition for _, partition in missing})
        if answer is not None:
            ends, starts = ({(self._stage.topic, number): at for number, at in found.items()} for found in answer)
            before_rebalance.update(starts)
            self.note_answer(ends)

    def note_answer(
        self, ends: Mapping[TopicPartition, int], starts: Mapping[TopicPartition, int] | None = None
    ) -> None:
        """Note the broker's answer.

        Args:
            ends: Per partition one past the last record.
            starts: More partitions of which no record was read yet, and where reading begins.
        """
        self._ends = dict(ends)
        self._starts.update(starts or {})
        self._answered_at = time.monotonic()

    def partitions(self) -> tuple[PartitionLag, ...]:
        """The current lag of every owned partition."""
        stage = self._stage
        return partition_lags(
            self._with_unread(stage.ledger.positions()),
            self._with_unread(stage.ledger.read_positions()),
            self._known_ends,
            stage.ledger.unfinished_times(),
            stage.settling_offsets(),
            stage.clock.time_ms(),
        )

    def standing(self, *, excused: bool) -> Standing:
        """For the watchdog: positions, end offsets, and reasons for a missing progress."""
        stage = self._stage
        return Standing(
            positions=self._with_unread(stage.ledger.positions()),
            read=self._with_unread(stage.ledger.read_positions()),
            end_offsets=self._known_ends,
            excused=excused,
            is_full=stage.is_full,
            tried_again=stage.tried_again(),
            newest_due_done=stage.facts.newest_due_done,
        )

    def _nothing_read_yet(self) -> set[TopicPartition]:
        stage = self._stage
        if self._epoch != stage.assignment.epoch:
            self._epoch = stage.assignment.epoch
            # Others may have committed since.
            self._starts = {}
        # The table's changelog is assigned too, but the stage does not process it.
        owned = {tp for tp in stage.assignment.partitions if tp[0] == stage.topic}
        return owned - stage.ledger.read_positions().keys()

    def _with_unread(self, positions: dict[TopicPartition, int]) -> dict[TopicPartition, int]:
        """Add the owned partitions of which no record was read yet: the ledger does not know them."""
        wanted = self._nothing_read_yet()
        return positions | {tp: offset for tp, offset in self._starts.items() if tp in wanted}

    @property
    def _known_ends(self) -> dict[TopicPartition, int]:
        return self._ends if self.is_known else {}
