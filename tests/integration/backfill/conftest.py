"""``nexus backfill`` as a process, with a real broker, our stand-in for the batches API, and the enricher's stage."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import sys
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from nexus_stream.delivery.outcomes import Outcome
from nexus_stream.delivery.received import Assignment, Received
from nexus_stream.delivery.stage import StageParts
from nexus_stream.embedded.broker import EmbeddedBroker
from nexus_stream.enrichment.stage import Enrichment
from nexus_stream.extraction.extractor import Extractor
from nexus_stream.kafka.reading import TopicLog
from nexus_stream.kafka.sender import Sender
from nexus_stream.kafka.topics import apply_topics
from nexus_stream.settings import Settings, load_settings
from nexus_stream.testing.broker import InMemoryBroker
from nexus_stream.testing.clock import FakeClock
from nexus_stream.testing.extractor import ScriptedExtractor
from nexus_stream.testing.sessions import InMemorySessionTable
from tests.integration.backfill.stand_in import BatchesStandIn

KILLING = Path(__file__).with_name("killing.py")
ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Ended:
    """The result of a command."""

    code: int
    output: str
    errors: str


def body(session: str, *texts: str, **more: Any) -> dict[str, Any]:
    """The body of a POST; the turns alternate, starting with the user."""
    messages = [{"role": ("user", "assistant")[index % 2], "content": text} for index, text in enumerate(texts)]
    return {"messages": messages, "sessionId": session, **more}


@dataclass
class Line:
    """The enricher's stage on in-memory parts, fed with the records of the real topic."""

    settings: Settings
    extractor: Extractor = field(default_factory=ScriptedExtractor)
    outcomes: list[str] = field(default_factory=list)
    read: list[ConsumerRecord] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.broker = InMemoryBroker(self.settings.topic_partitions)
        self.clock = FakeClock()
        self.fatal: list[BaseException] = []
        assignment = Assignment()
        self.table = InMemorySessionTable(self.broker, assignment, "changelog")
        self.stage = Enrichment(
            StageParts(
                broker=self.broker, assignment=assignment, clock=self.clock, observer=self, on_fatal=self.fatal.append
            ),
            settings=self.settings,
            table=self.table,
            extractor=self.extractor,
            source="/test",
        )

    def outcome(self, record: Received, outcome: Outcome) -> None:
        """See `Observer`."""
        self.outcomes.append(type(outcome).__name__)

    def waiting(self, what: str, since_ms: int | None) -> None:
        """See `Observer`."""

    async def start(self) -> None:
        self.stage.start()
        topic = self.settings.ingestion_topic
        await self.stage.assigned([(topic, number) for number in range(self.settings.topic_partitions)])

    async def feed(self, records: Sequence[ConsumerRecord]) -> None:
        """Process these records, and let everything settle."""
        for record in records:
            received = self.stage.read(
                record.topic,
                record.partition,
                record.offset,
                record.timestamp,
                record.key,
                record.value,
                tuple(record.headers),
            )
            assert received is not None
            self.read.append(record)
            await self.stage.submit(received)
        await self.clock.advance(120)
        assert not self.fatal

    def enriched(self) -> dict[str, dict[str, Any]]:
        """The newest record of each session."""
        records = [json.loads(one.value or b"") for one in self.broker.records(self.settings.enriched_topic)]
        return {one["session_id"]: one for one in records}

    def reasons(self) -> dict[str, str]:
        """The reasons of the dead letters, by session."""
        letters = self.broker.records(self.settings.dead_letter_topic)
        return {(one.key or b"").decode(): dict(one.headers)["nexus-reason"].decode() for one in letters}


