"""Convert enriched prospects to parameters of the upsert.

A batch sends only the newest record of each session. An INSERT with ON CONFLICT cannot write one row twice (SQLSTATE
21000), and older records are not needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from nexus_stream.contracts.moments import iso_moment
from nexus_stream.contracts.prospect import EnrichedProspect

__all__ = ["RejectedRow", "Row", "columns", "newest_rows"]


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A record that PostgreSQL refuses.

    Attributes:
        index: The record's position in the caller's batch.
        sqlstate: PostgreSQL's code, classes 22, 23, 54 and P0001.
        message: The kind of error and its place in the schema, without data of the record.
    """

    index: int
    sqlstate: str
    message: str


@dataclass(frozen=True, slots=True)
class Row:
    """One record, ready for the upsert. ``index`` is its position in the batch."""

    index: int
    tenant_id: str
    session_id: str
    fingerprint: str | None
    record_json: str
    snapshot_at_ms: int
    enriched_at: datetime
    source: str


def newest_rows(records: Sequence[EnrichedProspect]) -> tuple[list[Row], list[RejectedRow]]:
    """Return the newest record of each session, and the records that cannot be sent.

    If records of one session have the same version but differ, all are returned. The server picks one of them.
    """
    newest: dict[tuple[str, str], list[Row]] = {}
    rejected: list[RejectedRow] = []
    for index, record in enumerate(records):
        row = _row(index, record)
        if isinstance(row, RejectedRow):
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
    """Return the arrays for the upsert, all as text. The server then reports a value out of range for its row."""
    return (
        [row.tenant_id for row in rows],
        [row.session_id for row in rows],
        [row.fingerprint for row in rows],
        [row.record_json for row in rows],
        [str(row.snapshot_at_ms) for row in rows],
        [row.enriched_at.isoformat() for row in rows],
        [row.source for row in rows],
    )


def _row(index: int, record: EnrichedProspect) -> Row | RejectedRow:
    try:
        enriched_at = iso_moment(record.enriched_at)
    except ValueError:
        return RejectedRow(index, "22007", "enriched_at is not ISO 8601")
    try:
        record_json = record.model_dump_json()
    except ValueError:
        # pydantic_core.PydanticSerializationError: UTF-8 cannot encode a lone surrogate.
        return RejectedRow(index, "22021", "the record is not valid Unicode")
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
