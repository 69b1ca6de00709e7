"""Looking through sessions in time order, for what no index finds: for a moment, and then from there at the next page.

From: queries.py, where words are too short for the index or match too much of it, or filters join. To: rows, and where
it stopped. So a page costs the same however many sessions there are, and pages together still show every match.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping, Sequence
from typing import Any

from nexus_stream.console.reading.filters import Cursor

__all__ = ["ORDER", "below", "walk"]

ORDER = "ORDER BY last_seen_ms DESC, key"

# Beside it a page has its template, and must answer within 100 ms.
_WALK_SECONDS = 0.04
_CHUNK_ROWS = 4000


def below(after: Cursor | None) -> tuple[list[str], dict[str, Any]]:
    """What a row below the cursor fulfils, and the parameters of that."""
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
    """Rows in time order, up to the parameter ``limit``.

    Args:
        db: The index.
        columns: What to select.
        source: The table, by the index to walk.
        of_index: Conditions that this index answers by itself.
        conditions: All of them, the text's too.
        parameters: Of the conditions, and ``limit``.
        after: Begin below it.

    Returns:
        The rows, and where it stopped before it was through; None if it has as many as asked for, or was through.
    """
    rows: list[sqlite3.Row] = []
    deadline = time.monotonic() + _WALK_SECONDS
    while True:
        place, of_place = below(after)
        known = {**parameters, **of_place}
        bound = db.execute(
            # Only names of the callers are put together here; every value is a parameter.
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
