"""The views of overview, freshness, live tail and audit.

From: browsers.
"""

from __future__ import annotations

import asyncio
import json
import time

from aiohttp import web

from nexus_stream.console.reading.filters import is_number
from nexus_stream.console.web.context import CONTEXT
from nexus_stream.console.web.guard import require_operator
from nexus_stream.console.web.viewing import viewing

__all__ = ["audit", "events", "fresh", "overview", "overview_live", "tail"]

_TAIL_ROWS = 50
_AUDIT_ROWS = 200
# Only this many of the newest emissions between two checks are sent. The others are counted.
_MAX_ROWS_PER_CHECK = 20
_CHECK_SECONDS = 0.25
_KEEPALIVE_SECONDS = 15.0
# After this time the browser must reconnect, with its present cookie.
_MAX_STREAM_SECONDS = 600.0


async def overview(request: web.Request) -> web.Response:
    """Return the whole page."""
    return await _overview(request, whole=True)


async def overview_live(request: web.Request) -> web.Response:
    """Return the live part, which the page reloads regularly."""
    return await _overview(request, whole=False)


async def _overview(request: web.Request, *, whole: bool) -> web.Response:
    context, reader = request.app[CONTEXT], viewing(request)
    figures = await context.figures(reader.now_ms)
    return _html(context.pages.overview(reader, figures, context.alerts.firing, whole=whole))


async def fresh(request: web.Request) -> web.Response:
    """Return the freshness for the page's head."""
    return _html(request.app[CONTEXT].pages.render("fresh.html", viewing(request)))


async def tail(request: web.Request) -> web.Response:
    """Return the live tail with the newest emissions."""
    context = request.app[CONTEXT]
    rows = await asyncio.to_thread(context.activity.tail, 0, _TAIL_ROWS)
    return _html(context.pages.tail(viewing(request), rows))


async def audit(request: web.Request) -> web.Response:
    """Return the operators' actions, for operators only."""
    require_operator(request)
    context = request.app[CONTEXT]
    return _html(context.pages.audit(viewing(request), context.audit.newest(_AUDIT_ROWS)))


async def events(request: web.Request) -> web.StreamResponse:
    """Stream server-sent events: each emission as a line of HTML for the tail, and the number of skipped ones."""
    context, reader = request.app[CONTEXT], viewing(request)
    text = request.headers.get("Last-Event-ID") or request.query.get("after", "")
    newest = await asyncio.to_thread(context.activity.newest_emission)
    # A higher id than the newest one means that the table was recreated.
    after = min(int(text), newest) if is_number(text) else newest
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
    await response.prepare(request)
    await response.write(b"retry: 2000\n\n")
    ends_at = time.monotonic() + _MAX_STREAM_SECONDS
    version, written_at = -1, time.monotonic()
    while time.monotonic() < ends_at and not context.stopping.is_set():
        if context.model.version != version:
            version = context.model.version
            rows = await asyncio.to_thread(context.activity.tail, after, _MAX_ROWS_PER_CHECK)
            if not rows:
                after = min(after, await asyncio.to_thread(context.activity.newest_emission))
            else:
                lines = [context.pages.tail_row(reader, row) for row in rows]
                # Count the rows: ids have gaps, because the id of an erased emission is not used again.
                skipped = await asyncio.to_thread(context.activity.count_emissions, after, rows[0]["id"])
                after = rows[-1]["id"]
                data = json.dumps({"rows": lines, "skipped": skipped})
                await response.write(f"id: {after}\nevent: emissions\ndata: {data}\n\n".encode())
                written_at = time.monotonic()
        if time.monotonic() - written_at > _KEEPALIVE_SECONDS:
            await response.write(b": still here\n\n")
            written_at = time.monotonic()
        await asyncio.sleep(_CHECK_SECONDS)
    return response


def _html(text: str) -> web.Response:
    return web.Response(text=text, content_type="text/html")
