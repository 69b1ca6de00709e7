"""End offsets, asked from the broker by a client that belongs to no group.

A worker's own consumer knows them only from its fetches, and a stalled worker does not fetch.
"""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.errors import KafkaError

from nexus_stream.delivery.received import TopicPartition
from nexus_stream.kafka import client_options, stop_consumer
from nexus_stream.settings import Settings

__all__ = ["EndOffsets"]

_ANSWER_SECONDS = 5.0


class EndOffsets:
    """Asks for the end offsets of one topic; connects when first asked, and again after an outage."""

    def __init__(self, settings: Settings, topic: str, partitions: int) -> None:
        self._settings = settings
        self._partitions = [KafkaPartition(topic, number) for number in range(partitions)]
        self._consumer: AIOKafkaConsumer | None = None

    async def ask(self) -> dict[TopicPartition, int]:
        """Per partition one past the last record; empty when the broker does not answer in time."""
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                consumer = await self._connected()
                ends = await consumer.end_offsets(self._partitions)
        except (KafkaError, OSError, TimeoutError):
            await self.close()
            return {}
        return {(tp.topic, tp.partition): offset for tp, offset in ends.items()}

    async def _connected(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            self._consumer = AIOKafkaConsumer(**client_options(self._settings), group_id=None, enable_auto_commit=False)
            await self._consumer.start()
        return self._consumer

    async def close(self) -> None:
        """Let the connection go."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await stop_consumer(consumer)
