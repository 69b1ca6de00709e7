"""The views of the session list, and of one session with its text and its database row.

From: browsers. The text comes from the ingestion topic, the row from PostgreSQL.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping

from aiohttp import web

from nexus_stream.console.reading.filters import Cursor, SessionFilter
from nexus_stream.console.reading.queries import Page
from nexus_stream.console.web.context import CONTEXT, Context
from nexus_stream.console.web.rendering import NO_TENANT
from nexus_stream.console.web.session_detail import load_detail
from nexus_stream.console.web.session_pages import SessionPages
from nexus_stream.console.web.viewing import Viewing, viewing
from nexus_stream.contracts.session_key import session_key

__all__ = ["PAGE_ROWS", "filter_of", "find_session", "page_of", "session", "sessions", "sessions_rows"]

PAGE_ROWS = 50
_SHOWN_TIMES_MS = 5000


async def sessions(request: web.Request) -> web.Response:
    """Return the page of the session list."""
    return await _list(request, whole=True)


async def sessions_rows(request: web.Request) -> web.Response:
    """Return only the rows of the list, or 204 if nothing has changed since the page's version."""
    if request.query.get("version") == _version(request):
        return web.Response(status=204)
    return await _list(request, whole=False)


async def _list(request: web.Request, *, whole: bool) -> web.Response:
    context, reader = request.app[CONTEXT], viewing(request)
    # Read the version before the query: the next request then shows rows that are written during the query.
    version = _version(request)
    session_filter, after = filter_of(request)
    page = await page_of(context, reader, session_filter, after, PAGE_ROWS)
    facets = await asyncio.to_thread(context.sessions.facets) if whole else {}
    text = SessionPages(context.pages).sessions(reader, page, facets, session_filter, after, version, whole=whole)
    return web.Response(text=text, content_type="text/html")


def _version(request: web.Request) -> str:
    # The version also changes every few seconds, because rows show relative times.
    moment = viewing(request).now_ms // _SHOWN_TIMES_MS
    return f"{request.app[CONTEXT].model.sessions_version}.{moment}"


def filter_of(request: web.Request) -> tuple[SessionFilter, Cursor | None]:
    """Parse the filter and the cursor of an address.

    Raises:
        HTTPBadRequest: a cursor or a time is malformed.
    """
    try:
        after = Cursor.parse(request.query["after"]) if request.query.get("after") else None
        return SessionFilter.of_query(request.query), after
    except ValueError:
        raise web.HTTPBadRequest from None


async def page_of(
    context: Context, reader: Viewing, session_filter: SessionFilter, after: Cursor | None, limit: int
) -> Page:
    """Return one page. A viewer's text must be a whole session id: a search by parts would reveal masked data."""
    return await asyncio.to_thread(
        context.sessions.page, session_filter, after, limit, reader.now_ms, exact=not reader.is_operator
    )


async def find_session(request: web.Request, named: Mapping[str, str] | None = None) -> sqlite3.Row:
    """Find the session named by an address, or by a form's fields ``tenant`` and ``session``.

    Raises:
        HTTPNotFound: the session does not exist.
    """
    # Some ids are in the query, because a browser would change the path: see rendering.session_url.
    query = request.query if named is None else named
    tenant_id = query.get("tenant", request.match_info.get("tenant", ""))
    session_id = request.match_info.get("session", query.get("session", ""))
    tenant_id = "" if tenant_id == NO_TENANT else tenant_id
    try:
        key = session_key(tenant_id, session_id)
    except ValueError:  # the tenant is invalid, or the text has no UTF-8 form
        raise web.HTTPNotFound from None
    row = await asyncio.to_thread(request.app[CONTEXT].sessions.session, key)
    if row is None:
        raise web.HTTPNotFound
    return row


async def session(request: web.Request) -> web.Response:
    """Return the page of one session."""
    context, reader = request.app[CONTEXT], viewing(request)
    row = await find_session(request)
    detail = await load_detail(context, reader, row)
    text = SessionPages(context.pages).session(
        reader,
        dict(row),
        context.settings.sessions_changelog_topic,
        emissions=detail.emissions,
        others=detail.others,
        letters=detail.letters,
        conversation=detail.conversation,
        database=detail.database,
        can_erase=reader.is_operator and row["status"] != "erased" and context.settings.database_url is not None,
    )
    return web.Response(text=text, content_type="text/html")
