from __future__ import annotations

from typing import Any, Literal

import pytest

from nexus_stream.console.alerts.conditions import MIN_RECORDS_FOR_RATE, Alert, AlertKind, Thresholds, alert_conditions
from nexus_stream.console.reading.overview import SILENT_SECONDS, Overview, ProcessFigures, RoleFigures
from nexus_stream.contracts.status import BudgetStanding
from nexus_stream.settings import Settings

THRESHOLDS = Thresholds()


def role(**values: Any) -> RoleFigures:
    base: dict[str, Any] = {
        "role": "enricher",
        "running": 1,
        "per_second": 1.0,
        "finished": 1000,
        "failed": 0,
        "p50_ms": 10.0,
        "p95_ms": 50.0,
        "unread": 0,
        "settling": 0,
        "overdue": 0,
        "age_seconds": 0.0,
        "states": ("running",),
    }
    return RoleFigures(**(base | values))


def process(**values: Any) -> ProcessFigures:
    base: dict[str, Any] = {
        "process_id": "enricher-a",
        "role": "enricher",
        "state": "running",
        "detail": None,
        "state_seconds": 1000.0,
        "silent_seconds": 1.0,
        "version": "1",
        "host": "h",
        "pid": 1,
        "started_at_ms": 0,
        "p50_ms": None,
        "p95_ms": None,
        "partitions": (),
        "outcomes": {},
    }
    return ProcessFigures(**(base | values))


def firing(
    roles: list[RoleFigures] | None = None,
    processes: list[ProcessFigures] | None = None,
    thresholds: Thresholds = THRESHOLDS,
    **values: Any,
) -> list[Alert]:
    asked = {"stuck_seconds": values.pop("stuck_seconds", {}), "view_problem": values.pop("view_problem", None)}
    base: dict[str, Any] = {
        "roles": tuple(roles or ()),
        "processes": tuple(processes or ()),
        "sessions": 0,
        "open_letters": 0,
        "new_letters": {},
        "emitted_today": 0,
        "tokens_today": 0,
        "usd_today": 0.0,
        "budget_usd_per_day": None,
    }
    return alert_conditions(Overview(**(base | values)), thresholds, **asked)


def kinds(alerts: list[Alert]) -> list[AlertKind]:
    return [alert.kind for alert in alerts]


def test_good_figures_give_no_condition() -> None:
    assert firing([role()], [process()]) == []


@pytest.mark.parametrize(
    ("values", "fires"),
    [
        ({"unread": 100}, False),
        ({"unread": 101}, True),
        ({"unread": 60, "overdue": 41}, True),
        # Settling is not a delay, even with many open chats.
        ({"settling": 100_000}, False),
    ],
)
def test_lag_is_unread_and_overdue_above_the_threshold(values: dict[str, int], fires: bool) -> None:
    assert (kinds(firing([role(**values)])) == [AlertKind.LAG]) is fires


@pytest.mark.parametrize(
    ("finished", "failed", "fires"),
    [(1000, 50, False), (1000, 51, True), (MIN_RECORDS_FOR_RATE - 1, 5, False), (MIN_RECORDS_FOR_RATE, 5, True),
     (0, 0, False)],
)  # fmt: skip
def test_error_rate_above_the_threshold_with_enough_records(finished: int, failed: int, fires: bool) -> None:
    alerts = firing([role(finished=finished, failed=failed)])
    assert (kinds(alerts) == [AlertKind.ERROR_RATE]) is fires


@pytest.mark.parametrize(("p95_ms", "fires"), [(5000.0, False), (5000.1, True), (None, False)])
def test_latency_above_the_threshold(p95_ms: float | None, fires: bool) -> None:
    alerts = firing([role(p95_ms=p95_ms)])
    assert (kinds(alerts) == [AlertKind.LATENCY]) is fires
    assert not fires or (alerts[0].value, alerts[0].threshold) == (pytest.approx(5.0001), 5.0)


def test_a_silent_process_is_critical_and_comes_first() -> None:
    silent = process(silent_seconds=SILENT_SECONDS + 1, state="waiting")
    alerts = firing([role(unread=1000)], [silent])
    assert kinds(alerts) == [AlertKind.SILENT, AlertKind.LAG]
    assert alerts[0].is_critical
    assert alerts[0].where == "enricher-a"


