"""The same data as JSON under ``/api/v1``, for programs: a bearer token, or the browser's cookie.

From: programs. To: the queries the pages use. openapi.py describes it; a test holds the two together.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import orjson
from aiohttp import web

from nexus_stream.console.activity import STATES, LetterFilter
from nexus_stream.console.context import CONTEXT, viewing
from nexus_stream.console.dead_letter_actions import ActionName, Wanted, act, plan
from nexus_stream.console.export import session_json
from nexus_stream.console.guard import require_operator
from nexus_stream.console.masking import mask_prospect
from nexus_stream.console.openapi import openapi_document
from nexus_stream.console.overview import Overview
from nexus_stream.console.rendering import iso
from nexus_stream.console.session_pages import shown_row
from nexus_stream.console.session_row import state_of
from nexus_stream.console.views_sessions import filter_of, find_session, page_of
from nexus_stream.errors import ConfigurationError, RetryableError

__all__ = ["add_routes"]

_MAX_ROWS = 500
_DEFAULT_ROWS = 50
_MAX_MINUTES = 24 * 60
_MAX_BODY_BYTES = 16_384


def add_routes(app: web.Application) -> None:
    """Add everything under ``/api/v1``."""
    router = app.router
    router.add_get("/api/v1/openapi.json", openapi)
    router.add_get("/api/v1/overview", overview)
    router.add_get("/api/v1/series", series)
    router.add_get("/api/v1/sessions", sessions)
    router.add_get("/api/v1/sessions/{tenant}/{session:.+}", session)
    router.add_get("/api/v1/emissions", emissions)
    router.add_get("/api/v1/dead-letters", letters)
    router.add_post("/api/v1/dead-letters/{action:redrive|discard}", act_on_letters)
    router.add_get("/api/v1/audit", audit)


async def openapi(request: web.Request) -> web.Response:
    """The description of all this."""
    return _json(openapi_document())


async def overview(request: web.Request) -> web.Response:
    """Figures, processes, alerts."""
    context, reader = request.app[CONTEXT], viewing(request)
    figures = await context.figures(reader.now_ms)
    freshness = {
        "problem": reader.freshness.problem,
        "lag": reader.freshness.lag,
        "caught_up_at": iso(reader.freshness.caught_up_at_ms) if reader.freshness.caught_up_at_ms else None,
    }
    return _json({"freshness": freshness, **_overview(figures)})


async def series(request: web.Request) -> web.Response:
    """Curves of the last minutes."""
    context = request.app[CONTEXT]
    minutes = _integer(request.query.get("minutes"), 180, _MAX_MINUTES)
    found = await asyncio.to_thread(context.overview.series, viewing(request).now_ms, minutes)
    return _json(asdict(found))


async def sessions(request: web.Request) -> web.Response:
    """One page of sessions."""
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
    """One session with its record, and for operators its state."""
    context, reader = request.app[CONTEXT], viewing(request)
    row = await find_session(request)
    timeline = await asyncio.to_thread(context.activity.timeline, row["key"])
    state = state_of(row["state"])
    prospect = state.get("prospect") if isinstance(state.get("prospect"), dict) else None
    return _json(
        {
            "session": session_json(shown_row(reader, row)),
            "prospect": prospect if reader.is_operator or prospect is None else mask_prospect(prospect),
            "extraction": state.get("extraction") if isinstance(state.get("extraction"), dict) else None,
            "changelog": {"partition": row["partition"], "offset": row["offset"], "at": iso(row["recorded_at_ms"])},
            "emissions": [_emission(emission) for emission in timeline],
            "state": dict(state) if reader.is_operator else None,
        }
    )


async def emissions(request: web.Request) -> web.Response:
    """The newest emissions, or those after an id."""
    context = request.app[CONTEXT]
    after = _integer(request.query.get("after"), 0, 2**53)
    rows = await asyncio.to_thread(context.activity.tail, after, _limit(request))
    return _json({"emissions": [_emission(row) for row in rows]})


async def letters(request: web.Request) -> web.Response:
    """Dead letters: how many of each reason, and the newest of them. Never their bytes."""
    context = request.app[CONTEXT]
    state = request.query.get("state", "open")
    wanted = LetterFilter(reason=request.query.get("reason") or None, state=state if state in STATES else None)
    groups = await asyncio.to_thread(context.activity.letter_groups)
    rows = await asyncio.to_thread(context.activity.letters, wanted, _limit(request))
    return _json({"groups": [asdict(group) for group in groups], "letters": [_letter(row) for row in rows]})


async def act_on_letters(request: web.Request) -> web.Response:
    """Redrive or discard one letter, or all open ones of a reason."""
    who = require_operator(request)
    context = request.app[CONTEXT]
    body = await _body(request)
    wanted = Wanted(letter_id=_text(body, "id"), reason=_text(body, "reason"))
    if wanted.letter_id is None and wanted.reason is None:
        raise web.HTTPBadRequest
    action: ActionName = "redrive" if request.match_info["action"] == "redrive" else "discard"
    try:
        planned, ends = await plan(context.settings, action, wanted)
        if body.get("dry_run") is True:
            return _json({"letters": planned.total, "left": planned.not_ours, "dry_run": True})
        report = await act(context.settings, action, wanted, ends, by=who.name)
    except (RetryableError, ConfigurationError):
        raise web.HTTPServiceUnavailable from None
    left = report.refused + report.not_ours
    details = {name: value for name, value in (("id", wanted.letter_id), ("reason", wanted.reason)) if value}
    await asyncio.to_thread(
        context.audit.note, who.name, who.role, action, **details, letters=report.total, left=left or None
    )
    return _json({"letters": report.total, "left": left, "dry_run": False})


async def audit(request: web.Request) -> web.Response:
    """What operators did."""
    require_operator(request)
    return _json({"actions": request.app[CONTEXT].audit.newest(_limit(request))})


def _overview(figures: Overview) -> dict[str, Any]:
    return {
        "roles": [
            {name: value for name, value in asdict(role).items() if name != "states"}
            | {"state": role.state, "error_rate": role.error_rate}
            for role in figures.roles
        ],
        "processes": [
            asdict(process)
            | {"is_silent": process.is_silent, "partitions": [lag.model_dump() for lag in process.partitions]}
            for process in figures.processes
        ],
        "alerts": [
            {name: value for name, value in asdict(alert).items() if name != "since_ms"}
            | {"kind": alert.kind.value, "since": iso(alert.since_ms)}
            for alert in figures.alerts
        ],
        "sessions": figures.sessions,
        "open_letters": figures.open_letters,
        "last_24_hours": {
            "emitted": figures.emitted_today,
            "tokens": figures.tokens_today,
            "usd": figures.usd_today,
            "budget_usd": figures.budget_usd_per_day,
        },
    }


def _emission(row: sqlite3.Row) -> dict[str, Any]:
    names = (
        "id",
        "event_id",
        "kind",
        "partition",
        "offset",
        "momento",
        "nivel_interes",
        "extractor",
        "turns",
        "input_tokens",
        "output_tokens",
        "cost_usd",
        "latency_ms",
    )
    return (
        {name: row[name] for name in names}
        | {"key": bytes(row["key"]).decode("utf-8", "backslashreplace"), "at": iso(row["recorded_at_ms"])}
        | {"is_repeat": bool(row["is_repeat"])}
    )


def _letter(row: sqlite3.Row) -> dict[str, Any]:
    names = (
        "id",
        "reason",
        "error",
        "error_class",
        "origin_topic",
        "partition",
        "offset",
        "attempts",
        "redrives_before",
        "redriven",
        "state",
        "size_bytes",
        "copies",
    )
    return {name: row[name] for name in names} | {"failed_at": iso(row["failed_at_ms"])}


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


def _integer(text: str | None, default: int, highest: int) -> int:
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise web.HTTPBadRequest
    return max(1, min(int(text), highest))


def _json(value: Any) -> web.Response:
    return web.Response(body=orjson.dumps(value, default=str), content_type="application/json")
