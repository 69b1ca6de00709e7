"""What the enricher makes of an answer: who is named in the record, what counts as a call, whose words are read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any

import orjson
import pytest

from nexus_stream.delivery.outcomes import Enriched, Outcome
from nexus_stream.delivery.received import Assignment, Received
from nexus_stream.delivery.stage import StageParts
from nexus_stream.enrichment.stage import Enrichment
from nexus_stream.errors import (
    BudgetExhaustedError,
    BudgetReservedError,
    ModelRefusedError,
    ModelUnavailableError,
    NotWantedError,
    OverBudgetError,
    Reason,
)
from nexus_stream.extraction.cache import MemoryCache
from nexus_stream.extraction.cached import CachedExtractor
from nexus_stream.extraction.claude.wanted import require_wanted
from nexus_stream.extraction.extractor import Extractor, Findings, MadeBy, Turn
from nexus_stream.extraction.fallback import Fallback
from nexus_stream.extraction.rules.extractor import OfflineRules
from nexus_stream.settings import load_settings
from nexus_stream.testing.broker import InMemoryBroker
from nexus_stream.testing.clock import FakeClock
from nexus_stream.testing.extractor import ScriptedExtractor
from nexus_stream.testing.sessions import InMemorySessionTable

INGESTION, ENRICHED, DEAD = "nexus-prospect-ingestion", "prospects-enriched", "nexus-prospect-dlq"
NAME = "me llamo Carlos Ruiz"


class Bench:
    """One worker on in-memory parts, without settling."""

    def __init__(self, extractor: Extractor, **settings: Any) -> None:
        self.broker, self.clock = InMemoryBroker(), FakeClock()
        self.waits: list[tuple[str, bool]] = []
        self.outcomes: list[Outcome] = []
        assignment = Assignment()
        self.table = InMemorySessionTable(self.broker, assignment, "sessions-changelog")
        self.stage = Enrichment(
            StageParts(
                broker=self.broker,
                assignment=assignment,
                clock=self.clock,
                observer=self,
                on_fatal=lambda error: pytest.fail(f"stopped by {error!r}"),
            ),
            settings=load_settings(environ={}, topic_partitions=1, settle_seconds=0, **settings),
            table=self.table,
            extractor=extractor,
            source="/test",
        )
        self.posted = 0

    def outcome(self, record: Received, outcome: Outcome) -> None:
        """See `Observer`."""
        self.outcomes.append(outcome)

    def waiting(self, what: str, since_ms: int | None) -> None:
        """See `Observer`."""
        self.waits.append((what, since_ms is not None))

    async def post(self, text: str, *, session: str = "s-1", consent: bool | None = None) -> None:
        body = {
            "messages": [{"role": "user", "content": text}],
            "sessionId": session,
            "metadata": {"consent": consent, "url": "https://example.com/"},
        }
        record = self.stage.read(INGESTION, 0, self.posted, self.clock.time_ms(), b"k", orjson.dumps(body), ())
        self.posted += 1
        await self.stage.submit(record)
        await self.clock.advance(1)

    def enriched(self) -> list[dict[str, Any]]:
        return [orjson.loads(record.value or b"") for record in self.broker.records(ENRICHED)]


@pytest.fixture
async def bench_with() -> AsyncIterator[Callable[..., Any]]:
    made: list[Bench] = []

    async def make(extractor: Extractor, **settings: Any) -> Bench:
        one = Bench(extractor, **settings)
        made.append(one)
        one.stage.start()
        await one.stage.assigned([(INGESTION, 0)])
        return one

    yield make
    for one in made:
        tasks = list(one.stage._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_cached_answer_says_so_and_counts_as_no_call(bench_with):
    behind = ScriptedExtractor()
    bench = await bench_with(CachedExtractor(behind, MemoryCache(max_entries=10, ttl_seconds=60)))
    await bench.post(NAME, session="first")
    await bench.post(NAME, session="second")
    first, second = bench.enriched()
    assert (first["extraction"]["cached"], second["extraction"]["cached"]) == (False, True)
    assert first["prospect"] == second["prospect"]
    assert second["extraction"]["cost_usd"] == 0
    assert (second["extraction"]["extractor"], second["extraction"]["model"]) == ("claude", "scripted")
    counters = [bench.table.state(key).counters for key in (b"first", b"second")]
    assert [(one.calls, one.cost_usd > 0) for one in counters] == [(1, True), (0, False)]
    assert len(behind.calls) == 1


async def test_after_a_call_that_was_not_wanted_others_run_before_the_next_call(bench_with):
    others_ran: list[None] = []

    def script(turns: Sequence[Turn]) -> None:
        assert len(others_ran) == len(behind.calls) - 1
        if len(behind.calls) < 4:
            asyncio.get_running_loop().call_soon(others_ran.append, None)
            raise NotWantedError("revoked")

    behind = ScriptedExtractor(script)
    bench = await bench_with(behind)
    await bench.post(NAME)
    (record,) = bench.enriched()
    assert record["prospect"]["nombre"] == "Carlos Ruiz"
    assert len(behind.calls) == 4


async def test_an_answer_of_the_fallback_is_labelled_as_its_own(bench_with):
    def exhausted(turns: Sequence[Turn]) -> None:
        raise BudgetExhaustedError("spent", retry_after_seconds=60, is_general=True)

    bench = await bench_with(Fallback(ScriptedExtractor(exhausted), OfflineRules(), at_cap=True))
    await bench.post(NAME)
    (record,) = bench.enriched()
    facts = record["extraction"]
    assert (facts["extractor"], facts["model"], facts["prompt_version"]) == ("offline-rules-v1", None, None)
    assert record["prospect"]["nombre"] == "Carlos Ruiz"
    assert bench.table.state(b"s-1").counters.calls == 0


async def test_at_the_cap_consumption_waits_for_the_budget_and_goes_on_by_itself(bench_with):
    spent = True

    def script(turns: Sequence[Turn]) -> None:
        if spent:
            raise BudgetExhaustedError("spent", retry_after_seconds=600, is_general=True)

    bench = await bench_with(ScriptedExtractor(script))
    await bench.post(NAME)
    await bench.clock.advance(3600)
    assert bench.stage.state.startswith("waiting for budget since")
    assert bench.enriched() == []
    assert bench.broker.committed.get((INGESTION, 0), 0) == 0
    spent = False
    await bench.clock.advance(700)
    assert bench.stage.state == "running"
    assert len(bench.enriched()) == 1
    assert bench.waits == [("budget", True), ("budget", False)]


async def test_a_cheaper_conversation_that_still_fits_ends_nobodys_wait(bench_with):
    spent = True

    def script(turns: Sequence[Turn]) -> None:
        if spent and "Carlos" in turns[0].content:
            raise BudgetExhaustedError("spent", retry_after_seconds=600, is_general=True)

    bench = await bench_with(ScriptedExtractor(script))
    await bench.post(NAME, session="dear")
    for index in range(3):
        await bench.post("me llamo Ana Paz", session=f"cheap-{index}")
        await bench.clock.advance(700)
    assert len(bench.enriched()) == 3
    assert bench.stage.state.startswith("waiting for budget since")
    spent = False
    await bench.clock.advance(700)
    assert bench.stage.state == "running"
    assert bench.waits == [("budget", True), ("budget", False)]


async def test_a_conversation_that_fits_under_no_cap_holds_nobody_up(bench_with):
    def script(turns: Sequence[Turn]) -> None:
        if "Carlos" in turns[0].content:
            raise OverBudgetError("NEXUS_BUDGET_USD_PER_HOUR: one call could cost more")

    bench = await bench_with(ScriptedExtractor(script))
    await bench.post(NAME, session="dear")
    await bench.post("me llamo Ana Paz", session="cheap")
    (letter,) = bench.broker.records(DEAD)
    headers = dict(letter.headers)
    assert headers["nexus-reason"] == b"over_budget"
    assert b"NEXUS_BUDGET_USD_PER_HOUR" in headers["nexus-error"]
    assert len(bench.enriched()) == 1
    assert bench.stage.state == "running"
    await bench.clock.advance(60)
    assert bench.broker.committed[(INGESTION, 0)] == 2


async def test_with_the_fallback_calls_under_way_are_waited_for_and_claude_reads(bench_with):
    under_way = True

    def script(turns: Sequence[Turn]) -> None:
        if under_way:
            raise BudgetReservedError("reserved", retry_after_seconds=1, is_general=True)

    bench = await bench_with(Fallback(ScriptedExtractor(script), OfflineRules(), at_cap=True))
    await bench.post(NAME)
    assert bench.enriched() == []
    # Nobody is told, and the watchdog sees why the partition does not move.
    assert bench.stage.state == "running"
    assert bench.stage.tried_again() == {(INGESTION, 0)}
    under_way = False
    await bench.clock.advance(60)
    (record,) = bench.enriched()
    assert record["extraction"]["extractor"] == "claude"
    assert bench.stage.state == "running"


async def test_what_was_dropped_goes_with_the_outcome(bench_with):
    class Inventing(ScriptedExtractor):
        async def extract(self, turns: Sequence[Turn], region: str | None = None) -> Findings:
            return replace(await super().extract(turns), email="nobody@example.com", dropped_fields=("arquetipo",))

    bench = await bench_with(Inventing())
    await bench.post(NAME)
    (outcome,) = bench.outcomes
    assert isinstance(outcome, Enriched)
    assert sorted(outcome.dropped_fields) == ["arquetipo", "email"]


@pytest.mark.parametrize("is_general", [True, False])
async def test_only_a_failure_of_its_own_uses_up_a_records_attempts(bench_with, is_general):
    unlucky = True

    def script(turns: Sequence[Turn]) -> None:
        if unlucky and "Carlos" in turns[0].content:
            raise ModelUnavailableError("not now", retry_after_seconds=1, is_general=is_general)

    bench = await bench_with(ScriptedExtractor(script))
    await bench.post(NAME, session="unlucky")
    for index in range(60):
        await bench.post("me llamo Ana Paz", session=f"lucky-{index}")
        await bench.clock.advance(10)
    unlucky = False
    await bench.clock.advance(60)
    assert len(bench.broker.records(DEAD)) == (0 if is_general else 1)
    assert len(bench.enriched()) == (61 if is_general else 60)


async def test_answers_that_say_nothing_of_the_extractor_use_up_nobodys_attempts(bench_with):
    """While Claude is out, cached answers and unread conversations go on: no sign that a record is at fault."""

    class Half:
        labels = MadeBy("claude", "scripted", "v1")

        async def extract(self, turns: Sequence[Turn], region: str | None = None) -> Findings:
            if "Carlos" in turns[0].content:
                raise ModelUnavailableError("timeout")
            if "rules" in turns[0].content:
                return Findings(made_by=MadeBy("offline-rules-v1"))
            return replace(Findings(), cached=True)

        async def close(self) -> None:
            """Nothing to release."""

    bench = await bench_with(Half())
    await bench.post(NAME, session="unlucky")
    for index in range(60):
        await bench.post(("cached", "rules")[index % 2], session=f"other-{index}", consent=index % 3 > 0)
        await bench.clock.advance(10)
    assert bench.broker.records(DEAD) == []
    assert len(bench.enriched()) == 60
    assert bench.stage.state.startswith("waiting for claude since")


# --- consent


async def test_without_consent_nothing_is_sent_and_the_record_is_minimal(bench_with):
    extractor = ScriptedExtractor()
    bench = await bench_with(extractor)
    await bench.post(NAME, consent=False)
    (record,) = bench.enriched()
    assert extractor.calls == []
    assert record["extraction"]["extractor"] == "none"
    assert record["extraction"]["model"] is None
    assert record["extraction"]["signals"] == []
    assert record["prospect"]["nombre"] is None
    assert record["prospect"]["nivel_interes"] == 0
    assert record["conversation"]["turns"] == 1
    assert bench.table.state(b"s-1").counters.calls == 0


@pytest.mark.parametrize("consent", [True, None])
async def test_with_consent_or_without_a_word_about_it_the_extractor_reads(bench_with, consent):
    extractor = ScriptedExtractor()
    bench = await bench_with(extractor)
    await bench.post(NAME, consent=consent)
    assert len(extractor.calls) == 1
    assert bench.enriched()[0]["prospect"]["nombre"] == "Carlos Ruiz"


async def test_the_setting_turns_it_off(bench_with):
    extractor = ScriptedExtractor()
    bench = await bench_with(extractor, consent_respected=False)
    await bench.post(NAME, consent=False)
    assert len(extractor.calls) == 1


async def test_consent_given_later_is_read_then(bench_with):
    extractor = ScriptedExtractor()
    bench = await bench_with(extractor)
    await bench.post(NAME, consent=False)
    await bench.clock.advance(30)
    await bench.post(NAME, consent=True)
    assert [record["prospect"]["nombre"] for record in bench.enriched()] == [None, "Carlos Ruiz"]
    assert len(extractor.calls) == 1


# --- waiting ends with the work that waits


async def test_a_refusal_after_an_outage_ends_the_waiting(bench_with):
    answers: list[Exception] = [
        ModelUnavailableError("away"),
        ModelRefusedError("declined", reason=Reason.MODEL_REFUSED),
    ]

    def script(turns: Sequence[Turn]) -> None:
        raise answers.pop(0)

    bench = await bench_with(ScriptedExtractor(script))
    await bench.post(NAME)
    await bench.clock.advance(120)
    assert len(bench.broker.records(DEAD)) == 1
    assert bench.stage.state == "running"
    assert bench.waits == [("claude", True), ("claude", False)]


async def test_a_revocation_ends_the_waiting(bench_with):
    def away(turns: Sequence[Turn]) -> None:
        raise ModelUnavailableError("away")

    bench = await bench_with(ScriptedExtractor(away))
    await bench.post(NAME)
    await bench.clock.advance(30)
    assert bench.stage.state.startswith("waiting for claude")
    await bench.stage.revoked(drain_seconds=0.01)
    await bench.stage.assigned([])
    await bench.clock.advance(120)
    assert bench.stage.state == "running"


async def test_a_call_that_fails_after_a_revocation_makes_nobody_wait(bench_with):
    def away(turns: Sequence[Turn]) -> None:
        raise ModelUnavailableError("away")

    extractor = ScriptedExtractor(away)
    bench = await bench_with(extractor)
    extractor.gate.clear()
    await bench.post(NAME)
    await bench.stage.revoked(drain_seconds=0.01)
    await bench.stage.assigned([])
    extractor.gate.set()
    await bench.clock.advance(120)
    assert bench.stage.state == "running"
    assert len(extractor.calls) == 1


# --- nobody pays for what nobody wants


def paying(extractor: ScriptedExtractor, paid: list[str]) -> None:
    """Let it ask, after its gate, whether the answer is wanted, as Claude's extractor does before it pays."""

    def script(turns: Sequence[Turn]) -> None:
        require_wanted()
        paid.append(turns[0].content)

    extractor._script = script


