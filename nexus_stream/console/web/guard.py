"""The middleware for every request: host, credentials, forms, security headers, error pages.

From: browsers and programs. The handlers find a `Viewing` on the request.
"""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from nexus_stream.console.reading.queries import TooSlowError
from nexus_stream.console.web import answers
from nexus_stream.console.web.access import COOKIE, Identity
from nexus_stream.console.web.context import Context
from nexus_stream.console.web.viewing import LANGUAGE_COOKIE, VIEWING, Viewing, language_of, now_ms
from nexus_stream.errors import ConfigurationError, RetryableError
from nexus_stream.host.log import get_logger

__all__ = ["add_headers", "guard", "keep_language", "require_operator", "set_cookie"]

_log = get_logger(__name__)

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # The console needs the origin of its forms. Other sites must not get its addresses, which may contain searches.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
_ERROR_PAGES = frozenset({400, 403, 404, 413, 421, 429, 500, 503})
_OPEN_PATHS = frozenset({"/live", "/ready", "/login", "/language"})
_STATIC = "/static/"
API_PREFIX = "/api/"
_SAFE_METHODS = frozenset({hdrs.METH_GET, hdrs.METH_HEAD})
_MAX_FORM_BYTES = 64 * 1024


def guard(context: Context) -> Middleware:
    """Make the middleware."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        is_api = request.path.startswith(API_PREFIX)
        request[VIEWING] = _viewing(context, request, None)
        new_cookie: str | None = None
        response: web.StreamResponse
        try:
            if not context.access.answers_to(request.host):
                raise web.HTTPMisdirectedRequest  # noqa: TRY301 - one place makes the pages
            identity, new_cookie = _identity(context, request, is_api=is_api)
            if identity is None and not _is_open(request.path):
                return _ask_to_log_in(request, is_api=is_api)
            if new_cookie is not None:
                identity = context.access.of_cookie(new_cookie)
            request[VIEWING] = _viewing(context, request, identity)
            if request.method not in _SAFE_METHODS and request.path != "/login":
                await _require_own_form(context, request, identity)
            response = await handler(request)
        except web.HTTPException as error:
            if error.status < 400:
                response = error
            else:
                response = _error(context, request, error.status, error.headers, is_api=is_api)
        except TooSlowError:
            response = _error(context, request, 503, {}, is_api=is_api)
        except (RetryableError, ConfigurationError) as unavailable:
            # Our own errors contain no personal data and name the fix.
            _log.warning("console_unavailable", error=type(unavailable).__name__, reason=str(unavailable))
            response = _error(context, request, 503, {}, is_api=is_api, reason=str(unavailable))
        except Exception:
            # Do not log the address: a search contains personal data.
            _log.exception("console_page_failed")
            response = _error(context, request, 500, {}, is_api=is_api)
        if new_cookie is not None and not response.prepared:
            set_cookie(context, response, new_cookie)
        return response

    return middleware


async def add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    """Add the security headers to every response, including streams."""
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers[hdrs.SERVER] = "nexus-stream"


def require_operator(request: web.Request) -> Identity:
    """Return the operator.

    Raises:
        HTTPForbidden: the user is not an operator.
    """
    identity = request[VIEWING].identity
    if identity is None or not identity.is_operator:
        raise web.HTTPForbidden
    return identity


def set_cookie(context: Context, response: web.StreamResponse, cookie: str) -> None:
    """Set the login cookie. Scripts cannot read it, and other sites' requests do not send it."""
    response.set_cookie(
        COOKIE,
        cookie,
        max_age=context.access.lifetime_seconds,
        httponly=True,
        samesite="Strict",
        secure=context.settings.console_https,
    )


def _identity(context: Context, request: web.Request, *, is_api: bool) -> tuple[Identity | None, str | None]:
    """Return the sender of the request, and a new cookie for a sender without one."""
    access = context.access
    if is_api and hdrs.AUTHORIZATION in request.headers:
        return access.of_bearer(request.headers[hdrs.AUTHORIZATION]), None
    known = access.of_cookie(request.cookies.get(COOKIE, ""))
    if known is not None:
        return known, None
    anyone = access.anyone()
    if anyone is None or request.path.startswith(_STATIC):
        return anyone, None
    return anyone, access.sign(anyone)


async def _require_own_form(context: Context, request: web.Request, identity: Identity | None) -> None:
    """Refuse a form that another site sends with the user's cookie."""
    if identity is None or (not identity.csrf and hdrs.AUTHORIZATION in request.headers):
        return
    if (request.content_length or 0) > _MAX_FORM_BYTES:
        raise web.HTTPRequestEntityTooLarge(_MAX_FORM_BYTES, request.content_length or 0)
    token = request.headers.get("X-CSRF-Token") or str((await request.post()).get("csrf", ""))
    if not context.access.is_own_form(identity, token, request.headers.get(hdrs.ORIGIN), request.host):
        raise web.HTTPForbidden


def _is_open(path: str) -> bool:
    return path in _OPEN_PATHS or path.startswith(_STATIC)


def _ask_to_log_in(request: web.Request, *, is_api: bool) -> web.StreamResponse:
    if is_api:
        return web.json_response({"error": "unauthorized"}, status=401, headers={"WWW-Authenticate": "Bearer"})
    if "HX-Request" in request.headers or request.method not in _SAFE_METHODS:
        # A part of a page sent the request: the whole page must redirect.
        return web.Response(status=401, headers={"HX-Redirect": "/login"})
    return web.Response(status=303, headers={"Location": "/login"})


def _viewing(context: Context, request: web.Request, identity: Identity | None) -> Viewing:
    return Viewing(
        identity=identity,
        language=language_of(request),
        needs_login=context.access.needs_login,
        freshness=context.model.freshness(),
        now_ms=now_ms(),
        here=request.path_qs if request.method in _SAFE_METHODS else "/",
    )


def _error(
    context: Context,
    request: web.Request,
    status: int,
    headers: Mapping[str, str],
    *,
    is_api: bool,
    reason: str | None = None,
) -> web.StreamResponse:
    if not request[VIEWING].is_operator:
        # The reason names hosts and settings.
        reason = None
    allow = {hdrs.ALLOW: headers[hdrs.ALLOW]} if hdrs.ALLOW in headers else {}
    if is_api:
        answer = answers.Error(error=_ERROR_NAMES.get(status, "error"), reason=reason or "")
        return web.json_response(answer.model_dump(exclude_defaults=True), status=status, headers=allow)
    if status not in _ERROR_PAGES:
        return web.Response(status=status, text=f"{status}", headers=allow)
    text = context.pages.error(request[VIEWING], status, reason)
    return web.Response(text=text, status=status, content_type="text/html")


_ERROR_NAMES = {
    400: "bad_request",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    413: "too_large",
    421: "misdirected_request",
    429: "too_many_requests",
    500: "internal_error",
    503: "unavailable",
}


def keep_language(response: web.StreamResponse, language: str) -> None:
    """Store the language in a cookie for a year. The cookie is not personal data."""
    response.set_cookie(LANGUAGE_COOKIE, language, max_age=31_536_000, samesite="Strict", httponly=True)
