"""Erase sessions in Supabase, and find records of suppressed people.

To: the SQL functions of the privacy migration. Each function deletes rows, recomputes the person and stores the
suppression in one transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, LiteralString

from nexus_stream.contracts.erased import ErasedSession
from nexus_stream.contracts.moments import iso_moment
from nexus_stream.contracts.prospect import EnrichedProspect
from nexus_stream.contracts.session_command import CommandKind, SessionCommand, derived_request_id

if TYPE_CHECKING:
    from nexus_stream.supabase.pool import AnyConnection

__all__ = ["apply_erasure", "suppressed_by_fingerprint"]

_ERASE: LiteralString = "SELECT public.nexus_erase_session($1, $2, $3::text[], $4, $5::timestamptz)"
_EXPIRE: LiteralString = "SELECT public.nexus_expire_session($1, $2, $3)"

# New sessions of an erased person. Nobody erased these sessions, so the enricher does not know of the erasure.
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
    """Apply an erased event. Return False if nothing changed. A second run of the same event changes nothing."""
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
    """Return the positions of records that belong to a new session of an erased person."""
    candidates = [index for index, record in enumerate(records) if record.fingerprint]
    if not candidates:
        return []
    rows = await connection.fetch(
        _SUPPRESSED,
        [records[index].tenant_id for index in candidates],
        [records[index].session_id.replace("\x00", "") for index in candidates],
        [(records[index].fingerprint or "").replace("\x00", "") for index in candidates],
        [_bigint(records[index].snapshot_at_ms) for index in candidates],
    )
    return [candidates[row["number"] - 1] for row in rows]


def _bigint(value: int) -> int:
    # Clamp to the range of timestamps (year 9999). The upsert rejects rows with a later time as bad rows.
    return max(0, min(value, 253_402_300_799_999))


def erase_again(prospect: EnrichedProspect) -> SessionCommand:
    """Make the command that erases a new session of an erased person.

    Only the database knows that the person was erased. The enricher cannot know.
    """
    return SessionCommand(
        command=CommandKind.ERASE,
        tenant_id=prospect.tenant_id,
        session_id=prospect.session_id,
        request_id=derived_request_id("again", prospect.tenant_id, prospect.session_id, prospect.snapshot_at_ms),
        requested_by_hash="sink",
        requested_at=datetime.now(UTC),
    )
