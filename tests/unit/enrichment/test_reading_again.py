"""A record that is read again while its first reading is still under way.

Faust does that at every assignment: it lets the stream's partitions flow, and only then seeks them back to the
committed offsets (``_resume_streams``, faust/tables/recovery.py).
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import orjson
import pytest

from nexus_stream.delivery.outcomes import Outcome
from nexus_stream.delivery.received import Assignment, Received
from nexus_stream.delivery.stage import StageParts
from nexus_stream.enrichment.stage import Enrichment
from nexus_stream.settings import load_settings
from nexus_stream.testing.broker import InMemoryBroker
from nexus_stream.testing.clock import FakeClock
from nexus_stream.testing.extractor import ScriptedExtractor
from nexus_stream.testing.sessions import InMemorySessionTable

INGESTION = "nexus-prospect-ingestion"


class _Nobody:
    def outcome(self, record: Received, outcome: Outcome) -> None:
        pass

    def waiting(self, what: str, since_ms: int | None) -> None:
        pass


class Reader:
    """A stage that reads what it is given, as often as it is given it."""

    def __init__(self) -> None:
        self.broker, self.clock, self.extractor = InMemoryBroker(1), FakeClock(), ScriptedExtractor()
        assignment = Assignment()
        self.stage = Enrichment(
            StageParts(
                broker=self.broker,
                assignment=assignment,
                clock=self.clock,
                observer=_Nobody(),
                on_fatal=lambda error: None,
            ),
            settings=load_settings(environ={}, topic_partitions=1, settle_seconds=10, max_wait_seconds=60),
            table=InMemorySessionTable(self.broker, assignment, "changelog"),
            extractor=self.extractor,
            source="/test",
        )

    async def read(self, offset: int, turns: int) -> None:
        """Read the snapshot of so many turns at that offset."""
        texts = ["me llamo Carlos Ruiz", "hola", "quiero saber", "claro", "gracias"]
        roles = ["user", "assistant", "user", "assistant", "user"]
        messages = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)][:turns]
        value = orjson.dumps({"messages": messages, "sessionId": "s-1"})
        record = self.stage.read(INGESTION, 0, offset, self.clock.time_ms(), b"k", value, ())
        if record is not None:
            await self.stage.submit(record)

    async def committed(self) -> int | None:
        """What is committed once the timer has had its turn."""
        await self.clock.advance(2)
        return self.broker.committed.get((INGESTION, 0))


@pytest.fixture
async def reader() -> AsyncIterator[Reader]:
    one = Reader()
    one.stage.start()
    await one.stage.assigned([(INGESTION, 0)])
    yield one
    await one.stage.stop(drain_seconds=0)


async def test_a_waiting_snapshot_read_again_is_not_committed(reader: Reader):
    await reader.read(0, turns=1)
    await reader.read(0, turns=1)
    assert await reader.committed() is None


async def test_a_snapshot_that_took_a_waiting_ones_place_is_not_committed_when_the_first_is_read_again(reader: Reader):
    await reader.read(0, turns=1)
    await reader.read(0, turns=1)
    await reader.read(1, turns=3)
    assert await reader.committed() is None
    await reader.clock.advance(60)
    assert await reader.committed() == 2
    assert len(reader.extractor.calls) == 1


async def test_the_first_snapshot_read_again_after_it_was_replaced_is_not_committed(reader: Reader):
    await reader.read(0, turns=1)
    await reader.read(1, turns=3)
    await reader.read(0, turns=1)
    await reader.read(1, turns=3)
    assert await reader.committed() is None
    await reader.clock.advance(60)
    assert await reader.committed() == 2


async def test_a_running_snapshot_read_again_is_not_committed(reader: Reader):
    reader.extractor.gate.clear()
    await reader.read(0, turns=1)
    await reader.clock.advance(11)
    assert len(reader.extractor.calls) == 1
    await reader.read(0, turns=1)
    assert await reader.committed() is None
    reader.extractor.gate.set()
    assert await reader.committed() == 1
