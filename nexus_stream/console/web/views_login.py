"""The views for login, logout and the choice of a language.

From: browsers. Login attempts are limited per client and in total. The audit log records every checked attempt.
"""

from __future__ import annotations

from aiohttp import hdrs, web

from nexus_stream.console.web.access import COOKIE
from nexus_stream.console.web.audit import LOGIN_FAILED
from nexus_stream.console.web.context import CONTEXT, Context
from nexus_stream.console.web.guard import keep_language, set_cookie
from nexus_stream.console.web.texts import LANGUAGES
from nexus_stream.console.web.viewing import viewing
from nexus_stream.gateway.client_address import client_bucket
from nexus_stream.gateway.rate_limit import RateLimiter
from nexus_stream.observability.logs import hashed

__all__ = ["Login", "choose_language"]

_ATTEMPTS_PER_MINUTE = 10
_TOTAL_ATTEMPTS_PER_MINUTE = 120
_MAX_FORM_BYTES = 4096


class Login:
    """The login form, with its rate limits."""

    def __init__(self) -> None:
        self._per_client = RateLimiter(_ATTEMPTS_PER_MINUTE)
        self._total = RateLimiter(_TOTAL_ATTEMPTS_PER_MINUTE)

    async def form(self, request: web.Request) -> web.Response:
        """Return the form. Redirect a user who is already logged in."""
        reader = viewing(request)
        if reader.identity is not None:
            raise web.HTTPSeeOther("/")
        return web.Response(text=request.app[CONTEXT].pages.login(reader, None), content_type="text/html")

    async def submit(self, request: web.Request) -> web.Response:
        """Check the token and set a cookie."""
        context, reader = request.app[CONTEXT], viewing(request)
        if not context.access.is_own_origin(request.headers.get(hdrs.ORIGIN), request.host):
            raise web.HTTPForbidden
        client = _client(context, request)
        wait_seconds = self._per_client.take(client) or self._total.take(b"all")
        if wait_seconds > 0:
            return web.Response(
                text=context.pages.login(reader, "limited"),
                content_type="text/html",
                status=429,
                headers={hdrs.RETRY_AFTER: str(int(wait_seconds) + 1)},
            )
        if (request.content_length or 0) > _MAX_FORM_BYTES:
            raise web.HTTPRequestEntityTooLarge(_MAX_FORM_BYTES, request.content_length or 0)
        form = await request.post()
        identity = context.access.of_token(str(form.get("token", "")), str(form.get("name", "")))
        # A hash of the client is enough to see whether failures come from one place.
        where = hashed(client.hex())
        if identity is None:
            await context.audit.write_down("unknown", "none", LOGIN_FAILED, client=where)
            return web.Response(text=context.pages.login(reader, "wrong"), content_type="text/html", status=401)
        await context.audit.write_down(identity.name, identity.role, "login", client=where)
        response = web.Response(status=303, headers={hdrs.LOCATION: "/"})
        set_cookie(context, response, context.access.sign(identity))
        return response

    async def out(self, request: web.Request) -> web.Response:
        """Delete the cookie."""
        response = web.Response(status=303, headers={hdrs.LOCATION: "/login"})
        response.del_cookie(COOKIE, samesite="Strict", httponly=True)
        return response


async def choose_language(request: web.Request) -> web.Response:
    """Store the language in a cookie, and redirect back to a page of the console."""
    language, back = request.query.get("to", ""), request.query.get("back", "/")
    is_own_page = back.startswith("/") and not back.startswith(("//", "/\\")) and back.isprintable()
    response = web.Response(status=303, headers={hdrs.LOCATION: back if is_own_page else "/"})
    if language in LANGUAGES:
        keep_language(response, language)
    return response


def _client(context: Context, request: web.Request) -> bytes:
    forwarded = request.headers.getall(hdrs.X_FORWARDED_FOR, ())
    return client_bucket(request.remote, forwarded, context.settings.console_trusted_proxies)
