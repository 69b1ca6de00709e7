"""Follow the sessions changelog and the other topics, and write them to the read model, until the process ends.

From: ``<app>-sessions-changelog``, ``prospects-enriched``, ``nexus-prospect-dlq`` and ``nexus-status``, all partitions,
without a consumer group: many consoles read the same records, and the read model stores the offsets. To: read_model.py.
The indexer waits for a broker or a topic that is down, restarted, replaced or missing. It can follow the other topics
only if the changelog exists.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from nexus_stream.console.index.read_model import ReadModel
from nexus_stream.console.index.session_row import ChangelogRecord
from nexus_stream.console.index.store import is_damage, is_damaged, note_damage
from nexus_stream.console.index.topic_record import LEFT_OUT, TopicRecord
from nexus_stream.delivery.received import Unreadable
from nexus_stream.host.log import get_logger
from nexus_stream.kafka.clients import client_options, stop_consumer
from nexus_stream.settings import Settings

__all__ = ["Indexer"]

_log = get_logger(__name__)

_POLL_MS = 250
_BATCH_RECORDS = 1000
# The size limit of one fetch in memory. aiokafka fetches again only when these records are used up.
_FETCH_BYTES = 4 * 1024 * 1024
_PARTITION_FETCH_BYTES = 1024 * 1024
_END_OFFSETS_SECONDS = 1.0
# A new broker on the old port looks like a short outage. The cluster id shows the difference.
_TOPOLOGY_SECONDS = 5.0
_ANSWER_SECONDS = 5.0
_RETRY_MIN_SECONDS = 0.5
_RETRY_MAX_SECONDS = 5.0

_Offsets = Mapping[TopicPartition, int]


@dataclass(frozen=True, slots=True)
class _Topology:
    cluster_id: str | None
    partitions: frozenset[TopicPartition]

    def of(self, topic: str) -> list[TopicPartition]:
        return sorted(partition for partition in self.partitions if partition.topic == topic)


class Indexer:
    """Keep one read model up to date."""

    def __init__(self, settings: Settings, model: ReadModel) -> None:
        self._settings = settings
        self._topic = settings.sessions_changelog_topic
        self._model = model

    async def run(self) -> None:
        """Follow the topics until cancelled. Retry errors of broker and disk; `ReadModel.freshness` shows them."""
        delay = _RETRY_MIN_SECONDS
        while True:
            started = time.monotonic()
            try:
                await asyncio.to_thread(self._model.remake_if_damaged)
                problem = await self._follow()
            except (KafkaError, OSError, TimeoutError) as error:
                problem = "broker_unreachable"
                self._log(problem, error)
            except sqlite3.OperationalError as error:
                # The disk is full, or the file was locked for too long.
                problem = "store_failed"
                self._log(problem, error)
            except sqlite3.DatabaseError as error:
                # Only damage can be repaired. Other errors are permanent, so they end the process.
                if not is_damage(error):
                    raise
                note_damage(self._model.path)
                problem = "store_failed"
                self._log(problem, error)
            if problem is not None:
                self._model.set_problem(problem)
            # After a longer run, the problem is new: retry soon.
            if time.monotonic() - started > _RETRY_MAX_SECONDS + _ANSWER_SECONDS:
                delay = _RETRY_MIN_SECONDS
            await asyncio.sleep(delay)
            delay = min(delay * 2, _RETRY_MAX_SECONDS)

    async def _follow(self) -> str | None:
        """Read until a topic changes. Return the problem, or None to start again."""
        topology = await self._topology()
        if not topology.of(self._topic):
            return "topic_missing"
        consumer = AIOKafkaConsumer(
            **client_options(self._settings),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            fetch_max_bytes=_FETCH_BYTES,
            max_partition_fetch_bytes=_PARTITION_FETCH_BYTES,
            max_poll_records=_BATCH_RECORDS,
        )
        try:
            await consumer.start()
            await self._read(consumer, topology)
        except OffsetOutOfRangeError:
            return None
        finally:
            await stop_consumer(consumer)
        return None

    async def _read(self, consumer: AIOKafkaConsumer, topology: _Topology) -> None:
        partitions = sorted(topology.partitions)
        consumer.assign(partitions)
        async with asyncio.timeout(_ANSWER_SECONDS):
            beginnings = await consumer.beginning_offsets(partitions)
            ends = await consumer.end_offsets(partitions)
            full_from = await self._full_from(consumer, topology)
        await asyncio.to_thread(self._bind, topology, beginnings, ends, full_from)
        for partition in partitions:
            next_offset = self._model.next_offset(partition.partition, partition.topic)
            assert next_offset is not None  # noqa: S101 - bind sets one for every partition
            consumer.seek(partition, next_offset)

        observed_at = topology_at = time.monotonic()
        while True:
            batch = await consumer.getmany(timeout_ms=_POLL_MS, max_records=_BATCH_RECORDS)
            if batch:
                await asyncio.to_thread(self._apply, batch)
            now = time.monotonic()
            if now - observed_at >= _END_OFFSETS_SECONDS:
                if is_damaged(self._model.path):
                    return
                await self._observe(consumer, partitions, idle=not batch)
                observed_at = now
            if now - topology_at >= _TOPOLOGY_SECONDS:
                if await self._topology() != topology:
                    return
                topology_at = now

    async def _full_from(self, consumer: AIOKafkaConsumer, topology: _Topology) -> _Offsets:
        """Return the offsets at which the period that is loaded in full begins."""
        since_ms = {
            partition: _now_ms() - full_period_ms
            for topic in self._model.topics[1:]
            if (full_period_ms := self._model.full_period_ms(topic))
            for partition in topology.of(topic)
        }
        found = await consumer.offsets_for_times(since_ms) if since_ms else {}
        return {partition: place.offset for partition, place in found.items() if place is not None}

    def _bind(self, topology: _Topology, beginnings: _Offsets, ends: _Offsets, full_from: _Offsets) -> None:
        of_changelog = _of_topic(beginnings, self._topic), _of_topic(ends, self._topic)
        self._model.bind(topology.cluster_id, *of_changelog, _now_ms())
        for topic in self._model.topics[1:]:
            if topology.of(topic):
                self._model.bind_beside(
                    topic, _of_topic(beginnings, topic), _of_topic(ends, topic), _of_topic(full_from, topic)
                )

    def _apply(self, batch: Mapping[TopicPartition, list[ConsumerRecord]]) -> None:
        by_topic: dict[str, list[ConsumerRecord]] = {}
        for partition, records in batch.items():
            by_topic.setdefault(partition.topic, []).extend(records)
        for topic, fetched in by_topic.items():
            # Logged where they were fetched.
            records = [record for record in fetched if not isinstance(record.value, Unreadable)]
            LEFT_OUT.labels(topic).inc(len(fetched) - len(records))
            if topic == self._topic:
                self._model.apply([_changelog_record(record) for record in records])
            else:
                self._model.apply_beside(topic, [_topic_record(record) for record in records])

    async def _observe(self, consumer: AIOKafkaConsumer, partitions: list[TopicPartition], *, idle: bool) -> None:
        async with asyncio.timeout(_ANSWER_SECONDS):
            ends = await consumer.end_offsets(partitions)
            # Compaction may empty the last offsets of the log. Then only the position shows that the end is reached.
            positions = {p: await consumer.position(p) for p in partitions} if idle else {}
        ahead = {
            partition: position
            for partition, position in positions.items()
            if position > (self._model.next_offset(partition.partition, partition.topic) or 0)
        }
        await asyncio.to_thread(self._note, ahead, ends)

    def _note(self, ahead: _Offsets, ends: _Offsets) -> None:
        for topic in sorted({partition.topic for partition in ends}):
            positions, of_topic = _of_topic(ahead, topic), _of_topic(ends, topic)
            if topic == self._topic:
                if positions:
                    self._model.apply([], positions)
                self._model.observe(of_topic, _now_ms())
            else:
                if positions:
                    self._model.apply_beside(topic, [], positions)
                self._model.observe_beside(topic, of_topic)
        self._model.prune(_now_ms())

    async def _topology(self) -> _Topology:
        # Use the admin client: a consumer's metadata request may create a missing topic with the broker's defaults.
        admin = AIOKafkaAdminClient(**client_options(self._settings))
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                await admin.start()
                cluster = await admin.describe_cluster()
                topics = await admin.describe_topics()
        finally:
            await admin.close()
        return _Topology(
            cluster.get("cluster_id"),
            frozenset(
                TopicPartition(topic["topic"], partition["partition"])
                for topic in topics
                if topic["topic"] in self._model.topics and not topic["error_code"]
                for partition in topic["partitions"]
            ),
        )

    def _log(self, problem: str, error: Exception) -> None:
        # Log once per outage, not once per attempt.
        if self._model.freshness().problem != problem:
            _log.warning("console_view_interrupted", problem=problem, error=type(error).__name__)


def _of_topic(offsets: _Offsets, topic: str) -> dict[int, int]:
    return {partition.partition: offset for partition, offset in offsets.items() if partition.topic == topic}


def _topic_record(record: ConsumerRecord) -> TopicRecord:
    return TopicRecord(
        partition=record.partition,
        offset=record.offset,
        timestamp_ms=record.timestamp,
        key=record.key or b"",
        value=record.value,
        headers=tuple((name, value or b"") for name, value in record.headers),
    )


def _changelog_record(record: ConsumerRecord) -> ChangelogRecord:
    return ChangelogRecord(
        partition=record.partition,
        offset=record.offset,
        timestamp_ms=record.timestamp,
        key=record.key or b"",
        value=record.value,
    )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
