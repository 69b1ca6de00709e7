"""The figures of the whole stream: state of each process type, rates, lag and cost.

From: tables ``processes``, ``samples``, ``usage_hours``, ``letters``, and the groups' offsets (lag_monitor.py). The
alerts, the overview page and the API use them.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from nexus_stream.console.index.processes import BUCKET_MS, ROLES
from nexus_stream.console.reading.queries import reading
from nexus_stream.contracts.status import BudgetStanding, PartitionLag, ProcessStatus
from nexus_stream.kafka.group_offsets import GroupStanding

__all__ = ["ROLES", "Overview", "OverviewQueries", "ProcessFigures", "RoleFigures", "Series"]

# After five missed reports, a process's figures are out of date.
SILENT_SECONDS = 10.0
# A silent process is shown for this time. A process that was already silent for longer begins no alert. An alert that
# already fires continues.
FORGOTTEN_SECONDS = 24 * 3600.0
_RATE_WINDOW_MS = 60_000
_DAY_MS = 24 * 3_600_000
_MAX_POINTS = 400
# The interval between two reports of a process.
_REPORT_MS = 2000
_NO_STANDINGS: Mapping[str, GroupStanding | None] = {}


@dataclass(frozen=True, slots=True)
class ProcessFigures:
    """One process, according to its last report."""

    process_id: str
    role: str
    state: str
    detail: str | None
    state_seconds: float
    silent_seconds: float
    version: str
    host: str
    pid: int
    started_at_ms: int
    p50_ms: float | None
    p95_ms: float | None
    partitions: tuple[PartitionLag, ...]
    outcomes: Mapping[str, int]
    lag_known: bool = True
    placeholder_ids: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_silent(self) -> bool:
        """Whether the last report is too old."""
        return self.silent_seconds > SILENT_SECONDS

    @property
    def is_missed(self) -> bool:
        """Whether the process is silent or has failed. Its figures are then no longer valid."""
        return self.is_silent or self.state == "failed"


@dataclass(frozen=True, slots=True)
class RoleFigures:
    """The figures of all running processes of one type. Rates cover the last minute, errors the alerts' window.

    Lag and age come from the processes' reports. For a partition without a report, they come from the broker.
    """

    role: str
    running: int
    per_second: float
    finished: int
    failed: int
    p50_ms: float | None
    p95_ms: float | None
    unread: int
    settling: int
    overdue: int
    age_seconds: float
    states: tuple[str, ...]
    partitions: tuple[PartitionLag, ...] = ()

    @property
    def late(self) -> int:
        """Records that should be finished by now."""
        return self.unread + self.overdue

    @property
    def error_rate(self) -> float:
        """The share of finished records that failed."""
        return self.failed / self.finished if self.finished else 0.0

    @property
    def state(self) -> str:
        """The worst state of the running processes; ``none`` if no process runs."""
        for state in ("stalled", "waiting", "recovering", "rebalancing", "starting", "stopping", "running"):
            if state in self.states:
                return state
        return "none"


@dataclass(frozen=True, slots=True)
class Overview:
    """The figures for the overview and the alerts.

    Attributes:
        budgets: Process id and budget standing of each running worker with a cap.
        absent_seconds: For each process type that has reported before and has no running process: the time since its
            last report.
        forgotten: Processes and types that were silent for so long that they are no longer shown.
    """

    roles: tuple[RoleFigures, ...]
    processes: tuple[ProcessFigures, ...]
    sessions: int
    open_letters: int
    new_letters: Mapping[str, int]
    emitted_today: int
    tokens_today: int
    usd_today: float
    budget_usd_per_day: float | None
    window_seconds: float = 300.0
    budgets: tuple[tuple[str, BudgetStanding], ...] = ()
    absent_seconds: Mapping[str, float] = field(default_factory=dict)
    forgotten: frozenset[str] = frozenset()

    def role(self, name: str) -> RoleFigures:
        """Return the figures of one process type."""
        return next(role for role in self.roles if role.role == name)


@dataclass(frozen=True, slots=True)
class Series:
    """Curves over common times, for charts. None means unknown."""

    step_seconds: int
    times: tuple[int, ...]
    curves: Mapping[str, tuple[float | None, ...]]


class OverviewQueries:
    """Query the figures. The methods block.

    Args:
        path: The read model's file.
        window_seconds: The time window for errors and dead letters.
    """

    def __init__(self, path: Path, window_seconds: float = 300.0) -> None:
        self._path = path
        self._window_seconds = window_seconds

    def overview(self, now_ms: int, standings: Mapping[str, GroupStanding | None] = _NO_STANDINGS) -> Overview:
        """Return the present figures, without alerts.

        Args:
            now_ms: Unix milliseconds.
            standings: The offsets of each role's group. None or missing if the broker does not report them.
        """
        window_ms = round(self._window_seconds * 1000)
        with reading(self._path) as db:
            heard_ms = dict(db.execute("SELECT process_id, updated_at_ms FROM processes").fetchall())
            statuses = _statuses(db, now_ms)
            processes = tuple(_process(status, now_ms) for status in statuses)
            samples = db.execute(
                "SELECT * FROM samples WHERE bucket_ms >= ? ORDER BY process_id, bucket_ms",
                (now_ms - max(window_ms, _RATE_WINDOW_MS) - BUCKET_MS,),
            ).fetchall()
            roles = tuple(_role(name, processes, samples, now_ms, window_ms, standings.get(name)) for name in ROLES)
            usage = db.execute(
                "SELECT coalesce(sum(records), 0), coalesce(sum(input_tokens + output_tokens), 0), "
                "coalesce(sum(cost_usd), 0) FROM usage_hours WHERE hour_ms > ?",
                (now_ms - _DAY_MS,),
            ).fetchone()
            sessions = db.execute("SELECT coalesce(sum(sessions), 0) FROM status_counts").fetchone()[0]
            open_letters = db.execute(
                "SELECT count(*) FROM letters WHERE identity NOT IN (SELECT identity FROM letter_marks)"
            ).fetchone()[0]
            new_letters = dict(
                db.execute(
                    "SELECT reason, count(*) FROM letters WHERE failed_at_ms > ? GROUP BY reason", (now_ms - window_ms,)
                ).fetchall()
            )
        alive = {process.process_id for process in processes if not process.is_missed}
        return Overview(
            roles=roles,
            processes=processes,
            sessions=sessions,
            open_letters=open_letters,
            new_letters=new_letters,
            emitted_today=usage[0],
            tokens_today=usage[1],
            usd_today=usage[2],
            budget_usd_per_day=max((one.budget_usd_per_day or 0.0 for one in statuses), default=0.0) or None,
            window_seconds=self._window_seconds,
            budgets=tuple((one.process_id, of) for one in statuses if one.process_id in alive for of in one.budgets),
            absent_seconds={
                role.role: max(0.0, (now_ms - heard_ms[role.role]) / 1000)
                for role in roles
                if role.role in heard_ms and not role.running
            },
            forgotten=frozenset(name for name, at_ms in heard_ms.items() if at_ms < now_ms - FORGOTTEN_SECONDS * 1000),
        )

    def series(self, now_ms: int, minutes: int) -> Series:
        """Return rates, lag, age and latency of the last minutes, with at most a few hundred points."""
        step_ms = max(1, math.ceil(minutes * 60_000 / _MAX_POINTS / BUCKET_MS)) * BUCKET_MS
        first = (now_ms - minutes * 60_000) // step_ms * step_ms
        with reading(self._path) as db:
            rows = db.execute(
                "SELECT bucket_ms / :step * :step AS at, role, process_id, started_at_ms, max(finished) AS finished, "
                "max(failed) AS failed, max(unread + overdue) AS lag, max(age_seconds) AS age, max(p95_ms) AS p95 "
                "FROM samples "
                "WHERE bucket_ms >= :first GROUP BY at, process_id, started_at_ms ORDER BY process_id, at",
                {"step": step_ms, "first": first - step_ms},
            ).fetchall()
        return _series(rows, range(first, now_ms // step_ms * step_ms + 1, step_ms), step_ms)


def _statuses(db: sqlite3.Connection, now_ms: int) -> list[ProcessStatus]:
    found = []
    for row in db.execute(
        "SELECT record FROM processes WHERE process_id <> role AND updated_at_ms >= ? ORDER BY role, process_id",
        (now_ms - FORGOTTEN_SECONDS * 1000,),
    ):
        try:
            found.append(ProcessStatus.model_validate_json(row["record"]))
        except ValidationError:
            continue
    return found


def _process(status: ProcessStatus, now_ms: int) -> ProcessFigures:
    return ProcessFigures(
        process_id=status.process_id,
        role=status.role,
        state=status.state,
        detail=status.detail,
        # Count only until the last report: a silent process may have changed its state since then.
        state_seconds=max(0.0, (min(now_ms, status.updated_at_ms + _REPORT_MS) - status.since_ms) / 1000),
        silent_seconds=max(0.0, (now_ms - status.updated_at_ms) / 1000),
        version=status.version,
        host=status.host,
        pid=status.pid,
        started_at_ms=status.started_at_ms,
        p50_ms=status.latency.p50_ms,
        p95_ms=status.latency.p95_ms,
        partitions=status.partitions,
        outcomes=status.outcomes,
        lag_known=status.lag_known,
        placeholder_ids=status.placeholder_ids,
    )


def _role(
    name: str,
    processes: Sequence[ProcessFigures],
    samples: Sequence[sqlite3.Row],
    now_ms: int,
    window_ms: int,
    standing: GroupStanding | None,
) -> RoleFigures:
    alive = [process for process in processes if process.role == name and not process.is_missed]
    by_process: dict[str, list[sqlite3.Row]] = {}
    for sample in samples:
        if sample["role"] == name:
            by_process.setdefault(sample["process_id"], []).append(sample)
    per_second, finished, failed = 0.0, 0, 0
    for of_process in by_process.values():
        minute = _change(of_process, now_ms - _RATE_WINDOW_MS)
        per_second += minute[0] / minute[2] if minute[2] and now_ms - of_process[-1]["updated_at_ms"] < 10_000 else 0.0
        window = _change(of_process, now_ms - window_ms)
        finished += window[0]
        failed += window[1]
    lags = _lags(alive, standing, now_ms)
    return RoleFigures(
        role=name,
        running=len(alive),
        per_second=per_second,
        finished=finished,
        failed=failed,
        p50_ms=max((process.p50_ms for process in alive if process.p50_ms is not None), default=None),
        p95_ms=max((process.p95_ms for process in alive if process.p95_ms is not None), default=None),
        unread=sum(lag.unread for lag in lags),
        settling=sum(lag.settling for lag in lags),
        overdue=sum(lag.overdue for lag in lags),
        age_seconds=max((lag.oldest_age_seconds for lag in lags), default=0.0),
        states=tuple(process.state for process in alive),
        partitions=tuple(sorted(lags, key=lambda lag: lag.partition)),
    )


def _lags(alive: Sequence[ProcessFigures], standing: GroupStanding | None, now_ms: int) -> list[PartitionLag]:
    """Combine the processes' reports with the broker's offsets.

    Only a worker knows which records settle. So if a worker knows its lag, its report counts. For partitions without a
    reader, or with a reader that does not know the end, the broker's offsets count. The age of unread records also
    comes from the broker.
    """
    reported = {lag.partition: (lag, process.lag_known) for process in alive for lag in process.partitions}
    if standing is None:
        return [lag for lag, _ in reported.values()]
    lags = []
    for place in standing.partitions:
        lag, known = reported.pop(
            place.partition, (PartitionLag(topic=standing.topic, partition=place.partition), False)
        )
        unread = lag.unread if known else max(0, place.lag - lag.settling - lag.overdue)
        age_seconds = lag.oldest_age_seconds
        if unread + lag.overdue and place.oldest_ms is not None:
            age_seconds = max(age_seconds, (now_ms - place.oldest_ms) / 1000)
        lags.append(lag.model_copy(update={"unread": unread, "oldest_age_seconds": age_seconds}))
    return lags + [lag for lag, _ in reported.values()]


def _change(samples: Sequence[sqlite3.Row], since_ms: int) -> tuple[int, int, float]:
    """Return finished, failed and seconds from the last sample at or before ``since_ms`` to the newest one.

    The counts of a process that started after ``since_ms`` began at zero.
    """
    newest = samples[-1]
    base: sqlite3.Row | None = None
    for sample in samples:
        if sample["started_at_ms"] == newest["started_at_ms"] and (base is None or sample["updated_at_ms"] <= since_ms):
            base = sample
    assert base is not None  # noqa: S101 - the newest one is of its own start
    if newest["started_at_ms"] >= since_ms:
        seconds = (newest["updated_at_ms"] - newest["started_at_ms"]) / 1000
        return newest["finished"], newest["failed"], seconds
    seconds = (newest["updated_at_ms"] - base["updated_at_ms"]) / 1000
    return newest["finished"] - base["finished"], newest["failed"] - base["failed"], seconds


def _series(rows: Sequence[sqlite3.Row], times: range, step_ms: int) -> Series:
    curves: dict[str, dict[int, float]] = {
        f"{role}_{what}": {} for role in ROLES for what in ("per_second", "lag", "age_seconds", "p95_ms")
    }
    before: sqlite3.Row | None = None
    for row in rows:
        role, at = row["role"], row["at"]
        if role not in ROLES:
            continue
        same = (
            before is not None
            and before["process_id"] == row["process_id"]
            and before["started_at_ms"] == row["started_at_ms"]
        )
        finished = row["finished"] - (before["finished"] if same and before is not None else 0)
        seconds = (at - before["at"]) / 1000 if same and before is not None else step_ms / 1000
        if same or row["started_at_ms"] >= at - step_ms:
            _add(curves[f"{role}_per_second"], at, finished / seconds)
        _add(curves[f"{role}_lag"], at, row["lag"])
        for what, value in (("age_seconds", row["age"]), ("p95_ms", row["p95"])):
            if value is not None:
                curve = curves[f"{role}_{what}"]
                curve[at] = max(value, curve.get(at, 0.0))
        before = row
    return Series(
        step_ms // 1000,
        tuple(at // 1000 for at in times),
        {name: tuple(curve.get(at) for at in times) for name, curve in curves.items()},
    )


def _add(curve: dict[int, float], at: int, value: float) -> None:
    curve[at] = round(curve.get(at, 0.0) + value, 3)
