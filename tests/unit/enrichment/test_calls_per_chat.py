"""What one chat costs, however its site posts it: the user's words are paid for once."""

from __future__ import annotations

from collections.abc import AsyncIterator

import orjson
import pytest

from nexus_stream.settings import load_settings
from tests.unit.enrichment.site_patterns import PATTERNS, Post, each_token, submit_and_finish, window_of_10
from tests.unit.enrichment.test_stage import Bench

THINK_SECONDS = {"quick": 3.0, "slow": 30.0}


@pytest.fixture(params=[(10, 60), (2, 10), (0, 0)], ids=["default", "dev", "no-settling"])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    settle, most = request.param
    one = Bench(load_settings(environ={}, topic_partitions=1, settle_seconds=settle, max_wait_seconds=most))
    await one.start()
    yield one
    await one.crash()


async def post_all(bench: Bench, posts: list[Post]) -> None:
    now = 0.0
    for at, messages in posts:
        await bench.clock.advance(max(at - now, 0.001))
        now = at
        await bench.post_bytes(orjson.dumps({"messages": messages, "sessionId": "s-1", "fingerprint": "fp-1"}))
    await bench.clock.advance(100)


@pytest.mark.parametrize("think", THINK_SECONDS)
@pytest.mark.parametrize("pattern", PATTERNS)
async def test_a_chat_costs_at_most_one_call_for_each_user_turn(bench: Bench, pattern: str, think: str):
    posts = PATTERNS[pattern](8, THINK_SECONDS[think])
    await post_all(bench, posts)
    assert 1 <= len(bench.extractor.calls) <= 8
    if think == "slow":
        # Each user turn is read when it has settled.
        assert len(bench.extractor.calls) == 8
    last = bench.enriched()[-1]
    assert last["prospect"]["nombre"] == "Carlos Ruiz"
    # The last record has the facts of the last snapshot, also where nothing was paid for it.
    assert last["conversation"]["turns"] == len(posts[-1][1])
    assert bench.letters() == []
    assert bench.broker.committed["nexus-prospect-ingestion", 0] == len(posts)


@pytest.mark.parametrize("think", THINK_SECONDS)
async def test_posting_each_token_costs_no_more_than_posting_on_submit_and_finish(bench: Bench, think: str):
    await post_all(bench, submit_and_finish(3, THINK_SECONDS[think]))
    fewer = len(bench.extractor.calls)
    bench.extractor.calls.clear()
    other = Bench(bench.settings)
    await other.start()
    try:
        await post_all(other, each_token(3, THINK_SECONDS[think]))
        assert len(other.extractor.calls) <= fewer
    finally:
        await other.crash()


async def test_six_turns_posted_at_each_token_are_at_most_two_calls():
    bench = Bench(load_settings(environ={}, topic_partitions=1))
    await bench.start()
    try:
        await post_all(bench, each_token(3, 5.0))
        assert len(bench.extractor.calls) <= 2
        assert len(bench.enriched()) <= 2
    finally:
        await bench.crash()


async def test_an_answer_that_grows_is_one_call_and_at_most_two_records(bench: Bench):
    question = {"role": "user", "content": "me llamo Carlos Ruiz, que planes hay?"}
    answer = "x" * 170
    posts: list[Post] = [
        (number * 0.12, [question, {"role": "assistant", "content": answer + "y" * 8 * number}]) for number in range(20)
    ]
    await post_all(bench, [(0.0, [question]), *posts])
    assert len(bench.extractor.calls) == 1
    assert len(bench.enriched()) <= 2
    assert bench.enriched()[-1]["conversation"]["turns"] == 2


async def test_a_window_that_slides_before_anything_was_read_loses_no_word(bench: Bench):
    """The name stands in a turn that the site had cut off when the chat settled."""
    posts = [(at / 100, messages) for at, messages in window_of_10(8, 0.0)]
    await post_all(bench, posts)
    assert bench.enriched()[-1]["prospect"]["nombre"] == "Carlos Ruiz"
    read = {turn.content for call in bench.extractor.calls for turn in call if turn.role == "user"}
    assert len(read) == 8
