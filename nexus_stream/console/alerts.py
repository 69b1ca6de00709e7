"""Which alerts fire. Pure: figures and thresholds in, alerts out; the pages and the API only show them.

From: overview.py. Thresholds: the settings ``alert_*``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from nexus_stream.settings import Settings

if TYPE_CHECKING:
    from nexus_stream.console.overview import ProcessFigures, RoleFigures

__all__ = ["Alert", "AlertKind", "Thresholds", "firing_alerts"]

# Below it a share says nothing: one failed record of two is no rate of 50 %.
MIN_RECORDS_FOR_RATE = 10
_BUDGET_SHARE = 0.9
_WAITING_STATES = ("waiting", "stalled", "starting", "recovering", "rebalancing")


class AlertKind(StrEnum):
    """What an alert is about; texts and docs have an entry for each."""

    LAG = "lag"
    ERROR_RATE = "error_rate"
    LATENCY = "latency"
    WAITING = "waiting"
    SILENT = "silent"
    OLD_MESSAGES = "old_messages"
    BUDGET = "budget"
    VIEW_LOST = "view_lost"


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert that fires now.

    Attributes:
        kind: What it is about.
        where: A role or a process id; empty for the whole.
        value: What is, in the unit of ``threshold``: records, a share, seconds, USD.
        threshold: Above which it fires.
        detail: What is waited for, say.
        is_critical: Whether data is at risk, and not only time.
    """

    kind: AlertKind
    where: str
    value: float
    threshold: float
    detail: str = ""
    is_critical: bool = False


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Above which value what fires."""

    lag_records: float = 100
    error_rate: float = 0.05
    latency_seconds: float = 5.0
    waiting_seconds: float = 30.0
    oldest_seconds: float = 36 * 3600.0

    @classmethod
    def of(cls, settings: Settings) -> Thresholds:
        """The thresholds of the settings; a message may grow half as old as its topic keeps it."""
        return cls(
            lag_records=settings.alert_lag_records,
            error_rate=settings.alert_error_rate,
            latency_seconds=settings.alert_latency_seconds,
            waiting_seconds=settings.alert_waiting_seconds,
            oldest_seconds=settings.ingestion_retention_hours * 1800.0,
        )


def firing_alerts(
    roles: Sequence[RoleFigures],
    processes: Sequence[ProcessFigures],
    thresholds: Thresholds,
    *,
    spent_usd_today: float,
    budget_usd_per_day: float | None,
    view_problem: str | None,
) -> list[Alert]:
    """What fires now, what is critical first.

    Args:
        roles: Figures of each process type.
        processes: Figures of each process.
        thresholds: From the settings.
        spent_usd_today: In the last 24 hours.
        budget_usd_per_day: The cap, if there is one.
        view_problem: What keeps the console from the broker, if anything.
    """
    alerts: list[Alert] = []
    if view_problem is not None:
        alerts.append(Alert(AlertKind.VIEW_LOST, "console", 1, 0, view_problem))
    for role in roles:
        alerts += _of_role(role, thresholds)
    for process in processes:
        alerts += _of_process(process, thresholds)
    if budget_usd_per_day is not None and spent_usd_today > _BUDGET_SHARE * budget_usd_per_day:
        alerts.append(Alert(AlertKind.BUDGET, "", spent_usd_today, budget_usd_per_day))
    return sorted(alerts, key=lambda alert: not alert.is_critical)


def _of_role(role: RoleFigures, thresholds: Thresholds) -> list[Alert]:
    alerts = []
    # Settling is no delay: a chat that is not quiet yet is waited for on purpose.
    late = role.unread + role.overdue
    if late > thresholds.lag_records:
        alerts.append(Alert(AlertKind.LAG, role.role, late, thresholds.lag_records))
    if role.finished >= MIN_RECORDS_FOR_RATE and role.error_rate > thresholds.error_rate:
        alerts.append(Alert(AlertKind.ERROR_RATE, role.role, role.error_rate, thresholds.error_rate))
    if role.p95_ms is not None and role.p95_ms > thresholds.latency_seconds * 1000:
        alerts.append(Alert(AlertKind.LATENCY, role.role, role.p95_ms / 1000, thresholds.latency_seconds))
    if role.age_seconds > thresholds.oldest_seconds:
        alerts.append(
            Alert(AlertKind.OLD_MESSAGES, role.role, role.age_seconds, thresholds.oldest_seconds, is_critical=True)
        )
    return alerts


def _of_process(process: ProcessFigures, thresholds: Thresholds) -> list[Alert]:
    if process.is_silent:
        return [Alert(AlertKind.SILENT, process.process_id, process.silent_seconds, 0, is_critical=True)]
    waits = process.state in _WAITING_STATES and process.state_seconds > thresholds.waiting_seconds
    if waits or process.state == "stalled":
        return [
            Alert(
                AlertKind.WAITING,
                process.process_id,
                process.state_seconds,
                thresholds.waiting_seconds,
                process.detail or process.state,
                is_critical=process.state == "stalled",
            )
        ]
    return []
