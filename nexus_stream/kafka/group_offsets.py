"""Query the broker for the offsets of a consumer group on a topic, with clients that are not members of the group.

The answers are right even if every worker is dead, because they come from the broker. A worker uses this too: its own
consumer learns the ends only from fetches, and a stalled worker does not fetch.

On the embedded broker the end is one past the *first* record of the last batch (`is_embedded`). So a lag may be too low
by the rest of that batch. Workers and `nexus dev` send one record per batch there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from nexus_stream.contracts.topics import segment_hours
from nexus_stream.kafka.clients import client_options, is_embedded, stop_consumer
from nexus_stream.kafka.reading import partitions_of
from nexus_stream.settings import Settings

__all__ = ["GroupOffsets", "GroupStanding", "PartitionStanding"]

_T = TypeVar("_T")

# Partition number -> offset.
Offsets = dict[int, int]

_ANSWER_SECONDS = 5.0
_HOUR_MS = 3_600_000
# The part of that time for reading records. The offsets are useful even without the records' times.
_READ_SECONDS = 2.0
_FETCH_WAIT_MS = 100
_FETCH_BYTES = 1024 * 1024
# The broker always returns the whole first batch of a partition. More is not needed.
_PARTITION_FETCH_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class PartitionStanding:
    """The offsets of the group on one partition.

    Attributes:
        partition: The partition's number.
        committed: The group's committed offset. Records below it are done. Without a commit it is the partition's
            beginning, because the group begins there.
        end: One past the last record.
        oldest_ms: Time of the record at the committed offset, Unix milliseconds; if it cannot be right, when the record
            was first seen here. None if there is no record, or it could not be read.
        beginning: Offset of the first record that the topic still has.
    """

    partition: int
    committed: int
    end: int
    oldest_ms: int | None = None
    beginning: int = 0

    @property
    def start(self) -> int:
        """The offset at which the group continues. Records below the beginning have expired."""
        return max(self.committed, self.beginning)

    @property
    def lost(self) -> int:
        """Number of records that expired before they were done."""
        return max(0, self.beginning - self.committed)

    @property
    def lag(self) -> int:
        """Number of records that are not done."""
        return max(0, self.end - self.committed)


@dataclass(frozen=True, slots=True)
class GroupStanding:
    """One group on one topic."""

    group: str
    topic: str
    partitions: tuple[PartitionStanding, ...]

    @property
    def lag(self) -> int:
        """Number of records that are not done, over all partitions."""
        return sum(partition.lag for partition in self.partitions)

    @property
    def lost(self) -> int:
        """Number of records that expired before they were done, over all partitions."""
        return sum(partition.lost for partition in self.partitions)

    @property
    def oldest_ms(self) -> int | None:
        """Time of the oldest record that is not done; None if there is none, or no time is known."""
        return min((one.oldest_ms for one in self.partitions if one.oldest_ms is not None), default=None)

    def oldest_age_seconds(self, now_ms: float) -> float:
        """Age of the oldest record that is not done; 0 if there is none."""
        oldest_ms = self.oldest_ms
        return 0.0 if oldest_ms is None else max(0.0, (now_ms - oldest_ms) / 1000)


class GroupOffsets:
    """Queries one group. Connects at the first query, and again after an outage.

    Args:
        settings: The broker's settings.
        group: The consumer group.
        topic: The topic that the group reads.

    Attributes:
        problem: The kind of error of the last query; None if the query succeeded.
    """

    def __init__(self, settings: Settings, group: str, topic: str) -> None:
        self.problem: str | None = None
        self._settings = settings
        self._group = group
        self._topic = topic
        # Uses the group id only for queries. This consumer has no subscription and no assignment, so it never joins.
        self._of_group: AIOKafkaConsumer | None = None
        # Used only for the times of records.
        self._reader: AIOKafkaConsumer | None = None
        self._places: list[TopicPartition] = []
        self._known_times: dict[TopicPartition, tuple[int, int]] = {}
        # Offset of the group, and since when it is seen there with a record that has no plausible time.
        self._waits_since: dict[TopicPartition, tuple[int, int]] = {}
        hours = (
            settings.enriched_retention_hours
            if topic == settings.enriched_topic
            else settings.ingestion_retention_hours
        )
        # Kafka keeps no record longer, so an older timestamp is no time of receipt.
        self._kept_ms = (hours + segment_hours(hours)) * _HOUR_MS
        self._is_embedded: bool | None = None

    async def ask(self) -> GroupStanding | None:
        """Query the standing. None if the broker does not answer in time, refuses, or does not have the topic.

        Needs Kafka's permissions Describe of the group and Read of the topic.
        """
        return await self._answered(self._ask())

    async def ends_and_starts(self, partitions: Collection[int] | None = None) -> tuple[Offsets, Offsets] | None:
        """Query the end of every partition, and the offset at which the group continues. None as for `ask`.

        Needs only Describe of group and topic.

        Args:
            partitions: The partitions whose start is needed. Default: all.
        """
        return await self._answered(self._ends_and_starts(partitions))

    async def has_older(self, than_ms: int) -> bool | None:
        """Whether a record that is not done was written before that moment. None if the broker does not answer.

        Needs only Describe of group and topic, because a public gateway should not be able to read conversations. An
        old record after newer records does not count, because Kafka removes a segment by its newest record. A time
        before the topic's retention is not believed: such a record counts from when it was first seen here.

        Args:
            than_ms: Unix milliseconds.
        """
        return await self._answered(self._has_older(than_ms))

    async def _answered(self, question: Coroutine[Any, Any, _T]) -> _T | None:
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                answer = await question
        except (KafkaError, OSError, TimeoutError) as error:
            self.problem = type(error).__name__
            await self.close()
            return None
        self.problem = None if answer is not None else "topic missing"
        return answer

    async def _has_older(self, than_ms: int) -> bool | None:
        if await self._asks_embedded():
            # The embedded broker cannot find offsets by time (Tansu 0.6 returns 0 for every time).
            standing = await self._ask()
            return None if standing is None else (standing.oldest_ms or than_ms) < than_ms
        consumer = await self._connected()
        places = await self._partitions(consumer)
        if not places:
            return None
        standings = await self._offsets(consumer, places)
        firsts = await consumer.offsets_for_times(dict.fromkeys(places, than_ms))
        waits_since, self._waits_since = self._waits_since, {}
        now_ms = time.time_ns() // 1_000_000
        for place, one in standings.items():
            # The first record at or after that moment. Without such a record, all records are older.
            newer = one.end if firsts[place] is None else firsts[place].offset
            if one.start >= newer:
                continue
            if await self._has_record_between(consumer, place, (one.start, newer), (now_ms - self._kept_ms, than_ms)):
                return True
            offset, since_ms = waits_since.get(place, (one.start, now_ms))
            self._waits_since[place] = (one.start, since_ms if offset == one.start else now_ms)
        return any(since_ms < than_ms for _, since_ms in self._waits_since.values())

    @staticmethod
    async def _has_record_between(
        consumer: AIOKafkaConsumer, place: TopicPartition, offsets: tuple[int, int], times_ms: tuple[int, int]
    ) -> bool:
        """Whether one of those records is the first with a time in that span; halves the span until it is known.

        The broker tells only the first record at or after a moment. So a record counts if its time is later than all
        times before it.
        """
        (first, behind), (begin_ms, end_ms) = offsets, times_ms
        while begin_ms < end_ms:
            middle_ms = (begin_ms + end_ms) // 2
            at = (await consumer.offsets_for_times({place: middle_ms}))[place]
            if at is None or at.offset >= behind:
                end_ms = middle_ms
            elif at.offset < first:
                begin_ms = middle_ms + 1
            else:
                return True
        return False

    async def _asks_embedded(self) -> bool:
        if self._is_embedded is None:
            admin = AIOKafkaAdminClient(**client_options(self._settings))
            try:
                await admin.start()
                self._is_embedded = is_embedded((await admin.describe_cluster())["cluster_id"])
            finally:
                await admin.close()
        return self._is_embedded

    async def close(self) -> None:
        """Close the connections."""
        of_group, self._of_group = self._of_group, None
        reader, self._reader = self._reader, None
        # After an outage the same offset may hold another record: the topic was recreated, or the broker is another.
        self._known_times.clear()
        self._waits_since.clear()
        self._places = []
        self._is_embedded = None
        for consumer in (of_group, reader):
            if consumer is not None:
                await stop_consumer(consumer)

    async def _ask(self) -> GroupStanding | None:
        consumer = await self._connected()
        places = await self._partitions(consumer)
        if not places:
            return None
        standings = await self._offsets(consumer, places)
        times = await self._times({place: one.start for place, one in standings.items() if one.start < one.end})
        return GroupStanding(
            self._group,
            self._topic,
            tuple(replace(one, oldest_ms=times.get(place)) for place, one in standings.items()),
        )

    async def _ends_and_starts(self, partitions: Collection[int] | None) -> tuple[Offsets, Offsets] | None:
        consumer = await self._connected()
        places = await self._partitions(consumer)
        if not places:
            return None
        wanted = places if partitions is None else [place for place in places if place.partition in partitions]
        starts = {place.partition: one.start for place, one in (await self._offsets(consumer, wanted)).items()}
        ends = await consumer.end_offsets(places)
        return {place.partition: ends[place] for place in places}, starts

    async def _partitions(self, consumer: AIOKafkaConsumer) -> list[TopicPartition]:
        if not self._places:
            self._places = await partitions_of(consumer, self._topic)
        return self._places

    @staticmethod
    async def _offsets(
        consumer: AIOKafkaConsumer, places: Sequence[TopicPartition]
    ) -> dict[TopicPartition, PartitionStanding]:
        if not places:
            return {}
        # Query committed offsets before ends. If the group commits in between, its lag is not negative.
        committed = await asyncio.gather(*(consumer.committed(place) for place in places))
        beginnings, ends = await asyncio.gather(consumer.beginning_offsets(places), consumer.end_offsets(places))
        return {
            place: PartitionStanding(
                place.partition,
                beginnings[place] if offset is None else offset,
                ends[place],
                beginning=beginnings[place],
            )
            for place, offset in zip(places, committed, strict=True)
        }

    async def _connected(self) -> AIOKafkaConsumer:
        if self._of_group is None:
            self._of_group = AIOKafkaConsumer(
                **client_options(self._settings), group_id=self._group, enable_auto_commit=False
            )
            await self._of_group.start()
        return self._of_group

    async def _connected_reader(self) -> AIOKafkaConsumer:
        if self._reader is None:
            self._reader = AIOKafkaConsumer(
                **client_options(self._settings),
                group_id=None,
                enable_auto_commit=False,
                auto_offset_reset="none",
                fetch_max_wait_ms=_FETCH_WAIT_MS,
                fetch_max_bytes=_FETCH_BYTES,
                max_partition_fetch_bytes=_PARTITION_FETCH_BYTES,
            )
            await self._reader.start()
        return self._reader

    async def _times(self, starts: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        # A group that does not move is queried again and again. Its record is read only once.
        known = {place: time for place, time in self._known_times.items() if starts.get(place) == time[0]}
        missing = [place for place in starts if place not in known]
        if missing:
            reader = await self._connected_reader()
            now_ms = time.time_ns() // 1_000_000
            for place, record_ms in (await _read_times(reader, missing, starts)).items():
                # The first time that this record is seen waiting, if its own time cannot be right.
                known[place] = (starts[place], now_ms if record_ms < now_ms - self._kept_ms else record_ms)
        self._known_times = known
        return {place: record_ms for place, (_, record_ms) in known.items()}


async def _read_times(
    reader: AIOKafkaConsumer, places: Sequence[TopicPartition], starts: Mapping[TopicPartition, int]
) -> dict[TopicPartition, int]:
    """Times of the records at those offsets. A record that does not arrive in time is left out."""
    reader.assign(places)
    try:
        for place in places:
            reader.seek(place, starts[place])
        found: dict[TopicPartition, int] = {}
        deadline = time.monotonic() + _READ_SECONDS
        while len(found) < len(places) and (left := deadline - time.monotonic()) > 0:
            waiting = [place for place in places if place not in found]
            batch = await reader.getmany(*waiting, timeout_ms=int(left * 1000), max_records=1)
            for place, records in batch.items():
                if records:
                    found[place] = records[0].timestamp
        return found
    finally:
        # Stop fetching until the next query.
        reader.unsubscribe()
