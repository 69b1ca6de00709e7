"""Records that carry their answer (``nexus backfill``): no call, every check, and no way past the table's rules."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import orjson
import pytest

from nexus_stream.contracts.conversation import Limits, decode, digest
from nexus_stream.contracts.headers import ANSWER_HEADER, Headers
from nexus_stream.contracts.prospect import Signal, SignalName
from nexus_stream.contracts.session_command import CommandKind, SessionCommand
from nexus_stream.delivery.outcomes import Outcome
from nexus_stream.delivery.received import Assignment, Received
from nexus_stream.delivery.stage import StageParts
from nexus_stream.enrichment.stage import Enrichment
from nexus_stream.errors import PermanentError, Reason
from nexus_stream.extraction.answered import encode_answer, encode_failure
from nexus_stream.extraction.extractor import Findings, MadeBy, Usage
from nexus_stream.settings import load_settings
from nexus_stream.testing.broker import InMemoryBroker
from nexus_stream.testing.clock import FakeClock
from nexus_stream.testing.extractor import ScriptedExtractor
from nexus_stream.testing.sessions import InMemorySessionTable

TOPIC, ENRICHED, DEAD = "nexus-prospect-ingestion", "prospects-enriched", "nexus-prospect-dlq"
MADE_BY = MadeBy("claude", "claude-haiku-5-5", "prospect-v1-0")


class Rules(ScriptedExtractor):
    """Labelled as the offline rules are."""

    labels = MadeBy("offline-rules-v1")


class Bench:
    def __init__(self) -> None:
        self.broker = InMemoryBroker(1)
        self.clock = FakeClock()
        self.extractor: ScriptedExtractor = ScriptedExtractor()
        self.outcomes: list[str] = []
        self.offset = 0
        self.fatal: list[BaseException] = []

    async def start(self, extractor: ScriptedExtractor | None = None) -> None:
        self.extractor = extractor or self.extractor
        assignment = Assignment()
        self.table = InMemorySessionTable(self.broker, assignment)
        self.stage = Enrichment(
            StageParts(
                broker=self.broker, assignment=assignment, clock=self.clock, observer=self, on_fatal=self.fatal.append
            ),
            settings=load_settings(environ={}, topic_partitions=1),
            table=self.table,
            extractor=self.extractor,
            source="/test",
        )
        self.stage.start()
        await self.stage.assigned([(TOPIC, 0)])

    def outcome(self, record: Received, outcome: Outcome) -> None:
        self.outcomes.append(type(outcome).__name__)

    def waiting(self, what: str, since_ms: int | None) -> None:
        """See `Observer`."""

    async def post(self, value: bytes, headers: Headers = (), *, settle: bool = True) -> None:
        record = self.stage.read(TOPIC, 0, self.offset, self.clock.time_ms(), b"k", value, headers)
        assert record is not None
        self.offset += 1
        await self.stage.submit(record)
        if settle:
            await self.clock.advance(100)

    def enriched(self) -> list[dict[str, Any]]:
        return [orjson.loads(record.value or b"") for record in self.broker.records(ENRICHED)]


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    one = Bench()
    yield one
    tasks = list(one.stage._tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def value(texts: Sequence[str] = ("me llamo Carlos Ruiz",), **metadata: Any) -> bytes:
    messages = [{"role": ("user", "assistant")[index % 2], "content": text} for index, text in enumerate(texts)]
    return orjson.dumps({"messages": messages, "sessionId": "s-1", "metadata": metadata})


def answered(body: bytes, **changes: Any) -> Headers:
    signal = Signal(name=SignalName.NOMBRE, turn=0, start=9, end=20)
    usage = Usage(input_tokens=900, output_tokens=80, cost_usd=0.0001)
    findings = Findings(
        **{"nombre": "Carlos Ruiz", "signals": (signal,), "usage": usage, "made_by": MADE_BY, **changes}
    )
    return ((ANSWER_HEADER, encode_answer(digest(decode(body, Limits())), findings)),)


async def test_the_answer_is_taken_and_nobody_is_asked(bench: Bench):
    await bench.start()
    await bench.post(value(), answered(value()))
    (record,) = bench.enriched()
    assert record["prospect"]["nombre"] == "Carlos Ruiz"
    assert record["extraction"]["model"] == "claude-haiku-5-5"
    assert record["extraction"]["cost_usd"] == 0.0001
    assert bench.extractor.calls == []
    state = bench.table.state(b"s-1")
    assert (state.counters.calls, state.counters.cost_usd) == (1, 0.0001)


async def test_what_no_user_turn_holds_is_dropped_as_ever(bench: Bench):
    await bench.start()
    await bench.post(value(), answered(value(), email="made.up@example.com", telefono="+573005550102"))
    (record,) = bench.enriched()
    assert (record["prospect"]["email"], record["prospect"]["telefono"]) == (None, None)
    assert set(record["extraction"]["dropped_fields"]) == {"email", "telefono"}


async def test_the_same_record_twice_is_one_effect(bench: Bench):
    await bench.start()
    await bench.post(value(), answered(value()))
    await bench.post(value(), answered(value()))
    assert len(bench.enriched()) == 1
    assert bench.outcomes == ["Enriched", "Duplicate"]


async def test_an_answer_to_a_snapshot_that_is_no_longer_the_newest_changes_nothing(bench: Bench):
    await bench.start()
    await bench.post(value(("me llamo Ana", "hola", "quiero empezar")))
    await bench.post(value(("me llamo Ana",)), answered(value(("me llamo Ana",))))
    assert bench.outcomes == ["Enriched", "Stale"]
    assert bench.table.state(b"s-1").turns == 3


async def test_what_is_said_while_it_waits_is_read_instead(bench: Bench):
    await bench.start()
    await bench.post(value(), answered(value()), settle=False)
    await bench.post(value(("me llamo Carlos Ruiz", "hola", "quiero empezar")))
    assert bench.outcomes == ["Superseded", "Enriched"]
    assert len(bench.extractor.calls) == 1
    assert bench.enriched()[-1]["conversation"]["turns"] == 3


async def test_an_erased_session_stays_erased(bench: Bench):
    from datetime import UTC, datetime

    await bench.start()
    command = SessionCommand(
        command=CommandKind.ERASE, session_id="s-1", request_id="request-1", requested_at=datetime.now(UTC)
    )
    await bench.post(command.value, command.headers)
    await bench.post(value(), answered(value()))
    assert bench.outcomes == ["Erased", "Suppressed"]
    assert bench.table.state(b"s-1").prospect is None


async def test_refused_consent_is_stronger_than_an_answer(bench: Bench):
    await bench.start()
    body = value(consent=False)
    await bench.post(body, answered(body))
    (record,) = bench.enriched()
    assert record["extraction"]["extractor"] == "none"
    assert record["prospect"]["nombre"] is None


async def test_a_failure_becomes_a_dead_letter_with_its_reason_and_without_the_header(bench: Bench):
    await bench.start()
    failure = encode_failure(digest(decode(value(), Limits())), PermanentError("declined", reason=Reason.MODEL_REFUSED))
    await bench.post(value(), ((ANSWER_HEADER, failure), ("correlation-id", b"c-1")))
    (letter,) = bench.broker.records(DEAD)
    headers = dict(letter.headers)
    assert headers["nexus-reason"] == b"model_refused"
    assert headers["nexus-error"] == b"declined"
    assert headers["correlation-id"] == b"c-1"
    assert ANSWER_HEADER not in headers
    assert bench.extractor.calls == []


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"nonsense",
        b'{"version": 2, "digest": "x"}',
        b'{"version": 1, "digest": "of another conversation", "findings": {"made_by": {"extractor": "claude"}}}',
        b'{"digest": "%s"}' % digest(decode(value(), Limits())).encode(),
        b"{" + b" " * 70_000 + b"}",
    ],
)
async def test_a_header_that_is_no_answer_to_it_is_set_aside_and_not_paid_again(bench: Bench, header: bytes):
    await bench.start()
    await bench.post(value(), ((ANSWER_HEADER, header),))
    (letter,) = bench.broker.records(DEAD)
    assert dict(letter.headers)["nexus-reason"] == b"wrong_shape"
    assert bench.extractor.calls == []


async def test_claude_improves_what_only_rules_had_read_once(bench: Bench):
    await bench.start(Rules())
    await bench.post(value())
    assert bench.enriched()[-1]["extraction"]["extractor"] == "offline-rules-v1"
    before = bench.enriched()[-1]
    await bench.post(value(), answered(value()))
    await bench.post(value(), answered(value()))
    assert bench.outcomes == ["Enriched", "Enriched", "Duplicate"]
    after = bench.enriched()[-1]
    assert after["extraction"]["extractor"] == "claude"
    # Readers that keep the later record keep this one.
    assert after["snapshot_at_ms"] > before["snapshot_at_ms"]
    assert after["enriched_at"] > before["enriched_at"]


async def test_rules_do_not_replace_what_claude_has_read(bench: Bench):
    await bench.start(Rules())
    await bench.post(value(), answered(value()))
    await bench.post(value())
    assert bench.outcomes == ["Enriched", "Duplicate"]
