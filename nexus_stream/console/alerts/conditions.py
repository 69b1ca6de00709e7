"""Compare the figures with the thresholds, and return the alert conditions that hold. Pure functions.

The figures come from overview.py and include the broker's offsets. The thresholds are the settings ``alert_*``.
alerts/book.py turns lasting conditions into alerts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from nexus_stream.console.reading.overview import Overview, ProcessFigures, RoleFigures
from nexus_stream.settings import Settings

__all__ = ["Alert", "AlertKind", "Thresholds", "alert_conditions", "unable_to_save"]

# With fewer records, a share is meaningless: one failed record of two is no error rate of 50 %.
MIN_RECORDS_FOR_RATE = 10
_BUDGET_SHARE = 0.9
_WAITING_STATES = ("waiting", "stalled", "starting", "recovering", "rebalancing")
# The sink reports this name as its dependency when it cannot save.
DATABASE = "Supabase"


class AlertKind(StrEnum):
    """The kind of an alert. Texts, docs, rules and runbook have an entry for each kind."""

    LAG = "lag"
    ERROR_RATE = "error_rate"
    LATENCY = "latency"
    WAITING = "waiting"
    SILENT = "silent"
    NO_PROGRESS = "no_progress"
    DEAD_LETTERS = "dead_letters"
    PERSISTENCE = "persistence"
    OLD_MESSAGES = "old_messages"
    BUDGET = "budget"
    VIEW_LOST = "view_lost"


@dataclass(frozen=True, slots=True)
class Alert:
    """A condition that holds now, or the alert for it.

    Attributes:
        kind: The kind of alert.
        where: A role, a process id or a budget's period; empty for the whole stream.
        value: The measured value, in the unit of ``threshold``: records, a share, seconds, USD.
        threshold: The limit. The alert fires above it.
        detail: More information, such as the dependency that a process waits for, or the process of a budget.
        is_critical: Whether data is at risk. Otherwise, only time is lost.
        since_ms: The start of the condition, Unix milliseconds; 0 before alerts/book.py has observed it.
    """

    kind: AlertKind
    where: str
    value: float
    threshold: float
    detail: str = ""
    is_critical: bool = False
    since_ms: int = 0

    @property
    def identity(self) -> tuple[AlertKind, str]:
        """Two conditions with this identity are the same alert."""
        return self.kind, self.where


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The limits. A condition holds above its limit."""

    lag_records: float = 100
    error_rate: float = 0.05
    latency_seconds: float = 5.0
    waiting_seconds: float = 30.0
    no_progress_seconds: float = 60.0
    ingestion_oldest_seconds: float = 36 * 3600.0
    enriched_oldest_seconds: float = 84 * 3600.0

    @classmethod
    def of(cls, settings: Settings) -> Thresholds:
        """Return the thresholds of the settings. The age limit of a message is half of its topic's retention."""
        return cls(
            lag_records=settings.alert_lag_records,
            error_rate=settings.alert_error_rate,
            latency_seconds=settings.alert_latency_seconds,
            waiting_seconds=settings.alert_waiting_seconds,
            no_progress_seconds=settings.alert_no_progress_seconds,
            ingestion_oldest_seconds=settings.ingestion_retention_hours * 1800.0,
            enriched_oldest_seconds=settings.enriched_retention_hours * 1800.0,
        )

    def oldest_seconds(self, role: str) -> float:
        """Return the age limit of messages on the topic that the role reads."""
        return self.enriched_oldest_seconds if role == "sink" else self.ingestion_oldest_seconds


