"""Query the index for the pages and the API: one page of sessions, one session, the counts.

From: the SQLite file that read_model.py writes. Pagination uses a key, not an offset. So page one thousand is as fast
as page one, and a row that does not move is neither skipped nor repeated.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nexus_stream.console.index.session_row import OBJECTIONS, fold
from nexus_stream.console.index.store import is_damage, note_damage, open_reader
from nexus_stream.console.reading.filters import MAX_SEARCH_CHARS, Cursor, SessionFilter
from nexus_stream.console.reading.walking import ORDER, below, walk

__all__ = ["Page", "SessionQueries", "TooSlowError", "reading"]

MAX_SEARCH_WORDS = 8

# The trigram index finds no shorter words.
_TRIGRAM_CHARS = 3
# Up to this many matches are fetched and sorted. A more frequent word is found quickly by a scan in time order.
_SORTED_MATCHES_MAX = 5000
_IDENTIFIER_CHARS_MIN = 12
# "300 555-0102" finds +573005550102: a text that looks like a number is also searched by its digits.
_PHONE_CHARS = frozenset("0123456789 +-().")
_PHONE_DIGITS_MIN = 5

_LIST_COLUMNS = (
    "key, tenant_id, session_id, status, nombre, email, telefono, fingerprint, momento, arquetipo, objeciones, "
    "nivel_interes, extractor, turns, first_seen_ms, last_seen_ms"
)
_INDEX_OF_FACET = {
    "status": "sessions_by_status",
    "momento": "sessions_by_momento",
    "arquetipo": "sessions_by_arquetipo",
    "extractor": "sessions_by_extractor",
    "objecion": "",
}
_INDEX_OF_OBJECTION = {
    "price": "sessions_by_price",
    "time": "sessions_by_time_objection",
    "trust": "sessions_by_trust",
    "mlm": "sessions_by_mlm",
}
_PAGE_SECONDS = 5.0
_STEPS_BETWEEN_LOOKS = 20_000


class TooSlowError(Exception):
    """The query exceeds the time limit of a page. The user should narrow the filter."""


@dataclass(frozen=True, slots=True)
class Page:
    """Rows, newest first, and the start of the next page; None after the last page.

    ``is_cut_short``: the search reached its time limit at ``next_cursor`` before the page was full.
    """

    rows: tuple[sqlite3.Row, ...]
    next_cursor: Cursor | None
    is_cut_short: bool = False


class SessionQueries:
    """Query the file. The methods block. Each one opens its own connection, so threads do not wait for each other."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def page(
        self, session_filter: SessionFilter, after: Cursor | None, limit: int, now_ms: int = 0, *, exact: bool = False
    ) -> Page:
        """Return one page of sessions, ordered by last seen (newest first), then by key.

        Args:
            session_filter: The filter.
            after: The end of the previous page.
            limit: The maximum number of rows.
            now_ms: Unix milliseconds; a filter's period counts back from this time.
            exact: Match the text only as a whole session id, or as ``tenant:session``.

        Raises:
            TooSlowError: the query exceeded the time limit of a page.
        """
        parameters: dict[str, Any] = {"limit": limit + 1}
        facets = _facet_conditions(session_filter, parameters)
        period = _period_conditions(session_filter, now_ms, parameters)
        conditions = [*facets.values(), *period]
        stopped_at: Cursor | None = None
        with self._connection() as db:
            if exact and session_filter.text:
                source: str | None = _whole_session(session_filter.text, conditions, parameters)
            else:
                source = _search(db, session_filter.text, conditions, parameters)
            if source is None:
                rarest = _rarest_facet(db, session_filter)
                of_index = [facets[rarest], *period] if rarest else period
                source = _by_index(session_filter, rarest)
                rows, stopped_at = walk(db, _LIST_COLUMNS, source, of_index, conditions, parameters, after)
            else:
                place, of_place = below(after)
                where = " AND ".join([*conditions, *place])
                # The SQL text contains only names of this module. Every value is a parameter.
                sql = f"SELECT {_LIST_COLUMNS} FROM {source} {f'WHERE {where}' if where else ''} {ORDER} LIMIT :limit"  # noqa: S608
                rows = db.execute(sql, parameters | of_place).fetchall()
        if len(rows) > limit:
            rows = rows[:limit]
            return Page(tuple(rows), Cursor(rows[-1]["last_seen_ms"], rows[-1]["key"]))
        return Page(tuple(rows), stopped_at, is_cut_short=stopped_at is not None)

    def session(self, key: bytes) -> sqlite3.Row | None:
        """Return all columns of one session, with its state as the bytes of the changelog. None if it is unknown."""
        with self._connection() as db:
            row = db.execute("SELECT * FROM sessions WHERE key = ?", (key,)).fetchone()
            assert row is None or isinstance(row, sqlite3.Row)  # noqa: S101 - what open_reader sets
            return row

    def others_of_person(self, row: sqlite3.Row, limit: int) -> list[sqlite3.Row]:
        """Return other sessions of the tenant that share a fingerprint, the e-mail or the phone, newest first."""
        with self._connection() as db:
            return db.execute(
                f"SELECT {_LIST_COLUMNS} FROM sessions WHERE tenant_id = :tenant_id AND key != :key "  # noqa: S608 - our own names
                "AND (email = :email OR telefono = :telefono OR id IN (SELECT theirs.id FROM session_fingerprints own "
                "JOIN session_fingerprints theirs USING (fingerprint) WHERE own.id = :id)) "
                "ORDER BY last_seen_ms DESC LIMIT :limit",
                {name: row[name] for name in ("tenant_id", "key", "email", "telefono", "id")} | {"limit": limit},
            ).fetchall()

    def counts(self) -> dict[str, int]:
        """Return the number of sessions by status."""
        with self._connection() as db:
            return dict(db.execute("SELECT status, sessions FROM status_counts ORDER BY status"))

    def facets(self) -> dict[str, dict[str, int]]:
        """Return facet -> value -> number of sessions."""
        found: dict[str, dict[str, int]] = {}
        with self._connection() as db:
            for facet, value, sessions in db.execute("SELECT * FROM facet_counts WHERE sessions > 0"):
                found.setdefault(facet, {})[value] = sessions
        return found

    def check(self) -> None:
        """Raise sqlite3.Error if the file cannot be read."""
        with self._connection() as db:
            db.execute("SELECT 1 FROM meta").fetchone()

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with reading(self._path) as connection:
            yield connection


