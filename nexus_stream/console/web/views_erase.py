"""The views for the export and the erasure of a person, with the functions of ``nexus privacy``.

From: operators' browsers. The console's audit log contains only hashes, as the table ``privacy_audit`` does.
"""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from aiohttp import web

from nexus_stream.console.web.context import CONTEXT, Context
from nexus_stream.console.web.guard import require_operator
from nexus_stream.console.web.recorded_actions import End, recorded
from nexus_stream.console.web.rendering import session_url
from nexus_stream.console.web.texts import translator
from nexus_stream.console.web.viewing import viewing
from nexus_stream.console.web.views_sessions import find_session
from nexus_stream.observability.logs import hashed
from nexus_stream.privacy.audit import audited
from nexus_stream.privacy.copies import remaining_copies
from nexus_stream.privacy.erasing import ErasureResult, erase, locate
from nexus_stream.privacy.exporting import export
from nexus_stream.privacy.people import People, Person
from nexus_stream.privacy.selector import Selector

__all__ = ["confirm", "erase_person", "export_person"]

# After this time the page stops waiting. The commands are on the topic and still run.
_WAIT_SECONDS = 20.0


async def confirm(request: web.Request) -> web.Response:
    """Return the confirmation page of an erasure, with the size of the person's data."""
    who = require_operator(request)
    context, reader = request.app[CONTEXT], viewing(request)
    row = await find_session(request)
    t = translator(reader.language)
    person, rows = await _person(context, row, who.name)
    text = context.pages.confirm(
        reader,
        title=t("erase.title"),
        explanation=t("erase.text"),
        lines=[
            t("erase.sessions", n=len(person.session_ids)),
            t("erase.fingerprints", n=len(person.fingerprints)),
            t("erase.rows", n=rows),
        ],
        action_url="/erase",
        fields={"tenant": row["tenant_id"], "session": row["session_id"]},
        typed={"label": t("erase.type"), "name": "typed"},
        verb=t("erase.verb"),
        is_possible=True,
        is_dangerous=True,
        back_url=session_url(row["tenant_id"], row["session_id"]),
    )
    return web.Response(text=text, content_type="text/html")


async def erase_person(request: web.Request) -> web.Response:
    """Erase the person, record the erasure, and show the result and the copies that remain."""
    who = require_operator(request)
    context, reader = request.app[CONTEXT], viewing(request)
    t = translator(reader.language)
    form = await request.post()
    row = await find_session(request, {name: str(form.get(name, "")) for name in ("tenant", "session")})
    if str(form.get("typed", "")).strip() != row["session_id"].strip():
        raise web.HTTPBadRequest
    session = hashed(row["session_id"])

    async def work(end: End) -> ErasureResult:
        result = await _erase(context, row, who.name)
        end |= {"request_id": result.request_id, "ended": "complete" if result.complete else "waiting"}
        return result

    result = await recorded(context, who, "erase", work, session=session)
    ended = "complete" if result.complete else "waiting"
    lines = []
    for copy in remaining_copies(context.settings):
        until = t("erase.never") if copy.until is None else copy.until.isoformat(timespec="minutes")
        lines.append(f"{copy.place}: {copy.what}, {until}")
    text = context.pages.confirm(
        reader,
        title=t(f"erase.{ended}"),
        explanation=t(f"erase.{ended}_text", n=len(result.waiting_for), request_id=result.request_id),
        lines=lines,
        action_url="",
        fields={},
        typed=None,
        verb="",
        is_possible=False,
        is_dangerous=False,
        back_url="/sessions",
    )
    return web.Response(text=text, content_type="text/html")


async def export_person(request: web.Request) -> web.Response:
    """Return all stored data of the session's person as a JSON file."""
    who = require_operator(request)
    context = request.app[CONTEXT]
    row = await find_session(request)

    async def work(_end: End) -> dict[str, Any]:
        return await _export(context, row, who.name)

    found = await recorded(context, who, "export_person", work, session=hashed(row["session_id"]))
    return web.Response(
        text=json.dumps(found, indent=2, default=str, ensure_ascii=False),
        content_type="application/json",
        headers={"Content-Disposition": 'attachment; filename="person.json"'},
    )


def _selector(context: Context, row: sqlite3.Row) -> Selector:
    return Selector.of("session", row["session_id"], row["tenant_id"], context.settings.default_region)


async def _person(context: Context, row: sqlite3.Row, by: str) -> tuple[Person, int]:
    selector = _selector(context, row)
    async with (
        People.connect(context.settings) as people,
        audited(people, "erase", selector, by) as request,
    ):
        person, _ = await locate(context.settings, people, selector)
        await request.concerns(person)
        request.outcome = "dry run"
        return person, await people.rows_left(person)


async def _erase(context: Context, row: sqlite3.Row, by: str) -> ErasureResult:
    selector = _selector(context, row)
    async with (
        People.connect(context.settings) as people,
        audited(people, "erase", selector, by) as request,
    ):
        person, _ = await locate(context.settings, people, selector)
        return await erase(
            context.settings,
            people,
            selector,
            person,
            requested_by=by,
            timeout_seconds=_WAIT_SECONDS,
            audit=request,
        )


async def _export(context: Context, row: sqlite3.Row, by: str) -> dict[str, Any]:
    async with People.connect(context.settings) as people:
        found, _ = await export(context.settings, people, _selector(context, row), by)
        return found
