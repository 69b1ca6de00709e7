"""The cap in USD is hard, rolling and shared, and survives a restart."""

import asyncio
import json
import logging
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nexus_stream.errors import (
    BudgetExhaustedError,
    BudgetReservedError,
    ConfigurationError,
    OverBudgetError,
    Reason,
)
from nexus_stream.extraction.claude.budget import Budget
from nexus_stream.settings import load_settings

NOON = 1_795_521_600.0  # a whole minute


class Clock:
    now = NOON

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def spend(budget: Budget, usd: float) -> None:
    budget.reserve(usd)
    budget.settle(usd, usd)


async def test_without_a_cap_it_only_counts(clock):
    budget = Budget(now=clock)
    spend(budget, 1e6)
    assert budget.spent_usd() == 1e6
    assert not budget.has_caps


async def test_the_hourly_cap_is_hard_and_the_error_has_the_wait(clock):
    budget = Budget(usd_per_hour=1.0, now=clock)
    spend(budget, 0.6)
    clock.now += 600
    spend(budget, 0.4)
    with pytest.raises(BudgetExhaustedError, match="NEXUS_BUDGET_USD_PER_HOUR") as caught:
        budget.reserve(0.01)
    assert not isinstance(caught.value, BudgetReservedError)
    assert caught.value.is_general
    # Exactly when the 0.6 USD of the minute at noon are more than an hour old.
    assert caught.value.retry_after_seconds == 61 * 60 - 600
    clock.now += caught.value.retry_after_seconds - 1
    with pytest.raises(BudgetExhaustedError):
        budget.reserve(0.01)
    clock.now += 1
    budget.reserve(0.01)


async def test_calls_under_way_count_as_spent(clock):
    budget = Budget(usd_per_hour=1.0, now=clock)
    budget.reserve(0.7)
    with pytest.raises(BudgetReservedError) as caught:
        budget.reserve(0.7)
    assert caught.value.retry_after_seconds == 1.0
    budget.settle(0.7, 0.1)
    budget.reserve(0.7)


async def test_the_cap_is_never_exceeded_for_any_cost_of_calls(clock):
    budget = Budget(usd_per_hour=0.01, now=clock)
    most = spent = 0.0
    for step in range(2000):
        clock.now += 7
        try:
            budget.reserve(0.002)
        except BudgetExhaustedError:
            continue
        budget.settle(0.002, 0.001 + 0.0001 * (step % 7))
        spent += 0.001 + 0.0001 * (step % 7)
        most = max(most, budget.spent_usd(60))
    assert 0.007 < most <= 0.01
    assert spent > 3 * 0.007  # calls continued in each hour


async def test_the_daily_cap_lasts_longer_than_the_hourly_cap(clock):
    budget = Budget(usd_per_hour=1.0, usd_per_day=2.0, now=clock)
    spend(budget, 1.0)
    clock.now += 2 * 3600
    spend(budget, 1.0)
    clock.now += 2 * 3600
    with pytest.raises(BudgetExhaustedError, match="NEXUS_BUDGET_USD_PER_DAY") as caught:
        budget.reserve(0.5)
    assert caught.value.retry_after_seconds == 20 * 3600 + 60


async def test_a_share_is_a_part_of_the_cap(clock):
    budget = Budget(usd_per_hour=1.0, share=0.25, now=clock)
    spend(budget, 0.25)
    with pytest.raises(BudgetExhaustedError):
        budget.reserve(0.001)


@pytest.mark.parametrize(
    ("cap", "variable"), [("usd_per_hour", "NEXUS_BUDGET_USD_PER_HOUR"), ("usd_per_day", "NEXUS_BUDGET_USD_PER_DAY")]
)
async def test_a_call_that_costs_more_than_a_cap_is_refused_for_good(clock, caplog, cap, variable):
    caps = {"usd_per_hour": 1.0, "usd_per_day": 1.0, cap: 0.004}
    budget = Budget(**caps, share=0.25, now=clock)
    with pytest.raises(OverBudgetError, match=f"{variable}.*0.0020.*0.0010") as caught:
        budget.reserve(0.002)
    assert caught.value.reason is Reason.OVER_BUDGET
    # It does not change the budget's state: other calls continue.
    assert caplog.records == []
    budget.reserve(0.001)