@contextmanager
def reading(path: Path, seconds: float = _PAGE_SECONDS) -> Iterator[sqlite3.Connection]:
    """Open a connection for one query.

    Raises:
        TooSlowError: the query exceeded the time limit.
        sqlite3.OperationalError: the file cannot be read at present.
    """
    deadline = time.monotonic() + seconds
    with closing(open_reader(path)) as connection:
        connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS_BETWEEN_LOOKS)
        try:
            yield connection
        except sqlite3.OperationalError as error:
            if time.monotonic() > deadline:
                raise TooSlowError from error
            raise
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            note_damage(path)
            # The error is temporary: the writer recreates the file.
            raise sqlite3.OperationalError("the index is damaged") from error


def _facet_conditions(session_filter: SessionFilter, parameters: dict[str, Any]) -> dict[str, str]:
    """Return the condition of each facet in the filter, and add the values to the parameters."""
    conditions: dict[str, str] = {}
    for column in ("status", "momento", "arquetipo", "extractor"):
        value = getattr(session_filter, column)
        if value is not None:
            conditions[column] = f"{column} = :{column}"
            parameters[column] = value
    if session_filter.objecion is not None:
        # The same expression as in the partial indexes. The value is one of four constants.
        known = session_filter.objecion in OBJECTIONS
        conditions["objecion"] = f"instr(objeciones, '{session_filter.objecion}')" if known else "0"
    return conditions


def _period_conditions(session_filter: SessionFilter, now_ms: int, parameters: dict[str, Any]) -> list[str]:
    conditions: list[str] = []
    since_ms, until_ms = session_filter.bounds_ms(now_ms)
    if since_ms is not None:
        conditions.append("last_seen_ms >= :since_ms")
        parameters["since_ms"] = since_ms
    if until_ms is not None:
        conditions.append("last_seen_ms < :until_ms")
        parameters["until_ms"] = until_ms
    return conditions


def _whole_session(text: str, conditions: list[str], parameters: dict[str, Any]) -> str:
    """Add the condition that the text is a whole session id. Return the source to select from."""
    conditions.append("key IN (:typed, :without_tenant)")
    parameters |= {
        "typed": text.encode("utf-8", "replace"),
        "without_tenant": f":{text}".encode("utf-8", "replace"),
    }
    return "sessions"


