"""CORS headers from an allow-list of origins: they decide which web pages may read the answers.

``navigator.sendBeacon`` always sends credentials. Therefore the answer repeats a named origin with
``allow-credentials``. With ``*`` in the list, other origins get the wildcard; browsers refuse a wildcard together with
credentials. CORS is not access control: it decides which pages may read an answer, not who may post.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["CorsPolicy"]

_METHODS = "GET, POST, OPTIONS"
_REQUEST_HEADERS = "content-type, x-tenant-id"
_EXPOSED_HEADERS = "X-Message-Id, X-Processing-Time, Retry-After"
# Browsers have their own upper limit (Chromium: two hours).
_MAX_AGE_SECONDS = "7200"


class CorsPolicy:
    """The allow-list. Origins are compared as browsers send them: scheme, host and port, lower case, no slash."""

    def __init__(self, allowed_origins: Iterable[str]) -> None:
        origins = {origin.strip().rstrip("/").lower() for origin in allowed_origins}
        self._any = "*" in origins
        # Sandboxed frames and local files send "null": an allowed "null" would allow all of them.
        self._named = frozenset(origins - {"*", "null", ""})

    def headers(self, origin: str | None, *, preflight: bool = False) -> dict[str, str]:
        """The headers of one answer; without ``allow-origin`` the browser hides the answer from the page.

        Args:
            origin: The request's ``Origin`` header.
            preflight: Whether the answer is to a preflight request.
        """
        # Always present: a cache must not give the answer for one origin, or for no origin, to another origin.
        headers = {"Vary": "Origin"}
        if origin is None:
            return headers
        if origin.lower() in self._named:
            headers["Access-Control-Allow-Origin"] = origin
            headers["Access-Control-Allow-Credentials"] = "true"
        elif self._any:
            headers["Access-Control-Allow-Origin"] = "*"
        else:
            return headers
        if preflight:
            headers["Access-Control-Allow-Methods"] = _METHODS
            headers["Access-Control-Allow-Headers"] = _REQUEST_HEADERS
            headers["Access-Control-Max-Age"] = _MAX_AGE_SECONDS
        else:
            headers["Access-Control-Expose-Headers"] = _EXPOSED_HEADERS
        return headers
