"""Export all sessions of a filter as CSV or JSON.

To: a download. It is streamed page by page, so memory use does not depend on the number of sessions. A viewer's export
is masked like the pages.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from nexus_stream.console.reading.filters import SessionFilter
from nexus_stream.console.web import answers
from nexus_stream.console.web.context import CONTEXT
from nexus_stream.console.web.session_pages import shown_row
from nexus_stream.console.web.viewing import viewing
from nexus_stream.console.web.views_sessions import filter_of, page_of

__all__ = ["export"]

_CHUNK_ROWS = 1000
_COLUMNS = tuple(answers.Session.model_fields)
# A spreadsheet runs a cell with such a start as a formula. A leading apostrophe keeps it text (OWASP, CSV injection).
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


async def export(request: web.Request) -> web.StreamResponse:
    """Stream the sessions of the filter, newest first."""
    kind = request.match_info["kind"]
    if kind not in {"csv", "json"}:
        raise web.HTTPNotFound
    context, reader = request.app[CONTEXT], viewing(request)
    session_filter, _ = filter_of(request)
    # Query the first page before sending headers: a failing filter then gives an error page, not half a file.
    page = await page_of(context, reader, session_filter, None, _CHUNK_ROWS)
    who = reader.identity
    assert who is not None  # noqa: S101 - guard.py requires an identity

    async def note(**details: object) -> None:
        # Do not record the search text: it may name a person.
        about = {"format": kind, "filtered": session_filter != SessionFilter()}
        await context.audit.write_down(who.name, who.role, "export_sessions", **about, **details)

    exported, ended = 0, "interrupted"
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    response = web.StreamResponse(
        headers={
            "Content-Type": "text/csv; charset=utf-8" if kind == "csv" else "application/json",
            "Content-Disposition": f'attachment; filename="sessions-{stamp}.{kind}"',
        }
    )
    try:
        # Record the export before sending data, so that every export has a line.
        await note(ended="began")
        await response.prepare(request)
        if kind == "csv":
            await response.write((",".join(_COLUMNS) + "\r\n").encode())
        while True:
            rows = [answers.Session.model_validate(shown_row(reader, row)).model_dump() for row in page.rows]
            await response.write(_csv(rows).encode() if kind == "csv" else _json(rows, is_first=not exported))
            exported += len(rows)
            if page.next_cursor is None:
                break
            page = await page_of(context, reader, session_filter, page.next_cursor, _CHUNK_ROWS)
        if kind == "json":
            await response.write(b"\n]\n" if exported else b"[]\n")
        await response.write_eof()
        ended = "complete"
    finally:
        await note(sessions=exported, ended=ended)
    return response


def _json(rows: Sequence[Mapping[str, Any]], *, is_first: bool) -> bytes:
    text = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    separator = "[\n" if is_first else ",\n"
    return f"{separator}{text}".encode("utf-8", "replace") if rows else b""


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    for row in rows:
        writer.writerow([_cell(row[name]) for name in _COLUMNS])
    return buffer.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = " ".join(value) if isinstance(value, list) else str(value)
    text = text.encode("utf-8", "replace").decode()
    is_formula = text.startswith(_FORMULA_STARTS) and not isinstance(value, int | float)
    return f"'{text}" if is_formula else text