async def test_what_waits_for_its_turn_is_not_asked_once_its_partition_is_gone(bench_with):
    extractor, paid = ScriptedExtractor(), []
    paying(extractor, paid)
    bench = await bench_with(extractor)
    extractor.gate.clear()
    await bench.post(NAME)
    await bench.stage.revoked(drain_seconds=0.01)
    extractor.gate.set()
    await bench.clock.advance(60)
    assert (len(extractor.calls), paid) == (1, [])
    # Its next owner reads the record again, and pays once.
    await bench.stage.assigned([(INGESTION, 0)])
    bench.posted = 0
    await bench.post(NAME)
    assert (paid, len(bench.enriched())) == ([NAME], 1)


async def test_a_call_that_two_works_share_is_made_for_the_one_that_still_wants_it(bench_with):
    extractor, paid = ScriptedExtractor(), []
    paying(extractor, paid)
    bench = await bench_with(CachedExtractor(extractor, MemoryCache(max_entries=10, ttl_seconds=60)))
    extractor.gate.clear()
    await bench.post(NAME, session="erased")
    await bench.post(NAME, session="kept")
    # As an erasure of the first session does, whose work began the call.
    (cancelled,) = bench.stage._settling.cancel(b"erased")
    extractor.gate.set()
    await bench.clock.advance(60)
    assert cancelled.cancelled
    assert paid == [NAME]
    assert [record["session_id"] for record in bench.enriched()] == ["kept"]
