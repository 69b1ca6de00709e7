"""The ingestion topic as a backfill's input: read to its end, without disturbing the enrichers.

From: ``nexus-prospect-ingestion``, and where the enrichers' group has committed. To: intake.py.

What no enricher has read yet is left to them: they are about to read it and would pay for it again. With a Redis that
they share it is taken, because there they find the answer first.
"""

from __future__ import annotations

import asyncio
from datetime import datetime

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from nexus_stream.backfill.intake import Intake
from nexus_stream.contracts.headers import COMMAND_HEADER, Headers
from nexus_stream.contracts.session_command import CommandKind, decode_command
from nexus_stream.errors import BrokerUnavailableError, DecodeError
from nexus_stream.kafka.clients import client_options, stop_consumer
from nexus_stream.settings import Settings

__all__ = ["take_topic"]

_POLL_MS = 500
_ANSWER_SECONDS = 30.0


async def take_topic(intake: Intake, settings: Settings, since: datetime | None) -> int:
    """Take in every snapshot on the topic; returns how many records were left to the enrichers.

    Args:
        intake: Where they go.
        settings: Broker, topic and group.
        since: Only records from then on.

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
    """Begin where that moment may be: a broker answers with the beginning of a batch, or of the partition."""
    await consumer.seek_to_beginning(*partitions)
    if not since_ms:
        return
    found = await consumer.offsets_for_times(dict.fromkeys(partitions, since_ms))
    ends = await consumer.end_offsets(partitions)
    for partition in partitions:
        place = found.get(partition)
        consumer.seek(partition, ends[partition] if place is None else place.offset)


async def _committed(settings: Settings, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
    """Where the enrichers' group is. Asked by a client that names the group and joins nothing."""
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
