"""Who looks at a page, in which language, and how current the view is."""

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
    """One request's reader.

    Attributes:
        identity: Who; None on the login page and where an error comes before anyone is let in.
        language: One of `LANGUAGES`.
        needs_login: Whether there is something to log out of.
        freshness: How current the view is.
        now_ms: Unix milliseconds.
        here: The address, path and query.
    """

    identity: Identity | None
    language: str
    needs_login: bool
    freshness: Freshness
    now_ms: int
    here: str

    @property
    def is_operator(self) -> bool:
        """Whether they see people's data and may act."""
        return self.identity is not None and self.identity.is_operator


VIEWING: web.RequestKey[Viewing] = web.RequestKey("viewing", Viewing)


def viewing(request: web.Request) -> Viewing:
    """Who looks at it."""
    return request[VIEWING]


def language_of(request: web.Request) -> str:
    """The language chosen before, or the first one of ``Accept-Language`` that there is."""
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
    """Unix milliseconds."""
    return time.time_ns() // 1_000_000
