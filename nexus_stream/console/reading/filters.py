"""Filters and cursors of the session list: parse them from a query string, and write them to links."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from urllib.parse import urlencode

from nexus_stream.contracts.moments import iso_moment

__all__ = ["MAX_SEARCH_CHARS", "PERIODS", "Cursor", "SessionFilter", "is_number", "list_url"]

MAX_SEARCH_CHARS = 200
_MAX_VALUE_CHARS = 64
_HOUR_MS = 3_600_000
_MAX_DIGITS = 19
# The choices of "in the last". Other times go into the address as since and until.
PERIODS: Mapping[str, int] = {"1h": _HOUR_MS, "24h": 24 * _HOUR_MS, "7d": 168 * _HOUR_MS, "30d": 720 * _HOUR_MS}


def is_number(text: str) -> bool:
    """Whether a text is a whole number in SQLite's range."""
    return text.isascii() and text.isdigit() and len(text) < _MAX_DIGITS


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last row of a page. The next page starts after it."""

    last_seen_ms: int
    key: bytes

    def __str__(self) -> str:
        return f"{self.last_seen_ms}.{base64.urlsafe_b64encode(self.key).decode().rstrip('=')}"

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Parse the cursor of a link.

        Raises:
            ValueError: the text is not a cursor.
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
    """A filter for sessions. An empty or None field is no condition.

    Attributes:
        text: Search words. All must occur in the searched fields; parts of words count too.
        period: One of `PERIODS`, counted back from now.
        since: ISO 8601; last seen at this time or later.
        until: ISO 8601; last seen before this time.
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
        """Parse a query string.

        Raises:
            ValueError: a time is malformed.
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
        """Return the bounds of "last seen" in Unix milliseconds: at or after, before.

        Raises:
            ValueError: a time is malformed.
        """
        since_ms = None if self.since is None else _unix_ms(self.since)
        if self.period is not None:
            since_ms = max(since_ms or 0, now_ms - PERIODS[self.period])
        return since_ms, None if self.until is None else _unix_ms(self.until)

    @property
    def query(self) -> dict[str, str]:
        """The filter as a query string's values."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values["q"] = values.pop("text")
        return {name: value for name, value in values.items() if value}


def list_url(session_filter: SessionFilter, after: Cursor | None = None, path: str = "/sessions") -> str:
    """Return the address of a page of the list."""
    values = session_filter.query | ({} if after is None else {"after": str(after)})
    return f"{path}?{urlencode(values)}" if values else path


def _unix_ms(text: str) -> int:
    return int(iso_moment(text).timestamp() * 1000)
