"""A worker's report on the status topic."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import NamedTuple

from nexus_stream import __version__
from nexus_stream.contracts.status import BudgetStanding, Latency, ProcessRole, ProcessState, ProcessStatus
from nexus_stream.delivery.stage import Stage
from nexus_stream.observability.lag import StageLag
from nexus_stream.observability.metrics_reading import ignored_by_field
from nexus_stream.observability.outcomes import counted_dead_letters, counted_outcomes
from nexus_stream.observability.status import StateClock, StatusReport, host_name
from nexus_stream.settings import Settings


def stage_status(
    settings: Settings,
    role: ProcessRole,
    key: str,
    stage: Stage,
    not_running_because: Callable[[], str | None],
    lag: StageLag,
    budgets: Callable[[], Iterable[BudgetStanding]] = tuple,
) -> StatusReport:
    """Make the function that reports a worker's status.

    Args:
        settings: Broker, budget.
        role: The worker's role.
        key: The process id.
        stage: The worker's stage.
        not_running_because: Why the worker does not process now; None if it does.
        lag: The stage's lag.
        budgets: This worker's caps on spending on Claude, and the money spent.
    """
    started_at_ms = stage.clock.time_ms()
    state = StateClock()

    async def report() -> ProcessStatus:
        now_ms, now = stage.clock.time_ms(), stage.clock.monotonic()
        found = state_of(stage, not_running_because())
        state.note(found.state, found.detail, now_ms, found.since_ms)
        p50, p95 = stage.facts.percentiles((0.5, 0.95), since=now - settings.alert_window_seconds)
        reads = settings.use_claude and role == "enricher"
        return ProcessStatus(
            process_id=key,
            role=role,
            version=__version__,
            host=host_name(),
            pid=os.getpid(),
            state=state.state,
            detail=state.detail,
            since_ms=state.since_ms,
            started_at_ms=started_at_ms,
            updated_at_ms=now_ms,
            partitions=lag.partitions(),
            lag_known=lag.is_known,
            outcomes=counted_outcomes(role),
            dead_letters=counted_dead_letters(role),
            placeholder_ids=ignored_by_field(stage.facts.ignored),
            latency=Latency.of_seconds(p50, p95),
            input_tokens=stage.facts.input_tokens,
            output_tokens=stage.facts.output_tokens,
            cost_usd=stage.facts.cost_usd,
            budget_usd_per_day=settings.budget_usd_per_day if reads else None,
            budgets=tuple(budgets()),
        )

    return report


class FoundState(NamedTuple):
    """A state, its explanation, and its start (Unix milliseconds) if known."""

    state: ProcessState
    detail: str | None = None
    since_ms: int | None = None


def state_of(stage: Stage, reason: str | None) -> FoundState:
    """The state of a worker.

    Args:
        stage: The worker's stage.
        reason: Why the worker does not process now; None if it does, or waits.
    """
    waiting_for = stage.waiting_for
    if reason is None and waiting_for is not None:
        return FoundState("waiting", *waiting_for)
    if reason is None:
        return FoundState("running")
    if reason.startswith("no progress"):
        # Without the seconds: each new number would count as a new state.
        return FoundState("stalled", "no progress although there is something to read")
    if reason in {"stopping", "rebalancing"}:
        return FoundState("stopping" if reason == "stopping" else "rebalancing")
    if reason.startswith("recovering"):
        return FoundState("recovering")
    return FoundState("starting", reason)
