"""The parts that hold calls, over HTTP with the real SDK: allowance, breaker, spend limit, budget, deadline, cache."""

import asyncio
import json
import logging
import time

import pytest

from nexus_stream.errors import (
    BudgetExhaustedError,
    BudgetReservedError,
    ConfigurationError,
    ModelUnavailableError,
    NotWantedError,
    OverBudgetError,
    RetryableError,
    SpendLimitError,
)
from nexus_stream.extraction.claude.budget import Budget
from nexus_stream.extraction.claude.extractor import ClaudeExtractor
from nexus_stream.extraction.claude.wanted import wanted_while
from nexus_stream.extraction.extractor import Turn
from nexus_stream.extraction.factory import create_extractor
from nexus_stream.settings import load_settings

TURNS = (Turn("user", "soy Irma del Valle"),)
ANSWER = json.dumps(
    {
        "nombre": "Irma del Valle",
        "email": None,
        "telefono": None,
        "ocupacion": None,
        "arquetipo": None,
        "objeciones": [],
        "evidencias": [{"senal": "nombre", "turno": 0, "cita": "Irma del Valle"}],
    }
)
MANY = 600_000  # requests a minute: practically no limit


async def failures_of(extractor: ClaudeExtractor, times: int) -> list[RetryableError]:
    caught = []
    for _ in range(times):
        with pytest.raises(RetryableError) as one:
            await extractor.extract(TURNS)
        caught.append(one.value)
    return caught


# --- the allowance


async def test_the_allowance_is_learned_from_llmock_and_kept(llmock, claude):
    llmock.limits(rpm=240).reply(ANSWER, times=None)
    extractor = claude(llmock.base_url("anthropic"))
    await extractor.extract(TURNS)  # learns 240 a minute: one every 250 ms
    started = time.monotonic()
    await asyncio.gather(*(extractor.extract(TURNS) for _ in range(9)))
    assert 1.7 < time.monotonic() - started < 8
    assert [request.status for request in llmock.requests] == [200] * 10


async def test_workers_share_the_allowance_by_their_setting(llmock, claude):
    llmock.limits(rpm=240).reply(ANSWER, times=None)
    extractor = claude(llmock.base_url("anthropic"), claude_share=0.5)
    await extractor.extract(TURNS)
    started = time.monotonic()
    await asyncio.gather(*(extractor.extract(TURNS) for _ in range(5)))
    assert 1.7 < time.monotonic() - started < 8


async def test_used_tokens_slow_the_next_call_down(stand_in, claude):
    # 60,000 input tokens a minute are 1,000 a second. The answer reports 900 used tokens.
    usage = {
        "input_tokens": 700,
        "cache_creation_input_tokens": 200,
        "cache_read_input_tokens": 9000,
        "output_tokens": 9,
    }
    headers = {"anthropic-ratelimit-input-tokens-limit": "60000", "anthropic-ratelimit-requests-limit": str(MANY)}
    stand_in.script(stand_in.message(ANSWER, usage=usage, headers=headers))
    extractor = claude(stand_in.url, claude_requests_per_minute=MANY, claude_input_tokens_per_minute=60_000)
    await extractor.extract(TURNS)
    started = time.monotonic()
    await extractor.extract(TURNS)
    assert 0.5 < time.monotonic() - started < 10


async def test_a_429_holds_all_calls_for_its_retry_after(stand_in, claude):
    stand_in.script(stand_in.error(429, "rate_limit_error", **{"retry-after": "2"}), stand_in.message(ANSWER))
    extractor = claude(stand_in.url, claude_requests_per_minute=MANY)
    (limited,) = await failures_of(extractor, 1)
    assert limited.is_general
    started = time.monotonic()
    await asyncio.gather(*(extractor.extract(TURNS) for _ in range(3)))
    assert 1.0 < time.monotonic() - started < 10
    assert len(stand_in.requests) == 4


async def test_waiting_for_the_allowance_can_be_cancelled_and_takes_nothing(stand_in, claude):
    stand_in.script(stand_in.message(ANSWER))
    extractor = claude(stand_in.url, claude_requests_per_minute=60)  # one at once, then one a second
    await extractor.extract(TURNS)
    waiting = [asyncio.create_task(extractor.extract(TURNS)) for _ in range(20)]
    await asyncio.sleep(0.1)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    started = time.monotonic()
    await extractor.extract(TURNS)
    assert time.monotonic() - started < 1.9


