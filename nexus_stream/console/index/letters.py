"""Store dead letters for the console's list: reason, time, origin and state.

From: ``nexus-prospect-dlq``, letters and operators' marks. To: tables ``letters`` and ``letter_marks``. Key and value
stay on the topic. The page of a letter reads them from there.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from nexus_stream.console.index.topic_record import TopicRecord
from nexus_stream.contracts.session_key import session_key
from nexus_stream.dead_letters.filters import session_of
from nexus_stream.dead_letters.letter import Action, Letter, Mark, read_record

__all__ = ["LetterWriter"]

_HOUR_MS = 3_600_000
_INSERT = (
    "INSERT INTO letters VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1) "
    "ON CONFLICT DO UPDATE SET copies = copies + 1"
)
_MARK = (
    "INSERT INTO letter_marks VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET state = excluded.state, "
    "redriven = redriven + excluded.redriven, by = excluded.by, at_ms = excluded.at_ms"
)


class LetterWriter:
    """`TopicWriter` of the dead-letter topic.

    Args:
        max_rows: Maximum number of letters in the index. The topic has all letters.
        retention_hours: The topic's retention.
    """

    def __init__(self, max_rows: int, retention_hours: int) -> None:
        self.newest_only: int | None = None
        self.full_period_ms = 0
        self._max_rows = max_rows
        self._retention_ms = retention_hours * _HOUR_MS

    def apply(self, db: sqlite3.Connection, records: Sequence[TopicRecord]) -> None:
        """See `TopicWriter.apply`."""
        for record in records:
            key = record.key or None
            entry = read_record(record.partition, record.offset, record.timestamp_ms, key, record.value, record.headers)
            match entry:
                case Letter():
                    db.execute(_INSERT, _letter_row(entry, record.timestamp_ms))
                case Mark(identity=identity, action=action, by=by, at=at):
                    is_redrive = action is Action.REDRIVEN
                    db.execute(_MARK, (identity, action.value, int(is_redrive), by, round(at.timestamp() * 1000)))

    def prune(self, db: sqlite3.Connection, now_ms: int) -> None:
        """See `TopicWriter.prune`."""
        db.execute("DELETE FROM letters WHERE recorded_at_ms < ?", (now_ms - self._retention_ms,))
        surplus = db.execute("SELECT count(*) FROM letters").fetchone()[0] - self._max_rows
        if surplus > 0:
            db.execute(
                "DELETE FROM letters WHERE identity IN "
                "(SELECT identity FROM letters ORDER BY failed_at_ms, id DESC LIMIT ?)",
                (surplus,),
            )
        # A late copy of a letter may follow its mark. Marks are kept at most for the topic's retention.
        db.execute("DELETE FROM letter_marks WHERE at_ms < ?", (now_ms - self._retention_ms,))

    def clear(self, db: sqlite3.Connection) -> None:
        """See `TopicWriter.clear`."""
        db.execute("DELETE FROM letters")
        db.execute("DELETE FROM letter_marks")


def _letter_row(letter: Letter, recorded_at_ms: int) -> tuple[object, ...]:
    return (
        letter.identity,
        letter.id,
        letter.partition,
        letter.offset,
        letter.reason,
        letter.error_class,
        letter.error,
        letter.origin_topic,
        _session_key(letter),
        round(letter.failed_at.timestamp() * 1000),
        recorded_at_ms,
        letter.attempts,
        letter.redrives_before,
        letter.size_bytes,
    )


def _session_key(letter: Letter) -> bytes | None:
    found = session_of(letter)
    try:
        return None if found is None else session_key(*found)
    except ValueError:  # the tenant is invalid, or the text has no UTF-8 form
        return None
