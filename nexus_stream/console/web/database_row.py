"""Read a session's present rows from the database, for the session page.

From: ``prospect_sessions`` and ``prospect_tracking``, one connection per read. The console works without a database. If
no address is set, the page says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from nexus_stream.errors import NexusError
from nexus_stream.settings import Settings
from nexus_stream.supabase.pool import connect_once, target_of

__all__ = ["database_row"]

_CONNECT_SECONDS = 2.0
_ANSWER_SECONDS = 3.0
_QUERY = """
SELECT to_char(s.updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') AS updated_at,
    jsonb_build_object(
        'prospect_sessions', to_jsonb(s),
        'prospect_tracking', (
            SELECT to_jsonb(t) FROM prospect_tracking t
            WHERE t.tenant_id = s.tenant_id AND t.fingerprint_id = s.person_key
        )
    )::text AS json
FROM prospect_sessions s WHERE s.tenant_id = $1 AND s.session_id = $2
"""


async def database_row(settings: Settings, tenant_id: str, session_id: str) -> Mapping[str, Any] | None:
    """Return ``updated_at`` and ``json``, or ``problem``. Return None if no database address is set."""
    if settings.database_url is None:
        return None
    try:
        async with asyncio.timeout(_ANSWER_SECONDS), connect_once(target_of(settings), _CONNECT_SECONDS) as connection:
            row = await connection.fetchrow(_QUERY, tenant_id, session_id)
    except Exception as error:
        if not isinstance(error, NexusError | TimeoutError | OSError) and not _is_database_error(error):
            raise
        return {"problem": "unreachable"}
    return {"problem": "missing"} if row is None else {"updated_at": row["updated_at"], "json": row["json"].encode()}


def _is_database_error(error: Exception) -> bool:
    import asyncpg

    # Examples: a zero byte in a session id, an older schema.
    return isinstance(error, asyncpg.PostgresError | asyncpg.InterfaceError)