async def test_a_call_that_is_not_needed_any_more_is_not_made_and_takes_nothing(stand_in, claude):
    stand_in.script(stand_in.message(ANSWER))
    extractor = claude(stand_in.url, claude_requests_per_minute=60, budget_usd_per_hour=10.0)
    await extractor.extract(TURNS)
    spent_usd, wanted = extractor.budget.spent_usd(), True
    with wanted_while(lambda: wanted):
        waiting = [asyncio.create_task(extractor.extract(TURNS)) for _ in range(3)]
    await asyncio.sleep(0.1)
    wanted = False
    ended = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(error) for error in ended] == [NotWantedError] * 3
    assert len(stand_in.requests) == 1
    assert extractor.budget.spent_usd() == spent_usd
    started = time.monotonic()
    await extractor.extract(TURNS)
    assert time.monotonic() - started < 1.9


# --- the breaker


async def test_in_a_529_storm_only_probes_reach_the_api(llmock, claude):
    llmock.fail(529, times=None)
    extractor = claude(
        llmock.base_url("anthropic"),
        claude_requests_per_minute=MANY,
        claude_breaker_failures=3,
        claude_breaker_seconds=3.0,
    )
    errors = await failures_of(extractor, 20)
    assert len(llmock.requests) == 3
    assert all(error.is_general for error in errors)
    assert all(0 < (error.retry_after_seconds or 0) <= 3.0 for error in errors[3:])
    await asyncio.sleep(3.2)
    results = await asyncio.gather(*(extractor.extract(TURNS) for _ in range(20)), return_exceptions=True)
    assert all(isinstance(result, ModelUnavailableError) for result in results)
    assert len(llmock.requests) == 4
    llmock.reset()
    llmock.reply(ANSWER, times=None)
    await asyncio.sleep(3.2)
    for _ in range(3):
        assert (await extractor.extract(TURNS)).nombre == "Irma del Valle"


async def test_timeouts_and_cut_connections_open_the_breaker(stand_in, claude):
    stand_in.script(stand_in.cut, stand_in.message(ANSWER, delay_seconds=5), stand_in.raw(b"<html>"))
    extractor = claude(
        stand_in.url, claude_requests_per_minute=MANY, claude_breaker_failures=3, claude_timeout_seconds=0.3
    )
    await failures_of(extractor, 5)
    assert len(stand_in.requests) == 3


async def test_rate_limits_and_bad_answers_do_not_open_the_breaker(stand_in, claude):
    limited = stand_in.error(429, "rate_limit_error", **{"retry-after": "0.01"})
    stand_in.script(*[limited] * 5, stand_in.message(ANSWER))
    extractor = claude(stand_in.url, claude_requests_per_minute=MANY, claude_breaker_failures=2)
    await failures_of(extractor, 5)
    assert (await extractor.extract(TURNS)).nombre == "Irma del Valle"


# --- a spend limit


@pytest.mark.parametrize("kind", ["429", "402", "400"])
async def test_a_spend_limit_pauses_all_calls_and_raises_one_alert(stand_in, claude, caplog, kind):
    error = {
        "429": stand_in.error(429, "rate_limit_error", code="enforced_spend_limit_reached", **{"retry-after": "1"}),
        "402": stand_in.error(402, "billing_error"),
        "400": stand_in.error(400, "invalid_request_error", "You have reached your specified API usage limits."),
    }[kind]
    stand_in.script(error)
    extractor = claude(stand_in.url, claude_requests_per_minute=MANY, claude_spend_limit_pause_seconds=300.0)
    errors = await failures_of(extractor, 4)
    assert all(isinstance(one, SpendLimitError) and one.is_general for one in errors)
    assert all(290 < (one.retry_after_seconds or 0) <= 300 for one in errors)
    # A 400 does not show its cause: a harmless request finds it.
    assert len(stand_in.requests) == (2 if kind == "400" else 1)
    alerts = [record for record in caplog.records if record.getMessage() == "claude_spend_limit"]
    assert [record.levelno for record in alerts] == [logging.ERROR]
    assert "Irma" not in str(vars(alerts[0]))


async def test_a_raised_spend_limit_is_noticed_automatically(stand_in, claude):
    stand_in.script(stand_in.error(402, "billing_error"), stand_in.message(ANSWER))
    extractor = claude(stand_in.url, claude_requests_per_minute=MANY, claude_spend_limit_pause_seconds=2.0)
    await failures_of(extractor, 2)
    await asyncio.sleep(2.2)
    assert (await extractor.extract(TURNS)).nombre == "Irma del Valle"


async def test_a_wrong_key_still_stops(stand_in, claude):
    stand_in.script(stand_in.error(401, "authentication_error"))
    with pytest.raises(ConfigurationError):
        await claude(stand_in.url).extract(TURNS)


