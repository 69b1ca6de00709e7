"""Read the dead-letter topic from its beginning to a fixed end.

From: ``nexus-prospect-dlq``. The reader uses no consumer group: it commits no offsets, and any number of operators and
consoles can read the same records. Memory holds only one fetch.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from nexus_stream.dead_letters.letter import Letter, Mark, read_record
from nexus_stream.errors import BrokerUnavailableError, TopicMismatchError
from nexus_stream.kafka.clients import client_options, stop_consumer, unavailable
from nexus_stream.settings import Settings

__all__ = [
    "DeadLetterLog",
    "Ends",
]

# Partition of the dead-letter topic -> the offset after the last record to read.
Ends = dict[int, int]

_BATCH_RECORDS = 200
_POLL_MS = 500
# The size limit of one fetch in memory. aiokafka fetches again only when these records are used up.
_FETCH_BYTES = 4 * 1024 * 1024
_PARTITION_FETCH_BYTES = 1024 * 1024


class DeadLetterLog:
    """Read the topic. Use as an async context manager.

    Args:
        settings: The settings with broker and topic.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._topic = settings.dead_letter_topic
        self._stall_seconds = 3 * settings.kafka_request_timeout_seconds
        self._consumer: AIOKafkaConsumer | None = None
        self._partitions: list[int] = []

    async def __aenter__(self) -> Self:
        try:
            # Use the admin client: a consumer's metadata request may create a missing topic.
            self._partitions = await self._find_partitions()
            consumer = AIOKafkaConsumer(
                **client_options(self._settings),
                group_id=None,
                enable_auto_commit=False,
                # Retention may remove the beginning during the read.
                auto_offset_reset="earliest",
                fetch_max_bytes=_FETCH_BYTES,
                max_partition_fetch_bytes=_PARTITION_FETCH_BYTES,
            )
            self._consumer = consumer
            await consumer.start()
        except (KafkaError, TimeoutError) as error:
            await self._close()
            raise unavailable(self._settings, error) from error
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await stop_consumer(consumer)

    async def _find_partitions(self) -> list[int]:
        admin = AIOKafkaAdminClient(**client_options(self._settings))
        try:
            await admin.start()
            described = await admin.describe_topics()
        finally:
            await admin.close()
        numbers = [
            partition["partition"]
            for topic in described
            if topic["topic"] == self._topic and not topic["error_code"]
            for partition in topic["partitions"]
        ]
        if not numbers:
            raise TopicMismatchError(
                f"There is no topic {self._topic} at {self._settings.kafka_bootstrap_servers}. "
                "Run `nexus topics apply`, or check NEXUS_KAFKA_BOOTSTRAP_SERVERS and NEXUS_TOPIC_PREFIX."
            )
        return sorted(numbers)

    async def ends(self) -> Ends:
        """Return the present end offsets. A read with these offsets skips later records.

        Raises:
            BrokerUnavailableError: the broker does not answer.
        """
        assert self._consumer is not None  # noqa: S101 - entered
        partitions = [TopicPartition(self._topic, number) for number in self._partitions]
        try:
            async with asyncio.timeout(self._stall_seconds):
                found = await self._consumer.end_offsets(partitions)
        except (KafkaError, TimeoutError) as error:
            raise unavailable(self._settings, error) from error
        return {partition.partition: offset for partition, offset in found.items()}

    async def entries(self, ends: Ends) -> AsyncIterator[Letter | Mark | None]:
        """Yield every record up to ``ends``, by partition and offset. Yield None for a record of another kind.

        Raises:
            BrokerUnavailableError: the broker stopped answering.
        """
        assert self._consumer is not None  # noqa: S101 - entered
        for number, end in sorted(ends.items()):
            partition = TopicPartition(self._topic, number)
            self._consumer.assign([partition])
            await self._begin(partition)
            moved_at, position = time.monotonic(), -1
            while (now_at := await self._position(partition)) < end:
                if now_at != position:
                    moved_at, position = time.monotonic(), now_at
                elif time.monotonic() - moved_at > self._stall_seconds:
                    raise BrokerUnavailableError(f"{self._topic}-{number}: nothing arrives at offset {position}")
                try:
                    batch = await self._consumer.getmany(partition, timeout_ms=_POLL_MS, max_records=_BATCH_RECORDS)
                except KafkaError as error:
                    raise unavailable(self._settings, error) from error
                for record in batch.get(partition, ()):
                    if record.offset < end:
                        headers = tuple((name, raw or b"") for name, raw in record.headers)
                        yield read_record(number, record.offset, record.timestamp, record.key, record.value, headers)

    async def _begin(self, partition: TopicPartition) -> None:
        assert self._consumer is not None  # noqa: S101 - entered
        try:
            async with asyncio.timeout(self._stall_seconds):
                found = await self._consumer.beginning_offsets([partition])
        except (KafkaError, TimeoutError) as error:
            raise unavailable(self._settings, error) from error
        self._consumer.seek(partition, found[partition])

    async def _position(self, partition: TopicPartition) -> int:
        assert self._consumer is not None  # noqa: S101 - entered
        try:
            async with asyncio.timeout(self._stall_seconds):
                position: int = await self._consumer.position(partition)
        except (KafkaError, TimeoutError) as error:
            raise unavailable(self._settings, error) from error
        return position
