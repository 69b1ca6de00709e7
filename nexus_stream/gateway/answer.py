"""Answers: JSON, with the headers that every answer has."""

from __future__ import annotations

from collections.abc import Mapping

import orjson
from aiohttp import hdrs, web

from nexus_stream.contracts.refusal_codes import RefusalCode

__all__ = ["STANDARD_HEADERS", "http_error", "json_answer"]

STANDARD_HEADERS: Mapping[str, str] = {
    # Not `no-store`: Chromium then keeps an unread answer's share of a page's 64 KiB keepalive quota, and the page's
    # 12th post fails. An answer without validators is never reused with `no-cache` either (RFC 9111, section 5.2.2.4).
    hdrs.CACHE_CONTROL: "no-cache",
    # aiohttp's own value shows the versions of Python and of aiohttp.
    hdrs.SERVER: "nexus-stream",
}
_OF_AIOHTTP = (RefusalCode.NOT_FOUND, RefusalCode.METHOD_NOT_ALLOWED, RefusalCode.EXPECTATION_FAILED)
_BY_STATUS = {code.status: code for code in _OF_AIOHTTP}


def json_answer(
    body: Mapping[str, object], status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Make an answer with a JSON body."""
    return web.Response(
        body=orjson.dumps(body),
        status=status,
        headers={**STANDARD_HEADERS, **(headers or {})},
        content_type="application/json",
        charset="utf-8",
    )


def http_error(error: web.HTTPException) -> web.Response:
    """Our answer for aiohttp's own error: 404, 405, 417."""
    code = _BY_STATUS.get(error.status, RefusalCode.REQUEST_MALFORMED)
    allow: dict[str, str] = {"Allow": error.headers[hdrs.ALLOW]} if hdrs.ALLOW in error.headers else {}
    return json_answer({"error": error.reason, "code": code}, error.status, allow)
