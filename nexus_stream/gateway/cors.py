"""CORS headers from an allow-list of origins: they decide which web pages may read the answers.

``navigator.sendBeacon`` always sends credentials. Therefore the answer repeats a named origin with
``allow-credentials``. With ``*`` in the list, other origins get the wildcard; browsers refuse a wildcard together with
credentials. CORS is not access control: it decides which pages may read an answer, not who may post.

A preflight allows the headers that the page asks for, because scripts of other people add headers to every request
(``traceparent``, ``sentry-trace``, ``baggage``, ``x-posthog-*``), and one refused header loses the post. Headers for
servers are never allowed. Chromium needs no further header for a gateway on the visitor's own machine or network: since
version 142 it asks the visitor instead (Local Network Access), and never where the page is local too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["CorsPolicy"]

_METHODS = "GET, POST, OPTIONS"
_EXPOSED_HEADERS = "X-Message-Id, X-Processing-Time, Retry-After"
# Browsers have their own upper limit (Chromium: two hours).
_MAX_AGE_SECONDS = "7200"
_ANY_PORT = ":*"
_PORT = re.compile(r":[0-9]{1,5}$")

_FOR_SERVERS = frozenset({"x-tenant-id", "x-nexus-server-key", "x-nexus-visitor-address"})
# A token (RFC 9110, section 5.6.2). `*` alone would be one, and would allow every header (Fetch standard).
_HEADER_NAME = re.compile(r"(?!\*$)[a-z0-9!#$%&'*+.^_`|~-]{1,128}")
_MAX_REQUESTED = 64


class CorsPolicy:
    """The allow-list. Origins are compared as browsers send them: scheme, host and port, lower case, no slash.

    ``http://localhost:*`` allows that scheme and host with every port.
    """

    def __init__(self, allowed_origins: Iterable[str]) -> None:
        origins = {origin.strip().rstrip("/").lower() for origin in allowed_origins}
        self._any = "*" in origins
        patterns = {origin for origin in origins if origin.endswith(_ANY_PORT)}
        self._any_port = frozenset(pattern.removesuffix(_ANY_PORT) for pattern in patterns)
        # Sandboxed frames and local files send "null": an allowed "null" would allow all of them.
        self._named = frozenset(origins - patterns - {"*", "null", ""})

    def headers(self, origin: str | None, *, preflight: bool = False, requested: str = "") -> dict[str, str]:
        """The headers of one answer; without ``allow-origin`` the browser hides the answer from the page.

        Args:
            origin: The request's ``Origin`` header.
            preflight: Whether the answer is to a preflight request.
            requested: The preflight's ``Access-Control-Request-Headers``.
        """
        # Always present: a cache must not give the answer for one request to a request that gets another answer.
        headers = {"Vary": "Origin, Access-Control-Request-Headers" if preflight else "Origin"}
        if origin is None:
            return headers
        if self._is_named(origin.lower()):
            headers["Access-Control-Allow-Origin"] = origin
            headers["Access-Control-Allow-Credentials"] = "true"
        elif self._any:
            headers["Access-Control-Allow-Origin"] = "*"
        else:
            return headers
        if preflight:
            headers["Access-Control-Allow-Methods"] = _METHODS
            headers["Access-Control-Allow-Headers"] = _allowed(requested)
            headers["Access-Control-Max-Age"] = _MAX_AGE_SECONDS
        else:
            headers["Access-Control-Expose-Headers"] = _EXPOSED_HEADERS
        return headers

    def _is_named(self, origin: str) -> bool:
        return origin in self._named or _PORT.sub("", origin) in self._any_port


def _allowed(requested: str) -> str:
    names = [name.strip().lower() for name in requested.split(",", _MAX_REQUESTED)[:_MAX_REQUESTED]]
    kept = [name for name in names if _HEADER_NAME.fullmatch(name) and name not in _FOR_SERVERS]
    return ", ".join(dict.fromkeys(["content-type", *kept]))
