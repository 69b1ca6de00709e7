"""The console's HTTP application and its routes.

From: browsers and programs, through guard.py.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from aiohttp import web

from nexus_stream.console.index.read_model import ReadModel
from nexus_stream.console.web import (
    api,
    export,
    views_erase,
    views_letters,
    views_login,
    views_overview,
    views_sessions,
)
from nexus_stream.console.web.context import CONTEXT, Context
from nexus_stream.console.web.guard import add_headers, guard
from nexus_stream.settings import Settings

__all__ = ["make_app"]

_STATIC = Path(__file__).parent / "static"
_STATIC_TYPES = {
    "console.css": "text/css",
    "console.js": "text/javascript",
    "charts.js": "text/javascript",
    "icon.svg": "image/svg+xml",
    "vendor/htmx.min.js": "text/javascript",
    "vendor/uPlot.iife.min.js": "text/javascript",
    "vendor/uPlot.min.css": "text/css",
}


def make_app(settings: Settings, model: ReadModel) -> web.Application:
    """Make the application over an open read model. The caller closes the read model."""
    context = Context(settings, model)
    app = web.Application(middlewares=[guard(context)])
    app[CONTEXT] = context
    app.on_response_prepare.append(add_headers)

    async def stop(_app: web.Application) -> None:
        context.stopping.set()

    async def interrupt(_app: web.Application) -> None:
        await context.interrupt()

    app.on_shutdown.append(stop)
    app.on_cleanup.append(interrupt)
    login = views_login.Login()
    router = app.router
    router.add_get("/", views_overview.overview)
    router.add_get("/overview/live", views_overview.overview_live)
    router.add_get("/fragments/fresh", views_overview.fresh)
    router.add_get("/sessions", views_sessions.sessions)
    router.add_get("/sessions/rows", views_sessions.sessions_rows)
    router.add_get("/sessions/export.{kind}", export.export)
    router.add_get("/sessions/{tenant}/", views_sessions.session)
    router.add_get("/sessions/{tenant}/{session:.+}", views_sessions.session)
    router.add_get("/dead-letters", views_letters.letters)
    router.add_get("/dead-letters/confirm", views_letters.confirm)
    router.add_post("/dead-letters/act", views_letters.act_on_letters)
    router.add_get("/dead-letters/{id:.+}", views_letters.letter)
    router.add_get("/tail", views_overview.tail)
    router.add_get("/events", views_overview.events)
    router.add_get("/audit", views_overview.audit)
    router.add_get("/erase", views_erase.confirm)
    router.add_post("/erase", views_erase.erase_person)
    router.add_get("/person.json", views_erase.export_person)
    router.add_get("/login", login.form)
    router.add_post("/login", login.submit)
    router.add_post("/logout", login.out)
    router.add_get("/language", views_login.choose_language)
    router.add_get("/static/{name:.+}", _static)
    router.add_get("/live", _live)
    router.add_get("/ready", _ready)
    api.add_routes(app)
    return app


async def _static(request: web.Request) -> web.StreamResponse:
    name = request.match_info["name"]
    if name not in _STATIC_TYPES:
        raise web.HTTPNotFound
    return web.FileResponse(_STATIC / name, headers={"Content-Type": _STATIC_TYPES[name], "Cache-Control": "no-cache"})


async def _live(request: web.Request) -> web.Response:
    return web.json_response({"status": "live"})


async def _ready(request: web.Request) -> web.Response:
    """Return 200 after the view was complete once. A later outage of the broker does not change that."""
    context = request.app[CONTEXT]
    freshness = context.model.freshness()
    await asyncio.to_thread(context.sessions.check)
    is_ready = bool(freshness.caught_up_at_ms)
    return web.json_response(
        {
            "status": "ready" if is_ready else "starting",
            "problem": freshness.problem,
            "lag": freshness.lag,
            "partitions": {
                str(progress.partition): {"next_offset": progress.next_offset, "lag": progress.lag}
                for progress in freshness.partitions
            },
            "caught_up_at_ms": freshness.caught_up_at_ms or None,
        },
        status=200 if is_ready else 503,
    )