async def test_a_cap_below_one_ordinary_call_is_a_configuration_error(clock):
    budget = Budget(usd_per_hour=1.0, usd_per_day=0.004, share=0.25, now=clock)
    budget.require_room_for(0.001)
    with pytest.raises(ConfigurationError, match=r"NEXUS_BUDGET_USD_PER_DAY.*NEXUS_CLAUDE_SHARE"):
        budget.require_room_for(0.0011)


async def test_spending_survives_a_restart(clock, tmp_path):
    path = tmp_path / "data" / "0.budget.json"
    first = Budget(usd_per_hour=1.0, path=path, now=clock)
    spend(first, 0.75)
    first.close()
    clock.now += 1800
    second = Budget(usd_per_hour=1.0, path=path, now=clock)
    assert second.spent_usd(60) == 0.75
    with pytest.raises(BudgetExhaustedError):
        second.reserve(0.5)
    clock.now += 1860
    second.reserve(0.5)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]  # no half-written file is left


async def test_spending_is_written_soon_even_without_an_orderly_end(clock, tmp_path):
    path = tmp_path / "0.budget.json"
    spend(Budget(path=path, now=clock), 0.25)
    await asyncio.sleep(1.2)
    assert list(json.loads(path.read_text())["minutes"].values()) == [0.25]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"minutes": {"x": 1}}', '{"minutes": {"1": null}}'])
async def test_an_unreadable_file_is_reported_and_replaced(clock, tmp_path, caplog, text):
    path = tmp_path / "0.budget.json"
    path.write_text(text)
    budget = Budget(path=path, now=clock)
    assert [record.getMessage() for record in caplog.records] == ["budget_state_unreadable"]
    spend(budget, 0.5)
    budget.close()
    assert Budget(path=path, now=clock).spent_usd() == 0.5


