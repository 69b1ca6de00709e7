"""Logging in and out, and choosing a language.

From: browsers. To: access.py. Attempts are limited per client and in all, and every one is in the audit log.
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
_ATTEMPTS_OF_ALL_PER_MINUTE = 120
_MAX_FORM_BYTES = 4096


class Login:
    """The login form and what it remembers of attempts."""

    def __init__(self) -> None:
        self._of_client = RateLimiter(_ATTEMPTS_PER_MINUTE)
        self._of_all = RateLimiter(_ATTEMPTS_OF_ALL_PER_MINUTE)

    async def form(self, request: web.Request) -> web.Response:
        """The form; whoever is in already goes on."""
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
        wait_seconds = self._of_client.take(client) or self._of_all.take(b"all")
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
        # The client as a hash: enough to see whether failures come from one place.
        where = hashed(client.hex())
        if identity is None:
            await context.audit.write_down("unknown", "none", LOGIN_FAILED, client=where)
            return web.Response(text=context.pages.login(reader, "wrong"), content_type="text/html", status=401)
        await context.audit.write_down(identity.name, identity.role, "login", client=where)
        response = web.Response(status=303, headers={hdrs.LOCATION: "/"})
        set_cookie(context, response, context.access.sign(identity))
        return response

    async def out(self, request: web.Request) -> web.Response:
        """Forget the cookie."""
        response = web.Response(status=303, headers={hdrs.LOCATION: "/login"})
        response.del_cookie(COOKIE, samesite="Strict", httponly=True)
        return response


async def choose_language(request: web.Request) -> web.Response:
    """Remember the language and go back to a page of ours."""
    language, back = request.query.get("to", ""), request.query.get("back", "/")
    is_ours = back.startswith("/") and not back.startswith(("//", "/\\")) and back.isprintable()
    response = web.Response(status=303, headers={hdrs.LOCATION: back if is_ours else "/"})
    if language in LANGUAGES:
        keep_language(response, language)
    return response


def _client(context: Context, request: web.Request) -> bytes:
    forwarded = request.headers.getall(hdrs.X_FORWARDED_FOR, ())
    return client_bucket(request.remote, forwarded, context.settings.console_trusted_proxies)
