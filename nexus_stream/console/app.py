"""The console's HTTP application: routes, headers, error pages.

From: browsers on this machine. To: pages.py over queries.py. Read-only: it answers GET and HEAD. There is no login yet,
so it serves a loopback address only and answers only to its names (a page elsewhere could point its own name here).
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from pathlib import Path

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from nexus_stream.console.pages import Pages
from nexus_stream.console.queries import MAX_SEARCH_CHARS, Cursor, SessionFilter, SessionQueries
from nexus_stream.console.read_model import ReadModel
from nexus_stream.console.rendering import NO_TENANT, make_environment, session_url
from nexus_stream.contracts.session_key import session_key
from nexus_stream.errors import ConfigurationError

__all__ = ["make_app", "require_loopback"]

_log = structlog.get_logger(__name__)

PAGE_ROWS = 50

_STATIC = Path(__file__).parent / "static"
_STATIC_TYPES = {"console.css": "text/css", "icon.svg": "image/svg+xml"}
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_ERROR_PAGES = frozenset({400, 404, 421, 500})


def require_loopback(host: str) -> None:
    """Refuse an address that other machines can reach.

    Raises:
        ConfigurationError: ``host`` is no loopback address.
    """
    if not _is_loopback(host):
        raise ConfigurationError(
            f"NEXUS_CONSOLE_HOST: {host} can be reached from other machines. The console shows personal data and has "
            "no login yet, so it serves a loopback address only: set 127.0.0.1, ::1 or localhost. To look from another "
            "machine, use a tunnel: ssh -L 8090:127.0.0.1:8090 HOST."
        )


class _Console:
    """The handlers and what they share."""

    def __init__(self, model: ReadModel, changelog_topic: str) -> None:
        self._model = model
        self._queries = SessionQueries(model.path)
        self._pages = Pages(make_environment())
        self._changelog_topic = changelog_topic

    async def sessions(self, request: web.Request) -> web.Response:
        query = request.query
        session_filter = SessionFilter(
            text=query.get("q", "").strip()[:MAX_SEARCH_CHARS],
            status=query.get("status") or None,
            momento=query.get("momento") or None,
        )
        try:
            after = Cursor.parse(query["after"]) if query.get("after") else None
        except ValueError:
            raise web.HTTPBadRequest from None
        page = await asyncio.to_thread(self._queries.page, session_filter, after, PAGE_ROWS)
        counts = await asyncio.to_thread(self._queries.counts)
        return _html(self._pages.sessions(page, counts, session_filter, after, self._model.freshness(), _now_ms()))

    async def session(self, request: web.Request) -> web.Response:
        # In the query where a browser would change the path: rendering.session_url.
        tenant_id = request.query.get("tenant", request.match_info["tenant"])
        session_id = request.match_info.get("session", request.query.get("session", ""))
        tenant_id = "" if tenant_id == NO_TENANT else tenant_id
        try:
            key = session_key(tenant_id, session_id)
        except ValueError:  # a tenant that cannot be, or text that is no UTF-8
            raise web.HTTPNotFound from None
        row = await asyncio.to_thread(self._queries.session, key)
        if row is None:
            raise web.HTTPNotFound
        url = session_url(tenant_id, session_id)
        return _html(
            self._pages.session(dict(row), url, self._changelog_topic, self._model.freshness(), _now_ms()),
        )

    async def static(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        if name not in _STATIC_TYPES:
            raise web.HTTPNotFound
        return web.FileResponse(
            _STATIC / name, headers={"Content-Type": _STATIC_TYPES[name], "Cache-Control": "no-cache"}
        )

    async def live(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "live"})

    async def ready(self, request: web.Request) -> web.Response:
        """200 once the view has been complete; a broker that goes away later does not take that back."""
        freshness = self._model.freshness()
        await asyncio.to_thread(self._queries.check)
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

    @web.middleware
    async def guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Check the host name, turn errors into pages, and send the security headers with every answer."""
        response: web.StreamResponse
        try:
            if not _is_own_host(request.host):
                raise web.HTTPMisdirectedRequest  # noqa: TRY301 - one place makes the pages
            response = await handler(request)
        except web.HTTPException as error:
            if error.status not in _ERROR_PAGES:
                error.headers.update(_HEADERS)
                raise
            response = self._error(error.status)
        except Exception:
            # No address: a search holds personal data.
            _log.exception("console_page_failed")
            response = self._error(500)
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    def _error(self, status: int) -> web.Response:
        return _html(self._pages.error(status, self._model.freshness(), _now_ms()), status)


def make_app(model: ReadModel, changelog_topic: str) -> web.Application:
    """The application over an open read model, which stays the caller's to close."""
    console = _Console(model, changelog_topic)
    app = web.Application(middlewares=[console.guard])
    app.router.add_get("/", console.sessions)
    app.router.add_get("/sessions/{tenant}/", console.session)
    app.router.add_get("/sessions/{tenant}/{session:.+}", console.session)
    app.router.add_get("/static/{name}", console.static)
    app.router.add_get("/live", console.live)
    app.router.add_get("/ready", console.ready)
    return app


def _html(text: str, status: int = 200) -> web.Response:
    return web.Response(text=text, status=status, content_type="text/html")


def _is_loopback(host: str) -> bool:
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _is_own_host(host: str) -> bool:
    name, _, port = host.rpartition(":")
    return _is_loopback(name if name and port.isdigit() else host)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
