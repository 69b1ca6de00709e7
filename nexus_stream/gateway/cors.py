"""Which web pages may read the answers: the CORS headers, from an allow-list of origins.

``navigator.sendBeacon`` always sends credentials, so a named origin is echoed with ``allow-credentials``; with ``*`` in
the list, others get the wildcard, which browsers refuse to combine with credentials. CORS is no access control: it
decides what a page may read, not who may post.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["CorsPolicy"]

_METHODS = "GET, POST, OPTIONS"
_REQUEST_HEADERS = "content-type, x-tenant-id"
_EXPOSED_HEADERS = "X-Message-Id, X-Processing-Time, Retry-After"
# Browsers cap it themselves (Chromium at two hours).
_MAX_AGE_SECONDS = "7200"


class CorsPolicy:
    """The allow-list. Origins are compared as browsers send them: scheme, host and port, lower case, no slash."""

    def __init__(self, allowed_origins: Iterable[str]) -> None:
        origins = {origin.strip().rstrip("/").lower() for origin in allowed_origins}
        self._any = "*" in origins
        # "null" is what sandboxed frames and local files send: naming it would allow all of them.
        self._named = frozenset(origins - {"*", "null", ""})

    def headers(self, origin: str | None, *, preflight: bool = False) -> dict[str, str]:
        """The headers of one answer; without ``allow-origin`` the browser keeps it from the page.

        Args:
            origin: The request's ``Origin`` header.
            preflight: Whether the answer is to a preflight request.
        """
        # Always: a cache must not hand one origin's answer, or one without headers, to another.
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
