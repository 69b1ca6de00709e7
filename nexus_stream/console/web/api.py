"""The JSON API under ``/api/v1``, with the same data as the pages. Login: a bearer token, or the browser's cookie.

From: programs. answers.py has the models. openapi.py describes the models and the routes. A handler's docstring is its
summary in the OpenAPI document.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import cache
from typing import Any

import orjson
from aiohttp import web

from nexus_stream.console.index.session_row import OBJECTIONS, state_of
from nexus_stream.console.reading.activity import STATES
from nexus_stream.console.reading.filters import PERIODS, is_number
from nexus_stream.console.web import answers
from nexus_stream.console.web.context import CONTEXT
from nexus_stream.console.web.dead_letter_actions import ActionName, Wanted, act, plan
from nexus_stream.console.web.guard import require_operator
from nexus_stream.console.web.masking import mask_prospect
from nexus_stream.console.web.openapi import INTEGER, TEXT, TIME, Route, openapi_document, parameter
from nexus_stream.console.web.session_detail import load_detail
from nexus_stream.console.web.session_pages import shown_row
from nexus_stream.console.web.viewing import viewing
from nexus_stream.console.web.views_letters import page_of_letters, read_letter, wanted_letters
from nexus_stream.console.web.views_sessions import filter_of, find_session, page_of

__all__ = ["ROUTES", "add_routes"]

_MAX_ROWS = 500
_DEFAULT_ROWS = 50
_MAX_MINUTES = 24 * 60
_MAX_BODY_BYTES = 16_384


def add_routes(app: web.Application) -> None:
    """Add all routes under ``/api/v1``."""
    app.router.add_get("/api/v1/openapi.json", openapi)
    for route in ROUTES:
        add = app.router.add_post if route.method == "post" else app.router.add_get
        add(f"/api/v1{route.path}", route.handler)


async def openapi(request: web.Request) -> web.Response:
    """This document."""
    return web.Response(body=_document(), content_type="application/json")


async def overview(request: web.Request) -> web.Response:
    """Figures of each process type, processes, alerts."""
    context, reader = request.app[CONTEXT], viewing(request)
    figures = await context.figures(reader.now_ms)
    return _json(
        answers.Overview(
            freshness=reader.freshness,
            roles=figures.roles,
            processes=figures.processes,
            alerts=context.alerts.firing,
            sessions=figures.sessions,
            open_letters=figures.open_letters,
            last_24_hours=figures,
        )
    )


async def series(request: web.Request) -> web.Response:
    """Rates, lag, age and latency over time."""
    context = request.app[CONTEXT]
    minutes = _integer(request.query.get("minutes"), 180, _MAX_MINUTES)
    found = await asyncio.to_thread(context.overview.series, viewing(request).now_ms, minutes)
    return _json(answers.Series.model_validate(found))


async def sessions(request: web.Request) -> web.Response:
    """Sessions, newest first.

    A page may have few or no sessions and still have a `next`: a scan without an index stops after a time limit.
    """
    context, reader = request.app[CONTEXT], viewing(request)
    session_filter, after = filter_of(request)
    page = await page_of(context, reader, session_filter, after, _limit(request))
    more = None if page.next_cursor is None else str(page.next_cursor)
    return _json(answers.Sessions(sessions=[shown_row(reader, row) for row in page.rows], next=more))


async def session(request: web.Request) -> web.Response:
    """One session with its details."""
    context, reader = request.app[CONTEXT], viewing(request)
    row = await find_session(request)
    detail = await load_detail(context, reader, row)
    state = state_of(row["state"])
    prospect = state.get("prospect") if isinstance(state.get("prospect"), dict) else None
    return _json(
        answers.SessionDetail(
            session=shown_row(reader, row),
            prospect=prospect if reader.is_operator or prospect is None else mask_prospect(prospect),
            extraction=state.get("extraction") if isinstance(state.get("extraction"), dict) else None,
            changelog=row,
            emissions=detail.emissions,
            conversation=detail.conversation,
            database=detail.database,
            others=[shown_row(reader, other) for other in detail.others],
            letters=detail.letters,
            state=state if reader.is_operator else None,
        )
    )


async def emissions(request: web.Request) -> web.Response:
    """Emissions, oldest first: the newest ones, or the first ones after the id `after`."""
    context, limit = request.app[CONTEXT], _limit(request)
    if "after" in request.query:
        after = _integer(request.query["after"], 0, 2**53, lowest=0)
        rows = await asyncio.to_thread(context.activity.emissions, after, limit + 1)
    else:
        rows = await asyncio.to_thread(context.activity.tail, 0, limit)
    page = rows[:limit]
    return _json(answers.Emissions(emissions=page, next=str(page[-1]["id"]) if len(rows) > limit else None))


async def letters(request: web.Request) -> web.Response:
    """Dead letters: counts by reason, and one page of letters, newest first."""
    context = request.app[CONTEXT]
    groups = await asyncio.to_thread(context.activity.letter_groups)
    after = request.query.get("after", "")
    rows, more = await page_of_letters(context, wanted_letters(request.query), after, _limit(request))
    return _json(answers.Letters(groups=groups, letters=rows, next=more))


async def letter(request: web.Request) -> web.Response:
    """One dead letter. Operators also get its bytes, read from the topic now."""
    context, reader = request.app[CONTEXT], viewing(request)
    row = await asyncio.to_thread(context.activity.letter, request.match_info["id"])
    if row is None:
        raise web.HTTPNotFound
    record = await read_letter(context, reader, row)
    problem, content = (record, None) if isinstance(record, str) else (None, record)
    return _json(answers.LetterDetail(letter=row, session_key=row["session_key"], problem=problem, content=content))


async def redrive(request: web.Request) -> web.Response:
    """Redrive letters: send them back to their origin topic."""
    return await _act(request, "redrive")


async def discard(request: web.Request) -> web.Response:
    """Discard letters: mark them as closed."""
    return await _act(request, "discard")


async def audit(request: web.Request) -> web.Response:
    """Operators' actions, newest first. For operators only."""
    require_operator(request)
    return _json(answers.Actions(actions=request.app[CONTEXT].audit.newest(_limit(request))))


