"""The views of dead letters: the list, one letter, and actions with a confirmation.

From: browsers. The bytes of a letter come from the topic. Actions go through dead_letter_actions.py.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from aiohttp import web
from aiokafka import ConsumerRecord

from nexus_stream.console.reading.activity import STATES, LetterFilter
from nexus_stream.console.reading.filters import is_number
from nexus_stream.console.web.context import CONTEXT, Context
from nexus_stream.console.web.dead_letter_actions import ActionName, Wanted, act, plan
from nexus_stream.console.web.guard import require_operator
from nexus_stream.console.web.rendering import pretty_json
from nexus_stream.console.web.texts import translator
from nexus_stream.console.web.topic_reader import Absent
from nexus_stream.console.web.viewing import Viewing, viewing
from nexus_stream.contracts.session_key import parse_session_key
from nexus_stream.dead_letters.redriving import RedriveReport
from nexus_stream.kafka.reading import Ends

__all__ = [
    "act_on_letters",
    "confirm",
    "letter",
    "letters",
    "page_of_letters",
    "read_letter",
    "wanted_letters",
]

PAGE_ROWS = 50
_SHOWN_BYTES = 65_536
_SHOWN_HEADER_CHARS = 500
_ACTIONS_SHOWN = 20


async def letters(request: web.Request) -> web.Response:
    """Return the page of dead letters."""
    context, reader, query = request.app[CONTEXT], viewing(request), request.query
    wanted = wanted_letters(query)
    groups = await asyncio.to_thread(context.activity.letter_groups)
    rows, after = await page_of_letters(context, wanted, query.get("after", ""), PAGE_ROWS)
    values = {"reason": wanted.reason, "state": wanted.state or "all", "after": after}
    next_url = after and "/dead-letters?" + urlencode({name: value for name, value in values.items() if value})
    actions = context.audit.newest(_ACTIONS_SHOWN, {"redrive", "discard"})
    text = context.pages.letters(reader, groups, rows, wanted, next_url, actions, _message(reader, query))
    return web.Response(text=text, content_type="text/html")


def wanted_letters(query: Mapping[str, str]) -> LetterFilter:
    """Parse the filter of an address. Default: open letters. An unknown state means all letters."""
    state = query.get("state", "open")
    return LetterFilter(reason=query.get("reason") or None, state=state if state in STATES else None)


async def page_of_letters(
    context: Context, wanted: LetterFilter, after: str, limit: int
) -> tuple[list[sqlite3.Row], str | None]:
    """Return one page of letters, and the start of the next page; None after the last page.

    Raises:
        HTTPBadRequest: ``after`` is malformed.
    """
    rows = await asyncio.to_thread(context.activity.letters, wanted, limit + 1, _cursor(after))
    page = rows[:limit]
    return page, f"{page[-1]['failed_at_ms']}.{page[-1]['id']}" if len(rows) > limit else None


async def letter(request: web.Request) -> web.Response:
    """Return the page of one letter. Operators also see its bytes, read from the topic now."""
    context, reader = request.app[CONTEXT], viewing(request)
    row = await asyncio.to_thread(context.activity.letter, request.match_info["id"])
    if row is None:
        raise web.HTTPNotFound
    record = await read_letter(context, reader, row)
    content, problem = None, None
    if isinstance(record, str):
        problem = record
    else:
        content = _shown(record.key, record.value, record.headers)
    session = None if row["session_key"] is None else parse_session_key(row["session_key"])
    text = context.pages.letter(reader, row, content, problem, session)
    return web.Response(text=text, content_type="text/html")


async def read_letter(context: Context, reader: Viewing, row: sqlite3.Row) -> ConsumerRecord | str:
    """Read the letter's record from the topic. Or return why it is not shown: hidden, expired, unreachable, missing."""
    if not reader.is_operator:
        return "hidden"
    record = await context.reader.read(context.settings.dead_letter_topic, row["partition"], row["offset"])
    return record.name.lower() if isinstance(record, Absent) else record


