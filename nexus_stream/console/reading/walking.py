"""Scan sessions in time order if no index answers the query: short or frequent words, or several filters.

A scan has a time limit. The next page continues at the position where the scan stopped. So the time for a page does not
depend on the number of sessions, and all pages together show every match.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping, Sequence
from typing import Any

from nexus_stream.console.reading.filters import Cursor

__all__ = ["ORDER", "below", "walk"]

ORDER = "ORDER BY last_seen_ms DESC, key"

# A page must answer within 100 ms, and also needs time to render its template.
_WALK_SECONDS = 0.04
_CHUNK_ROWS = 4000


def below(after: Cursor | None) -> tuple[list[str], dict[str, Any]]:
    """Return the condition for rows after the cursor, and its parameters."""
    if after is None:
        return [], {}
    return (
        ["last_seen_ms <= :after_ms AND (last_seen_ms < :after_ms OR key > :after_key)"],
        {"after_ms": after.last_seen_ms, "after_key": after.key},
    )


def walk(
    db: sqlite3.Connection,
    columns: str,
    source: str,
    of_index: Sequence[str],
    conditions: Sequence[str],
    parameters: Mapping[str, Any],
    after: Cursor | None,
) -> tuple[list[sqlite3.Row], Cursor | None]:
    """Return rows in time order, up to the parameter ``limit``.

    Args:
        db: The index.
        columns: The columns to select.
        source: The table, with the index to scan.
        of_index: The conditions that this index can answer alone.
        conditions: All conditions, also those of the text.
        parameters: The parameters of the conditions, and ``limit``.
        after: The position to start after.

    Returns:
        The rows, and the position where the time limit stopped the scan. None if the scan found ``limit`` rows or
        reached the end.
    """
    rows: list[sqlite3.Row] = []
    deadline = time.monotonic() + _WALK_SECONDS
    while True:
        place, of_place = below(after)
        known = {**parameters, **of_place}
        bound = db.execute(
            # The SQL text contains only names of the callers. Every value is a parameter.
            f"SELECT last_seen_ms, key FROM {source} {_where([*of_index, *place])} "  # noqa: S608
            f"{ORDER} LIMIT 1 OFFSET {_CHUNK_ROWS - 1}",
            known,
        ).fetchone()
        if bound is not None:
            place.append("last_seen_ms >= :bound_ms AND (last_seen_ms > :bound_ms OR key <= :bound_key)")
            known |= {"bound_ms": bound["last_seen_ms"], "bound_key": bound["key"]}
        known["limit"] = parameters["limit"] - len(rows)
        where = _where([*conditions, *place])
        rows += db.execute(f"SELECT {columns} FROM {source} {where} {ORDER} LIMIT :limit", known).fetchall()  # noqa: S608
        if bound is None or len(rows) >= parameters["limit"]:
            return rows, None
        after = Cursor(bound["last_seen_ms"], bound["key"])
        if time.monotonic() > deadline:
            return rows, after


def _where(conditions: Sequence[str]) -> str:
    return f"WHERE {' AND '.join(conditions)}" if conditions else ""