@pytest.mark.parametrize(
    ("state", "seconds", "fires"),
    [("waiting", 29.0, False), ("waiting", 31.0, True), ("recovering", 31.0, True), ("stalled", 0.0, True),
     ("running", 1e6, False), ("stopping", 1e6, False)],
)  # fmt: skip
def test_a_process_that_waits_for_long_or_stalls(state: str, seconds: float, fires: bool) -> None:
    alerts = firing([], [process(state=state, state_seconds=seconds, detail="claude")])
    assert (kinds(alerts) == [AlertKind.WAITING]) is fires
    assert not fires or alerts[0].detail == "claude"


def test_messages_half_as_old_as_the_topic_keeps_them_are_critical() -> None:
    thresholds = Thresholds.of(Settings(ingestion_retention_hours=72))
    assert firing([role(age_seconds=36 * 3600.0)], thresholds=thresholds) == []
    (alert,) = firing([role(age_seconds=36 * 3600.0 + 1)], thresholds=thresholds)
    assert (alert.kind, alert.is_critical) == (AlertKind.OLD_MESSAGES, True)


def budget(period: Literal["hour", "day"], spent_usd: float, cap_usd: float, worker: str = "a") -> Any:
    return f"enricher-{worker}", BudgetStanding(period=period, cap_usd=cap_usd, spent_usd=spent_usd)


@pytest.mark.parametrize("period", ["hour", "day"])
@pytest.mark.parametrize(("spent", "fires"), [(8.9, False), (9.1, True), (10.0, True)])
def test_budget_nearly_spent(period: Literal["hour", "day"], spent: float, fires: bool) -> None:
    alerts = firing(budgets=(budget(period, spent, 10.0),))
    assert ([(alert.kind, alert.where) for alert in alerts] == [(AlertKind.BUDGET, period)]) is fires


def test_a_worker_near_its_own_part_of_the_budget_is_enough() -> None:
    # Two workers with a quarter of 5 USD each: both together can never spend nine tenths of the 5.
    alerts = firing(
        budgets=(budget("day", 0.2, 1.25, "a"), budget("day", 1.2, 1.25, "b")), usd_today=1.4, budget_usd_per_day=5.0
    )
    (alert,) = alerts
    assert (alert.where, alert.value, alert.threshold, alert.detail) == ("day", 1.2, 1.25, "enricher-b")


def test_spending_of_others_does_not_count_against_the_cap() -> None:
    assert firing(usd_today=5.0, budget_usd_per_day=5.0, budgets=(budget("day", 0.1, 5.0),)) == []


def test_budgets_of_hour_and_day_are_two_alerts() -> None:
    alerts = firing(budgets=(budget("hour", 2.0, 2.0), budget("day", 9.5, 10.0)))
    assert [(alert.where, alert.value, alert.threshold) for alert in alerts] == [("hour", 2.0, 2.0), ("day", 9.5, 10.0)]


@pytest.mark.parametrize(("seconds", "fires"), [(30.0, False), (30.1, True)])
def test_a_process_type_that_is_absent_for_longer_than_a_deployment(seconds: float, fires: bool) -> None:
    alerts = firing(absent_seconds={"gateway": seconds})
    found = [(alert.kind, alert.where, alert.value, alert.threshold, alert.is_critical) for alert in alerts]
    assert found == ([(AlertKind.SILENT, "gateway", seconds, 30.0, True)] if fires else [])


def test_a_type_with_a_named_dead_process_is_reported_once() -> None:
    dead = process(process_id="sink-a", role="sink", silent_seconds=60.0)
    alerts = firing([], [dead], absent_seconds={"sink": 60.0, "gateway": 60.0})
    assert [alert.where for alert in alerts] == ["sink-a", "gateway"]


def test_a_process_that_ended_by_an_error_is_missed_at_once() -> None:
    (alert,) = firing([], [process(state="failed", detail="StalledError", silent_seconds=0.5)])
    assert (alert.kind, alert.where, alert.detail) == (AlertKind.SILENT, "enricher-a", "StalledError")