_LIMIT = parameter("limit", INTEGER | {"minimum": 1, "maximum": _MAX_ROWS}, "Maximum number of entries; default 50.")
_AFTER = parameter("after", TEXT, "`next` of the previous page.")
ROUTES = (
    Route("/overview", overview, answers.Overview),
    Route(
        "/series",
        series,
        answers.Series,
        (
            parameter(
                "minutes", INTEGER | {"minimum": 1, "maximum": _MAX_MINUTES}, "Length of the period; default 180."
            ),
        ),
    ),
    Route(
        "/sessions",
        sessions,
        answers.Sessions,
        (
            parameter("q", TEXT, "Search words; all must occur. For viewers: a whole session id."),
            parameter("status", TEXT, "enriched, waiting, dead, erased."),
            parameter("momento", TEXT, "caliente, tibio, frio."),
            parameter("arquetipo", TEXT, "One of the six archetypes."),
            parameter("objecion", {"enum": list(OBJECTIONS)}, "Sessions with this objection."),
            parameter("extractor", TEXT, "claude, offline-rules-v1."),
            parameter("period", {"enum": list(PERIODS)}, "Last seen within this period."),
            parameter("since", TIME, "Last seen at this time or later."),
            parameter("until", TIME, "Last seen before this time."),
            _LIMIT,
            _AFTER,
        ),
    ),
    Route("/sessions/{tenant}/{session:.+}", session, answers.SessionDetail),
    Route(
        "/emissions",
        emissions,
        answers.Emissions,
        (parameter("after", INTEGER | {"minimum": 0}, "Only ids after this one; 0 starts with the oldest."), _LIMIT),
    ),
    Route(
        "/dead-letters",
        letters,
        answers.Letters,
        (
            parameter("reason", TEXT, "Reason of the failure."),
            parameter("state", {"enum": [*STATES, "all"]}, "State of the letter; default open."),
            _LIMIT,
            _AFTER,
        ),
    ),
    Route("/dead-letters/{id:.+}", letter, answers.LetterDetail),
    Route("/dead-letters/redrive", redrive, answers.Acted, method="post"),
    Route("/dead-letters/discard", discard, answers.Acted, method="post"),
    Route("/audit", audit, answers.Actions, (_LIMIT,)),
)


@cache
def _document() -> bytes:
    return orjson.dumps(openapi_document(ROUTES))


async def _act(request: web.Request, action: ActionName) -> web.Response:
    """Redrive or discard one letter, or all open ones of a reason."""
    who = require_operator(request)
    context = request.app[CONTEXT]
    body = await _body(request)
    wanted = Wanted(letter_id=_text(body, "id"), reason=_text(body, "reason"))
    if wanted.letter_id is None and wanted.reason is None:
        raise web.HTTPBadRequest
    planned, ends = await plan(context.settings, action, wanted)
    if body.get("dry_run") is True:
        return _json(answers.Acted(letters=planned.total, left=planned.not_ours, dry_run=True))
    report = await act(context, who, action, wanted, ends)
    return _json(answers.Acted(letters=report.total, left=report.refused + report.not_ours, dry_run=False))


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


def _json(answer: answers.Answer) -> web.Response:
    return web.Response(body=answer.model_dump_json().encode(), content_type="application/json")
