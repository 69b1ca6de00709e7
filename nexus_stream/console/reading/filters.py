"""Which sessions a page is asked for: read from an address, written back into one.

From: query strings. To: queries.py, and the links of the pages.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from urllib.parse import urlencode

from nexus_stream.common.moments import iso_moment

__all__ = ["MAX_SEARCH_CHARS", "PERIODS", "Cursor", "SessionFilter", "is_number", "list_url"]

MAX_SEARCH_CHARS = 200
_MAX_VALUE_CHARS = 64
_HOUR_MS = 3_600_000
_MAX_DIGITS = 19
# What "in the last" offers; a since and until of one's own go into the address.
PERIODS: Mapping[str, int] = {"1h": _HOUR_MS, "24h": 24 * _HOUR_MS, "7d": 168 * _HOUR_MS, "30d": 720 * _HOUR_MS}


def is_number(text: str) -> bool:
    """Whether an address's text is a whole number that SQLite can hold."""
    return text.isascii() and text.isdigit() and len(text) < _MAX_DIGITS


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last row of a page: the next one starts below it."""

    last_seen_ms: int
    key: bytes

    def __str__(self) -> str:
        return f"{self.last_seen_ms}.{base64.urlsafe_b64encode(self.key).decode().rstrip('=')}"

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """The cursor a link carries.

        Raises:
            ValueError: it is none.
        """
        milliseconds, dot, key = text.partition(".")
        if not dot or not is_number(milliseconds):
            raise ValueError("no cursor")
        try:
            decoded = base64.b64decode(key + "=" * (-len(key) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError) as error:
            raise ValueError("no cursor") from error
        return cls(int(milliseconds), decoded)


@dataclass(frozen=True, slots=True)
class SessionFilter:
    """Which sessions to list; what is empty or None asks nothing.

    Attributes:
        text: Words that all must occur, in any searched field, as parts of words too.
        period: One of `PERIODS`, counted back from now.
        since: ISO 8601; seen then or later.
        until: ISO 8601; seen before.
    """

    text: str = ""
    status: str | None = None
    momento: str | None = None
    arquetipo: str | None = None
    objecion: str | None = None
    extractor: str | None = None
    period: str | None = None
    since: str | None = None
    until: str | None = None

    @classmethod
    def of_query(cls, query: Mapping[str, str]) -> SessionFilter:
        """As an address asks for it.

        Raises:
            ValueError: a time that is none.
        """
        values = {
            field.name: query[field.name][:_MAX_VALUE_CHARS]
            for field in fields(cls)
            if field.name != "text" and query.get(field.name)
        }
        found = cls(text=query.get("q", "").strip()[:MAX_SEARCH_CHARS], **values)
        if found.period not in PERIODS:
            found = replace(found, period=None)
        found.bounds_ms(0)
        return found

    def bounds_ms(self, now_ms: int) -> tuple[int | None, int | None]:
        """Seen at or after, seen before, in Unix milliseconds.

        Raises:
            ValueError: a time that is none.
        """
        since_ms = None if self.since is None else _unix_ms(self.since)
        if self.period is not None:
            since_ms = max(since_ms or 0, now_ms - PERIODS[self.period])
        return since_ms, None if self.until is None else _unix_ms(self.until)

    @property
    def query(self) -> dict[str, str]:
        """The address's query for it."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values["q"] = values.pop("text")
        return {name: value for name, value in values.items() if value}


def list_url(session_filter: SessionFilter, after: Cursor | None = None, path: str = "/sessions") -> str:
    """The address of a page of the list."""
    values = session_filter.query | ({} if after is None else {"after": str(after)})
    return f"{path}?{urlencode(values)}" if values else path


def _unix_ms(text: str) -> int:
    return int(iso_moment(text).timestamp() * 1000)
