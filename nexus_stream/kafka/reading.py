"""Read a topic to its end. The end is queried once, before reading, so reading always ends.

Other programs may write to the topic all the time. So the broker is queried once for the end of each partition. Reading
ends when the position of each partition has reached that offset. Positions are compared, not offsets of records,
because only a position passes offsets without a record: transaction markers, and records that compaction removed.

`TopicLog` returns the whole last batch. The embedded broker needs this, because its end offset is one past the *first*
record of the last batch (`is_embedded`). So a few records after the end may be returned too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Self, TypeVar

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from nexus_stream.errors import BrokerUnavailableError, TopicMismatchError
from nexus_stream.kafka.clients import client_options, stop_consumer, unavailable
from nexus_stream.settings import Settings

__all__ = ["Ends", "TopicLog", "partitions_of", "read_to"]

_T = TypeVar("_T")

# Number of a partition -> one past the last record to read.
Ends = dict[int, int]

_POLL_MS = 500
# Only one fetch is in memory. aiokafka sends the next fetch when this one is used up.
_FETCH_BYTES = 4 * 1024 * 1024
_PARTITION_FETCH_BYTES = 1024 * 1024
# In request timeouts: a leader may change in between.
_STALLED_AFTER = 3


async def partitions_of(consumer: AIOKafkaConsumer, topic: str) -> list[TopicPartition]:
    """The partitions of a topic. Empty if the topic does not exist, or if the login may not see it.

    Uses the cluster's list of all topics: a query for one topic by name may create it with the broker's defaults.
    """
    cluster = await consumer._client.fetch_all_metadata()
    return [TopicPartition(topic, number) for number in sorted(cluster.partitions_for_topic(topic) or ())]


async def read_to(
    consumer: AIOKafkaConsumer,
    ends: Mapping[TopicPartition, int],
    *,
    stall_seconds: float,
    max_records: int | None = None,
) -> AsyncIterator[list[ConsumerRecord]]:
    """Records of one partition at a time, in order, until the position of each partition has reached its end.

    Args:
        consumer: Already assigned to the partitions, and positioned at the start.
        ends: The offset at which to stop, per partition.
        stall_seconds: Maximum time without a moving position.
        max_records: Limit of one step. Without a limit, the whole last batch is returned.

    Raises:
        BrokerUnavailableError: nothing arrived for that long, or the broker refuses.
    """
    waiting, moved_at = dict(ends), time.monotonic()
    positions: dict[TopicPartition, int] = {}
    while True:
        now_at = {place: await _answered(consumer.position(place), place.topic, stall_seconds) for place in waiting}
        waiting = {place: end for place, end in waiting.items() if now_at[place] < end}
        if not waiting:
            return
        if now_at != positions:
            positions, moved_at = now_at, time.monotonic()
        elif time.monotonic() - moved_at > stall_seconds:
            stuck = ", ".join(f"{place.topic}-{place.partition} at offset {now_at[place]}" for place in sorted(waiting))
            raise BrokerUnavailableError(f"nothing arrives for {stall_seconds:.0f} s: {stuck}")
        with _refused(next(iter(waiting)).topic):
            batches = await consumer.getmany(*waiting, timeout_ms=_POLL_MS, max_records=max_records)
        for records in batches.values():
            yield records


class TopicLog:
    """One topic that can be read to its end several times. An async context manager.

    It joins no group and commits nothing. Each read continues where the last read stopped.

    Args:
        settings: The broker's settings.
        topic: The topic.
    """

    def __init__(self, settings: Settings, topic: str) -> None:
        self._settings = settings
        self._topic = topic
        self._stall_seconds = _STALLED_AFTER * settings.kafka_request_timeout_seconds
        self._started: AIOKafkaConsumer | None = None
        self._partitions: list[TopicPartition] = []

    async def __aenter__(self) -> Self:
        self._started = AIOKafkaConsumer(
            **client_options(self._settings),
            group_id=None,
            enable_auto_commit=False,
            # Retention may remove the beginning during the read.
            auto_offset_reset="earliest",
            fetch_max_bytes=_FETCH_BYTES,
            max_partition_fetch_bytes=_PARTITION_FETCH_BYTES,
        )
        try:
            await self._start()
        except (KafkaError, OSError, TimeoutError) as error:
            await stop_consumer(self._started)
            raise unavailable(self._settings, error) from error
        except BaseException:
            await stop_consumer(self._started)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await stop_consumer(self._consumer)

    @property
    def _consumer(self) -> AIOKafkaConsumer:
        assert self._started is not None  # noqa: S101 - entered
        return self._started

    async def _start(self) -> None:
        await self._consumer.start()
        self._partitions = await partitions_of(self._consumer, self._topic)
        if not self._partitions:
            raise TopicMismatchError(
                f"There is no topic {self._topic} at {self._settings.kafka_bootstrap_servers}. "
                "Run `nexus topics apply`, or check NEXUS_KAFKA_BOOTSTRAP_SERVERS and NEXUS_TOPIC_PREFIX."
            )
        self._consumer.assign(self._partitions)
        await self.rewind()

    async def ends(self) -> Ends:
        """Query the topic's end offsets.

        Raises:
            BrokerUnavailableError: the broker does not answer.
        """
        ends = await self._ask(self._consumer.end_offsets(self._partitions))
        return {place.partition: offset for place, offset in ends.items()}

    async def rewind(self) -> None:
        """Go back to the first record.

        Raises:
            BrokerUnavailableError: the broker does not answer.
        """
        for place, offset in (await self._ask(self._consumer.beginning_offsets(self._partitions))).items():
            self._consumer.seek(place, offset)

    async def read(self, ends: Ends | None = None) -> AsyncIterator[ConsumerRecord]:
        """Return every record from the current position to the end.

        Args:
            ends: The offsets at which to stop. Default: the topic's current end.

        Raises:
            BrokerUnavailableError: the broker does not answer, or sends no further record for too long.
        """
        ends = await self.ends() if ends is None else ends
        places = {TopicPartition(self._topic, number): end for number, end in ends.items()}
        async for records in read_to(self._consumer, places, stall_seconds=self._stall_seconds):
            for record in records:
                yield record

    async def _ask(self, question: Awaitable[_T]) -> _T:
        return await _answered(question, self._topic, self._stall_seconds)


async def _answered(question: Awaitable[_T], topic: str, seconds: float) -> _T:
    with _refused(topic):
        async with asyncio.timeout(seconds):
            return await question


@contextmanager
def _refused(topic: str) -> Iterator[None]:
    try:
        yield
    except (KafkaError, OSError, TimeoutError) as error:
        raise BrokerUnavailableError(f"{topic} cannot be read: {type(error).__name__}") from error
