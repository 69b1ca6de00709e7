"""Everything the pages ask of the index: one page of sessions, one session, the counts.

From: the SQLite file that read_model.py writes. To: pages.py. Pages follow a key, never an offset, so page one thousand
costs what page one costs, and a row that stays where it is is neither skipped nor shown twice.
"""

from __future__ import annotations

import base64
import binascii
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nexus_stream.console.session_row import fold
from nexus_stream.console.store import open_reader

__all__ = ["Cursor", "Page", "SessionFilter", "SessionQueries"]

MAX_SEARCH_CHARS = 200
MAX_SEARCH_WORDS = 8

# The trigram index finds nothing shorter.
_TRIGRAM_CHARS = 3
# Up to this many matches are fetched and sorted; a term with more is met soon enough by walking in time order.
_SORTED_MATCHES_MAX = 5000
# "300 555-0102" finds +573005550102: what is typed as a number is searched by its digits too.
_PHONE_CHARS = frozenset("0123456789 +-().")
_PHONE_DIGITS_MIN = 5

_LIST_COLUMNS = (
    "key, tenant_id, session_id, status, nombre, email, telefono, fingerprint, momento, arquetipo, objeciones, "
    "nivel_interes, extractor, turns, first_seen_ms, last_seen_ms"
)
_ORDER = "ORDER BY last_seen_ms DESC, key LIMIT :limit"


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
        if not dot or not (milliseconds.isascii() and milliseconds.isdigit() and len(milliseconds) < 19):
            raise ValueError("no cursor")
        try:
            decoded = base64.b64decode(key + "=" * (-len(key) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError) as error:
            raise ValueError("no cursor") from error
        return cls(int(milliseconds), decoded)


@dataclass(frozen=True, slots=True)
class SessionFilter:
    """Which sessions to list. ``text`` is words that all must occur, in any searched field, as parts of words too."""

    text: str = ""
    status: str | None = None
    momento: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Rows, newest first, and where the next page starts; None after the last one."""

    rows: tuple[sqlite3.Row, ...]
    next_cursor: Cursor | None


class SessionQueries:
    """Reads the file. Its methods block; each opens its own connection, so threads need not wait for each other."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def page(self, session_filter: SessionFilter, after: Cursor | None, limit: int) -> Page:
        """One page of sessions by (last seen, newest first; key)."""
        conditions: list[str] = []
        parameters: dict[str, Any] = {"limit": limit + 1}
        for column, value in (("status", session_filter.status), ("momento", session_filter.momento)):
            if value is not None:
                conditions.append(f"{column} = :{column}")
                parameters[column] = value
        if after is not None:
            conditions.append("last_seen_ms <= :after_ms AND (last_seen_ms < :after_ms OR key > :after_key)")
            parameters |= {"after_ms": after.last_seen_ms, "after_key": after.key}
        with self._connection() as db:
            source = self._search(db, session_filter.text, conditions, parameters)
            where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
            # Only names of this module are put together here; every value is a parameter.
            sql = f"SELECT {_LIST_COLUMNS} FROM {source} {where} {_ORDER}"  # noqa: S608
            rows = db.execute(sql, parameters).fetchall()
        more = len(rows) > limit
        rows = rows[:limit]
        return Page(tuple(rows), Cursor(rows[-1]["last_seen_ms"], rows[-1]["key"]) if more else None)

    def session(self, key: bytes) -> sqlite3.Row | None:
        """Everything about one session, its state as the bytes on the changelog; None when there is none."""
        with self._connection() as db:
            row = db.execute("SELECT * FROM sessions WHERE key = ?", (key,)).fetchone()
            assert row is None or isinstance(row, sqlite3.Row)  # noqa: S101 - what open_reader sets
            return row

    def counts(self) -> dict[str, int]:
        """Sessions by status."""
        with self._connection() as db:
            return dict(db.execute("SELECT status, sessions FROM status_counts WHERE sessions > 0 ORDER BY status"))

    def check(self) -> None:
        """Raise sqlite3.Error if the file cannot be read."""
        with self._connection() as db:
            db.execute("SELECT 1 FROM meta").fetchone()

    def _search(self, db: sqlite3.Connection, text: str, conditions: list[str], parameters: dict[str, Any]) -> str:
        """Add what ``text`` asks for; returns what to select from."""
        alternatives = _alternatives(text)
        if not alternatives:
            return "sessions"
        # A word too short for the index is looked for in the rows themselves.
        if all(len(word) >= _TRIGRAM_CHARS for words in alternatives for word in words):
            parameters["match"] = " OR ".join(f"({' AND '.join(map(_quoted, words))})" for words in alternatives)
            found = db.execute(
                "SELECT count(*) FROM (SELECT 1 FROM sessions_fts WHERE sessions_fts MATCH :match LIMIT :most)",
                {"match": parameters["match"], "most": _SORTED_MATCHES_MAX + 1},
            ).fetchone()[0]
            if found <= _SORTED_MATCHES_MAX:
                # CROSS JOIN fixes the order: matches first, then their rows.
                return (
                    "(SELECT rowid AS hit FROM sessions_fts WHERE sessions_fts MATCH :match) "
                    "CROSS JOIN sessions ON sessions.id = hit"
                )
        either: list[str] = []
        for words in alternatives:
            both: list[str] = []
            for word in words:
                name = f"word{len(parameters)}"
                parameters[name] = word
                both.append(f"instr(search_text, :{name}) > 0")
            either.append(f"({' AND '.join(both)})")
        conditions.append(f"({' OR '.join(either)})")
        return "sessions"

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with closing(open_reader(self._path)) as connection:
            yield connection


def _alternatives(text: str) -> list[list[str]]:
    folded = fold(text[:MAX_SEARCH_CHARS])
    alternatives = [folded.split()[:MAX_SEARCH_WORDS]]
    digits = "".join(char for char in folded if char.isdigit())
    if set(folded) <= _PHONE_CHARS and len(digits) >= _PHONE_DIGITS_MIN and [digits] != alternatives[0]:
        alternatives.append([digits])
    return [words for words in alternatives if words]


def _quoted(word: str) -> str:
    return '"' + word.replace('"', '""') + '"'