# --- the budget

ONE_CALL_USD = (300 * 0.10 + 150 * 0.50) / 1e6


async def test_at_the_cap_nothing_is_called_any_more(stand_in, claude):
    stand_in.script(stand_in.message(ANSWER))
    # Before each call its worst case must fit too, about 0.0008 USD with this prompt.
    extractor = claude(stand_in.url, claude_requests_per_minute=MANY, budget_usd_per_hour=0.002)
    exhausted: BudgetExhaustedError | None = None
    for _ in range(100):
        try:
            await extractor.extract(TURNS)
        except BudgetExhaustedError as error:
            exhausted = error
            break
    made = len(stand_in.requests)
    assert exhausted is not None
    assert 5 < made < 100
    assert extractor.budget.spent_usd() == pytest.approx(made * ONE_CALL_USD)
    assert extractor.budget.spent_usd() <= 0.002
    assert (exhausted.retry_after_seconds or 0) > 3000
    await failures_of(extractor, 3)
    assert len(stand_in.requests) == made


async def test_concurrent_calls_do_not_exceed_the_cap_together(stand_in, claude):
    stand_in.script(stand_in.message(ANSWER, delay_seconds=0.2))
    extractor = claude(stand_in.url, claude_requests_per_minute=MANY, budget_usd_per_hour=0.002)
    await asyncio.gather(*(extractor.extract(TURNS) for _ in range(50)), return_exceptions=True)
    assert 0 < extractor.budget.spent_usd() <= 0.002
    assert len(stand_in.requests) < 5


async def test_bad_answers_and_unanswered_calls_are_counted_and_refused_ones_are_not(stand_in, claude):
    extractor = claude(stand_in.url, claude_requests_per_minute=MANY, claude_timeout_seconds=0.3)
    budget = extractor.budget
    stand_in.script(stand_in.error(529, "overloaded_error"))
    await failures_of(extractor, 1)
    assert budget.spent_usd() == 0
    stand_in.script(stand_in.message("{}"), stand_in.message(ANSWER))
    found = await extractor.extract(TURNS)
    assert budget.spent_usd() == pytest.approx(2 * ONE_CALL_USD)
    assert found.usage.cost_usd == pytest.approx(2 * ONE_CALL_USD)
    # The bill for an answer that never came is unknown: it counts as an ordinary call.
    stand_in.script(stand_in.message(ANSWER, delay_seconds=5))
    await failures_of(extractor, 1)
    assert 2.5 * ONE_CALL_USD < budget.spent_usd() < 5 * ONE_CALL_USD


async def test_an_address_that_refuses_costs_nothing(refusing_url, claude):
    extractor = claude(refusing_url, claude_requests_per_minute=MANY)
    await failures_of(extractor, 1)
    assert extractor.budget.spent_usd() == 0


async def test_spending_survives_the_worker(stand_in, tmp_path):
    stand_in.script(stand_in.message(ANSWER))
    environ = {"ANTHROPIC_API_KEY": "sk-test-0000", "ANTHROPIC_BASE_URL": stand_in.url}
    path = tmp_path / "0.budget.json"
    extractor = create_extractor(load_settings(environ=environ), budget_file=path)
    await extractor.extract(TURNS)
    await extractor.extract(TURNS)  # from the cache
    await extractor.close()
    assert Budget(path=path).spent_usd() == pytest.approx(ONE_CALL_USD)


async def test_at_the_cap_the_offline_rules_can_answer(stand_in):
    stand_in.script(stand_in.message(ANSWER))
    environ = {"ANTHROPIC_API_KEY": "sk-test-0000", "ANTHROPIC_BASE_URL": stand_in.url}
    settings = load_settings(
        environ=environ, budget_usd_per_hour=0.001, budget_fallback="offline", claude_requests_per_minute=MANY
    )
    extractor = create_extractor(settings)
    found = [await extractor.extract((*TURNS, Turn("user", str(index)))) for index in range(4)]
    made = len(stand_in.requests)
    await extractor.close()
    assert {one.nombre for one in found} == {"Irma del Valle"}
    assert 0 < made < 4
    assert [one.made_by is None for one in found] == [True] * made + [False] * (4 - made)
    last = found[-1].made_by
    assert last is not None
    assert last.extractor == "offline-rules-v1"


