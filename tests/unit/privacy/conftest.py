"""One enricher with in-memory parts for conversations and commands; `restart` simulates a crash."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from nexus_stream.contracts.headers import Headers
from nexus_stream.contracts.session_command import CommandKind, SessionCommand
from nexus_stream.delivery.outcomes import Outcome
from nexus_stream.delivery.received import Assignment, Received
from nexus_stream.delivery.stage import StageParts
from nexus_stream.enrichment.stage import Enrichment
from nexus_stream.settings import Settings, load_settings
from nexus_stream.testing.broker import InMemoryBroker
from nexus_stream.testing.clock import FakeClock
from nexus_stream.testing.extractor import ScriptedExtractor
from nexus_stream.testing.sessions import InMemorySessionTable

INGESTION, ENRICHED, DEAD, CHANGELOG = "nexus-prospect-ingestion", "prospects-enriched", "nexus-prospect-dlq", "log"


class Bench:
    """Sent records stay on the topic, so that `restart` and `replay` can read them again."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.broker = InMemoryBroker(settings.topic_partitions)
        self.clock = FakeClock()
        self.extractor = ScriptedExtractor()
        self.fatal: list[BaseException] = []
        self.sent: list[tuple[int, int, bytes | None, Headers]] = []
        self.partition = 0

    async def start(self) -> None:
        self.outcomes: list[tuple[int, Outcome]] = []
        self.assignment = Assignment()
        self.table = InMemorySessionTable(self.broker, self.assignment, CHANGELOG)
        for record in self.broker.records(CHANGELOG):
            assert record.key is not None
            if record.value is None:
                self.table.values.pop(record.key, None)
            else:
                self.table.values[record.key] = record.value
        self.stage = Enrichment(
            StageParts(
                broker=self.broker,
                assignment=self.assignment,
                clock=self.clock,
                observer=self,
                on_fatal=self.fatal.append,
            ),
            settings=self.settings,
            table=self.table,
            extractor=self.extractor,
            source="/test",
        )
        self.stage.start()
        await self.stage.assigned([(INGESTION, number) for number in range(self.settings.topic_partitions)])

    def outcome(self, record: Received, outcome: Outcome) -> None:
        self.outcomes.append((record.offset, outcome))

    def waiting(self, what: str, since_ms: int | None) -> None:
        """States are asserted through `Stage.state`."""

    def kinds(self) -> list[str]:
        return [type(outcome).__name__ for _, outcome in self.outcomes]

    async def crash(self) -> None:
        tasks = list(self.stage._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def restart(self, *, from_start: bool = False) -> None:
        await self.crash()
        if from_start:
            self.broker.committed.clear()
        await self.start()
        for offset, at_ms, value, headers in list(self.sent):
            if offset >= self.broker.committed.get((INGESTION, self.partition), 0):
                await self._read(offset, at_ms, value, headers)

    async def _read(self, offset: int, at_ms: int, value: bytes | None, headers: Headers) -> None:
        await self.stage.submit(self.stage.read(INGESTION, self.partition, offset, at_ms, b"k", value, headers))

    async def send(self, value: bytes | None, headers: Headers = ()) -> int:
        self.sent.append((len(self.sent), self.clock.time_ms(), value, headers))
        await self._read(*self.sent[-1])
        return len(self.sent) - 1

    async def say(
        self, texts: Sequence[str], *, session: str = "s-1", fingerprint: str | None = "fp-1", ahead_ms: int = 0
    ) -> int:
        messages = [{"role": "user" if n % 2 == 0 else "assistant", "content": text} for n, text in enumerate(texts)]
        enqueued_at = datetime.fromtimestamp((self.clock.time_ms() + ahead_ms) / 1000, UTC).isoformat()
        metadata = {"url": "https://example.com/", "enqueuedAt": enqueued_at}
        body = {"messages": messages, "sessionId": session, "fingerprint": fingerprint, "metadata": metadata}
        return await self.send(orjson.dumps(body))

    async def command(self, kind: str, *, session: str = "s-1", request: str | None = None, **fields: Any) -> int:
        moment = datetime.fromtimestamp(self.clock.time_ms() / 1000, UTC) + timedelta(milliseconds=1)
        command = SessionCommand(
            command=CommandKind(kind),
            session_id=session,
            request_id=request or f"request-{len(self.sent)}",
            requested_at=moment,
            **fields,
        )
        return await self.send(command.value, command.headers)

    def emitted(self) -> list[tuple[str, dict[str, Any]]]:
        return [
            (dict(record.headers)["ce_type"].decode(), orjson.loads(record.value or b""))
            for record in self.broker.records(ENRICHED)
        ]

    def everything_written(self) -> bytes:
        """All bytes that a restart, a console or a subscriber would find as the newest of each key."""
        newest = {(topic, r.key): r.value or b"" for topic in (CHANGELOG,) for r in self.broker.records(topic)}
        return b"\n".join(newest.values())


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    one = Bench(load_settings(environ={}, topic_partitions=1, settle_seconds=10, max_wait_seconds=60))
    await one.start()
    yield one
    assert one.fatal == []
    assert one.stage._bound.bytes == 0, "every byte that was counted in was counted out"
    assert one.stage._bound.items == 0
    await one.crash()
