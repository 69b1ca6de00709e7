"""The enricher's stage without Faust: what becomes of each record, and what a crash between the steps costs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import orjson
import pytest
from aiokafka.partitioner import murmur2

from nexus_stream.contracts.headers import Headers
from nexus_stream.delivery.outcomes import Outcome
from nexus_stream.delivery.received import Assignment, Received
from nexus_stream.delivery.stage import StageParts
from nexus_stream.enrichment.stage import Enrichment
from nexus_stream.errors import ConfigurationError, ModelRefusedError, ModelUnavailableError, Reason
from nexus_stream.extraction.extractor import Turn
from nexus_stream.settings import Settings, load_settings
from nexus_stream.testing.broker import InMemoryBroker, StoredRecord
from nexus_stream.testing.clock import FakeClock
from nexus_stream.testing.extractor import ScriptedExtractor
from nexus_stream.testing.sessions import InMemorySessionTable

INGESTION, ENRICHED, DEAD = "nexus-prospect-ingestion", "prospects-enriched", "nexus-prospect-dlq"
CHANGELOG = "sessions-changelog"
NAME = ("me llamo Carlos Ruiz",)


@dataclass
class Seen:
    """An `Observer` that remembers."""

    outcomes: list[tuple[int, Outcome]] = field(default_factory=list)
    waits: list[tuple[str, bool]] = field(default_factory=list)

    def outcome(self, record: Received, outcome: Outcome) -> None:
        self.outcomes.append((record.offset, outcome))

    def waiting(self, what: str, since_ms: int | None) -> None:
        self.waits.append((what, since_ms is not None))

    def kinds(self) -> list[str]:
        return [type(outcome).__name__ for _, outcome in self.outcomes]


class Bench:
    """One worker on in-memory parts; `restart` is a crash: memory is gone, broker and changelog stay."""

    def __init__(self, settings: Settings, partitions: int = 1) -> None:
        self.settings = settings
        self.broker = InMemoryBroker(partitions)
        self.clock = FakeClock()
        self.extractor = ScriptedExtractor()
        self.fatal: list[BaseException] = []
        self.next_offset = 0
        self.sent: list[tuple[int, bytes | None, bytes | None, Headers]] = []
        self._table: InMemorySessionTable | None = None

    async def start(self) -> None:
        self.seen = Seen()
        self.assignment = Assignment()
        table = InMemorySessionTable(self.broker, self.assignment, CHANGELOG)
        for record in self.broker.records(CHANGELOG):
            table.values[record.key or b""] = record.value or b""
        self.table = table
        self.stage = Enrichment(
            StageParts(
                broker=self.broker,
                assignment=self.assignment,
                clock=self.clock,
                observer=self.seen,
                on_fatal=self.fatal.append,
            ),
            settings=self.settings,
            table=table,
            extractor=self.extractor,
            source="/test",
        )
        self.stage.start()
        await self.stage.assigned([(INGESTION, partition) for partition in range(self.broker.partitions)])

    async def crash(self) -> None:
        """End without draining, as kill -9 does."""
        tasks = list(self.stage._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def restart(self) -> None:
        await self.crash()
        await self.start()
        for offset, key, value, headers in list(self.sent):
            if offset >= self.broker.committed.get((INGESTION, 0), 0):
                await self._submit(offset, key, value, headers, 0)

    async def _submit(
        self, offset: int, key: bytes | None, value: bytes | None, headers: Headers, partition: int
    ) -> None:
        record = self.stage.read(INGESTION, partition, offset, self.clock.time_ms(), key, value, headers)
        await self.stage.submit(record)

    async def post(
        self,
        texts: Sequence[str],
        *,
        session: str = "s-1",
        fingerprint: str | None = None,
        headers: Headers = (),
        partition: int = 0,
        tenant: str | None = None,
        enqueued_at: str | None = None,
    ) -> int:
        messages = [
            {"role": "user" if index % 2 == 0 else "assistant", "content": text} for index, text in enumerate(texts)
        ]
        metadata = {"tenant_id": tenant, "enqueuedAt": enqueued_at, "url": "https://example.com/"}
        body = {"messages": messages, "sessionId": session, "fingerprint": fingerprint, "metadata": metadata}
        return await self.post_bytes(orjson.dumps(body), headers=headers, partition=partition)

    async def post_bytes(self, value: bytes | None, *, headers: Headers = (), partition: int = 0) -> int:
        offset, self.next_offset = self.next_offset, self.next_offset + 1
        self.sent.append((offset, b"k", value, headers))
        await self._submit(offset, b"k", value, headers, partition)
        return offset

    def enriched(self) -> list[dict]:
        return [orjson.loads(record.value or b"") for record in self.broker.records(ENRICHED)]

    def letters(self) -> list[StoredRecord]:
        return self.broker.records(DEAD)


def header(record: StoredRecord, name: str) -> str:
    return dict(record.headers)[name].decode()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    # SETTINGS: one partition, so that every key is at home unless a test says otherwise.
    one = Bench(load_settings(environ={}, topic_partitions=1, settle_seconds=10, max_wait_seconds=60))
    await one.start()
    yield one
    await one.crash()


async def test_a_settled_conversation_becomes_one_enriched_record(bench: Bench):
    await bench.post(NAME, fingerprint="fp-1")
    await bench.post([*NAME, "¡hola!", "quiero empezar"], fingerprint="fp-1")
    await bench.clock.advance(5)
    assert bench.enriched() == []
    await bench.clock.advance(20)
    (record,) = bench.enriched()
    assert record["prospect"]["nombre"] == "Carlos Ruiz"
    assert record["session_id"] == "s-1"
    assert record["fingerprint"] == "fp-1"
    assert record["conversation"]["turns"] == 3
    assert record["source"] == {"topic": INGESTION, "partition": 0, "offset": 1}
    assert len(bench.extractor.calls) == 1
    assert bench.broker.committed[INGESTION, 0] == 2
    assert bench.seen.kinds() == ["Superseded", "Enriched"]
    (stored,) = bench.broker.records(ENRICHED)
    assert stored.key == b"s-1"
    assert header(stored, "ce_type") == "nexus.prospect.enriched.v1"


async def test_effects_happen_in_order_table_then_emission_then_offset(bench: Bench):
    bench.broker.failing.add(CHANGELOG)
    await bench.post(NAME)
    await bench.clock.advance(30)
    assert bench.enriched() == []
    assert bench.broker.committed.get((INGESTION, 0), 0) == 0
    assert bench.stage.state.startswith("waiting for broker since")
    bench.broker.failing.clear()
    await bench.clock.advance(60)
    assert len(bench.enriched()) == 1
    assert bench.stage.state == "running"
    assert bench.broker.committed[INGESTION, 0] == 1


async def test_crash_before_the_changelog_record_repeats_the_call(bench: Bench):
    bench.broker.failing.add(CHANGELOG)
    await bench.post(NAME)
    await bench.clock.advance(30)
    bench.broker.failing.clear()
    await bench.restart()
    await bench.clock.advance(30)
    assert len(bench.enriched()) == 1
    assert len(bench.extractor.calls) == 2


async def test_crash_after_the_changelog_record_emits_the_stored_result_without_a_call(bench: Bench):
    bench.broker.failing.add(ENRICHED)
    await bench.post(NAME)
    await bench.clock.advance(30)
    assert len(bench.broker.records(CHANGELOG)) == 1
    bench.broker.failing.clear()
    await bench.restart()
    await bench.clock.advance(30)
    assert len(bench.enriched()) == 1
    assert len(bench.extractor.calls) == 1
    assert bench.seen.kinds() == ["Reemitted"]
    assert bench.broker.committed[INGESTION, 0] == 1


async def test_a_replay_from_the_start_emits_the_same_record_with_the_same_id(bench: Bench):
    await bench.post(NAME, fingerprint="fp")
    await bench.clock.advance(30)
    await bench.post([*NAME, "hola", "tengo dudas"], fingerprint="fp")
    await bench.clock.advance(30)
    bench.broker.committed.clear()
    await bench.restart()
    await bench.clock.advance(30)
    assert len(bench.extractor.calls) == 2
    assert bench.seen.kinds() == ["Stale", "Reemitted"]
    first, second, replayed = bench.broker.records(ENRICHED)
    assert (replayed.value, replayed.headers) == (second.value, second.headers)
    assert header(first, "ce_id") != header(second, "ce_id")


async def test_equal_snapshots_are_one_call_also_while_the_first_runs(bench: Bench):
    bench.extractor.gate.clear()
    await bench.post(NAME)
    await bench.clock.advance(15)
    await bench.post(NAME)
    bench.extractor.gate.set()
    await bench.clock.advance(30)
    await bench.post(NAME)
    await bench.clock.advance(30)
    assert len(bench.extractor.calls) == 1
    assert bench.seen.kinds() == ["Duplicate", "Enriched", "Duplicate"]
    assert bench.broker.committed[INGESTION, 0] == 3


async def test_a_late_shorter_snapshot_changes_nothing(bench: Bench):
    await bench.post([*NAME, "hola", "sí"])
    await bench.clock.advance(30)
    await bench.post(NAME)
    await bench.clock.advance(30)
    assert len(bench.enriched()) == 1
    assert bench.seen.kinds() == ["Enriched", "Stale"]


async def test_a_fingerprint_that_appears_later_is_linked_without_a_call(bench: Bench):
    await bench.post(NAME)
    await bench.clock.advance(30)
    await bench.post(NAME, fingerprint="fp-late")
    await bench.clock.advance(30)
    assert [record["fingerprint"] for record in bench.enriched()] == [None, "fp-late"]
    assert len(bench.extractor.calls) == 1
    one, two = bench.enriched()
    assert two["enriched_at"] > one["enriched_at"]
    await bench.post([*NAME, "a", "b"])
    await bench.clock.advance(30)
    assert bench.enriched()[-1]["fingerprint"] == "fp-late"


async def test_a_fingerprint_that_arrives_while_the_record_is_being_written_is_not_lost(bench: Bench):
    bench.broker.failing.add(ENRICHED)
    await bench.post(NAME)
    await bench.clock.advance(15)
    await bench.post(NAME, fingerprint="fp-late")
    bench.broker.failing.clear()
    await bench.clock.advance(60)
    assert bench.enriched()[-1]["fingerprint"] == "fp-late"
    assert bench.broker.committed[INGESTION, 0] == 2


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, Reason.EMPTY),
        (b"", Reason.EMPTY),
        (b"\xff\xfe", Reason.NOT_JSON),
        (b"{}", Reason.WRONG_SHAPE),
        (b'{"messages":[],"sessionId":"x"}', Reason.WRONG_SHAPE),
        (b'{"messages":[{"role":"system","content":"x"}],"sessionId":"x"}', Reason.NO_TEXT),
        (b'"' + b"x" * 1_100_000 + b'"', Reason.TOO_LARGE),
    ],
)
async def test_what_cannot_be_read_becomes_a_dead_letter_and_the_next_message_is_processed(bench: Bench, value, reason):
    await bench.post_bytes(value, headers=(("correlation-id", b"c-1"),))
    await bench.post(NAME)
    await bench.clock.advance(30)
    (letter,) = bench.letters()
    assert letter.value == value
    assert letter.key == b"k"
    assert header(letter, "nexus-reason") == reason.value
    assert header(letter, "nexus-id") == f"{INGESTION}-0-0"
    assert header(letter, "correlation-id") == "c-1"
    assert len(bench.enriched()) == 1
    assert bench.broker.committed[INGESTION, 0] == 2


async def test_a_refused_conversation_is_dead_lettered_and_what_it_replaced_is_extracted(bench: Bench):
    def refuse_long(turns: Sequence[Turn]) -> None:
        if len(turns) > 1:
            raise ModelRefusedError("declined", reason=Reason.MODEL_REFUSED)

    bench.extractor = ScriptedExtractor(refuse_long)
    await bench.restart()
    await bench.post(NAME)
    await bench.post([*NAME, "hola", "algo terrible"])
    await bench.clock.advance(30)
    (letter,) = bench.letters()
    assert header(letter, "nexus-origin-offset") == "1"
    assert header(letter, "nexus-reason") == "model_refused"
    (record,) = bench.enriched()
    assert record["conversation"]["turns"] == 1
    state = bench.table.state(b"s-1")
    assert state.status == "enriched"
    assert state.dead is not None
    assert bench.broker.committed[INGESTION, 0] == 2
    # Read again after a crash: the letter once more, no call.
    calls = len(bench.extractor.calls)
    bench.broker.committed.clear()
    await bench.restart()
    await bench.clock.advance(30)
    assert len(bench.extractor.calls) == calls
    assert {header(letter, "nexus-id") for letter in bench.letters()} == {f"{INGESTION}-0-1"}


async def test_a_redriven_dead_letter_is_extracted_again(bench: Bench):
    failures = [ModelRefusedError("declined", reason=Reason.MODEL_REFUSED)]

    def fail_once(turns: Sequence[Turn]) -> None:
        if failures:
            raise failures.pop()

    bench.extractor = ScriptedExtractor(fail_once)
    await bench.restart()
    await bench.post(NAME)
    await bench.clock.advance(30)
    await bench.post(NAME)
    await bench.clock.advance(30)
    assert bench.enriched() == []
    await bench.post(NAME, headers=(("nexus-redrive", b"1"),))
    await bench.clock.advance(30)
    assert len(bench.enriched()) == 1
    assert bench.table.state(b"s-1").dead is None


async def test_claude_being_down_pauses_and_recovers_by_itself(bench: Bench):
    down = True

    def maybe_down(turns: Sequence[Turn]) -> None:
        if down:
            raise ModelUnavailableError("529", retry_after_seconds=1)

    bench.extractor = ScriptedExtractor(maybe_down)
    await bench.restart()
    await bench.post(NAME)
    await bench.clock.advance(300)
    assert bench.stage.state.startswith("waiting for claude since")
    assert bench.letters() == []
    assert bench.broker.committed.get((INGESTION, 0), 0) == 0
    down = False
    await bench.clock.advance(120)
    assert bench.stage.state == "running"
    assert len(bench.enriched()) == 1


async def test_a_message_that_alone_keeps_failing_is_dead_lettered(bench: Bench):
    def poison(turns: Sequence[Turn]) -> None:
        if "veneno" in turns[0].content:
            raise ModelUnavailableError("timeout")

    bench.extractor = ScriptedExtractor(poison)
    await bench.restart()
    await bench.post(["veneno"], session="bad")
    for index in range(40):
        await bench.post(NAME, session=f"good-{index}")
        await bench.clock.advance(15)
    (letter,) = bench.letters()
    assert header(letter, "nexus-reason") == "attempts_exhausted"
    assert int(header(letter, "nexus-attempts")) >= bench.settings.claude_max_attempts
    assert len(bench.enriched()) == 40


async def test_a_configuration_error_stops_the_worker_and_loses_nothing(bench: Bench):
    def wrong_key(turns: Sequence[Turn]) -> None:
        raise ConfigurationError("ANTHROPIC_API_KEY is refused")

    bench.extractor = ScriptedExtractor(wrong_key)
    await bench.restart()
    await bench.post(NAME)
    await bench.clock.advance(30)
    assert bench.fatal
    assert bench.letters() == []
    assert bench.broker.committed.get((INGESTION, 0), 0) == 0


async def test_the_bound_on_pending_work_holds_the_loop_back(bench: Bench):
    bench.settings = load_settings(environ={}, topic_partitions=1, pending_max_sessions=2, settle_seconds=10)
    await bench.restart()
    await bench.post(NAME, session="a")
    await bench.post(NAME, session="b")
    third = asyncio.create_task(bench.post(NAME, session="c"))
    await bench.clock.settle()
    assert not third.done()
    await bench.clock.advance(15)
    assert third.done()
    await bench.clock.advance(30)
    assert len(bench.enriched()) == 3


async def test_a_revocation_drops_waiting_work_and_commits_nothing_of_it(bench: Bench):
    await bench.post(NAME, session="done")
    await bench.clock.advance(30)
    await bench.post(NAME, session="waiting")
    await bench.stage.revoked(drain_seconds=1)
    assert bench.broker.committed == {(INGESTION, 0): 1}
    await bench.clock.advance(60)
    assert len(bench.enriched()) == 1
    await bench.stage.assigned([(INGESTION, 0)])
    offset, key, value, headers = bench.sent[1]
    await bench._submit(offset, key, value, headers, 0)
    await bench.clock.advance(60)
    assert len(bench.enriched()) == 2


async def test_a_revocation_lets_running_work_finish_within_its_bound(bench: Bench):
    bench.extractor.gate.clear()
    await bench.post(NAME)
    await bench.clock.advance(15)
    revocation = asyncio.create_task(bench.stage.revoked(drain_seconds=5))
    await bench.clock.settle()
    assert not revocation.done()
    bench.extractor.gate.set()
    await revocation
    assert len(bench.enriched()) == 1
    assert bench.broker.committed == {(INGESTION, 0): 1}


async def test_work_of_an_old_epoch_has_no_effect(bench: Bench):
    bench.extractor.gate.clear()
    await bench.post(NAME)
    await bench.clock.advance(15)
    await bench.stage.revoked(drain_seconds=0.01)
    await bench.stage.assigned([(INGESTION, 0)])
    bench.extractor.gate.set()
    await bench.clock.advance(60)
    assert bench.enriched() == []
    assert bench.broker.records(CHANGELOG) == []
    assert bench.broker.committed == {}


async def test_foreign_keyed_messages_are_sent_home_with_time_and_headers():
    bench = Bench(load_settings(environ={}, topic_partitions=4), partitions=4)
    await bench.start()
    key = b"s-1"
    home = (murmur2(key) & 0x7FFFFFFF) % 4
    await bench.post(NAME, partition=(home + 1) % 4, headers=(("correlation-id", b"c"),))
    await bench.clock.advance(5)
    (sent,) = bench.broker.records(INGESTION)
    assert (sent.partition, sent.key) == (home, key)
    assert dict(sent.headers)["correlation-id"] == b"c"
    assert "nexus-hop" in dict(sent.headers)
    assert sent.timestamp_ms is not None
    assert bench.seen.kinds() == ["Rerouted"]
    # A second hop is not taken: whoever forges the header costs themselves a dead letter, and nobody a loop.
    await bench.post(NAME, partition=(home + 1) % 4, headers=(("nexus-hop", b"x"),))
    await bench.clock.advance(5)
    assert header(bench.letters()[0], "nexus-reason") == "not_home"
    await bench.crash()


async def test_a_changed_partition_count_stops_the_worker(bench: Bench):
    bench.broker.partitions = 2
    await bench.post(NAME)
    assert "partitions" in str(bench.fatal[0])
    assert bench.letters() == []


async def test_tenants_do_not_share_sessions(bench: Bench):
    await bench.post(NAME, tenant="uno")
    await bench.post(NAME, tenant="dos")
    await bench.post(NAME)
    await bench.clock.advance(30)
    assert {record["tenant_id"] for record in bench.enriched()} == {"", "uno", "dos"}
    assert {record.key for record in bench.broker.records(ENRICHED)} == {b"s-1", b"uno:s-1", b"dos:s-1"}


async def test_each_record_is_cumulative_when_the_site_shortens_its_history(bench: Bench):
    await bench.post(NAME)
    await bench.clock.advance(30)
    await bench.post(["¿y el precio?"])
    await bench.clock.advance(30)
    assert bench.enriched()[-1]["prospect"]["nombre"] == "Carlos Ruiz"
    assert bench.enriched()[-1]["conversation"]["turns"] == 1


async def test_a_newer_state_version_stops_the_worker(bench: Bench):
    bench.table.values[b"s-1"] = b'{"state_version":99,"session_id":"s-1"}'
    await bench.post(NAME)
    assert "state_version 99" in str(bench.fatal[0])


async def test_what_the_enricher_ignores_leaves_out_and_cuts_is_counted(bench: Bench):
    body = {
        "messages": [
            {"role": "system", "content": "x"},
            {"role": "assistant", "content": "x" * 9000},
            {"role": "user", "parts": [{"type": "text", "text": "me llamo Carlos"}]},
        ],
        "sessionId": "s-forms",
        "fingerprint": "undefined",
    }
    await bench.post_bytes(orjson.dumps(body))
    await bench.post_bytes(orjson.dumps({**body, "sessionId": "null"}))
    await bench.clock.advance(30)
    facts = bench.stage.facts
    assert facts.ignored == {("fingerprint", "placeholder"): 1, ("session_id", "placeholder"): 1}
    assert facts.left_out == {"system": 1}
    assert facts.cut == {"characters": 1}
    (enriched,) = bench.enriched()
    assert enriched["fingerprint"] is None
    assert enriched["conversation"]["cut"] == {"turns": 0, "characters": 1000, "until": 0}
    assert enriched["conversation"]["left_out"] == {"system": 1}
    (letter,) = bench.letters()
    assert header(letter, "nexus-reason") == Reason.WRONG_SHAPE
