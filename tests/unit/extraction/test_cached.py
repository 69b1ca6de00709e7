"""Equal turns are extracted once, and the budget's fallback labels its answers."""

import asyncio

import pytest

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
from nexus_stream.extraction.extractor import Extractor, Findings, MadeBy, Turn
from nexus_stream.extraction.fallback import Fallback
from nexus_stream.extraction.rules.extractor import OfflineRules
from nexus_stream.testing.extractor import ScriptedExtractor

TURNS = (Turn("user", "me llamo Carlos Ruiz"),)
OTHER = (Turn("user", "me llamo Ana Paz"),)


def cached_over(behind: Extractor) -> CachedExtractor:
    return CachedExtractor(behind, MemoryCache(max_entries=100, ttl_seconds=60))


async def test_the_second_answer_is_reused_and_marked_as_cached():
    behind = ScriptedExtractor()
    cached = cached_over(behind)
    first, second = await cached.extract(TURNS), await cached.extract(list(TURNS))
    assert len(behind.calls) == 1
    assert (first.cached, second.cached) == (False, True)
    assert (first.nombre, first.signals) == (second.nombre, second.signals)
    assert first.usage.cost_usd > 0
    assert (second.usage.cost_usd, second.usage.input_tokens) == (0.0, 0)
    assert cached.labels == behind.labels


async def test_equal_turns_at_the_same_time_are_one_call():
    behind = ScriptedExtractor()
    behind.gate.clear()
    cached = cached_over(behind)
    asked = [asyncio.create_task(cached.extract(TURNS)) for _ in range(20)]
    other = asyncio.create_task(cached.extract(OTHER))
    await asyncio.sleep(0.01)
    behind.gate.set()
    found = await asyncio.gather(*asked)
    assert (await other).nombre == "Ana Paz"
    assert len(behind.calls) == 2
    # The call is paid once and counted once.
    assert sorted(one.cached for one in found) == [False] + [True] * 19
    assert sum(one.usage.cost_usd for one in found) == found[0].usage.cost_usd


async def test_one_caller_that_gives_up_does_not_cancel_the_others():
    behind = ScriptedExtractor()
    behind.gate.clear()
    cached = cached_over(behind)
    first, second = (asyncio.create_task(cached.extract(TURNS)) for _ in range(2))
    await asyncio.sleep(0.01)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    behind.gate.set()
    assert (await second).nombre == "Carlos Ruiz"
    assert len(behind.calls) == 1


async def test_when_all_callers_give_up_the_call_ends_and_the_next_caller_starts_a_new_one():
    behind = ScriptedExtractor()
    behind.gate.clear()
    cached = cached_over(behind)
    asked = [asyncio.create_task(cached.extract(TURNS)) for _ in range(2)]
    await asyncio.sleep(0.01)
    for task in asked:
        task.cancel()
    again = asyncio.create_task(cached.extract(TURNS))  # before the cancelled call has ended
    await asyncio.gather(*asked, return_exceptions=True)
    behind.gate.set()
    assert (await asyncio.wait_for(again, 5)).nombre == "Carlos Ruiz"


@pytest.mark.parametrize(
    "error",
    [ModelUnavailableError("529"), ModelRefusedError("no", reason=Reason.MODEL_REFUSED)],
    ids=["later", "never"],
)
async def test_a_failure_reaches_all_callers_and_is_not_cached(error):
    failing = True

    def script(turns):
        if failing:
            raise error

    behind = ScriptedExtractor(script)
    cached = cached_over(behind)
    results = await asyncio.gather(*(cached.extract(TURNS) for _ in range(3)), return_exceptions=True)
    assert results == [error] * 3
    assert len(behind.calls) == 1
    failing = False
    assert not (await cached.extract(TURNS)).cached


async def test_a_caller_in_the_moment_a_call_ends_makes_its_own_call():
    """A call that was not wanted used to answer this caller too, each time at once: the event loop stood for ever."""
    asks_again = asyncio.get_running_loop().create_future()

    def script(turns):
        if not asks_again.done():
            # The other caller goes on before the callbacks of this call.
            asks_again.set_result(None)
            raise NotWantedError("revoked")

    behind = ScriptedExtractor(script)
    cached = cached_over(behind)

    async def ask_in_that_moment() -> Findings:
        await asks_again
        return await cached.extract(TURNS)

    other = asyncio.create_task(ask_in_that_moment())
    await asyncio.sleep(0)
    with pytest.raises(NotWantedError):
        await cached.extract(TURNS)
    found = await other
    assert (found.nombre, found.cached) == ("Carlos Ruiz", False)
    assert len(behind.calls) == 2


def exhausted(turns):
    raise BudgetExhaustedError("spent", retry_after_seconds=60)


async def test_at_the_cap_the_offline_rules_answer_with_their_own_label():
    extractor = Fallback(cached_over(ScriptedExtractor(exhausted)), OfflineRules(), at_cap=True)
    found = await extractor.extract(TURNS)
    assert found.nombre == "Carlos Ruiz"
    assert found.made_by == MadeBy("offline-rules-v1")
    assert not found.cached
    assert extractor.labels == MadeBy("claude", "scripted", "scripted-v1")
    await extractor.close()


async def test_a_conversation_over_the_cap_is_read_by_the_rules():
    def over_cap(turns):
        raise OverBudgetError("more than the cap")

    found = await Fallback(ScriptedExtractor(over_cap), OfflineRules(), at_cap=True).extract(TURNS)
    assert found.made_by == MadeBy("offline-rules-v1")


async def test_calls_under_way_do_not_cause_the_fallback():
    def reserved(turns):
        raise BudgetReservedError("reserved", retry_after_seconds=1)

    with pytest.raises(BudgetReservedError):
        await Fallback(ScriptedExtractor(reserved), OfflineRules(), at_cap=True).extract(TURNS)


async def test_an_answer_of_the_rules_is_not_cached():
    spent = True

    def script(turns):
        if spent:
            exhausted(turns)

    extractor = Fallback(cached_over(ScriptedExtractor(script)), OfflineRules(), at_cap=True)
    await extractor.extract(TURNS)
    spent = False
    found: Findings = await extractor.extract(TURNS)
    assert (found.made_by, found.cached) == (None, False)


async def test_other_failures_are_raised():
    def down(turns):
        raise ModelUnavailableError("529")

    with pytest.raises(ModelUnavailableError):
        await Fallback(ScriptedExtractor(down), OfflineRules(), at_cap=True).extract(TURNS)