async def test_a_disk_that_cannot_be_written_does_not_stop_the_work(clock, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    budget = Budget(usd_per_hour=1.0, path=tmp_path / "file" / "0.budget.json", now=clock)
    spend(budget, 0.9)
    budget.close()
    assert [record.getMessage() for record in caplog.records][-1] == "budget_state_unwritable"
    with pytest.raises(BudgetExhaustedError):
        budget.reserve(0.2)


async def test_an_exhausted_budget_is_logged_once_and_its_end_once(clock, caplog):
    caplog.set_level(logging.INFO)
    budget = Budget(usd_per_hour=1.0, now=clock)
    spend(budget, 1.0)
    for _ in range(3):
        with pytest.raises(BudgetExhaustedError):
            budget.reserve(0.1)
    clock.now += 2 * 3600
    budget.reserve(0.1)
    budget.reserve(0.1)
    assert [record.getMessage() for record in caplog.records] == ["budget_exhausted", "budget_available"]


async def test_cheap_calls_that_still_fit_do_not_mean_room(clock, caplog):
    caplog.set_level(logging.INFO)
    budget = Budget(usd_per_hour=1.0, now=clock)
    spend(budget, 0.6)
    for _ in range(3):
        with pytest.raises(BudgetExhaustedError):
            budget.reserve(0.5)
        spend(budget, 0.01)
    assert [record.getMessage() for record in caplog.records] == ["budget_exhausted"]
    clock.now += 2 * 3600
    spend(budget, 0.01)
    assert [record.getMessage() for record in caplog.records] == ["budget_exhausted", "budget_available"]


# --- killed

KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from nexus_stream.extraction.claude.budget import Budget

async def main():
    budget = Budget(usd_per_hour=1.0, path=Path(sys.argv[1]), counts_killed=True)
    budget.reserve(0.25)
    budget.settle(0.25, 0.125)
    budget.reserve(0.25)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


def kill_one(path: Path) -> None:
    """Run a worker that is killed right after it spent 0.125 USD, with a call of 0.25 USD under way."""
    command = [sys.executable, "-c", KILLED, str(path)]
    ended = subprocess.run(command, timeout=120, check=False, capture_output=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()


async def test_spending_and_calls_under_way_of_a_killed_worker_count(tmp_path, caplog):
    path = tmp_path / "0.budget.json"
    kill_one(path)
    budget = Budget(usd_per_hour=1.0, path=path, counts_killed=True)
    assert budget.spent_usd(60) == pytest.approx(0.375)
    assert [record.getMessage() for record in caplog.records] == ["budget_killed_calls"]
    budget.close()
    # Counted only once: the amount is spent now, and nothing is under way.
    assert Budget(usd_per_hour=1.0, path=path, counts_killed=True).spent_usd(60) == pytest.approx(0.375)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


async def test_spending_of_a_killed_worker_counts_once_even_without_a_cap(tmp_path):
    path = tmp_path / "slot.budget.json"
    kill_one(path)
    for _ in range(3):
        Budget(path=path, counts_killed=True).close()
    assert Budget(usd_per_hour=1.0, path=path, counts_killed=True).spent_usd(60) == pytest.approx(0.375)


async def test_after_an_orderly_end_nothing_is_under_way_despite_rounding(clock, tmp_path):
    budget = Budget(usd_per_hour=1.0, path=tmp_path / "slot.budget.json", counts_killed=True, now=clock)
    for usd in (0.1, 0.2):
        budget.reserve(usd)
    for usd in (0.1, 0.2):
        budget.settle(usd, 0.0)
    budget.close()
    assert list(tmp_path.glob("*.under-way")) == []


async def test_the_cap_holds_after_many_kills(clock, tmp_path):
    path = tmp_path / "0.budget.json"
    called = 0
    for _ in range(50):
        budget = Budget(usd_per_hour=1.0, path=path, counts_killed=True, now=clock)
        clock.now += 5
        try:
            while True:
                budget.reserve(0.125)
                called += 1
        except BudgetExhaustedError:
            pass
        if budget._save_handle is not None:
            budget._save_handle.cancel()  # as if killed: nothing more is written
    assert called == 8


async def test_a_call_that_ended_is_not_counted_twice_after_a_kill(clock, tmp_path):
    path = tmp_path / "0.budget.json"
    killed = Budget(usd_per_hour=1.0, path=path, counts_killed=True, now=clock)
    spend(killed, 0.25)
    await asyncio.sleep(1.2)  # the file is written by now
    spend(killed, 0.25)
    killed._save_handle.cancel()
    assert Budget(usd_per_hour=1.0, path=path, counts_killed=True, now=clock).spent_usd(60) == pytest.approx(0.5)


async def test_an_unreadable_under_way_file_is_ignored(clock, tmp_path):
    (tmp_path / "0.budget.under-way").write_text("?")
    assert Budget(usd_per_hour=1.0, path=tmp_path / "0.budget.json", counts_killed=True, now=clock).spent_usd() == 0


async def test_old_minutes_are_deleted(clock, tmp_path):
    path = tmp_path / "0.budget.json"
    budget = Budget(path=path, now=clock)
    for _ in range(3 * 24 * 60):
        clock.now += 60
        spend(budget, 0.001)
    budget.close()
    assert len(json.loads(path.read_text())["minutes"]) == 24 * 60 + 1


@pytest.mark.parametrize(
    ("cap", "needed"), [("NEXUS_BUDGET_USD_PER_HOUR", "3600"), ("NEXUS_BUDGET_USD_PER_DAY", "86400")]
)
def test_the_poll_interval_must_allow_a_wait_at_the_cap(cap, needed):
    too_short = {cap: "1", "NEXUS_KAFKA_MAX_POLL_INTERVAL_SECONDS": str(int(needed) - 1)}
    with pytest.raises(ConfigurationError, match="NEXUS_KAFKA_MAX_POLL_INTERVAL_SECONDS") as caught:
        load_settings(environ=too_short)
    assert needed in str(caught.value)
    load_settings(environ={**too_short, "NEXUS_KAFKA_MAX_POLL_INTERVAL_SECONDS": needed})
    load_settings(environ={**too_short, "NEXUS_BUDGET_FALLBACK": "offline"})
