"""Check the figures every second, and report when an alert begins and ends: on the page, in the log, by webhook.

`AlertWatch.firing` serves the pages, the API and the metrics. Each begin and each end makes one log event and one
webhook message. If the view cannot follow the broker, conditions are unknown: no alert begins or ends.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Mapping, Sequence

from nexus_stream.console.alerts.book import AlertBook, AlertEvent, timings_of
from nexus_stream.console.alerts.conditions import Alert, AlertKind, Thresholds, alert_conditions, unable_to_save
from nexus_stream.console.alerts.lag_monitor import LagMonitor
from nexus_stream.console.alerts.progress import ProgressWatch
from nexus_stream.console.alerts.store import AlertStore
from nexus_stream.console.alerts.webhook import AlertMessage, Webhook, message_of
from nexus_stream.console.index.read_model import ReadModel
from nexus_stream.console.reading.overview import Overview, OverviewQueries
from nexus_stream.host.log import get_logger
from nexus_stream.kafka.group_offsets import GroupStanding
from nexus_stream.settings import Settings

__all__ = ["AlertWatch"]

_log = get_logger(__name__)

_INTERVAL_SECONDS = 1.0
# After an outage of the broker, processes need this time to report again. Until then, silence is no sign of a problem.
_REPORT_WAIT_SECONDS = 15.0
_FROM_REPORTS = frozenset({AlertKind.SILENT, AlertKind.LAG, AlertKind.WAITING, AlertKind.PERSISTENCE})
_FROM_STANDINGS = frozenset({AlertKind.LAG, AlertKind.OLD_MESSAGES, AlertKind.NO_PROGRESS})


class AlertWatch:
    """Keep the alerts current. Before `run`, it shows the alerts that fired when the console last stopped.

    Args:
        settings: The settings with thresholds, times and webhook.
        model: The read model, which knows whether the view follows the broker.
        overview: The figures.
        lag: The lag monitor with the groups' offsets.
    """

    def __init__(self, settings: Settings, model: ReadModel, overview: OverviewQueries, lag: LagMonitor) -> None:
        self._settings = settings
        self._model = model
        self._overview = overview
        self._lag = lag
        self._thresholds = Thresholds.of(settings)
        self._progress = ProgressWatch(settings.alert_no_progress_seconds)
        self._store = AlertStore(model.path.parent)
        firing, pending = self._store.load()
        self._book = AlertBook(timings_of(settings), firing)
        self.webhook = (
            Webhook(settings, pending, on_change=self._save) if settings.alert_webhook_url is not None else None
        )
        self._saving = asyncio.Lock()
        self._follows_since: float | None = None
        self._failed = False

    @property
    def firing(self) -> tuple[Alert, ...]:
        """The firing alerts, critical ones first."""
        return self._book.firing

    @property
    def webhook_failures(self) -> int:
        """Number of failed posts and dropped messages."""
        return 0 if self.webhook is None else self.webhook.failures

    async def run(self) -> None:
        """Check until cancelled."""
        async with asyncio.TaskGroup() as group:
            if self.webhook is not None:
                group.create_task(self.webhook.run())
            while True:
                try:
                    await self.look(time.monotonic(), time.time_ns() // 1_000_000)
                    self._failed = False
                except sqlite3.OperationalError as error:
                    # The file was locked for too long, or the disk is full. Both are temporary.
                    if not self._failed:
                        _log.warning("figures cannot be read, alerts stay as they are", problem=str(error))
                    self._failed = True
                await asyncio.sleep(_INTERVAL_SECONDS)

    async def look(self, now: float, now_ms: int) -> list[AlertEvent]:
        """Check once. Return and report the alerts that began and ended.

        Args:
            now: Seconds, monotonic.
            now_ms: Unix milliseconds.
        """
        standings = self._lag.standings
        problem = self._model.freshness().problem
        figures = await asyncio.to_thread(self._overview.overview, now_ms, standings)
        follows_seconds = self._followed_for(problem, now)
        conditions = alert_conditions(
            figures,
            self._thresholds,
            stuck_seconds=self._progress.observe(figures.roles, standings, now),
            view_problem=problem,
        )
        events = self._book.observe(
            conditions,
            now,
            now_ms,
            lambda identity: self._is_unknown(identity, follows_seconds, figures, standings),
        )
        for event in events:
            self._log(event)
        if events:
            messages = [message_of(event, self._settings.alert_runbook_url) for event in events]
            # Save before posting: after a kill in between, the console posts the messages again with the same ids.
            await self._save(messages)
            if self.webhook is not None:
                for message in messages:
                    self.webhook.offer(message)
        return events

    def _followed_for(self, problem: str | None, now: float) -> float | None:
        """Return how long the view has followed the processes' reports. Return None if it does not follow them."""
        topic = self._settings.status_topic
        if problem is not None:
            self._follows_since = None
        elif self._follows_since is None and not self._model.lag_beside(topic):
            self._follows_since = now
        return None if self._follows_since is None else now - self._follows_since

    def _log(self, event: AlertEvent) -> None:
        alert = event.alert
        fields = {
            "alert": alert.kind.value,
            "where": alert.where,
            "value": round(alert.value, 3),
            "threshold": alert.threshold,
            "runbook": f"{self._settings.alert_runbook_url}{alert.kind.value}",
        }
        if event.state == "firing":
            _log.warning("alert begins", **fields)
        else:
            _log.info("alert ended", **fields, seconds=round((event.at_ms - alert.since_ms) / 1000, 1))

    def _is_unknown(
        self,
        identity: tuple[AlertKind, str],
        follows_seconds: float | None,
        figures: Overview,
        standings: Mapping[str, GroupStanding | None],
    ) -> bool:
        kind, where = identity
        if kind is AlertKind.VIEW_LOST:
            return False
        if follows_seconds is None:
            return True
        if kind in _FROM_REPORTS and follows_seconds < _REPORT_WAIT_SECONDS:
            return True
        if kind is AlertKind.SILENT and where in figures.forgotten:
            # No operator confirmed the end of the process (`nexus status forget`), so a firing alert continues. An old
            # silence begins no alert.
            return True
        if kind is AlertKind.PERSISTENCE and not figures.role("sink").running and not unable_to_save(figures):
            # The sink that could not save is no longer shown, and no other sink saves.
            return any(name.startswith("sink-") for name in figures.forgotten)
        if kind in _FROM_STANDINGS and where in standings and standings[where] is None:
            # Running workers report their lag themselves.
            return kind is AlertKind.NO_PROGRESS or not figures.role(where).running
        return kind is AlertKind.NO_PROGRESS and where in self._progress.unknown

    async def _save(self, offered: Sequence[AlertMessage] = ()) -> None:
        async with self._saving:
            pending = () if self.webhook is None else (*self.webhook.pending, *offered)
            await asyncio.to_thread(self._store.save, self._book.firing, pending)
