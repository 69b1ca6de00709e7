"""Where a consumer group stands on a topic, asked from the broker by clients that are no member of it.

The answers are right while every worker is dead, because no worker is asked. A worker asks too: its own consumer knows
the ends only from its fetches, and a stalled worker does not fetch.

On the embedded broker the end is one past the *first* record of the last batch (kafka.is_embedded), so a lag may be
too low by the rest of that batch; workers and `nexus dev` send one record a batch there.
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

from nexus_stream.kafka.clients import client_options, is_embedded, stop_consumer
from nexus_stream.kafka.reading import partitions_of
from nexus_stream.settings import Settings

__all__ = ["GroupOffsets", "GroupStanding", "PartitionStanding"]

_T = TypeVar("_T")

# By number of a partition.
Offsets = dict[int, int]

_ANSWER_SECONDS = 5.0
# Of the answer's time, what is spent on reading records: without their times the offsets are still worth knowing.
_READ_SECONDS = 2.0
_FETCH_WAIT_MS = 100
_FETCH_BYTES = 1024 * 1024
# The first batch of a partition comes whole, however large; more than it is not wanted.
_PARTITION_FETCH_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class PartitionStanding:
    """One partition, as the group stands on it.

    Attributes:
        partition: Its number.
        committed: The group's committed offset: what lies below is done. Where nothing was committed yet, the
            partition's beginning, since that is where the group begins.
        end: One past the last record.
        oldest_ms: Time of the record at the committed offset, Unix milliseconds; None if there is none, or its time
            is not known.
        beginning: The first record that the topic still holds.
    """

    partition: int
    committed: int
    end: int
    oldest_ms: int | None = None
    beginning: int = 0

    @property
    def start(self) -> int:
        """Where the group reads on: records below the beginning have expired."""
        return max(self.committed, self.beginning)

    @property
    def lost(self) -> int:
        """Records that expired before they were done."""
        return max(0, self.beginning - self.committed)

    @property
    def lag(self) -> int:
        """Records that are not done."""
        return max(0, self.end - self.committed)


@dataclass(frozen=True, slots=True)
class GroupStanding:
    """One group on one topic."""

    group: str
    topic: str
    partitions: tuple[PartitionStanding, ...]

    @property
    def lag(self) -> int:
        """Records that are not done, over all partitions."""
        return sum(partition.lag for partition in self.partitions)

    @property
    def lost(self) -> int:
        """Records that expired before they were done, over all partitions."""
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
    """Asks about one group; connects when first asked, and again after an outage.

    Args:
        settings: Broker.
        group: The consumer group.
        topic: What it reads.

    Attributes:
        problem: The kind of error that kept the last answer away; None if there was an answer.
    """

    def __init__(self, settings: Settings, group: str, topic: str) -> None:
        self.problem: str | None = None
        self._settings = settings
        self._group = group
        self._topic = topic
        # The group id is for asking alone. This consumer neither subscribes nor is assigned, so it never joins.
        self._of_group: AIOKafkaConsumer | None = None
        # Only for the times of records.
        self._reader: AIOKafkaConsumer | None = None
        self._places: list[TopicPartition] = []
        self._known_times: dict[TopicPartition, tuple[int, int | None]] = {}
        self._is_embedded: bool | None = None

    async def ask(self) -> GroupStanding | None:
        """The standing now; None when the broker does not answer in time, refuses, or has no such topic.

        Needs Kafka's permissions Describe of the group and Read of the topic.
        """
        return await self._answered(self._ask())

    async def ends_and_starts(self, partitions: Collection[int] | None = None) -> tuple[Offsets, Offsets] | None:
        """Where every partition ends, and where the group reads on; None as for `ask`.

        Needs Describe of group and topic alone.

        Args:
            partitions: Those whose start is wanted; all, if not given.
        """
        return await self._answered(self._ends_and_starts(partitions))

    async def has_older(self, than_ms: int) -> bool | None:
        """Whether something that is not done was written before that moment; None when the broker does not say.

        Needs Describe of group and topic alone: who serves strangers should not be able to read conversations. Records
        with an old time behind newer ones do not count: Kafka removes a segment by its newest.

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
            # It does not look offsets up by time (Tansu 0.6 answers 0 for any).
            standing = await self._ask()
            return None if standing is None else (standing.oldest_ms or than_ms) < than_ms
        consumer = await self._connected()
        places = await self._partitions(consumer)
        if not places:
            return None
        standings = await self._offsets(consumer, places)
        firsts = await consumer.offsets_for_times(dict.fromkeys(places, than_ms))
        for place, one in standings.items():
            # The first one of that moment or later; where there is none, all are older.
            newer = one.end if firsts[place] is None else firsts[place].offset
            if one.start < newer:
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
        """Let the connections go."""
        of_group, self._of_group = self._of_group, None
        reader, self._reader = self._reader, None
        # After an outage the same offset may be another record's: of a topic made anew, or of another broker.
        self._known_times.clear()
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
        # The committed offsets before the ends: a group that reads on meanwhile then has no negative lag.
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

    async def _times(self, starts: Mapping[TopicPartition, int]) -> dict[TopicPartition, int | None]:
        # A group that does not move is asked about again and again: its record is read once.
        known = {place: time for place, time in self._known_times.items() if starts.get(place) == time[0]}
        missing = [place for place in starts if place not in known]
        if missing:
            reader = await self._connected_reader()
            for place, record_ms in (await _read_times(reader, missing, starts)).items():
                known[place] = (starts[place], record_ms)
        self._known_times = known
        return {place: record_ms for place, (_, record_ms) in known.items()}


async def _read_times(
    reader: AIOKafkaConsumer, places: Sequence[TopicPartition], starts: Mapping[TopicPartition, int]
) -> dict[TopicPartition, int | None]:
    """Times of the records at those offsets; what does not come in time is left out."""
    reader.assign(places)
    try:
        for place in places:
            reader.seek(place, starts[place])
        found: dict[TopicPartition, int | None] = {}
        deadline = time.monotonic() + _READ_SECONDS
        while len(found) < len(places) and (left := deadline - time.monotonic()) > 0:
            waiting = [place for place in places if place not in found]
            batch = await reader.getmany(*waiting, timeout_ms=int(left * 1000), max_records=1)
            for place, records in batch.items():
                if records:
                    # Minus one says that its producer gave none.
                    found[place] = records[0].timestamp if records[0].timestamp >= 0 else None
        return found
    finally:
        # So that nothing is fetched until the next question.
        reader.unsubscribe()
