"""The sink and erased events: their order with a session's records, offsets, and suppressed sessions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import orjson
import pytest

from nexus_stream.contracts.erased import ErasedSession
from nexus_stream.contracts.headers import Headers
from nexus_stream.contracts.prospect import EnrichedProspect
from nexus_stream.contracts.session_command import CommandKind, decode_command
from nexus_stream.delivery.outcomes import Outcome
from nexus_stream.delivery.received import Assignment, Received
from nexus_stream.delivery.stage import StageParts
from nexus_stream.errors import DatabaseUnavailableError
from nexus_stream.settings import load_settings
from nexus_stream.supabase.stage import Sink
from nexus_stream.supabase.writer import EraseResult, RejectedRow, WriteResult
from nexus_stream.testing.broker import InMemoryBroker
from nexus_stream.testing.clock import FakeClock

ENRICHED, INGESTION, DEAD = "prospects-enriched", "nexus-prospect-ingestion", "nexus-prospect-dlq"


@dataclass
class InMemoryWriter:
    """A `WriterPort` that records its calls in order, and suppresses fingerprints."""

    done: list[str] = field(default_factory=list)
    away: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    failure: Exception | None = None

    async def write(self, records: Sequence[EnrichedProspect]) -> WriteResult:
        if self.failure is not None:
            raise self.failure
        kept = await self.suppressed(records)
        self.done += [f"write {record.session_id}" for index, record in enumerate(records) if index not in kept]
        return WriteResult(inserted=len(records) - len(kept), updated=0, unchanged=len(kept), rejected=(), statements=2)

    async def erase(self, events: Sequence[ErasedSession]) -> EraseResult:
        if self.failure is not None:
            raise self.failure
        refused = [index for index, event in enumerate(events) if event.session_id in self.refused]
        done = [event for index, event in enumerate(events) if index not in refused]
        self.done += [f"erase {event.session_id}" for event in done]
        return EraseResult(
            len(done), tuple(RejectedRow(index, "23503", "ForeignKeyViolationError") for index in refused)
        )

    async def suppressed(self, records: Sequence[EnrichedProspect]) -> list[int]:
        return [index for index, record in enumerate(records) if record.fingerprint in self.away]


class Bench:
    def __init__(self) -> None:
        settings = load_settings(environ={}, sink_batch_max_rows=10, sink_batch_max_wait_seconds=1)
        self.broker, self.clock, self.writer = InMemoryBroker(), FakeClock(), InMemoryWriter()
        self.kinds: list[str] = []
        self.assignment = Assignment()
        self.next_offset = 0
        self.stage = Sink(
            StageParts(
                broker=self.broker,
                assignment=self.assignment,
                clock=self.clock,
                observer=self,
                on_fatal=lambda error: pytest.fail(repr(error)),
            ),
            settings=settings,
            writer=self.writer,
        )

    def outcome(self, record: Received, outcome: Outcome) -> None:
        self.kinds.append(type(outcome).__name__)

    def waiting(self, what: str, since_ms: int | None) -> None:
        """States are asserted through `Stage.state`."""

    async def read(self, value: bytes, headers: Headers = ()) -> None:
        offset, self.next_offset = self.next_offset, self.next_offset + 1
        await self.stage.submit(self.stage.read(ENRICHED, 0, offset, self.clock.time_ms(), b"k", value, headers))

    async def prospect(self, session: str, fingerprint: str | None = None, tenant: str = "") -> None:
        record = {
            "tenant_id": tenant,
            "session_id": session,
            "fingerprint": fingerprint,
            "prospect": {"nombre": "Ana"},
            "conversation": {"turns": 1, "digest": "d"},
            "extraction": {"extractor": "offline-rules-v1"},
            "snapshot_at_ms": 1,
            "enriched_at": "2026-01-01T00:00:00.000+00:00",
            "source": {"topic": "t", "partition": 0, "offset": 0},
        }
        await self.read(orjson.dumps(record))

    async def erased(self, session: str) -> None:
        event = ErasedSession(
            session_id=session,
            request_id="request-1",
            requested_at="2026-01-01T00:00:00Z",
            erased_at="2026-01-01T00:00:00Z",
        )
        await self.read(event.value, event.headers("/test"))


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    one = Bench()
    one.stage.start()
    await one.stage.assigned([(ENRICHED, 0)])
    yield one
    tasks = list(one.stage._tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_records_and_erasures_keep_their_order(bench: Bench):
    await bench.prospect("a")
    await bench.prospect("b")
    await bench.erased("a")
    await bench.erased("b")
    await bench.prospect("a")
    await bench.clock.advance(10)
    assert bench.writer.done == ["write a", "write b", "erase a", "erase b", "write a"]
    assert bench.kinds == ["Stored", "Stored", "Erased", "Erased", "Stored"]
    assert bench.broker.committed[ENRICHED, 0] == 5


async def test_an_erasure_waits_for_the_database(bench: Bench):
    bench.writer.failure = DatabaseUnavailableError("down")
    await bench.erased("a")
    await bench.clock.advance(5)
    assert bench.broker.committed.get((ENRICHED, 0), 0) == 0
    assert bench.stage.state.startswith("waiting for Supabase")
    bench.writer.failure = None
    await bench.clock.advance(120)
    assert bench.writer.done == ["erase a"]
    assert bench.broker.committed[ENRICHED, 0] == 1


async def test_a_new_session_of_an_erased_person_is_erased_by_a_command(bench: Bench):
    bench.writer.away.add("fp-gone")
    await bench.prospect("new", "fp-gone")
    await bench.prospect("other", "fp")
    await bench.clock.advance(10)
    assert bench.kinds == ["Suppressed", "Stored"]
    (record,) = bench.broker.records(INGESTION)
    command = decode_command(record.value, dict(record.headers)["nexus-command"])
    assert (command.command, command.session_id, record.key) == (CommandKind.ERASE, "new", b"new")


async def test_the_command_is_sent_before_the_offset_is_done(bench: Bench):
    bench.writer.away.add("fp-gone")
    bench.broker.failing.add(INGESTION)
    await bench.prospect("new", "fp-gone")
    await bench.clock.advance(10)
    assert bench.broker.committed.get((ENRICHED, 0), 0) == 0
    bench.broker.failing.clear()
    await bench.clock.advance(60)
    assert bench.broker.committed[ENRICHED, 0] == 1
    assert len(bench.broker.records(INGESTION)) == 1


async def test_an_erasure_that_the_database_refuses_is_a_dead_letter_and_the_next_is_done(bench: Bench):
    bench.writer.refused.add("b")
    for session in ("a", "b", "c"):
        await bench.erased(session)
    await bench.clock.advance(10)
    assert bench.writer.done == ["erase a", "erase c"]
    assert sorted(bench.kinds) == ["DeadLettered", "Erased", "Erased"]
    (letter,) = bench.broker.records(DEAD)
    assert dict(letter.headers)["nexus-reason"] == b"row_rejected"
    assert bench.broker.committed[ENRICHED, 0] == 3


async def test_a_session_of_an_erased_person_that_no_command_can_name_is_suppressed_all_the_same(bench: Bench):
    bench.writer.away.add("fp-gone")
    await bench.prospect("new", "fp-gone", tenant="no tenant!")
    await bench.prospect("other", "fp")
    await bench.clock.advance(10)
    assert bench.kinds == ["Suppressed", "Stored"]
    assert bench.broker.records(INGESTION) == []
    assert bench.broker.committed[ENRICHED, 0] == 2


@pytest.mark.parametrize(
    "change", [{"session_id": ""}, {"session_id": "s\x00"}, {"requested_at": "yesterday"}, {"request_id": "r\x00"}]
)
async def test_an_event_that_the_database_could_not_take_is_a_dead_letter(bench: Bench, change: dict[str, str]):
    event = ErasedSession(
        session_id="a",
        request_id="request-1",
        requested_at="2026-01-01T00:00:00Z",
        erased_at="2026-01-01T00:00:00Z",
    )
    await bench.read(orjson.dumps({**orjson.loads(event.value), **change}), event.headers("/test"))
    await bench.clock.advance(10)
    assert (bench.kinds, bench.writer.done) == (["DeadLettered"], [])


async def test_a_malformed_event_is_a_dead_letter(bench: Bench):
    await bench.read(b"{}", (("ce_type", b"nexus.prospect.erased.v1"),))
    await bench.clock.advance(10)
    assert bench.kinds == ["DeadLettered"]
    assert len(bench.broker.records(DEAD)) == 1
