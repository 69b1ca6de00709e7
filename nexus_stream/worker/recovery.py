"""Restore the tables from their changelogs in large batches; Faust would restore them record by record.

Extends `Recovery` of Faust 0.15.3, which is pinned. Faust continues after the offsets that are restored here, and reads
the remaining records itself.

In Faust each changelog record passes a queue, a task that waits with a timeout for one record, and a sum over all
partitions: 6,000 to 12,000 records a second on a whole core. A bare consumer reads 100,000. Here our own consumer
passes on the records of each poll, and the store writes them as one batch per partition: see
docs/reference/performance.md.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord
from faust.tables import TableManager
from faust.tables.recovery import Recovery
from faust.types import TP

from nexus_stream.errors import BrokerUnavailableError, ConfigurationError
from nexus_stream.host.log import get_logger
from nexus_stream.kafka.changelog import require_readable_change
from nexus_stream.kafka.clients import client_options, stop_consumer
from nexus_stream.kafka.reading import read_to

__all__ = ["WorkerTables"]

_log = get_logger(__name__)

# With fewer records our own connection takes longer than it saves.
_WORTH_IT_RECORDS = 500
# Records per step. Between steps the event loop answers /ready and handles rebalances.
_STEP_RECORDS = 2000
_FETCH_BYTES = 4 * 1024 * 1024
_SILENCE_SECONDS = 5.0


class _Change:
    """A changelog record in the form that Faust's stores read: an event and its message."""

    __slots__ = ("key", "message", "offset", "partition", "tp", "value")

    def __init__(self, tp: TP, record: ConsumerRecord) -> None:
        self.message = self
        self.tp, self.partition, self.offset = tp, tp.partition, record.offset
        self.key, self.value = record.key, record.value


class _Recovery(Recovery):
    """Faust's recovery; most records are read before it begins."""

    async def _wait(self, coro: Any, timeout: Any = None) -> None:  # noqa: ASYNC109 - Faust's signature
        # No timeout while reading ahead. Another rebalance still ends it.
        await super()._wait(coro, timeout=None if getattr(coro, "__name__", "") == "_seek_offsets" else timeout)

    async def _seek_offsets(self, consumer: Any, tps: set[TP], offsets: Counter[TP], title: str) -> None:
        """Read ahead, and advance ``offsets``. Faust calls this before it reads changelogs from ``offsets``."""
        if title == "active":
            try:
                await self._read_ahead(set(tps), offsets)
            except (KafkaError, BrokerUnavailableError) as error:
                # Faust's own way finds out why.
                _log.warning("tables are restored record by record", problem=type(error).__name__)
            except ConfigurationError as error:
                app: Any = self.app
                app.fail(error)
                raise
        await super()._seek_offsets(consumer, tps, offsets, title)

    async def _read_ahead(self, tps: set[TP], offsets: Counter[TP]) -> None:
        app: Any = self.app
        ends = {
            tp: self.active_highwaters[tp]
            for tp in tps
            if self.active_highwaters[tp] - self._begin(offsets, tp) > _WORTH_IT_RECORDS
        }
        if not ends:
            return
        started, restored, rebalances = time.monotonic(), 0, app.rebalancing_count
        reader = AIOKafkaConsumer(
            **client_options(app.nexus),
            enable_auto_commit=False,
            # Compaction may have removed the record at the first offset.
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=_FETCH_BYTES,
        )
        try:
            await reader.start()
            partition_of = {TopicPartition(tp.topic, tp.partition): tp for tp in ends}
            reader.assign(list(partition_of))
            for partition, tp in partition_of.items():
                reader.seek(partition, self._begin(offsets, tp) + 1)
            last = {partition: ends[tp] + 1 for partition, tp in partition_of.items()}
            async for records in read_to(reader, last, stall_seconds=_SILENCE_SECONDS, max_records=_STEP_RECORDS):
                if app.rebalancing_count != rebalances:
                    # Some partitions may be revoked: a write would open their files again.
                    return
                tp = partition_of[TopicPartition(records[0].topic, records[0].partition)]
                self._apply(tp, records)
                offsets[tp] = records[-1].offset
                restored += len(records)
        finally:
            await stop_consumer(reader)
        _log.info("table restored", records=restored, seconds=round(time.monotonic() - started, 1))

    @staticmethod
    def _begin(offsets: Counter[TP], tp: TP) -> int:
        """The last restored offset; -1 for none."""
        offset: int | None = offsets[tp]
        return -1 if offset is None else offset

    def _apply(self, tp: TP, records: Sequence[ConsumerRecord]) -> None:
        for record in records:
            require_readable_change(record.topic, record.partition, record.offset, record.value)
        changes: list[Any] = [_Change(tp, record) for record in records]
        self.tp_to_table[tp].apply_changelog_batch(changes)


class WorkerTables(TableManager):
    """The table manager of a worker's app."""

    @property
    def recovery(self) -> Recovery:
        """The recovery of this app's tables."""
        if self._recovery is None:
            self._recovery = _Recovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery
