"""The mode ``tables``: each person's row is folded anew from all that is known about them.

From: writer.py, after the upsert. To: ``prospect_tracking``, through the migrations' ``nexus_refresh_people``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, LiteralString

from nexus_stream.errors import ConfigurationError

if TYPE_CHECKING:
    from nexus_stream.supabase.bisecting import Tally
    from nexus_stream.supabase.pool import AnyConnection

__all__ = ["Fold", "check_person_row", "check_schema", "keep_erasures_away"]

_FOLD: LiteralString = "SELECT public.nexus_refresh_people($1::text[], $2::text[])"

_CHECK_SCHEMA: LiteralString = """
SELECT to_regclass('public.prospect_sessions') IS NOT NULL AND to_regclass('public.prospect_tracking') IS NOT NULL
    AND to_regprocedure('public.nexus_refresh_people(text[], text[])') IS NOT NULL
    AND to_regclass('public.prospect_suppressions') IS NOT NULL
    AND to_regprocedure('public.nexus_keep_erasures_away()') IS NOT NULL
"""

# What keeps an older prospect_tracking from taking a row of ours, whoever the person is.
_OBSTACLES: LiteralString = """
SELECT format('its column %I must have a value and has no default', a.attname)
FROM pg_catalog.pg_attribute a
WHERE a.attrelid = 'public.prospect_tracking'::regclass AND a.attnum > 0 AND NOT a.attisdropped
    AND a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AND a.attgenerated = ''
    AND a.attname NOT IN ('tenant_id', 'fingerprint_id', 'prospect_data', 'merged_keys')
UNION ALL
SELECT 'it holds a fingerprint twice, or its unique index is missing (nexus migrate --plan tells)'
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

# Asked each time: a function of the installation's own may come while a sink runs.
_KEEP_ERASURES_AWAY: LiteralString = "SELECT public.nexus_keep_erasures_away()"


@dataclass(frozen=True, slots=True)
class Fold:
    """Recompute the people whose sessions were written, in one statement."""

    async def begin(self, connection: AnyConnection) -> None:
        """See `Effect.begin`."""
        await keep_erasures_away(connection)

    async def apply(self, connection: AnyConnection, tally: Tally) -> None:
        """See `Effect.apply`."""
        if not tally.people:
            return
        tally.statements += 1
        people = sorted(tally.people)
        await connection.execute(_FOLD, [tenant for tenant, _ in people], [person for _, person in people])


async def keep_erasures_away(connection: AnyConnection) -> None:
    """Beside an installation's own function let none begin until the transaction ends, and wait for one that did.

    An erasure inserts no row there that a batch could wait for.
    """
    await connection.execute(_KEEP_ERASURES_AWAY)


async def check_schema(connection: AnyConnection) -> None:
    """See that the migrations are applied.

    Raises:
        ConfigurationError: they are not.
    """
    if not await connection.fetchval(_CHECK_SCHEMA):
        raise ConfigurationError("the database's tables or functions are missing. Run `nexus migrate`.")


async def check_person_row(connection: AnyConnection) -> None:
    """See that any person can have a row: what an older table refuses for all of them is no row's fault.

    Raises:
        ConfigurationError: it names what stands in the way.
    """
    obstacles = [obstacle for (obstacle,) in await connection.fetch(_OBSTACLES)]
    if obstacles:
        raise ConfigurationError(
            f"prospect_tracking cannot take our rows: {'; '.join(obstacles)}. "
            "Change the table, or set NEXUS_SINK_MODE=function to call its own update_prospect_data."
        )