@dataclass
class Desk:
    """An operator's environment: settings, files and commands."""

    settings: Settings
    stand_in: BatchesStandIn
    sender: Sender
    folder: Path
    lines: list[Line] = field(default_factory=list)
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def state(self) -> Path:
        """The directory of the runs."""
        return self.settings.data_dir / "backfill"

    def write(self, *bodies: dict[str, Any] | str) -> Path:
        """Write a JSON-lines file."""
        path = self.folder / "chats.jsonl"
        path.write_text("\n".join(one if isinstance(one, str) else json.dumps(one) for one in bodies) + "\n")
        return path

    async def post(self, *bodies: dict[str, Any]) -> None:
        """Put conversations onto the topic, as the gateway does."""
        for one in bodies:
            await self.sender.send(self.settings.ingestion_topic, one["sessionId"].encode(), json.dumps(one).encode())

    async def backfill(self, *words: object, dying: str = "nowhere", stdin: bytes | None = None) -> Ended:
        """Run the command without a terminal."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            KILLING,
            dying,
            *map(str, words),
            env=self._environ(),
            cwd=self.folder,
            stdin=asyncio.subprocess.DEVNULL if stdin is None else asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(60):
                output, errors = await process.communicate(stdin)
        except TimeoutError:
            process.kill()
            output, errors = await process.communicate()
            pytest.fail(f"it did not end: {output.decode()} {errors.decode()}")
        assert process.returncode is not None
        return Ended(process.returncode, output.decode(), errors.decode())

    def _environ(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("NEXUS_", "ANTHROPIC_"))}
        return {
            **kept,
            "NEXUS_KAFKA_BOOTSTRAP_SERVERS": self.settings.kafka_bootstrap_servers,
            "NEXUS_TOPIC_PREFIX": self.settings.topic_prefix,
            "NEXUS_ENRICHER_APP_ID": self.settings.enricher_app_id,
            "NEXUS_TOPIC_PARTITIONS": str(self.settings.topic_partitions),
            "NEXUS_DATA_DIR": str(self.settings.data_dir),
            "ANTHROPIC_API_KEY": "sk-test-0000",
            "ANTHROPIC_BASE_URL": self.stand_in.url,
            "PYTHONPATH": str(ROOT),
            **self.environ,
        }

    async def on_a_terminal(self, words: Sequence[str], typed: bytes) -> tuple[int, str]:
        """Run the command on a pseudo-terminal. Return its exit code and its output."""
        master, slave = pty.openpty()
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            KILLING,
            "nowhere",
            *words,
            env={**self._environ(), "TERM": "xterm", "COLUMNS": "160"},
            cwd=self.folder,
            stdin=slave,
            stdout=slave,
            stderr=slave,
        )
        os.close(slave)
        os.write(master, typed)
        shown = b""

        def read() -> bytes:
            try:
                return os.read(master, 65_536)
            except OSError:
                return b""  # the last writer has ended

        async with asyncio.timeout(60):
            while part := await asyncio.to_thread(read):
                shown += part
            code = await process.wait()
        os.close(master)
        return code, shown.decode(errors="replace")

    async def ingested(self) -> list[ConsumerRecord]:
        """Everything on the ingestion topic, by partition and offset."""
        async with TopicLog(self.settings, self.settings.ingestion_topic) as log:
            found = [record async for record in log.read()]
        return sorted(found, key=lambda record: (record.partition, record.offset))

    async def line(self, extractor: Extractor) -> Line:
        """Start an enricher that has read nothing yet."""
        line = Line(self.settings, extractor)
        self.lines.append(line)
        await line.start()
        return line

    async def enrich(self, extractor: Extractor | None = None) -> Line:
        """Start an enricher, and let it read the whole topic."""
        line = await self.line(extractor or ScriptedExtractor())
        await line.feed(await self.ingested())
        return line

    async def publish_table(self, line: Line) -> None:
        """Write an enricher's table to the real changelog, and commit the whole topic for its group."""
        for key, value in line.table.values.items():
            partition = next(one.partition for one in await self.ingested() if one.key == key)
            await self.sender.send(self.settings.sessions_changelog_topic, key, value, partition=partition)
        await self.commit()

    async def commit(self) -> None:
        """Commit the whole topic for the enrichers' group."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.settings.kafka_bootstrap_servers,
            group_id=self.settings.enricher_app_id,
            enable_auto_commit=False,
        )
        await consumer.start()
        try:
            topic = self.settings.ingestion_topic
            partitions = [TopicPartition(topic, number) for number in range(self.settings.topic_partitions)]
            consumer.assign(partitions)
            await consumer.commit(await consumer.end_offsets(partitions))
        finally:
            await consumer.stop()


@pytest.fixture(scope="package")
def broker() -> Iterator[str]:
    with EmbeddedBroker.start() as embedded:
        yield embedded.bootstrap_servers


@pytest.fixture
async def desk(broker: str, tmp_path: Path) -> AsyncIterator[Desk]:
    prefix = f"t{uuid.uuid4().hex[:12]}"
    settings = load_settings(
        environ={},
        kafka_bootstrap_servers=broker,
        topic_prefix=f"{prefix}.",
        enricher_app_id=f"{prefix}-enricher",
        topic_partitions=2,
        data_dir=tmp_path / "data",
    )
    await apply_topics(settings)
    async with BatchesStandIn() as stand_in, Sender(settings) as sender:
        one = Desk(settings, stand_in, sender, tmp_path)
        yield one
        for line in one.lines:
            await line.stage.stop(drain_seconds=0.1)