async def confirm(request: web.Request) -> web.Response:
    """Return the confirmation page, with counts from the topic itself."""
    require_operator(request)
    context, reader = request.app[CONTEXT], viewing(request)
    action, wanted = _requested(request.query)
    report, ends = await plan(context.settings, action, wanted)
    return web.Response(text=_confirm_page(context, reader, action, wanted, report, ends), content_type="text/html")


async def act_on_letters(request: web.Request) -> web.Response:
    """Run the action, record it in the audit log, and redirect to the page."""
    who = require_operator(request)
    context = request.app[CONTEXT]
    form = {name: str(value) for name, value in (await request.post()).items()}
    action, wanted = _requested(form)
    ends = _ends(form.get("ends", ""))
    report = await act(context, who, action, wanted, ends)
    left = report.refused + report.not_ours
    query = urlencode({"done": action, "n": report.total, "left": left})
    return web.Response(status=303, headers={"Location": f"/dead-letters?{query}"})


def _confirm_page(
    context: Context, reader: Viewing, action: ActionName, wanted: Wanted, report: RedriveReport, ends: Ends
) -> str:
    t = translator(reader.language)
    lines = [f"{count} × {reason}" for reason, count in report.chosen.most_common()]
    if action == "redrive":
        lines += [f"{count} → {topic}" for topic, count in report.topics.most_common()]
    if report.not_ours:
        lines.append(t("confirm.not_ours", n=report.not_ours))
    back = f"/dead-letters/{quote(wanted.letter_id, safe='')}" if wanted.letter_id else "/dead-letters"
    return context.pages.confirm(
        reader,
        title=t(f"confirm.{action}", n=report.total),
        explanation=t(f"confirm.{action}_text") if report.total else t("confirm.nothing"),
        lines=lines,
        action_url="/dead-letters/act",
        fields={"action": action, "ends": json.dumps(ends), **wanted.named},
        typed=None,
        verb=t(f"letters.{action}"),
        is_possible=report.total > 0,
        is_dangerous=action == "discard",
        back_url=back,
    )


def _requested(values: Mapping[str, str]) -> tuple[ActionName, Wanted]:
    action = values.get("action")
    wanted = Wanted(letter_id=values.get("id") or None, reason=values.get("reason") or None)
    if action not in {"redrive", "discard"} or (wanted.letter_id is None and wanted.reason is None):
        raise web.HTTPBadRequest
    return "redrive" if action == "redrive" else "discard", wanted


def _ends(text: str) -> Ends:
    try:
        return {int(partition): int(offset) for partition, offset in json.loads(text).items()}
    except (ValueError, AttributeError, TypeError, OverflowError, RecursionError):
        raise web.HTTPBadRequest from None


def _cursor(text: str) -> tuple[int, str] | None:
    milliseconds, _, letter_id = text.partition(".")
    if not text:
        return None
    if not is_number(milliseconds):
        raise web.HTTPBadRequest
    return int(milliseconds), letter_id


def _message(reader: Viewing, query: Mapping[str, str]) -> str | None:
    t = translator(reader.language)
    done, n, left = query.get("done"), query.get("n", ""), query.get("left", "0")
    if done not in {"redrive", "discard"} or not (is_number(n) and is_number(left)):
        return None
    text = t(f"letters.done_{done}", n=int(n))
    return f"{text} {t('letters.left', n=int(left))}" if int(left) else text


def _shown(key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes | None]]) -> Mapping[str, Any]:
    whole = value or b""
    return {
        "key": None if key is None else _text(key)[:_SHOWN_HEADER_CHARS],
        "headers": [(name, _text(raw or b"")[:_SHOWN_HEADER_CHARS]) for name, raw in headers],
        "value": pretty_json(whole) if len(whole) <= _SHOWN_BYTES else _text(whole[:_SHOWN_BYTES]),
        "size_bytes": len(whole),
        "is_cut": len(whole) > _SHOWN_BYTES,
    }


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")
