"""Erasing in Supabase: what the sink does for an erased event, and who is kept away.

From: writer.py, with the pool. To: the functions of the privacy migration, which delete, fold and remember in one
transaction each.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, LiteralString

from nexus_stream.common.moments import iso_moment
from nexus_stream.contracts.erased import ErasedSession
from nexus_stream.contracts.prospect import EnrichedProspect
from nexus_stream.contracts.session_command import CommandKind, SessionCommand, derived_request_id

if TYPE_CHECKING:
    from nexus_stream.supabase.pool import AnyConnection

__all__ = ["apply_erasure", "suppressed_by_fingerprint"]

_ERASE: LiteralString = "SELECT public.nexus_erase_session($1, $2, $3::text[], $4, $5::timestamptz)"
_EXPIRE: LiteralString = "SELECT public.nexus_expire_session($1, $2, $3)"

# Sessions of an erased person that were not erased themselves: new ones, whose enricher knows nothing of it.
_SUPPRESSED: LiteralString = """
SELECT i.number::int AS number
FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) WITH ORDINALITY
    AS i (tenant_id, session_id, fingerprint, snapshot_at_ms, number)
WHERE EXISTS (
    SELECT FROM public.prospect_suppressions u
    WHERE u.tenant_id = i.tenant_id AND u.kind = 'fingerprint'
        AND u.subject_hash = public.nexus_subject_hash(i.tenant_id, 'fingerprint', i.fingerprint)
        AND (u.lifted_at IS NULL OR to_timestamp(i.snapshot_at_ms / 1000.0) <= u.lifted_at)
) AND NOT EXISTS (
    SELECT FROM public.prospect_suppressions u
    WHERE u.tenant_id = i.tenant_id AND u.kind = 'session'
        AND u.subject_hash = public.nexus_subject_hash(i.tenant_id, 'session', i.session_id)
        AND (u.lifted_at IS NULL OR to_timestamp(i.snapshot_at_ms / 1000.0) <= u.lifted_at)
)
"""


async def apply_erasure(connection: AnyConnection, event: ErasedSession) -> bool:
    """Do in SQL what the event says. The same event again changes nothing; False when nothing was done."""
    if event.reason == "retention":
        return bool(
            await connection.fetchval(_EXPIRE, event.tenant_id, event.session_id, _bigint(event.through_ms or 0))
        )
    return bool(
        await connection.fetchval(
            _ERASE,
            event.tenant_id,
            event.session_id,
            list(event.fingerprint_hashes),
            event.request_id,
            iso_moment(event.requested_at),
        )
    )


async def suppressed_by_fingerprint(connection: AnyConnection, records: Sequence[EnrichedProspect]) -> list[int]:
    """Which of the records are of an erased person's further session, by their positions."""
    asked = [index for index, record in enumerate(records) if record.fingerprint]
    if not asked:
        return []
    rows = await connection.fetch(
        _SUPPRESSED,
        [records[index].tenant_id for index in asked],
        [records[index].session_id.replace("\x00", "") for index in asked],
        [(records[index].fingerprint or "").replace("\x00", "") for index in asked],
        [_bigint(records[index].snapshot_at_ms) for index in asked],
    )
    return [asked[row["number"] - 1] for row in rows]


def _bigint(value: int) -> int:
    # As far as PostgreSQL's timestamps go; what lies beyond is refused as a bad row elsewhere.
    return max(0, min(value, 253_402_300_799_999))


def erase_again(prospect: EnrichedProspect) -> SessionCommand:
    """Erase a session that an erased person opened since: its enricher cannot know, the database does."""
    return SessionCommand(
        command=CommandKind.ERASE,
        tenant_id=prospect.tenant_id,
        session_id=prospect.session_id,
        request_id=derived_request_id("again", prospect.tenant_id, prospect.session_id, prospect.snapshot_at_ms),
        requested_by_hash="sink",
        requested_at=datetime.now(UTC),
    )
