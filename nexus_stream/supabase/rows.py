"""Enriched prospects as parameters of the upsert.

From: the sink's batch. To: writer.py. Of several records of one session only the newest is sent: an INSERT with ON
CONFLICT refuses to write one row twice (SQLSTATE 21000), and what was replaced need not travel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from nexus_stream.common.moments import iso_moment
from nexus_stream.contracts.prospect import EnrichedProspect

__all__ = ["Rejected", "Row", "columns", "newest_rows"]


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record PostgreSQL refuses.

    Attributes:
        index: Its position in the batch as handed in.
        sqlstate: PostgreSQL's code, classes 22, 23, 54 and P0001.
        message: What kind of error and where in the schema; none of the record's data.
    """

    index: int
    sqlstate: str
    message: str


@dataclass(frozen=True, slots=True)
class Row:
    """One record, ready to send; ``index`` is its position in the batch."""

    index: int
    tenant_id: str
    session_id: str
    fingerprint: str | None
    record_json: str
    snapshot_at_ms: int
    enriched_at: datetime
    source: str


def newest_rows(records: Sequence[EnrichedProspect]) -> tuple[list[Row], list[Rejected]]:
    """The newest record of each session, and what cannot be sent at all.

    Several of one session when they are of the same version and differ: the server chooses, in an order of its own.
    """
    newest: dict[tuple[str, str], list[Row]] = {}
    rejected: list[Rejected] = []
    for index, record in enumerate(records):
        row = _row(index, record)
        if isinstance(row, Rejected):
            rejected.append(row)
            continue
        key = (row.tenant_id, row.session_id)
        known = newest.setdefault(key, [row])
        version, known_version = (row.snapshot_at_ms, row.enriched_at), (known[0].snapshot_at_ms, known[0].enriched_at)
        if version > known_version:
            newest[key] = [row]
        elif version == known_version and all(row.record_json != other.record_json for other in known):
            known.append(row)
    return [row for key in sorted(newest) for row in newest[key]], rejected


def columns(
    rows: Sequence[Row],
) -> tuple[list[str], list[str], list[str | None], list[str], list[str], list[str], list[str]]:
    """The rows as the arrays of the upsert, all text: a value out of range is then the server's error, on its row."""
    return (
        [row.tenant_id for row in rows],
        [row.session_id for row in rows],
        [row.fingerprint for row in rows],
        [row.record_json for row in rows],
        [str(row.snapshot_at_ms) for row in rows],
        [row.enriched_at.isoformat() for row in rows],
        [row.source for row in rows],
    )


def _row(index: int, record: EnrichedProspect) -> Row | Rejected:
    try:
        enriched_at = iso_moment(record.enriched_at)
    except ValueError:
        return Rejected(index, "22007", "enriched_at is not ISO 8601")
    try:
        record_json = record.model_dump_json()
    except ValueError:
        # pydantic_core.PydanticSerializationError: a lone surrogate has no UTF-8.
        return Rejected(index, "22021", "the record is not valid Unicode")
    return Row(
        index=index,
        tenant_id=record.tenant_id,
        session_id=record.session_id,
        fingerprint=record.fingerprint or None,
        record_json=record_json,
        snapshot_at_ms=record.snapshot_at_ms,
        enriched_at=enriched_at,
        source=f"{record.source.topic}-{record.source.partition}-{record.source.offset}",
    )