def alert_conditions(
    overview: Overview, thresholds: Thresholds, *, stuck_seconds: Mapping[str, float], view_problem: str | None
) -> list[Alert]:
    """Return the conditions that hold now, critical ones first.

    Args:
        overview: The figures.
        thresholds: The limits.
        stuck_seconds: For each role, the time without progress (alerts/progress.py).
        view_problem: The reason why the console cannot follow the broker, or None.
    """
    alerts: list[Alert] = []
    if view_problem is not None:
        alerts.append(Alert(AlertKind.VIEW_LOST, "console", 1, 0, view_problem))
    for role in overview.roles:
        alerts += _of_role(role, thresholds)
        stuck = stuck_seconds.get(role.role, 0.0)
        if stuck > thresholds.no_progress_seconds:
            alerts.append(
                Alert(AlertKind.NO_PROGRESS, role.role, stuck, thresholds.no_progress_seconds, is_critical=True)
            )
    for process in overview.processes:
        alerts += _of_process(process, thresholds)
    for role_name, seconds in overview.absent_seconds.items():
        # The threshold is longer than a deployment. If a missing process already has its own alert, that is enough.
        missed = any(process.role == role_name and process.is_missed for process in overview.processes)
        if seconds > thresholds.waiting_seconds and not missed:
            alerts.append(Alert(AlertKind.SILENT, role_name, seconds, thresholds.waiting_seconds, is_critical=True))
    # One alert for all sinks, because they share one database.
    if failing := unable_to_save(overview):
        longest = max(process.state_seconds + process.silent_seconds for process in failing)
        alerts.append(Alert(AlertKind.PERSISTENCE, "sink", longest, 0, DATABASE, is_critical=True))
    if overview.new_letters:
        alerts.append(
            Alert(AlertKind.DEAD_LETTERS, "", sum(overview.new_letters.values()), 0, _reasons(overview.new_letters))
        )
    alerts += _of_budgets(overview)
    return sorted(alerts, key=lambda alert: not alert.is_critical)


def unable_to_save(overview: Overview) -> list[ProcessFigures]:
    """Return the sinks that wait for the database. If no sink runs, also those that failed because of the database."""
    sinks = [process for process in overview.processes if process.role == "sink"]
    is_running = any(not sink.is_missed for sink in sinks)
    return [
        sink
        for sink in sinks
        if sink.detail == DATABASE
        and ((sink.state == "waiting" and not sink.is_silent) or (sink.state == "failed" and not is_running))
    ]


def _of_budgets(overview: Overview) -> list[Alert]:
    """Return at most one condition per period, for the worker nearest to its cap.

    Each worker has its own part of the caps and stops there, so one worker near its cap is enough.
    """
    alerts = []
    for period in ("hour", "day"):
        near = [
            (standing.spent_usd / standing.cap_usd, process_id, standing)
            for process_id, standing in overview.budgets
            if standing.period == period and standing.spent_usd > _BUDGET_SHARE * standing.cap_usd > 0
        ]
        if near:
            _, process_id, standing = max(near, key=lambda one: one[:2])
            alerts.append(Alert(AlertKind.BUDGET, period, standing.spent_usd, standing.cap_usd, process_id))
    return alerts


def _of_role(role: RoleFigures, thresholds: Thresholds) -> list[Alert]:
    alerts = []
    # Settling is not a delay: the enricher waits on purpose until a chat is quiet.
    if role.late > thresholds.lag_records:
        alerts.append(Alert(AlertKind.LAG, role.role, role.late, thresholds.lag_records))
    if role.finished >= MIN_RECORDS_FOR_RATE and role.error_rate > thresholds.error_rate:
        alerts.append(Alert(AlertKind.ERROR_RATE, role.role, role.error_rate, thresholds.error_rate))
    if role.p95_ms is not None and role.p95_ms > thresholds.latency_seconds * 1000:
        alerts.append(Alert(AlertKind.LATENCY, role.role, role.p95_ms / 1000, thresholds.latency_seconds))
    oldest_seconds = thresholds.oldest_seconds(role.role)
    if role.age_seconds > oldest_seconds:
        alerts.append(Alert(AlertKind.OLD_MESSAGES, role.role, role.age_seconds, oldest_seconds, is_critical=True))
    return alerts


def _of_process(process: ProcessFigures, thresholds: Thresholds) -> list[Alert]:
    if process.is_missed:
        detail = process.detail or "error" if process.state == "failed" else ""
        return [Alert(AlertKind.SILENT, process.process_id, process.silent_seconds, 0, detail, is_critical=True)]
    waits = process.state in _WAITING_STATES and process.state_seconds > thresholds.waiting_seconds
    if waits or process.state == "stalled":
        alert = Alert(
            AlertKind.WAITING,
            process.process_id,
            process.state_seconds,
            thresholds.waiting_seconds,
            process.detail or process.state,
        )
        return [replace(alert, is_critical=process.state == "stalled")]
    return []


def _reasons(letters: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in sorted(letters.items(), key=lambda one: -one[1])[:3])
