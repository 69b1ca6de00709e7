"""Query emissions and dead letters, for the timeline, the live tail, the dead-letters page and the API."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from nexus_stream.console.reading.queries import reading

__all__ = ["ActivityQueries", "LetterFilter", "LetterGroup"]

STATES = ("open", "redriven", "discarded")
_LETTERS = (
    "SELECT letters.*, coalesce(letter_marks.state, 'open') AS state, coalesce(redriven, 0) AS redriven, "
    "coalesce(by, '') AS marked_by, at_ms AS marked_at_ms FROM letters LEFT JOIN letter_marks USING (identity)"
)
_TAIL = (
    "SELECT emissions.*, sessions.tenant_id, sessions.session_id, sessions.nombre, sessions.email, sessions.telefono, "
    "sessions.arquetipo, sessions.objeciones FROM emissions LEFT JOIN sessions USING (key)"
)


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """A filter for dead letters. None is no condition."""

    reason: str | None = None
    state: str | None = "open"
    session_key: bytes | None = None


@dataclass(frozen=True, slots=True)
class LetterGroup:
    """The letters of one reason in one state."""

    reason: str
    state: str
    count: int
    first_failed_ms: int
    last_failed_ms: int


class ActivityQueries:
    """Query the file. The methods block."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def timeline(self, key: bytes, limit: int = 50) -> list[sqlite3.Row]:
        """Return a session's emissions, newest first."""
        with reading(self._path) as db:
            return db.execute("SELECT * FROM emissions WHERE key = ? ORDER BY id DESC LIMIT ?", (key, limit)).fetchall()

    def tail(self, after: int, limit: int) -> list[sqlite3.Row]:
        """Return the newest emissions after this id, oldest first, with the fields of their sessions."""
        with reading(self._path) as db:
            rows = db.execute(f"{_TAIL} WHERE emissions.id > ? ORDER BY emissions.id DESC LIMIT ?", (after, limit))
            return rows.fetchall()[::-1]

    def emissions(self, after: int, limit: int) -> list[sqlite3.Row]:
        """Return the first emissions after this id, oldest first. A client can continue from the last id."""
        with reading(self._path) as db:
            return db.execute("SELECT * FROM emissions WHERE id > ? ORDER BY id LIMIT ?", (after, limit)).fetchall()

    def count_emissions(self, after: int, before: int) -> int:
        """Count the emissions between two ids."""
        with reading(self._path) as db:
            found = db.execute("SELECT count(*) FROM emissions WHERE id > ? AND id < ?", (after, before))
            return int(found.fetchone()[0])

    def newest_emission(self) -> int:
        """Return the highest id ever used, even if its emission was erased. Return 0 if there was none."""
        with reading(self._path) as db:
            found = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'emissions'").fetchone()
            return 0 if found is None else int(found[0])

    def letter_groups(self) -> list[LetterGroup]:
        """Return the letters by reason and state: open ones first, then by frequency."""
        with reading(self._path) as db:
            rows = db.execute(
                "SELECT reason, coalesce(state, 'open') AS state, count(*), min(failed_at_ms), max(failed_at_ms) "
                "FROM letters LEFT JOIN letter_marks USING (identity) GROUP BY 1, 2 ORDER BY state != 'open', 3 DESC"
            ).fetchall()
        return [LetterGroup(*row) for row in rows]

    def letters(self, wanted: LetterFilter, limit: int, after: tuple[int, str] | None = None) -> list[sqlite3.Row]:
        """Return letters, newest failure first, after the position (failed at, id)."""
        conditions, parameters = _conditions(wanted)
        if after is not None:
            conditions.append("(failed_at_ms < :after_ms OR (failed_at_ms = :after_ms AND letters.id > :after_id))")
            parameters |= {"after_ms": after[0], "after_id": after[1]}
        where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
        with reading(self._path) as db:
            return db.execute(
                f"{_LETTERS} {where} ORDER BY failed_at_ms DESC, letters.id LIMIT :limit",
                parameters | {"limit": limit},
            ).fetchall()

    def letter(self, letter_id: str) -> sqlite3.Row | None:
        """Return one letter. If a recreated topic repeats ids, return the newest letter."""
        with reading(self._path) as db:
            found = db.execute(f"{_LETTERS} WHERE letters.id = ? ORDER BY failed_at_ms DESC LIMIT 1", (letter_id,))
            row = found.fetchone()
            assert row is None or isinstance(row, sqlite3.Row)  # noqa: S101 - what open_reader sets
            return row


def _conditions(wanted: LetterFilter) -> tuple[list[str], dict[str, object]]:
    conditions: list[str] = []
    parameters: dict[str, object] = {}
    if wanted.reason is not None:
        conditions.append("reason = :reason")
        parameters["reason"] = wanted.reason
    if wanted.state is not None:
        conditions.append("coalesce(letter_marks.state, 'open') = :state")
        parameters["state"] = wanted.state
    if wanted.session_key is not None:
        conditions.append("session_key = :session_key")
        parameters["session_key"] = wanted.session_key
    return conditions, parameters