def _search(db: sqlite3.Connection, text: str, conditions: list[str], parameters: dict[str, Any]) -> str | None:
    """Add the conditions for the text. Return the source to select from, or None if a scan is needed."""
    alternatives = _alternatives(text)
    if not alternatives:
        return None
    hits = _whole_identifier(db, text)
    # A word that is too short for the index is searched in the rows themselves. The other words narrow these rows.
    indexed = [[word for word in words if len(word) >= _TRIGRAM_CHARS] for words in alternatives]
    if not hits and all(indexed):
        match = " OR ".join(f"({' AND '.join(map(_quoted, words))})" for words in indexed)
        found = db.execute(
            "SELECT rowid FROM sessions_fts WHERE sessions_fts MATCH ? LIMIT ?", (match, _SORTED_MATCHES_MAX + 1)
        ).fetchall()
        if len(found) <= _SORTED_MATCHES_MAX:
            hits = [row[0] for row in found]
            if not hits:
                conditions.append("0")
                return "sessions"
            if indexed != alternatives:
                _require_words(alternatives, conditions, parameters)
    if hits:
        parameters["hits"] = json.dumps(hits)
        # CROSS JOIN fixes the join order: first the matches, then their rows.
        return "(SELECT value AS hit FROM json_each(:hits)) CROSS JOIN sessions ON sessions.id = hit"
    _require_words(alternatives, conditions, parameters)
    return None


def _rarest_facet(db: sqlite3.Connection, session_filter: SessionFilter) -> str | None:
    """Return the rarest facet of the filter, whose index the scan uses. Return None if no facet is filtered.

    SQLite would choose by averages. But some values are rarer than the average (example: the status "dead").
    """
    sizes = {
        facet: (
            db.execute("SELECT sessions FROM facet_counts WHERE facet = ? AND value = ?", (facet, value)).fetchone()
            or (0,)
        )[0]
        for facet in _INDEX_OF_FACET
        if (value := getattr(session_filter, facet)) is not None
    }
    return min(sizes, key=lambda facet: sizes[facet], default=None)


def _by_index(session_filter: SessionFilter, facet: str | None) -> str:
    name: str | None
    if facet is None:
        name = "sessions_by_time"
    elif facet == "objecion":
        name = _INDEX_OF_OBJECTION.get(session_filter.objecion or "")
    else:
        name = _INDEX_OF_FACET[facet]
    return f"sessions INDEXED BY {name}" if name else "sessions"


def _require_words(alternatives: list[list[str]], conditions: list[str], parameters: dict[str, Any]) -> None:
    """Add the condition that the words occur in the rows themselves."""
    either: list[str] = []
    for words in alternatives:
        both: list[str] = []
        for word in words:
            name = f"word{len(parameters)}"
            parameters[name] = word
            both.append(f"instr(search_text, :{name}) > 0")
        either.append(f"({' AND '.join(both)})")
    conditions.append(f"({' OR '.join(either)})")


def _whole_identifier(db: sqlite3.Connection, text: str) -> list[int]:
    """Return the rows whose session, fingerprint or e-mail equals the text, if the text is long enough for one.

    Ids of one site often have the same prefix. The trigrams of this prefix match every row and make a search slow.
    """
    if len(text) < _IDENTIFIER_CHARS_MIN:
        return []
    key = text.encode("utf-8", "replace")
    found = db.execute(
        "SELECT id FROM sessions WHERE key IN (?, ?) UNION SELECT id FROM session_fingerprints WHERE fingerprint = ? "
        "UNION SELECT id FROM sessions WHERE email = ? LIMIT ?",
        (key, b":" + key, text, text.lower(), _SORTED_MATCHES_MAX),
    )
    return [row[0] for row in found]


def _alternatives(text: str) -> list[list[str]]:
    folded = fold(text[:MAX_SEARCH_CHARS])
    alternatives = [folded.split()[:MAX_SEARCH_WORDS]]
    digits = "".join(char for char in folded if char.isdigit())
    if set(folded) <= _PHONE_CHARS and len(digits) >= _PHONE_DIGITS_MIN and [digits] != alternatives[0]:
        alternatives.append([digits])
    return [words for words in alternatives if words]


def _quoted(word: str) -> str:
    return '"' + word.replace('"', '""') + '"'
