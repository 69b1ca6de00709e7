"""Store emissions with their time and cost, for the timeline, the live tail and the day's spending.

From: ``prospects-enriched``. To: tables ``emissions`` (the newest rows) and ``usage_hours``. These tables contain no
personal text. Pages look up the person in the session table, which has no data of erased people.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from nexus_stream.console.index.topic_record import TopicRecord
from nexus_stream.contracts.headers import ENRICHED_TYPE, EVENT_ID_HEADER, EVENT_TYPE_HEADER
from nexus_stream.contracts.json_reading import json_object, mapping, number
from nexus_stream.contracts.moments import iso_ms

__all__ = ["EmissionWriter"]

_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS
_ORPHAN_MS = 5 * 60_000
_USAGE_DAYS_MS = 35 * 24 * _HOUR_MS

_COLUMNS = (
    "key, partition, offset, recorded_at_ms, event_id, kind, momento, nivel_interes, extractor, turns, snapshot_at_ms, "
    "enriched_at_ms, input_tokens, output_tokens, cost_usd, latency_ms, is_repeat"
)
_INSERT = f"INSERT OR IGNORE INTO emissions ({_COLUMNS}) VALUES ({', '.join('?' * 17)})"  # noqa: S608 - our own names
_ADD_USAGE = (
    "INSERT INTO usage_hours VALUES (?, 1, ?, ?, ?) ON CONFLICT DO UPDATE SET records = records + 1, "
    "input_tokens = input_tokens + excluded.input_tokens, output_tokens = output_tokens + excluded.output_tokens, "
    "cost_usd = cost_usd + excluded.cost_usd"
)


class EmissionWriter:
    """`TopicWriter` of the enriched topic.

    Args:
        max_rows: Maximum number of stored emissions.
    """

    def __init__(self, max_rows: int) -> None:
        self.newest_only: int | None = max_rows
        # The day's spending needs all records of the day.
        self.full_period_ms = _DAY_MS
        self._max_rows = max_rows

    def apply(self, db: sqlite3.Connection, records: Sequence[TopicRecord]) -> None:
        """See `TopicWriter.apply`."""
        for record in records:
            self._apply_one(db, record)

    def _apply_one(self, db: sqlite3.Connection, record: TopicRecord) -> None:
        value = json_object(record.value)
        extraction, prospect = mapping(value.get("extraction")), mapping(value.get("prospect"))
        snapshot_at_ms = _integer(value.get("snapshot_at_ms"))
        # A stored result that is emitted again, after a crash or with a new fingerprint, cost nothing.
        is_repeat = (
            db.execute(
                "SELECT 1 FROM emissions WHERE key = ? AND snapshot_at_ms = ? AND kind = 'enriched' LIMIT 1",
                (record.key, snapshot_at_ms),
            ).fetchone()
            is not None
        )
        tokens = _integer(extraction.get("input_tokens")), _integer(extraction.get("output_tokens"))
        cost_usd = number(extraction.get("cost_usd")) or 0.0
        event_type = record.header(EVENT_TYPE_HEADER)
        is_enriched = event_type == ENRICHED_TYPE or (not event_type and bool(prospect))
        inserted = db.execute(
            _INSERT,
            (
                record.key,
                record.partition,
                record.offset,
                record.timestamp_ms,
                record.header(EVENT_ID_HEADER)[:64],
                "enriched" if is_enriched else (event_type or "unknown")[:64],
                _text(prospect.get("momento_optimo")),
                number(prospect.get("nivel_interes")),
                _text(extraction.get("extractor")),
                _integer(mapping(value.get("conversation")).get("turns")),
                snapshot_at_ms,
                iso_ms(value.get("enriched_at")),
                *tokens,
                cost_usd,
                number(extraction.get("latency_ms")) or 0.0,
                is_repeat,
            ),
        ).rowcount
        if inserted and is_enriched and not is_repeat and not extraction.get("cached"):
            db.execute(_ADD_USAGE, (record.timestamp_ms // _HOUR_MS * _HOUR_MS, *tokens, cost_usd))

    def prune(self, db: sqlite3.Connection, now_ms: int) -> None:
        """See `TopicWriter.prune`."""
        db.execute("DELETE FROM emissions WHERE id <= (SELECT max(id) FROM emissions) - ?", (self._max_rows,))
        # An emission of an erased session may arrive after the session's tombstone, because topics have no common
        # order. Recent emissions stay, because their session may not have been read yet.
        db.execute(
            "DELETE FROM emissions WHERE recorded_at_ms < ? AND NOT EXISTS "
            "(SELECT 1 FROM sessions WHERE sessions.key = emissions.key AND status != 'erased')",
            (now_ms - _ORPHAN_MS,),
        )
        db.execute("DELETE FROM usage_hours WHERE hour_ms < ?", (now_ms - _USAGE_DAYS_MS,))

    def clear(self, db: sqlite3.Connection) -> None:
        """See `TopicWriter.clear`."""
        db.execute("DELETE FROM emissions")
        db.execute("DELETE FROM usage_hours")


def _text(value: Any) -> str | None:
    return value[:64] if isinstance(value, str) and value else None


def _integer(value: Any) -> int:
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53
    return value if is_count else 0