@pytest.mark.parametrize(("seconds", "fires"), [(60.0, False), (60.1, True)])
def test_no_progress_for_longer_than_the_threshold(seconds: float, fires: bool) -> None:
    alerts = firing([role()], stuck_seconds={"enricher": seconds})
    assert (kinds(alerts) == [AlertKind.NO_PROGRESS]) is fires
    assert not fires or (alerts[0].where, alerts[0].is_critical) == ("enricher", True)


def test_any_new_dead_letter_is_reported_with_its_reasons() -> None:
    (alert,) = firing(new_letters={"not_json": 2, "row_rejected": 5})
    assert (alert.kind, alert.value, alert.detail) == (AlertKind.DEAD_LETTERS, 7, "row_rejected 5, not_json 2")


@pytest.mark.parametrize(
    ("values", "fires"),
    [
        ({"state": "waiting", "detail": "Supabase"}, True),
        ({"state": "waiting", "detail": "broker"}, False),
        ({"state": "running"}, False),
        ({"role": "enricher", "state": "waiting", "detail": "Supabase"}, False),
        ({"state": "waiting", "detail": "Supabase", "silent_seconds": 60.0}, False),
        # The sink failed because the database refuses it: nothing is saved until an operator acts.
        ({"state": "failed", "detail": "Supabase", "silent_seconds": 60.0}, True),
        ({"state": "failed", "detail": "AccessDeniedError"}, False),
    ],
)
def test_a_sink_that_cannot_save_is_reported_at_once(values: dict[str, Any], fires: bool) -> None:
    sinks = [process(**({"role": "sink", "process_id": name, "state_seconds": 1.0} | values)) for name in ("a", "b")]
    found = [alert for alert in firing([], sinks) if alert.kind is AlertKind.PERSISTENCE]
    # One alert for one database, however many sinks wait for it.
    assert [alert.where for alert in found] == (["sink"] if fires else [])


@pytest.mark.parametrize(
    ("other", "fires"),
    [
        ({"state": "running"}, False),
        ({"state": "waiting", "detail": "Supabase"}, True),
        # None of these processes saves rows.
        ({"state": "running", "silent_seconds": 60.0}, True),
        ({"state": "failed", "detail": "StalledError"}, True),
        ({"role": "enricher", "state": "running"}, True),
    ],
)
def test_a_refused_sink_is_no_lost_persistence_while_another_saves(other: dict[str, Any], fires: bool) -> None:
    refused = process(role="sink", process_id="sink-a", state="failed", detail="Supabase")
    alerts = firing([], [refused, process(**({"role": "sink", "process_id": "sink-b"} | other))])
    assert (AlertKind.PERSISTENCE in kinds(alerts)) is fires
    # The process counts as missing anyway.
    assert (AlertKind.SILENT, "sink-a") in [alert.identity for alert in alerts]


def test_the_sinks_topic_has_a_retention_of_its_own() -> None:
    thresholds = Thresholds.of(Settings(ingestion_retention_hours=2, enriched_retention_hours=10))
    alerts = firing([role(age_seconds=4000.0), role(role="sink", age_seconds=4000.0)], thresholds=thresholds)
    assert [(alert.kind, alert.where) for alert in alerts] == [(AlertKind.OLD_MESSAGES, "enricher")]


def test_a_view_with_a_problem_is_a_condition() -> None:
    (alert,) = firing(view_problem="broker_unreachable")
    assert (alert.kind, alert.detail) == (AlertKind.VIEW_LOST, "broker_unreachable")


def test_thresholds_come_from_the_settings() -> None:
    settings = Settings(alert_lag_records=7, alert_error_rate=0.5, alert_latency_seconds=2.0, alert_waiting_seconds=9.0)
    thresholds = Thresholds.of(settings)
    assert kinds(firing([role(unread=8)], thresholds=thresholds)) == [AlertKind.LAG]
    assert (thresholds.error_rate, thresholds.latency_seconds, thresholds.waiting_seconds) == (0.5, 2.0, 9.0)
