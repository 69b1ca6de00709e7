"""Follows the sessions changelog into the read model, for as long as the process runs.

From: ``<app>-sessions-changelog``, all partitions, without a consumer group (many consoles read the same records;
offsets are the read model's). To: read_model.py. A broker that is down, restarted, replaced or not there yet is waited
for.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from nexus_stream.console.read_model import ReadModel
from nexus_stream.console.session_row import ChangelogRecord
from nexus_stream.kafka import client_options, stop_consumer
from nexus_stream.settings import Settings

__all__ = ["Indexer"]

_log = structlog.get_logger(__name__)

_POLL_MS = 250
_BATCH_RECORDS = 1000
# What one fetch may bring into memory; aiokafka asks for the next only when this is used up.
_FETCH_BYTES = 4 * 1024 * 1024
_PARTITION_FETCH_BYTES = 1024 * 1024
_END_OFFSETS_SECONDS = 1.0
# A broker restarted on its old port looks like a short outage; its cluster id tells.
_TOPOLOGY_SECONDS = 5.0
_ANSWER_SECONDS = 5.0
_RETRY_MIN_SECONDS = 0.5
_RETRY_MAX_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class _Topology:
    cluster_id: str | None
    partitions: frozenset[int]


class Indexer:
    """Keeps one read model up to date."""

    def __init__(self, settings: Settings, model: ReadModel) -> None:
        self._settings = settings
        self._topic = settings.sessions_changelog_topic
        self._model = model

    async def run(self) -> None:
        """Follow the topic until cancelled. Errors of broker and disk show in `ReadModel.freshness` and are retried."""
        delay = _RETRY_MIN_SECONDS
        while True:
            started = time.monotonic()
            try:
                problem = await self._follow()
            except (KafkaError, OSError, TimeoutError) as error:
                problem = "broker_unreachable"
                self._log(problem, error)
            except sqlite3.OperationalError as error:
                # A full disk or a file locked for too long. Other SQLite errors end the process: they do not pass.
                problem = "store_failed"
                self._log(problem, error)
            if problem is not None:
                self._model.lose_touch(problem)
            # Worked for a while: what ended it is new, so try again soon.
            if time.monotonic() - started > _RETRY_MAX_SECONDS + _ANSWER_SECONDS:
                delay = _RETRY_MIN_SECONDS
            await asyncio.sleep(delay)
            delay = min(delay * 2, _RETRY_MAX_SECONDS)

    async def _follow(self) -> str | None:
        """Read until something about the topic changes; returns what is wrong, None to look at it anew."""
        topology = await self._topology()
        if not topology.partitions:
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
        partitions = [TopicPartition(self._topic, number) for number in sorted(topology.partitions)]
        consumer.assign(partitions)
        async with asyncio.timeout(_ANSWER_SECONDS):
            beginnings = _by_number(await consumer.beginning_offsets(partitions))
            ends = _by_number(await consumer.end_offsets(partitions))
        await asyncio.to_thread(self._model.bind, topology.cluster_id, beginnings, ends, _now_ms())
        for partition in partitions:
            next_offset = self._model.next_offset(partition.partition)
            assert next_offset is not None  # noqa: S101 - bind sets one for every partition
            consumer.seek(partition, next_offset)

        observed_at = topology_at = time.monotonic()
        while True:
            batch = await consumer.getmany(timeout_ms=_POLL_MS, max_records=_BATCH_RECORDS)
            records = [_changelog_record(record) for of_partition in batch.values() for record in of_partition]
            if records:
                await asyncio.to_thread(self._model.apply, records)
            now = time.monotonic()
            if now - observed_at >= _END_OFFSETS_SECONDS:
                await self._observe(consumer, partitions, idle=not records)
                observed_at = now
            if now - topology_at >= _TOPOLOGY_SECONDS:
                if await self._topology() != topology:
                    return
                topology_at = now

    async def _observe(self, consumer: AIOKafkaConsumer, partitions: list[TopicPartition], *, idle: bool) -> None:
        async with asyncio.timeout(_ANSWER_SECONDS):
            ends = _by_number(await consumer.end_offsets(partitions))
            # Where the log ends in offsets that compaction emptied, no record tells that the end is reached.
            positions = {p.partition: await consumer.position(p) for p in partitions} if idle else {}
        ahead = {
            number: position
            for number, position in positions.items()
            if position > (self._model.next_offset(number) or 0)
        }
        if ahead:
            await asyncio.to_thread(self._model.apply, [], ahead)
        await asyncio.to_thread(self._model.observe, ends, _now_ms())

    async def _topology(self) -> _Topology:
        # Through the admin client: a consumer's metadata request for a missing topic may create it, with the broker's
        # defaults.
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
                partition["partition"]
                for topic in topics
                if topic["topic"] == self._topic and not topic["error_code"]
                for partition in topic["partitions"]
            ),
        )

    def _log(self, problem: str, error: Exception) -> None:
        # Once per outage, not once per attempt.
        if self._model.freshness().problem != problem:
            _log.warning("console_lost_touch", problem=problem, error=type(error).__name__)


def _by_number(offsets: Mapping[TopicPartition, int]) -> dict[int, int]:
    return {partition.partition: offset for partition, offset in offsets.items()}


def _changelog_record(record: ConsumerRecord) -> ChangelogRecord:
    return ChangelogRecord(
        partition=record.partition,
        offset=record.offset,
        timestamp_ms=max(0, record.timestamp),
        key=record.key or b"",
        value=record.value,
    )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
