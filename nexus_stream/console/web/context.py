"""What the handlers share: queries, access, alerts and pages over one open index."""

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
        settings: Topics, tokens, thresholds.
        model: Stays the caller's to close.
    """

    def __init__(self, settings: Settings, model: ReadModel) -> None:
        self.settings = settings
        self.model = model
        self.sessions = SessionQueries(model.path)
        self.activity = ActivityQueries(model.path)
        self.overview = OverviewQueries(model.path, settings.alert_window_seconds)
        # Both look at nothing until command.py runs them.
        self.lag = LagMonitor(settings)
        self.alerts = AlertWatch(settings, model, self.overview, self.lag)
        self.access = Access(settings)
        self.audit = AuditLog(model.path.parent)
        self.reader = TopicReader(settings)
        self.pages = Pages()
        # Set when the console stops: live views end then, instead of being waited for.
        self.stopping = asyncio.Event()
        self._going_on: set[asyncio.Task[Any]] = set()

    async def keep_going(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Await the work, which goes on when the one who waits is cancelled."""
        task = asyncio.create_task(work)
        # The loop alone would let go of it.
        self._going_on.add(task)
        task.add_done_callback(self._going_on.discard)
        return await asyncio.shield(task)

    async def interrupt(self) -> None:
        """End the work that still goes on: the console stops."""
        going_on = list(self._going_on)
        for task in going_on:
            task.cancel()
        await asyncio.gather(*going_on, return_exceptions=True)

    async def figures(self, now_ms: int) -> Overview:
        """The overview's figures."""
        return await asyncio.to_thread(self.overview.overview, now_ms, self.lag.standings)


CONTEXT: web.AppKey[Context] = web.AppKey("context", Context)
