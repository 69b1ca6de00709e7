"""The user of a request: identity, language, and the freshness of the view."""

from __future__ import annotations

import time
from dataclasses import dataclass

from aiohttp import web

from nexus_stream.console.index.read_model import Freshness
from nexus_stream.console.web.access import Identity
from nexus_stream.console.web.texts import LANGUAGES

__all__ = ["LANGUAGE_COOKIE", "VIEWING", "Viewing", "language_of", "now_ms", "viewing"]


LANGUAGE_COOKIE = "nexus_language"


@dataclass(frozen=True, slots=True)
class Viewing:
    """The user and the context of one request.

    Attributes:
        identity: The user. None on the login page, and for errors before the login check.
        language: One of `LANGUAGES`.
        needs_login: Whether the console has a login, so that the page shows a logout.
        freshness: How current the view is.
        now_ms: Unix milliseconds.
        here: The address: path and query.
    """

    identity: Identity | None
    language: str
    needs_login: bool
    freshness: Freshness
    now_ms: int
    here: str

    @property
    def is_operator(self) -> bool:
        """Whether the user may see personal data and run actions."""
        return self.identity is not None and self.identity.is_operator


VIEWING: web.RequestKey[Viewing] = web.RequestKey("viewing", Viewing)


def viewing(request: web.Request) -> Viewing:
    """Return the user of a request."""
    return request[VIEWING]


def language_of(request: web.Request) -> str:
    """Return the language of the cookie, or else the first known one in ``Accept-Language``."""
    chosen = request.cookies.get(LANGUAGE_COOKIE)
    if chosen in LANGUAGES:
        return chosen
    wanted: list[tuple[float, str]] = []
    for position, part in enumerate(request.headers.get("Accept-Language", "").split(",")[:20]):
        name, _, quality = part.strip().partition(";q=")
        try:
            weight = float(quality or 1)
        except ValueError:
            continue
        if weight > 0:
            wanted.append((weight - position / 1000, name.lower().partition("-")[0]))
    return next((name for _, name in sorted(wanted, reverse=True) if name in LANGUAGES), LANGUAGES[0])


def now_ms() -> int:
    """Return the time in Unix milliseconds."""
    return time.time_ns() // 1_000_000
