"""The metrics of every outcome of a request to Claude: the real SDK against our stand-in."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import REGISTRY

from nexus_stream.errors import NexusError
from nexus_stream.extraction.extractor import Turn
from nexus_stream.extraction.factory import create_extractor
from nexus_stream.extraction.metrics import ExtractionMetrics
from nexus_stream.settings import load_settings

if TYPE_CHECKING:
    from tests.integration.extraction.conftest import StandIn

TURNS = (Turn("assistant", "¿Con quién hablo?"), Turn("user", "soy Irma del Valle"))
NOTHING = {"nombre": None, "email": None, "telefono": None, "ocupacion": None, "arquetipo": None}
GOOD = json.dumps({**NOTHING, "objeciones": [], "evidencias": []})
REQUESTS = "nexus_claude_requests_total"


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def make(url: str, timeout: float = 30.0, **overrides: Any) -> Any:
    environ = {"ANTHROPIC_API_KEY": "sk-test-0000", "ANTHROPIC_BASE_URL": url}
    settings = load_settings(environ=environ, claude_timeout_seconds=timeout, **overrides)
    return create_extractor(settings, observer=ExtractionMetrics())


@pytest.mark.parametrize(
    ("outcome", "play"),
    [
        ("ok", lambda server: server.message(GOOD)),
        ("bad_answer", lambda server: server.message("no JSON")),
        ("refused", lambda server: server.message("", stop_reason="refusal")),
        ("truncated", lambda server: server.message("{", stop_reason="max_tokens")),
        ("rate_limited", lambda server: server.error(429, "rate_limit_error")),
        ("overloaded", lambda server: server.error(529, "overloaded_error")),
        ("error", lambda server: server.error(500, "api_error")),
        ("error", lambda server: server.error(401, "authentication_error")),
        ("spend_limit", lambda server: server.error(402, "billing_error")),
        ("timeout", lambda server: server.message(GOOD, delay_seconds=5)),
        ("connection", lambda server: server.cut),
        ("bad_answer", lambda server: server.raw(b"<html>", content_type="text/html")),
    ],
)
async def test_each_outcome_of_a_request_has_its_word(stand_in: StandIn, outcome: str, play: Callable[[StandIn], Any]):
    stand_in.script(play(stand_in))
    extractor = make(stand_in.url, 0.5 if outcome == "timeout" else 30.0)
    before, timed = value(REQUESTS, outcome=outcome), value("nexus_claude_request_seconds_count")
    try:
        await extractor.extract(TURNS)
    except NexusError:
        assert outcome != "ok"
    finally:
        await extractor.close()
    assert value(REQUESTS, outcome=outcome) == before + len(stand_in.requests)
    assert value("nexus_claude_request_seconds_count") == timed + len(stand_in.requests)


async def test_a_rejected_conversation_is_two_requests(stand_in: StandIn):
    stand_in.script(stand_in.error(400, "invalid_request_error"), stand_in.message(GOOD))
    before = {outcome: value(REQUESTS, outcome=outcome) for outcome in ("rejected", "ok")}
    extractor = make(stand_in.url)
    with pytest.raises(NexusError):
        await extractor.extract(TURNS)
    await extractor.close()
    assert {outcome: value(REQUESTS, outcome=outcome) - before[outcome] for outcome in before} == {
        "rejected": 1,
        "ok": 1,
    }


async def test_tokens_cost_and_cache_are_counted_once(stand_in: StandIn):
    usage = {
        "input_tokens": 300,
        "output_tokens": 150,
        "cache_read_input_tokens": 900,
        "cache_creation_input_tokens": 40,
    }
    stand_in.script(stand_in.message(GOOD, usage=usage))
    kinds = ("input", "output", "cache_read")
    before = {kind: value("nexus_claude_tokens_total", kind=kind) for kind in kinds}
    cost, misses, hits = (
        value("nexus_claude_cost_usd_total"),
        value("nexus_cache_lookups_total", result="miss"),
        value("nexus_cache_lookups_total", result="hit"),
    )
    extractor = make(stand_in.url)
    first = await extractor.extract(TURNS)
    await extractor.extract(TURNS)
    await extractor.close()
    assert len(stand_in.requests) == 1
    assert [value("nexus_claude_tokens_total", kind=kind) - before[kind] for kind in kinds] == [340, 150, 900]
    assert value("nexus_claude_cost_usd_total") - cost == pytest.approx(first.usage.cost_usd)
    assert first.usage.cost_usd > 0
    assert value("nexus_cache_lookups_total", result="miss") == misses + 1
    assert value("nexus_cache_lookups_total", result="hit") == hits + 1


async def test_a_redis_that_is_down_is_an_error_of_the_cache(stand_in: StandIn, refusing_url: str):
    stand_in.script(stand_in.message(GOOD))
    before = value("nexus_cache_lookups_total", result="error")
    extractor = make(stand_in.url, redis_url=refusing_url.replace("http://", "redis://") + "/0")
    await extractor.extract(TURNS)
    await extractor.close()
    assert value("nexus_cache_lookups_total", result="error") == before + 1


async def test_a_budget_is_shown_with_its_spending(stand_in: StandIn):
    stand_in.script(stand_in.message(GOOD))
    extractor = make(
        stand_in.url,
        budget_usd_per_day=2.0,
        budget_usd_per_hour=0.5,
        claude_share=0.5,
        kafka_max_poll_interval_seconds=86_400,
    )
    findings = await extractor.extract(TURNS)
    assert [value("nexus_budget_usd", period=period) for period in ("hour", "day")] == [0.25, 1.0]
    for period in ("hour", "day"):
        assert value("nexus_budget_spent_usd", period=period) == pytest.approx(findings.usage.cost_usd)
    await extractor.close()


async def test_a_cancelled_call_has_no_outcome(stand_in: StandIn):
    stand_in.script(stand_in.message(GOOD, delay_seconds=5))

    def total(read: Callable[..., float]) -> float:
        return sum(read(REQUESTS, outcome=outcome) for outcome in ("ok", "timeout", "connection", "error"))

    before = total(value)
    extractor = make(stand_in.url)
    task = asyncio.create_task(extractor.extract(TURNS))
    async with asyncio.timeout(30):
        while not stand_in.requests:  # noqa: ASYNC110 - the stand-in has no event for it
            await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert total(value) == before
    await extractor.close()
