"""The mode ``tables``: recompute each person's row from all known facts about the person.

To: ``prospect_tracking``, through the SQL function ``nexus_refresh_people`` of the migrations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, LiteralString

from nexus_stream.errors import ConfigurationError

if TYPE_CHECKING:
    from nexus_stream.supabase.bisecting import Tally
    from nexus_stream.supabase.pool import AnyConnection

__all__ = ["Fold", "check_person_row", "check_schema", "lock_out_erasures"]

_FOLD: LiteralString = "SELECT public.nexus_refresh_people($1::text[], $2::text[])"

_CHECK_SCHEMA: LiteralString = """
SELECT to_regclass('public.prospect_sessions') IS NOT NULL AND to_regclass('public.prospect_tracking') IS NOT NULL
    AND to_regprocedure('public.nexus_refresh_people(text[], text[])') IS NOT NULL
    AND to_regclass('public.prospect_suppressions') IS NOT NULL
    AND to_regprocedure('public.nexus_keep_erasures_away()') IS NOT NULL
"""

# Reasons why an older prospect_tracking cannot store any row of nexus-stream.
_OBSTACLES: LiteralString = """
SELECT format('its column %I must have a value and has no default', a.attname)
FROM pg_catalog.pg_attribute a
WHERE a.attrelid = 'public.prospect_tracking'::regclass AND a.attnum > 0 AND NOT a.attisdropped
    AND a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AND a.attgenerated = ''
    AND a.attname NOT IN ('tenant_id', 'fingerprint_id', 'prospect_data', 'merged_keys')
UNION ALL
SELECT 'it has duplicate fingerprints, or its unique index is missing (run nexus migrate --plan)'
WHERE NOT EXISTS (
    SELECT FROM pg_catalog.pg_index i
    WHERE i.indrelid = 'public.prospect_tracking'::regclass
        AND i.indisunique AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
        AND (
            SELECT array_agg(a.attname::text ORDER BY a.attname) FROM pg_catalog.pg_attribute a
            WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey::int2[])
        ) = ARRAY['fingerprint_id', 'tenant_id']
)
"""

# Runs in each transaction: the installation's own function may appear while a sink runs.
_LOCK_OUT_ERASURES: LiteralString = "SELECT public.nexus_keep_erasures_away()"


@dataclass(frozen=True, slots=True)
class Fold:
    """Recompute the people of the written sessions in one statement."""

    async def begin(self, connection: AnyConnection) -> None:
        """See `Effect.begin`."""
        await lock_out_erasures(connection)

    async def apply(self, connection: AnyConnection, tally: Tally) -> None:
        """See `Effect.apply`."""
        if not tally.people:
            return
        tally.statements += 1
        people = sorted(tally.people)
        await connection.execute(_FOLD, [tenant for tenant, _ in people], [person for _, person in people])


async def lock_out_erasures(connection: AnyConnection) -> None:
    """Lock out erasures until the transaction ends, if the database has its own update function.

    Wait for an erasure that is already running. Without this lock, a batch has no row to wait for: in that mode an
    erasure inserts none.
    """
    await connection.execute(_LOCK_OUT_ERASURES)


async def check_schema(connection: AnyConnection) -> None:
    """Check that the migrations are applied.

    Raises:
        ConfigurationError: a table or function is missing.
    """
    if not await connection.fetchval(_CHECK_SCHEMA):
        raise ConfigurationError("the database's tables or functions are missing. Run `nexus migrate`.")


async def check_person_row(connection: AnyConnection) -> None:
    """Check that ``prospect_tracking`` can store rows. If an older table refuses every row, no single row is bad.

    Raises:
        ConfigurationError: the message names the obstacles.
    """
    obstacles = [obstacle for (obstacle,) in await connection.fetch(_OBSTACLES)]
    if obstacles:
        raise ConfigurationError(
            f"prospect_tracking cannot store nexus-stream's rows: {'; '.join(obstacles)}. "
            "Change the table, or set NEXUS_SINK_MODE=function to call its own update_prospect_data."
        )
