"""JSON answers for requests that aiohttp refuses before a handler of ours runs.

aiohttp answers these in plain text: bytes that are no HTTP request, headers that are too large, an ``Expect`` header
that nobody knows. It has no setting for that, so `GatewayRunner` serves with a protocol class of its own. This uses
``AppRunner._make_server`` and ``Server._kwargs`` of aiohttp 3.14; tests/integration/gateway/test_bad_requests.py
notices a change.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from nexus_stream.contracts.refusal_codes import RefusalCode
from nexus_stream.gateway.answer import http_error, json_answer

__all__ = ["GatewayRunner"]

_ERRORS = {
    RefusalCode.REQUEST_MALFORMED: "The request is not valid HTTP",
    RefusalCode.HEADERS_TOO_LARGE: "The request line or a header is too long",
    RefusalCode.INTERNAL_ERROR: "Internal error",
}
_SERVER_ERROR = 500


class _Protocol(web.RequestHandler):
    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        # aiohttp logs the error. It raises if a part of an answer was sent already.
        super().handle_error(request, status, exc, message)
        if status >= _SERVER_ERROR:
            code = RefusalCode.INTERNAL_ERROR
        elif isinstance(exc, LineTooLong):
            code = RefusalCode.HEADERS_TOO_LARGE
        else:
            code = RefusalCode.REQUEST_MALFORMED
        # aiohttp's own message quotes the request.
        response = json_answer({"error": _ERRORS[code], "code": code}, code.status)
        response.force_close()
        return response

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        if isinstance(resp, web.HTTPException):
            resp = http_error(resp)
        return await super().finish_response(request, resp, start_time)


class _Server(web.Server):
    def __call__(self) -> web.RequestHandler:
        return _Protocol(self, loop=self._loop, **self._kwargs)


class GatewayRunner(web.AppRunner):
    """Serves an application; every answer is JSON."""

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        options: dict[str, Any] = made._kwargs
        return _Server(made.request_handler, request_factory=made.request_factory, **options)
