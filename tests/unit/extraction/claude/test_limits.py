"""The allowance is spent evenly, shared, learned, corrected and given back. Tested in real time, within seconds."""

import asyncio
import time

import pytest

from nexus_stream.extraction.claude.limits import UNKNOWN_REQUESTS_PER_MINUTE, Allowance, CallWeight, ClaudeLimits

LIGHT = CallWeight(0, 0)


async def seconds_for(takes: int, allowance: Allowance, amount: float = 1) -> float:
    started = time.monotonic()
    for _ in range(takes):
        await allowance.take(amount)
    return time.monotonic() - started


async def test_a_rate_is_spent_evenly_and_never_in_a_burst():
    allowance = Allowance(per_minute=1200)  # 20 a second: five at once, then one every 50 ms
    assert await seconds_for(5, allowance) < 0.3
    assert 0.25 < await seconds_for(10, allowance) < 5


async def test_an_amount_over_the_bucket_waits_its_whole_time():
    allowance = Allowance(per_minute=60_000)  # 1,000 a second, 250 at once
    assert 0.4 < await seconds_for(1, allowance, 750) < 5


async def test_without_a_limit_nothing_waits():
    assert await seconds_for(1000, Allowance(None), 1e9) < 5


async def test_too_low_an_estimate_is_paid_by_the_next_call():
    allowance = Allowance(per_minute=60_000)
    await allowance.take(10)
    allowance.correct(taken=10, used=510)
    assert 0.1 < await seconds_for(1, allowance, 10) < 5


async def test_too_high_an_estimate_is_credited():
    allowance = Allowance(per_minute=60_000)
    await allowance.take(600)
    allowance.correct(taken=600, used=0)
    assert await seconds_for(2, allowance, 300) < 0.25
    assert 0.05 < await seconds_for(1, allowance, 300) < 5


async def test_a_new_rate_applies_to_a_waiting_call():
    allowance = Allowance(per_minute=1)
    await allowance.take(1)
    waiting = asyncio.create_task(allowance.take(1))
    await asyncio.sleep(0.05)
    allowance.set_rate(6000)
    await asyncio.wait_for(waiting, 10)
    waiting = asyncio.create_task(allowance.take(100_000))
    await asyncio.sleep(0.05)
    allowance.set_rate(None)
    await asyncio.wait_for(waiting, 10)


async def test_a_cancelled_wait_takes_nothing():
    limits = ClaudeLimits(requests_per_minute=60)  # one a second; what was taken too much would cost one more
    await limits.take(LIGHT)
    waiting = asyncio.create_task(limits.take(LIGHT))
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    started = time.monotonic()
    await limits.take(LIGHT)
    assert time.monotonic() - started < 1.8


async def test_a_call_cancelled_at_the_tokens_gives_its_request_back():
    limits = ClaudeLimits(requests_per_minute=60, input_tokens_per_minute=60_000)  # one request a second
    waiting = asyncio.create_task(limits.take(CallWeight(1000, 0)))
    await asyncio.sleep(0.05)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    started = time.monotonic()
    await limits.take(LIGHT)
    assert time.monotonic() - started < 0.9


async def test_calls_pass_in_order_of_arrival_for_any_weight():
    limits = ClaudeLimits(requests_per_minute=60_000, input_tokens_per_minute=60_000)
    order: list[str] = []

    async def one(name: str, tokens: int) -> None:
        await limits.take(CallWeight(tokens, 0))
        order.append(name)

    await asyncio.gather(one("long", 600), one("short", 1), one("longer", 300), one("shortest", 0))
    assert order == ["long", "short", "longer", "shortest"]


async def test_a_hold_stops_all_calls_until_it_ends():
    limits = ClaudeLimits(requests_per_minute=60_000)
    limits.hold(0.3)
    limits.hold(0.1)  # a shorter hold does not end it
    started = time.monotonic()
    await asyncio.gather(*(limits.take(LIGHT) for _ in range(5)))
    assert 0.2 < time.monotonic() - started < 5


def test_before_the_first_answer_it_assumes_the_smallest_account():
    assert ClaudeLimits().requests_per_minute == UNKNOWN_REQUESTS_PER_MINUTE
    assert ClaudeLimits(share=0.5).requests_per_minute == UNKNOWN_REQUESTS_PER_MINUTE / 2


@pytest.mark.parametrize(
    ("configured", "header", "share", "expected"),
    [
        (None, "1000", 1.0, 1000),
        (None, "1000", 0.25, 250),
        (500, "1000", 1.0, 500),  # the setting is a cap
        (2000, "1000", 1.0, 1000),  # the account's limit is a cap too
        (None, "0", 1.0, UNKNOWN_REQUESTS_PER_MINUTE),
        (None, "many", 1.0, UNKNOWN_REQUESTS_PER_MINUTE),
    ],
)
async def test_limits_are_learned_from_headers(configured, header, share, expected):
    limits = ClaudeLimits(requests_per_minute=configured, share=share)
    limits.learn({"anthropic-ratelimit-requests-limit": header}, answered=False)
    assert limits.requests_per_minute == expected


async def test_a_server_without_limit_headers_has_no_limits():
    limits = ClaudeLimits()
    limits.learn({"content-type": "application/json"}, answered=False)  # an error page has no limits
    assert limits.requests_per_minute == UNKNOWN_REQUESTS_PER_MINUTE
    limits.learn({"content-type": "application/json"}, answered=True)
    assert limits.requests_per_minute is None
    configured = ClaudeLimits(requests_per_minute=7)
    configured.learn({}, answered=True)
    assert configured.requests_per_minute == 7


async def test_a_learned_token_limit_is_kept():
    limits = ClaudeLimits(requests_per_minute=60_000)
    limits.learn({"anthropic-ratelimit-output-tokens-limit": "60000"}, answered=True)
    started = time.monotonic()
    await limits.take(CallWeight(0, 500))
    assert 0.1 < time.monotonic() - started < 5
