"""What the enricher makes of an answer: who is named in the record, what counts as a call, whose words are read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any

import orjson
import pytest

from agents.enrichment import Enrichment
from nexus_stream.delivery.outcomes import Outcome
from nexus_stream.delivery.received import Assignment, Received
from nexus_stream.errors import BudgetExhaustedError, ModelUnavailableError
from nexus_stream.extraction.cache import MemoryCache
from nexus_stream.extraction.cached import CachedExtractor
from nexus_stream.extraction.extractor import Extractor, Findings, MadeBy, Turn
from nexus_stream.extraction.fallback import BudgetFallback
from nexus_stream.extraction.offline_rules import OfflineRules
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
        assignment = Assignment()
        self.table = InMemorySessionTable(self.broker, assignment, "sessions-changelog")
        self.stage = Enrichment(
            settings=load_settings(environ={}, topic_partitions=1, settle_seconds=0, **settings),
            table=self.table,
            extractor=extractor,
            source="/test",
            broker=self.broker,
            assignment=assignment,
            clock=self.clock,
            observer=self,
            on_fatal=lambda error: pytest.fail(f"stopped by {error!r}"),
        )
        self.posted = 0

    def outcome(self, record: Received, outcome: Outcome) -> None:
        """See `Observer`."""

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


async def test_an_answer_of_the_fallback_is_labelled_as_its_own(bench_with):
    def exhausted(turns: Sequence[Turn]) -> None:
        raise BudgetExhaustedError("spent", retry_after_seconds=60, is_general=True)

    bench = await bench_with(BudgetFallback(ScriptedExtractor(exhausted), OfflineRules()))
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
        name, model, prompt_version = "claude", "scripted", "v1"

        async def extract(self, turns: Sequence[Turn]) -> Findings:
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
