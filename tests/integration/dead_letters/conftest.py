"""A real broker. Each test has its own topics, filled as the workers do, and runs ``nexus dlq`` as a process."""

from __future__ import annotations

import asyncio
import os
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest
from aiokafka import ConsumerRecord
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from nexus_stream.contracts.headers import Headers
from nexus_stream.delivery.dead_letters import letter_headers
from nexus_stream.delivery.received import Received
from nexus_stream.embedded.broker import EmbeddedBroker
from nexus_stream.errors import PermanentError, Reason
from nexus_stream.kafka.reading import TopicLog
from nexus_stream.kafka.sender import Sender
from nexus_stream.kafka.topics import apply_topics
from nexus_stream.settings import Settings, load_settings
from tests.kafka.launcher import KafkaCluster, available
from tests.support.requirements import require

NEXUS = Path(sys.executable).with_name("nexus")
DEAD_LETTER_PARTITIONS = 2


@pytest.fixture(scope="package", params=["embedded", "kafka"])
def broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a broker: each test that uses it runs on both kinds."""
    if request.param == "kafka":
        require("kafka", available())
        with KafkaCluster.start(data_dir=tmp_path_factory.mktemp("kafka")) as cluster:
            yield cluster.bootstrap_servers
    else:
        with EmbeddedBroker.start() as embedded:
            yield embedded.bootstrap_servers


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    output: str
    errors: str


class Desk:
    """An operator's place: settings, the topics and the command."""

    def __init__(self, settings: Settings, sender: Sender) -> None:
        self.settings = settings
        self.sender = sender

    @property
    def environ(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("NEXUS_")}
        return {
            **kept,
            "NEXUS_KAFKA_BOOTSTRAP_SERVERS": self.settings.kafka_bootstrap_servers,
            "NEXUS_TOPIC_PREFIX": self.settings.topic_prefix,
            "NEXUS_ENRICHER_APP_ID": self.settings.enricher_app_id,
            "NEXUS_TOPIC_PARTITIONS": str(self.settings.topic_partitions),
        }

    async def nexus(self, *words: str) -> Ended:
        """Run ``nexus dlq``, without a terminal."""
        process = await asyncio.create_subprocess_exec(
            NEXUS,
            "dlq",
            *words,
            env=self.environ,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(60):
            output, errors = await process.communicate()
        assert process.returncode is not None
        return Ended(process.returncode, output.decode(), errors.decode())

    async def write_letter(
        self,
        offset: int,
        value: bytes | None = None,
        *,
        key: bytes | None = None,
        reason: Reason = Reason.MODEL_REFUSED,
        topic: str | None = None,
        headers: Headers = (("correlation-id", b"c-1"),),
        timestamp_ms: int = 0,
        partition: int = 0,
        failed_at: str | None = None,
    ) -> str:
        """Set a record aside as a worker does; returns the letter's id."""
        topic = topic or self.settings.ingestion_topic
        value = conversation(f"s-{offset}") if value is None else value
        key = f"s-{offset}".encode() if key is None else key
        record = Received(topic, 2, offset, timestamp_ms, key, value, headers, epoch=1)
        failed_at = failed_at or datetime.now(UTC).isoformat(timespec="milliseconds")
        written = letter_headers(record, PermanentError("declined", reason=reason), attempts=1, failed_at=failed_at)
        await self.sender.send(self.settings.dead_letter_topic, key, value, partition=partition, headers=written)
        return f"{topic}-2-{offset}"

    async def records(self, topic: str) -> list[ConsumerRecord]:
        """Every record of a topic, by partition and offset."""
        async with TopicLog(self.settings, topic) as log:
            found = [record async for record in log.read()]
        return sorted(found, key=lambda record: (record.partition, record.offset))

    async def ingested(self) -> list[ConsumerRecord]:
        return await self.records(self.settings.ingestion_topic)


def conversation(session: str, text: str = "me llamo Carlos") -> bytes:
    return orjson.dumps({"messages": [{"role": "user", "content": text}], "sessionId": session})


@pytest.fixture
async def desk(broker: str) -> AsyncIterator[Desk]:
    prefix = f"t{uuid.uuid4().hex[:12]}"
    settings = load_settings(
        environ={},
        kafka_bootstrap_servers=broker,
        topic_prefix=f"{prefix}.",
        enricher_app_id=f"{prefix}-enricher",
        topic_partitions=3,
    )
    # More partitions than are declared, as an operator may have given it; the rest is made as declared.
    admin = AIOKafkaAdminClient(bootstrap_servers=broker)
    try:
        await admin.start()
        await admin.create_topics([NewTopic(settings.dead_letter_topic, DEAD_LETTER_PARTITIONS, 1)])
    finally:
        await admin.close()
    await apply_topics(settings)
    async with Sender(settings) as sender:
        yield Desk(settings, sender)
