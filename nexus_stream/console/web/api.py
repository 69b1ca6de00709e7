"""The JSON API under ``/api/v1``, with the same data as the pages. Login: a bearer token, or the browser's cookie.

From: programs. openapi.py describes the API, and a test compares both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import orjson
from aiohttp import web

from nexus_stream.console.index.session_row import state_of
from nexus_stream.console.reading.filters import is_number
from nexus_stream.console.web.api_json import (
    conversation_json,
    database_json,
    emission_json,
    letter_content_json,
    letter_json,
    overview_json,
)
from nexus_stream.console.web.context import CONTEXT
from nexus_stream.console.web.dead_letter_actions import ActionName, Wanted, act, plan
from nexus_stream.console.web.export import session_json
from nexus_stream.console.web.guard import require_operator
from nexus_stream.console.web.masking import mask_prospect
from nexus_stream.console.web.openapi import openapi_document
from nexus_stream.console.web.rendering import iso
from nexus_stream.console.web.session_detail import load_detail
from nexus_stream.console.web.session_pages import shown_row
from nexus_stream.console.web.viewing import viewing
from nexus_stream.console.web.views_letters import page_of_letters, read_letter, wanted_letters
from nexus_stream.console.web.views_sessions import filter_of, find_session, page_of

__all__ = ["add_routes"]

_MAX_ROWS = 500
_DEFAULT_ROWS = 50
_MAX_MINUTES = 24 * 60
_MAX_BODY_BYTES = 16_384


def add_routes(app: web.Application) -> None:
    """Add all routes under ``/api/v1``."""
    router = app.router
    router.add_get("/api/v1/openapi.json", openapi)
    router.add_get("/api/v1/overview", overview)
    router.add_get("/api/v1/series", series)
    router.add_get("/api/v1/sessions", sessions)
    router.add_get("/api/v1/sessions/{tenant}/{session:.+}", session)
    router.add_get("/api/v1/emissions", emissions)
    router.add_get("/api/v1/dead-letters", letters)
    router.add_get("/api/v1/dead-letters/{id:.+}", letter)
    router.add_post("/api/v1/dead-letters/{action:redrive|discard}", act_on_letters)
    router.add_get("/api/v1/audit", audit)


async def openapi(request: web.Request) -> web.Response:
    """Return the OpenAPI document."""
    return _json(openapi_document())


async def overview(request: web.Request) -> web.Response:
    """Return figures, processes and alerts."""
    context, reader = request.app[CONTEXT], viewing(request)
    figures = await context.figures(reader.now_ms)
    freshness = {
        "problem": reader.freshness.problem,
        "lag": reader.freshness.lag,
        "caught_up_at": iso(reader.freshness.caught_up_at_ms) if reader.freshness.caught_up_at_ms else None,
    }
    return _json({"freshness": freshness, **overview_json(figures, context.alerts.firing)})


async def series(request: web.Request) -> web.Response:
    """Return the curves of the last minutes."""
    context = request.app[CONTEXT]
    minutes = _integer(request.query.get("minutes"), 180, _MAX_MINUTES)
    found = await asyncio.to_thread(context.overview.series, viewing(request).now_ms, minutes)
    return _json(asdict(found))


async def sessions(request: web.Request) -> web.Response:
    """Return one page of sessions."""
    context, reader = request.app[CONTEXT], viewing(request)
    session_filter, after = filter_of(request)
    page = await page_of(context, reader, session_filter, after, _limit(request))
    return _json(
        {
            "sessions": [session_json(shown_row(reader, row)) for row in page.rows],
            "next": None if page.next_cursor is None else str(page.next_cursor),
        }
    )


async def session(request: web.Request) -> web.Response:
    """Return one session with its details. Only operators get its text, database row and state."""
    context, reader = request.app[CONTEXT], viewing(request)
    row = await find_session(request)
    detail = await load_detail(context, reader, row)
    state = state_of(row["state"])
    prospect = state.get("prospect") if isinstance(state.get("prospect"), dict) else None
    return _json(
        {
            "session": session_json(shown_row(reader, row)),
            "prospect": prospect if reader.is_operator or prospect is None else mask_prospect(prospect),
            "extraction": state.get("extraction") if isinstance(state.get("extraction"), dict) else None,
            "changelog": {"partition": row["partition"], "offset": row["offset"], "at": iso(row["recorded_at_ms"])},
            "emissions": [emission_json(emission) for emission in detail.emissions],
            "conversation": conversation_json(detail.conversation),
            "database": database_json(detail.database),
            "others": [session_json(shown_row(reader, other)) for other in detail.others],
            "letters": [letter_json(one) for one in detail.letters],
            "state": dict(state) if reader.is_operator else None,
        }
    )


async def emissions(request: web.Request) -> web.Response:
    """Return the newest emissions, or the first ones after an id. Both are in order, oldest first."""
    context, limit = request.app[CONTEXT], _limit(request)
    if "after" in request.query:
        after = _integer(request.query["after"], 0, 2**53, lowest=0)
        rows = await asyncio.to_thread(context.activity.emissions, after, limit + 1)
    else:
        rows = await asyncio.to_thread(context.activity.tail, 0, limit)
    page = rows[:limit]
    more = str(page[-1]["id"]) if len(rows) > limit else None
    return _json({"emissions": [emission_json(row) for row in page], "next": more})


async def letters(request: web.Request) -> web.Response:
    """Return dead letters without their bytes: counts by reason, and one page, newest first."""
    context = request.app[CONTEXT]
    groups = await asyncio.to_thread(context.activity.letter_groups)
    after = request.query.get("after", "")
    rows, more = await page_of_letters(context, wanted_letters(request.query), after, _limit(request))
    return _json(
        {"groups": [asdict(group) for group in groups], "letters": [letter_json(row) for row in rows], "next": more}
    )


async def letter(request: web.Request) -> web.Response:
    """Return one dead letter. Operators also get its bytes, read from the topic now."""
    context, reader = request.app[CONTEXT], viewing(request)
    row = await asyncio.to_thread(context.activity.letter, request.match_info["id"])
    if row is None:
        raise web.HTTPNotFound
    record = await read_letter(context, reader, row)
    key = row["session_key"]
    return _json(
        {
            "letter": letter_json(row),
            "session_key": None if key is None else bytes(key).decode("utf-8", "backslashreplace"),
            "problem": record if isinstance(record, str) else None,
            "content": None if isinstance(record, str) else letter_content_json(record),
        }
    )


async def act_on_letters(request: web.Request) -> web.Response:
    """Redrive or discard one letter, or all open ones of a reason."""
    who = require_operator(request)
    context = request.app[CONTEXT]
    body = await _body(request)
    wanted = Wanted(letter_id=_text(body, "id"), reason=_text(body, "reason"))
    if wanted.letter_id is None and wanted.reason is None:
        raise web.HTTPBadRequest
    action: ActionName = "redrive" if request.match_info["action"] == "redrive" else "discard"
    planned, ends = await plan(context.settings, action, wanted)
    if body.get("dry_run") is True:
        return _json({"letters": planned.total, "left": planned.not_ours, "dry_run": True})
    report = await act(context, who, action, wanted, ends)
    return _json({"letters": report.total, "left": report.refused + report.not_ours, "dry_run": False})


async def audit(request: web.Request) -> web.Response:
    """Return the operators' actions."""
    require_operator(request)
    return _json({"actions": request.app[CONTEXT].audit.newest(_limit(request))})


async def _body(request: web.Request) -> Mapping[str, Any]:
    if (request.content_length or 0) > _MAX_BODY_BYTES:
        raise web.HTTPRequestEntityTooLarge(_MAX_BODY_BYTES, request.content_length or 0)
    try:
        body = orjson.loads(await request.read())
    except orjson.JSONDecodeError:
        raise web.HTTPBadRequest from None
    if not isinstance(body, dict):
        raise web.HTTPBadRequest
    return body


def _text(body: Mapping[str, Any], name: str) -> str | None:
    value = body.get(name)
    return value if isinstance(value, str) and value else None


def _limit(request: web.Request) -> int:
    return _integer(request.query.get("limit"), _DEFAULT_ROWS, _MAX_ROWS)


def _integer(text: str | None, default: int, highest: int, lowest: int = 1) -> int:
    if not text:
        return default
    if not is_number(text):
        raise web.HTTPBadRequest
    return max(lowest, min(int(text), highest))


def _json(value: Any) -> web.Response:
    return web.Response(body=orjson.dumps(value, default=str), content_type="application/json")
