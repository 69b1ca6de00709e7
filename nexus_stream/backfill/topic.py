"""Load the ingestion topic as a backfill's input: read it to its end, without disturbing the enrichers.

From: ``nexus-prospect-ingestion``, and the committed offsets of the enrichers' group. To: intake.py.

Records that the enrichers have not committed are left to them, because they will read them soon and pay again. If
enrichers and backfill share a Redis, these records are loaded too: the enrichers find the answers in the cache.
"""

from __future__ import annotations

import asyncio
from datetime import datetime

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from nexus_stream.backfill.intake import Intake
from nexus_stream.contracts.headers import COMMAND_HEADER
from nexus_stream.contracts.session_command import CommandKind, decode_command
from nexus_stream.delivery.received import Headers
from nexus_stream.errors import BrokerUnavailableError, DecodeError
from nexus_stream.kafka.clients import client_options, stop_consumer
from nexus_stream.settings import Settings

__all__ = ["take_topic"]

_POLL_MS = 500
_ANSWER_SECONDS = 30.0


async def take_topic(intake: Intake, settings: Settings, since: datetime | None) -> int:
    """Load every snapshot on the topic. Return the number of records left to the enrichers.

    Args:
        intake: Receives the snapshots.
        settings: Broker, topic and group.
        since: Only load records from this time on.

    Raises:
        BrokerUnavailableError: the broker does not answer.
    """
    topic = settings.ingestion_topic
    options = client_options(settings)
    consumer = AIOKafkaConsumer(
        **options, group_id=None, enable_auto_commit=False, auto_offset_reset="earliest", max_poll_records=1000
    )
    try:
        await consumer.start()
        partitions = [TopicPartition(topic, number) for number in range(settings.topic_partitions)]
        consumer.assign(partitions)
        since_ms = 0 if since is None else round(since.timestamp() * 1000)
        await _seek(consumer, partitions, since_ms)
        ends = await consumer.end_offsets(partitions)
        limits = ends if settings.redis_url is not None else await _committed(settings, partitions)
        left = 0
        while True:
            for records in (await consumer.getmany(timeout_ms=_POLL_MS)).values():
                for record in records:
                    if record.timestamp < since_ms:
                        continue
                    place = TopicPartition(topic, record.partition)
                    if record.offset < limits[place]:
                        _take(intake, record)
                    elif record.offset < ends[place]:
                        left += 1
            if all([await consumer.position(place) >= end for place, end in ends.items()]):
                return left
    except (KafkaError, OSError, TimeoutError) as error:
        raise BrokerUnavailableError(f"{topic} cannot be read: {type(error).__name__}") from error
    finally:
        await stop_consumer(consumer)


async def _seek(consumer: AIOKafkaConsumer, partitions: list[TopicPartition], since_ms: int) -> None:
    """Seek to the given time or before it: the broker may answer with the start of a batch or of the partition."""
    await consumer.seek_to_beginning(*partitions)
    if not since_ms:
        return
    found = await consumer.offsets_for_times(dict.fromkeys(partitions, since_ms))
    ends = await consumer.end_offsets(partitions)
    for partition in partitions:
        place = found.get(partition)
        consumer.seek(partition, ends[partition] if place is None else place.offset)


async def _committed(settings: Settings, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
    """Read the committed offsets of the enrichers' group, with a client that has its name but does not join it."""
    consumer = AIOKafkaConsumer(**client_options(settings), group_id=settings.enricher_app_id, enable_auto_commit=False)
    try:
        await consumer.start()
        consumer.assign(partitions)
        async with asyncio.timeout(_ANSWER_SECONDS):
            return {partition: await consumer.committed(partition) or 0 for partition in partitions}
    finally:
        await stop_consumer(consumer)


def _take(intake: Intake, record: ConsumerRecord) -> None:
    headers: Headers = tuple((name, raw or b"") for name, raw in record.headers)
    commands = [raw for name, raw in headers if name == COMMAND_HEADER]
    if not commands:
        intake.take(f"{record.partition}-{record.offset}", record.value, record.timestamp, headers)
        return
    try:
        command = decode_command(record.value, commands[-1])
    except DecodeError:
        return
    if command.command in {CommandKind.ERASE, CommandKind.EXPIRE}:
        intake.erase(command.key)
