"""Upsert sessions: each session keeps its newest record.

To: ``prospect_sessions``. A record that is not newer than the stored one changes nothing. A record of an erased session
or person changes nothing either. If two different records have the same version, the greater one in PostgreSQL's jsonb
order stays: the result must not depend on the order of arrival.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, LiteralString, NamedTuple

from nexus_stream.supabase.rows import Row, columns

if TYPE_CHECKING:
    from nexus_stream.supabase.pool import AnyConnection

__all__ = ["WrittenSession", "upsert"]

# Sorted, so that two sinks lock sessions in the same order. The query on prospect_tracking only finds erased people.
_UPSERT: LiteralString = """
INSERT INTO public.prospect_sessions AS stored
    (tenant_id, session_id, fingerprint, record, snapshot_at_ms, enriched_at, source)
SELECT DISTINCT ON (i.tenant_id COLLATE "C", i.session_id COLLATE "C")
    i.tenant_id, i.session_id, i.fingerprint, i.record::jsonb, i.snapshot_at_ms::bigint,
    i.enriched_at::timestamptz, i.source
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[])
    AS i (tenant_id, session_id, fingerprint, record, snapshot_at_ms, enriched_at, source)
WHERE NOT EXISTS (
    SELECT FROM public.prospect_tracking p
    WHERE p.tenant_id = i.tenant_id AND p.fingerprint_id = coalesce(i.fingerprint, 'session:' || i.session_id)
        AND p.erased_at IS NOT NULL
) AND NOT EXISTS (
    SELECT FROM public.prospect_suppressions u
    WHERE u.tenant_id = i.tenant_id AND u.subject_hash IN (
            public.nexus_subject_hash(i.tenant_id, 'session', i.session_id),
            public.nexus_subject_hash(i.tenant_id, 'fingerprint', i.fingerprint)
        )
        AND (u.lifted_at IS NULL OR to_timestamp(i.snapshot_at_ms::bigint / 1000.0) <= u.lifted_at)
)
ORDER BY i.tenant_id COLLATE "C", i.session_id COLLATE "C", i.record::jsonb DESC
ON CONFLICT (tenant_id, session_id) DO UPDATE SET
    fingerprint = excluded.fingerprint,
    moved_from = nullif(stored.person_key, coalesce(excluded.fingerprint, 'session:' || excluded.session_id)),
    record = excluded.record,
    snapshot_at_ms = excluded.snapshot_at_ms,
    enriched_at = excluded.enriched_at,
    source = excluded.source,
    updated_at = clock_timestamp()
WHERE stored.erased_at IS NULL
    AND (excluded.snapshot_at_ms, excluded.enriched_at, excluded.record)
        > (stored.snapshot_at_ms, stored.enriched_at, stored.record)
RETURNING tenant_id, session_id, person_key, moved_from, xmax = 0 AS is_new
"""


class WrittenSession(NamedTuple):
    """A session with a new or replaced row.

    Attributes:
        moved_from: The session's former person, if the person changed.
    """

    tenant_id: str
    session_id: str
    person_key: str
    moved_from: str | None
    is_new: bool


async def upsert(connection: AnyConnection, rows: Sequence[Row]) -> list[WrittenSession]:
    """Write rows. Return only the sessions that changed."""
    return [WrittenSession._make(written) for written in await connection.fetch(_UPSERT, *columns(rows))]
