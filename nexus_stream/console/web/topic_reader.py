"""Read one record of a topic by partition and offset, when a page shows it.

From: ``nexus-prospect-ingestion`` and ``nexus-prospect-dlq``. So the console stores no conversations and no bytes of
letters. They are gone when the topic's retention ends.
"""

from __future__ import annotations

import asyncio
from enum import Enum, auto

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from nexus_stream.kafka.clients import client_options, stop_consumer
from nexus_stream.kafka.reading import partitions_of
from nexus_stream.settings import Settings

__all__ = ["Absent", "TopicReader"]

_ANSWER_SECONDS = 5.0
_FETCH_WAIT_MS = 100
# Each read uses its own short-lived consumer.
_MAX_AT_ONCE = 4


class Absent(Enum):
    """The reason why there is no record."""

    EXPIRED = auto()  # below the topic's beginning, or compacted away
    UNREACHABLE = auto()  # the broker does not answer
    MISSING = auto()  # the topic, partition or offset does not exist


class TopicReader:
    """Read single records.

    Args:
        settings: The settings with the broker.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._slots = asyncio.Semaphore(_MAX_AT_ONCE)

    async def read(self, topic: str, partition: int, offset: int) -> ConsumerRecord | Absent:
        """Return the record at this position, or the reason why there is none."""
        try:
            async with asyncio.timeout(_ANSWER_SECONDS), self._slots:
                return await self._read(TopicPartition(topic, partition), offset)
        except (KafkaError, OSError, TimeoutError):
            return Absent.UNREACHABLE

    async def _read(self, place: TopicPartition, offset: int) -> ConsumerRecord | Absent:
        consumer = AIOKafkaConsumer(
            **client_options(self._settings),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            fetch_max_wait_ms=_FETCH_WAIT_MS,
        )
        try:
            await consumer.start()
            if place not in await partitions_of(consumer, place.topic):
                return Absent.MISSING
            consumer.assign([place])
            beginning = (await consumer.beginning_offsets([place]))[place]
            if offset < beginning:
                return Absent.EXPIRED
            end = (await consumer.end_offsets([place]))[place]
            if offset >= end:
                return Absent.MISSING
            consumer.seek(place, offset)
            record = await consumer.getone(place)
            return record if record.offset == offset else Absent.EXPIRED
        finally:
            await stop_consumer(consumer)
