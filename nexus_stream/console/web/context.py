"""What the handlers share, and who looks at a page in which language.

From: command.py builds one context; guard.py adds a `Viewing` to each request. To: every handler.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from aiohttp import web

from nexus_stream.console.alerts.lag_monitor import LagMonitor
from nexus_stream.console.alerts.watch import AlertWatch
from nexus_stream.console.index.read_model import Freshness, ReadModel
from nexus_stream.console.reading.activity import ActivityQueries
from nexus_stream.console.reading.overview import Overview, OverviewQueries
from nexus_stream.console.reading.queries import SessionQueries
from nexus_stream.console.web.access import Access, Identity
from nexus_stream.console.web.audit import AuditLog
from nexus_stream.console.web.topic_reader import TopicReader
from nexus_stream.settings import Settings

if TYPE_CHECKING:
    from nexus_stream.console.web.pages import Pages

__all__ = ["CONTEXT", "LANGUAGE_COOKIE", "VIEWING", "Context", "Viewing", "language_of", "now_ms", "viewing"]

_T = TypeVar("_T")

LANGUAGE_COOKIE = "nexus_language"
LANGUAGES = ("en", "es")


@dataclass(frozen=True, slots=True)
class Viewing:
    """One request's reader.

    Attributes:
        identity: Who; None on the login page and where an error comes before anyone is let in.
        language: One of `LANGUAGES`.
        needs_login: Whether there is something to log out of.
        freshness: How current the view is.
        now_ms: Unix milliseconds.
        here: The address, path and query.
    """

    identity: Identity | None
    language: str
    needs_login: bool
    freshness: Freshness
    now_ms: int
    here: str

    @property
    def is_operator(self) -> bool:
        """Whether they see people's data and may act."""
        return self.identity is not None and self.identity.is_operator


class Context:
    """Queries, access and pages over one open read model.

    Args:
        settings: Topics, tokens, thresholds.
        model: Stays the caller's to close.
    """

    def __init__(self, settings: Settings, model: ReadModel) -> None:
        from nexus_stream.console.web.pages import Pages

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
        self.pages: Pages = Pages()
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
        """The overview's figures with the alerts that fire."""
        figures = await asyncio.to_thread(self.overview.overview, now_ms, self.lag.standings)
        return replace(figures, alerts=self.alerts.firing)


CONTEXT: web.AppKey[Context] = web.AppKey("context", Context)
VIEWING: web.RequestKey[Viewing] = web.RequestKey("viewing", Viewing)


def viewing(request: web.Request) -> Viewing:
    """Who looks at it."""
    return request[VIEWING]


def language_of(request: web.Request) -> str:
    """The language chosen before, or the first one of ``Accept-Language`` that there is."""
    chosen = request.cookies.get(LANGUAGE_COOKIE)
    if chosen in LANGUAGES:
        return chosen
    wanted: list[tuple[float, str]] = []
    for position, part in enumerate(request.headers.get("Accept-Language", "").split(",")[:20]):
        name, _, quality = part.strip().partition(";q=")
        try:
            weight = float(quality or 1)
        except ValueError:
            continue
        if weight > 0:
            wanted.append((weight - position / 1000, name.lower().partition("-")[0]))
    return next((name for _, name in sorted(wanted, reverse=True) if name in LANGUAGES), LANGUAGES[0])


def now_ms() -> int:
    """Unix milliseconds."""
    return time.time_ns() // 1_000_000
