"""Load the ingestion topic as a backfill's input: read it to its end, without disturbing the enrichers.

From: ``nexus-prospect-ingestion``, and the committed offsets of the enrichers' group. To: intake.py.

Records that the enrichers have not committed are left to them, because they will read them soon and pay again. If
enrichers and backfill share a Redis, these records are loaded too: the enrichers find the answers in the cache.
"""

from __future__ import annotations

from datetime import datetime

from aiokafka import ConsumerRecord

from nexus_stream.backfill.intake import Intake
from nexus_stream.contracts.headers import AGAIN_HEADER, COMMAND_HEADER, Headers
from nexus_stream.contracts.session_command import CommandKind, decode_command
from nexus_stream.errors import BrokerUnavailableError, DecodeError
from nexus_stream.kafka.group_offsets import GroupOffsets
from nexus_stream.kafka.reading import TopicLog
from nexus_stream.settings import Settings

__all__ = ["take_topic"]


async def take_topic(intake: Intake, settings: Settings, since: datetime | None) -> int:
    """Load every snapshot on the topic. Return the number of records left to the enrichers.

    Args:
        intake: Receives the snapshots.
        settings: Broker, topic and group.
        since: Only load records from this time on.

    Raises:
        BrokerUnavailableError: the broker does not answer.
    """
    since_ms = 0 if since is None else round(since.timestamp() * 1000)
    left = 0
    async with TopicLog(settings, settings.ingestion_topic) as log:
        # From the beginning, not from the offset at that time: one producer's wrong clock would leave out others.
        ends = await log.ends()
        starts = await _starts(settings)
        limits = ends if settings.redis_url is not None else starts
        async for record in log.read(ends):
            again = [raw for name, raw in record.headers if name == AGAIN_HEADER and raw]
            if again and record.offset >= starts[record.partition]:
                intake.answered(record.value, again[-1].decode("utf-8", "replace"))
            if record.timestamp < since_ms:
                continue
            if record.offset < limits[record.partition]:
                _take(intake, record)
            elif record.offset < ends[record.partition]:
                left += 1
    return left


async def _starts(settings: Settings) -> dict[int, int]:
    """Where the enrichers' group is."""
    offsets = GroupOffsets(settings, settings.enricher_app_id, settings.ingestion_topic)
    try:
        answer = await offsets.ends_and_starts()
    finally:
        await offsets.close()
    if answer is None:
        raise BrokerUnavailableError(f"group {settings.enricher_app_id}: {offsets.problem}")
    return answer[1]


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