async def test_calls_under_way_do_not_cause_the_fallback(stand_in):
    stand_in.script(stand_in.message(ANSWER, delay_seconds=0.2))
    environ = {"ANTHROPIC_API_KEY": "sk-test-0000", "ANTHROPIC_BASE_URL": stand_in.url}
    # Ten calls cost 0.00105 USD. The maximum cost of one, about 0.0008 USD, fits twice at the same time.
    settings = load_settings(
        environ=environ, budget_usd_per_hour=0.002, budget_fallback="offline", claude_requests_per_minute=MANY
    )
    extractor = create_extractor(settings)
    waits = 0

    async def read(index: int):
        nonlocal waits
        while True:  # as the enricher's one loop
            try:
                return await extractor.extract((*TURNS, Turn("user", str(index))))
            except BudgetReservedError:
                waits += 1
                await asyncio.sleep(0.1)

    async with asyncio.timeout(60):
        found = await asyncio.gather(*map(read, range(10)))
    await extractor.close()
    assert [one.made_by for one in found] == [None] * 10
    assert len(stand_in.requests) == 10
    assert waits > 0


async def test_a_conversation_over_the_cap_is_refused_and_the_others_continue(stand_in, claude):
    stand_in.script(stand_in.message(ANSWER))
    extractor = claude(stand_in.url, claude_requests_per_minute=MANY, budget_usd_per_hour=0.25, claude_share=0.25)
    longest = [Turn("user", "palabra " * 990) for _ in range(32)]
    with pytest.raises(OverBudgetError, match="NEXUS_BUDGET_USD_PER_HOUR"):
        await extractor.extract(longest)
    assert (await extractor.extract(TURNS)).nombre == "Irma del Valle"
    assert len(stand_in.requests) == 1


async def test_an_impossible_usage_causes_no_long_wait(stand_in, claude):
    """A wrong number from a proxy: a thousand million tokens are half a day of this allowance."""
    nonsense = {"input_tokens": 10**9, "output_tokens": 10**9, "cache_creation_input_tokens": 10**9}
    stand_in.script(stand_in.message(ANSWER, usage=nonsense), stand_in.message(ANSWER))
    limits = {"claude_input_tokens_per_minute": 120_000, "claude_output_tokens_per_minute": 120_000}
    extractor = claude(stand_in.url, claude_requests_per_minute=MANY, **limits)
    async with asyncio.timeout(30):
        for _ in range(3):
            await extractor.extract(TURNS)
    assert len(stand_in.requests) == 3


# --- the deadline of one extraction


async def test_an_extraction_ends_at_its_deadline_even_if_each_call_is_in_time(stand_in, claude):
    slow_and_bad = stand_in.message("{}", delay_seconds=2.5)
    stand_in.script(slow_and_bad)
    extractor = claude(stand_in.url, claude_requests_per_minute=MANY, claude_deadline_seconds=3.0)
    started = time.monotonic()
    (late,) = await failures_of(extractor, 1)
    assert 2.5 < time.monotonic() - started < 4.9
    assert not late.is_general
    assert "DEADLINE" in str(late)
    assert len(stand_in.requests) == 2


async def test_waiting_for_the_first_call_does_not_count_for_the_deadline(stand_in, claude):
    stand_in.script(stand_in.message(ANSWER))
    extractor = claude(stand_in.url, claude_requests_per_minute=60, claude_deadline_seconds=1.5)
    found = await asyncio.gather(*(extractor.extract(TURNS) for _ in range(4)))
    assert [one.nombre for one in found] == ["Irma del Valle"] * 4


# --- the prompt's cache


async def test_the_second_call_reads_the_prompt_from_the_cache(stand_in, claude):
    """OUR stand-in follows the vendor's rule: a marked prefix of 512 tokens or more is cached, a shorter one is not."""
    written: set[str] = set()

    async def counting(request):
        (block,) = (await request.json())["system"]
        tokens = len(block["text"]) // 4  # fewer than any tokenizer makes of this text
        usage = {"input_tokens": 40, "output_tokens": 60}
        if "cache_control" in block and tokens >= 512:
            kind = "cache_read_input_tokens" if block["text"] in written else "cache_creation_input_tokens"
            usage[kind] = tokens
            written.add(block["text"])
        else:
            usage["input_tokens"] += tokens
        return await stand_in.message(ANSWER, usage=usage)(request)

    stand_in.script(counting)
    extractor = claude(stand_in.url)
    first = await extractor.extract(TURNS)
    second = await extractor.extract((*TURNS, Turn("user", "otra cosa")))
    assert first.usage.cache_read_tokens == 0
    assert second.usage.cache_read_tokens > 1000
    assert second.usage.input_tokens == 40
    assert second.usage.cost_usd < first.usage.cost_usd / 2
