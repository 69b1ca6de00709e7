"""The sink's stage without Faust and without a database: batches, retries, letters, offsets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import pytest

from nexus_stream.contracts.prospect import (
    ConversationFacts,
    EnrichedProspect,
    ExtractionFacts,
    Prospect,
    Source,
)
from nexus_stream.delivery.outcomes import Outcome
from nexus_stream.delivery.received import Assignment, Received
from nexus_stream.delivery.stage import StageParts
from nexus_stream.errors import ConfigurationError, DatabaseUnavailableError
from nexus_stream.settings import load_settings
from nexus_stream.supabase.stage import Sink
from nexus_stream.supabase.writer import RejectedRow, WriteResult
from nexus_stream.testing.broker import InMemoryBroker
from nexus_stream.testing.clock import FakeClock

ENRICHED, DEAD = "prospects-enriched", "nexus-prospect-dlq"


@dataclass
class InMemoryWriter:
    """A `WriterPort` that keeps the newest record of a session and fails on request."""

    rows: dict[str, EnrichedProspect] = field(default_factory=dict)
    batches: list[int] = field(default_factory=list)
    failure: Exception | None = None
    # A statement stays open until this event is set.
    answered: asyncio.Event | None = None
    bad_sessions: set[str] = field(default_factory=set)

    async def write(self, records: Sequence[EnrichedProspect]) -> WriteResult:
        if self.answered is not None:
            await self.answered.wait()
        if self.failure is not None:
            raise self.failure
        self.batches.append(len(records))
        rejected = []
        for index, record in enumerate(records):
            if record.session_id in self.bad_sessions:
                rejected.append(RejectedRow(index=index, sqlstate="22P05", message="untranslatable character"))
            else:
                self.rows[record.session_id] = record
        return WriteResult(
            inserted=len(records) - len(rejected), updated=0, unchanged=0, rejected=tuple(rejected), statements=2
        )


class Seen:
    def __init__(self) -> None:
        self.kinds: list[str] = []

    def outcome(self, record: Received, outcome: Outcome) -> None:
        self.kinds.append(type(outcome).__name__)

    def waiting(self, what: str, since_ms: int | None) -> None:
        """States are asserted through `Stage.state`."""


def record(session: str) -> bytes:
    return (
        EnrichedProspect(
            session_id=session,
            prospect=Prospect(nombre="Ana"),
            conversation=ConversationFacts(turns=1, digest="d"),
            extraction=ExtractionFacts(extractor="offline-rules-v1"),
            snapshot_at_ms=1,
            enriched_at="2026-01-01T00:00:00.000+00:00",
            source=Source(topic="t", partition=0, offset=0),
        )
        .model_dump_json()
        .encode()
    )


class Bench:
    def __init__(self, **settings: object) -> None:
        self.broker, self.clock, self.writer, self.seen = InMemoryBroker(), FakeClock(), InMemoryWriter(), Seen()
        self.fatal: list[BaseException] = []
        self.sink = Sink(
            StageParts(
                broker=self.broker,
                assignment=Assignment(),
                clock=self.clock,
                observer=self.seen,
                on_fatal=self.fatal.append,
            ),
            settings=load_settings(environ={}, **settings),
            writer=self.writer,
        )
        self.offset = 0

    async def put(self, value: bytes | None) -> None:
        offset, self.offset = self.offset, self.offset + 1
        await self.sink.submit(self.sink.read(ENRICHED, 0, offset, 0, b"key", value, ()))


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    one = Bench(sink_batch_max_rows=3, sink_batch_max_wait_seconds=1, sink_pending_max_rows=6)
    one.sink.start()
    await one.sink.assigned([(ENRICHED, 0)])
    yield one
    await one.sink.stop(drain_seconds=0)


async def test_a_batch_leaves_when_it_is_old_or_full(bench: Bench):
    await bench.put(record("a"))
    await bench.clock.advance(0.5)
    assert bench.writer.batches == []
    await bench.clock.advance(0.6)
    assert bench.writer.batches == [1]
    for session in "bcd":
        await bench.put(record(session))
    await bench.clock.settle()
    assert bench.writer.batches == [1, 3]
    await bench.clock.advance(2)
    assert bench.broker.committed == {(ENRICHED, 0): 4}


async def test_a_database_that_is_down_keeps_the_batch_commits_nothing_and_recovers(bench: Bench):
    bench.writer.failure = DatabaseUnavailableError("connection refused")
    await bench.put(record("a"))
    await bench.clock.advance(120)
    assert bench.sink.state.startswith("waiting for Supabase since")
    assert bench.broker.committed == {}
    bench.writer.failure = None
    await bench.clock.advance(60)
    assert set(bench.writer.rows) == {"a"}
    assert bench.sink.state == "running"
    assert bench.broker.committed == {(ENRICHED, 0): 1}


async def test_a_bad_row_is_dead_lettered_alone(bench: Bench):
    bench.writer.bad_sessions = {"bad"}
    for session in ("a", "bad", "b"):
        await bench.put(record(session))
    await bench.clock.advance(3)
    assert set(bench.writer.rows) == {"a", "b"}
    (letter,) = bench.broker.records(DEAD)
    headers = dict(letter.headers)
    assert headers["nexus-reason"] == b"row_rejected"
    assert b"22P05" in headers["nexus-error"]
    assert headers["nexus-origin-offset"] == b"1"
    assert bench.broker.committed == {(ENRICHED, 0): 3}


@pytest.mark.parametrize("value", [None, b"", b"no json", b'{"schema_version":1}', b'{"schema_version":2}'])
async def test_a_record_of_another_kind_is_dead_lettered_and_the_next_is_stored(bench: Bench, value):
    await bench.put(value)
    await bench.put(record("a"))
    await bench.clock.advance(3)
    assert len(bench.broker.records(DEAD)) == 1
    assert set(bench.writer.rows) == {"a"}
    assert bench.broker.committed == {(ENRICHED, 0): 2}


async def test_an_unexpected_error_is_dead_lettered_and_the_next_is_stored(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    def give_up(value: bytes) -> EnrichedProspect:
        raise RecursionError("300 555 0101")

    with monkeypatch.context() as patched:
        patched.setattr(EnrichedProspect, "model_validate_json", give_up)
        await bench.put(record("deep"))
    await bench.put(record("a"))
    await bench.clock.advance(3)
    (letter,) = bench.broker.records(DEAD)
    headers = dict(letter.headers)
    assert (headers["nexus-reason"], headers["nexus-error"]) == (b"internal_error", b"RecursionError")
    assert set(bench.writer.rows) == {"a"}
    assert bench.broker.committed == {(ENRICHED, 0): 2}


async def test_a_letter_the_broker_does_not_take_holds_the_offset(bench: Bench):
    bench.broker.failing.add(DEAD)
    await bench.put(b"no json")
    await bench.clock.advance(10)
    assert bench.broker.committed == {}
    bench.broker.failing.clear()
    await bench.clock.advance(60)
    assert bench.broker.committed == {(ENRICHED, 0): 1}


async def test_a_configuration_error_stops_the_worker_and_dead_letters_nothing(bench: Bench):
    bench.writer.failure = ConfigurationError("permission denied for table prospect_sessions")
    await bench.put(record("a"))
    await bench.clock.advance(5)
    assert bench.fatal == [bench.writer.failure]
    assert bench.broker.records(DEAD) == []
    assert bench.broker.committed == {}


async def test_the_bound_on_rows_holds_the_loop_back(bench: Bench):
    bench.writer.failure = DatabaseUnavailableError("away")
    for index in range(6):
        await bench.put(record(f"s{index}"))
    seventh = asyncio.create_task(bench.put(record("s6")))
    await bench.clock.advance(5)
    assert not seventh.done()
    bench.writer.failure = None
    await bench.clock.advance(90)
    assert seventh.done()
    assert len(bench.writer.rows) == 7


async def test_a_stop_writes_what_was_read(bench: Bench):
    await bench.put(record("a"))
    await bench.sink.revoked(drain_seconds=5)
    assert set(bench.writer.rows) == {"a"}
    assert bench.broker.committed == {(ENRICHED, 0): 1}


async def test_after_a_revocation_old_rows_are_not_written(bench: Bench):
    bench.writer.failure = DatabaseUnavailableError("away")
    await bench.put(record("a"))
    await bench.clock.advance(1)
    await bench.sink.revoked(drain_seconds=0.01)
    bench.writer.failure = None
    await bench.sink.assigned([(ENRICHED, 0)])
    await bench.clock.advance(60)
    assert bench.writer.rows == {}
    assert bench.broker.committed == {}


async def test_a_revocation_ends_the_waiting(bench: Bench):
    bench.writer.failure = DatabaseUnavailableError("away")
    await bench.put(record("a"))
    await bench.clock.advance(5)
    assert bench.sink.keeps_a_batch

    await bench.sink.revoked(drain_seconds=0.01)

    assert not bench.sink.keeps_a_batch
    assert bench.sink.state == "running"


async def test_a_statement_that_fails_after_a_revocation_is_not_retried(bench: Bench):
    bench.writer.failure, bench.writer.answered = DatabaseUnavailableError("away"), asyncio.Event()
    await bench.put(record("a"))
    await bench.clock.advance(2)
    await bench.sink.revoked(drain_seconds=0.01)
    await bench.sink.assigned([])

    bench.writer.answered.set()
    await bench.clock.advance(60)

    assert not bench.sink.keeps_a_batch
    assert bench.sink.state == "running"
