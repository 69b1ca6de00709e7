"""The objects that all handlers share: queries, access, alerts and pages over one open index."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from aiohttp import web

from nexus_stream.console.alerts.lag_monitor import LagMonitor
from nexus_stream.console.alerts.watch import AlertWatch
from nexus_stream.console.index.read_model import ReadModel
from nexus_stream.console.reading.activity import ActivityQueries
from nexus_stream.console.reading.overview import Overview, OverviewQueries
from nexus_stream.console.reading.queries import SessionQueries
from nexus_stream.console.web.access import Access
from nexus_stream.console.web.audit import AuditLog
from nexus_stream.console.web.pages import Pages
from nexus_stream.console.web.topic_reader import TopicReader
from nexus_stream.settings import Settings

__all__ = [
    "CONTEXT",
    "Context",
]

_T = TypeVar("_T")


class Context:
    """Queries, access and pages over one open read model.

    Args:
        settings: The settings with topics, tokens and thresholds.
        model: The read model. The caller closes it.
    """

    def __init__(self, settings: Settings, model: ReadModel) -> None:
        self.settings = settings
        self.model = model
        self.sessions = SessionQueries(model.path)
        self.activity = ActivityQueries(model.path)
        self.overview = OverviewQueries(model.path, settings.alert_window_seconds)
        # Both are idle until command.py runs them.
        self.lag = LagMonitor(settings)
        self.alerts = AlertWatch(settings, model, self.overview, self.lag)
        self.access = Access(settings)
        self.audit = AuditLog(model.path.parent)
        self.reader = TopicReader(settings)
        self.pages = Pages()
        # Set when the console stops, so that live views end at once.
        self.stopping = asyncio.Event()
        self._running: set[asyncio.Task[Any]] = set()

    async def run_to_end(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Await the work. The work continues if the waiting task is cancelled."""
        task = asyncio.create_task(work)
        # Keep a reference: the event loop holds only a weak one.
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def interrupt(self) -> None:
        """Cancel the work that still runs, because the console stops."""
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def figures(self, now_ms: int) -> Overview:
        """Return the overview's figures."""
        return await asyncio.to_thread(self.overview.overview, now_ms, self.lag.standings)


CONTEXT: web.AppKey[Context] = web.AppKey("context", Context)
