"""Batches of enriched prospects into Supabase: prospect_sessions, and from it prospect_tracking.

From: the sink (topic ``prospects-enriched``). To: PostgreSQL, one transaction a batch. A replay changes nothing: each
session keeps its newest record, and each person's row is folded anew from all of their sessions.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, LiteralString, Self, TypeAlias

import asyncpg

from nexus_stream.contracts.prospect import EnrichedProspect
from nexus_stream.errors import ConfigurationError
from nexus_stream.settings import Settings
from nexus_stream.supabase.pool import close_pool, open_pool, to_nexus_error, transaction
from nexus_stream.supabase.rows import Rejected, Row, columns, newest_rows
from nexus_stream.supabase.sqlstates import Failure, classify, describe, needs_new_connection, original
from nexus_stream.supabase.target import Mode, Target

if TYPE_CHECKING:
    from asyncpg import Pool

    from nexus_stream.supabase.pool import AnyConnection

__all__ = ["ProspectWriter", "Rejected", "WriteResult"]

logger = logging.getLogger(__name__)

# Sorted, so that two sinks lock sessions in the same order. The tracking table is asked for erased people only.
_UPSERT: LiteralString = """
INSERT INTO public.prospect_sessions AS stored
    (tenant_id, session_id, fingerprint, record, snapshot_at_ms, enriched_at, source)
SELECT i.tenant_id, i.session_id, i.fingerprint, i.record::jsonb, i.snapshot_at_ms::bigint,
    i.enriched_at::timestamptz, i.source
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[])
    AS i (tenant_id, session_id, fingerprint, record, snapshot_at_ms, enriched_at, source)
WHERE NOT EXISTS (
    SELECT FROM public.prospect_tracking p
    WHERE p.tenant_id = i.tenant_id AND p.fingerprint_id = coalesce(i.fingerprint, 'session:' || i.session_id)
        AND p.erased_at IS NOT NULL
)
ORDER BY i.tenant_id COLLATE "C", i.session_id COLLATE "C"
ON CONFLICT (tenant_id, session_id) DO UPDATE SET
    fingerprint = excluded.fingerprint,
    moved_from = nullif(stored.person_key, coalesce(excluded.fingerprint, 'session:' || excluded.session_id)),
    record = excluded.record,
    snapshot_at_ms = excluded.snapshot_at_ms,
    enriched_at = excluded.enriched_at,
    source = excluded.source,
    updated_at = clock_timestamp()
WHERE stored.erased_at IS NULL
    AND (excluded.snapshot_at_ms, excluded.enriched_at) > (stored.snapshot_at_ms, stored.enriched_at)
RETURNING tenant_id, person_key, moved_from, xmax = 0 AS is_new
"""

_FOLD: LiteralString = "SELECT public.nexus_refresh_people($1::text[], $2::text[])"

_CHECK_SCHEMA: LiteralString = """
SELECT to_regclass('public.prospect_sessions') IS NOT NULL AND to_regclass('public.prospect_tracking') IS NOT NULL
    AND to_regprocedure('public.nexus_refresh_people(text[], text[])') IS NOT NULL
"""


@dataclass(frozen=True, slots=True)
class WriteResult:
    """What a batch did.

    Attributes:
        inserted: Sessions that were new.
        updated: Sessions whose record was replaced by a newer one.
        unchanged: Records not newer than the stored one or another of the batch, and those of an erased person.
        rejected: Records PostgreSQL refuses; the others are written.
        statements: Upserts and folds sent, also those that failed: 2 when all is well.
    """

    inserted: int
    updated: int
    unchanged: int
    rejected: tuple[Rejected, ...]
    statements: int


@dataclass(slots=True)
class _Tally:
    """What the statements of one transaction did so far."""

    inserted: int = 0
    updated: int = 0
    statements: int = 0
    rejected: list[Rejected] = field(default_factory=list)
    people: set[tuple[str, str]] = field(default_factory=set)


_Write: TypeAlias = Callable[["AnyConnection", Sequence[Row], _Tally], Awaitable[None]]
_Step: TypeAlias = Callable[["AnyConnection", Sequence[Row], _Tally, Exception | None], Awaitable[None]]


class ProspectWriter:
    """Writes batches; safe to call concurrently, as far as the pool goes."""

    def __init__(self, pool: Pool[Any], target: Target, settings: Settings) -> None:
        self._pool = pool
        self._target = target
        self._settings = settings
        # Rows a transaction may hold; halved when the server ran out of time, a little more after each success.
        self._max_rows: int = settings.sink_batch_max_rows

    @classmethod
    async def connect(cls, settings: Settings) -> Self:
        """Connect and check that the migrations are applied.

        Raises:
            ConfigurationError: the DSN, the login, the database or its tables are wrong.
            DatabaseUnavailableError: it does not answer, or has no connection left.
        """
        pool, target = await open_pool(settings)
        try:
            complete = await pool.fetchval(_CHECK_SCHEMA)
        except Exception as error:
            await close_pool(pool)
            raise to_nexus_error(error, target) from error
        if not complete:
            await close_pool(pool)
            raise ConfigurationError(f"Database {target}: its tables are missing. Run `nexus migrate`.")
        return cls(pool, target, settings)

    @property
    def mode(self) -> Mode:
        """What stands between us and the server."""
        return self._target.mode

    async def write(self, records: Sequence[EnrichedProspect]) -> WriteResult:
        """Store a batch in one transaction, and recompute the people it touches.

        A batch the server has no time for is written in smaller ones, each a transaction of its own: whatever fails
        then, the whole batch can be handed in again.

        Raises:
            DatabaseUnavailableError: nothing is at fault with the records; hand the batch in again later.
            ConfigurationError: somebody has to fix the database or the settings first.
        """
        rows, rejected = newest_rows(records)
        tally = _Tally(rejected=rejected)
        start = 0
        while start < len(rows):
            chunk = rows[start : start + self._max_rows]
            try:
                await self._write_chunk(chunk, tally)
            except Exception as raised:
                error = original(raised)
                failure = classify(error)
                if failure is Failure.SMALLER_BATCH and len(chunk) > 1:
                    self._max_rows = len(chunk) // 2
                    logger.warning(
                        "the database ran out of time, trying smaller batches",
                        extra={"event": "batch_halved", "rows": self._max_rows},
                    )
                    continue
                if failure is None:
                    raise
                if needs_new_connection(raised):
                    await self._pool.expire_connections()
                raise to_nexus_error(error, self._target) from error
            start += len(chunk)
            # Slowly: too much costs a whole statement timeout.
            self._max_rows = min(self._max_rows + 1 + self._max_rows // 8, self._settings.sink_batch_max_rows)
        return WriteResult(
            inserted=tally.inserted,
            updated=tally.updated,
            unchanged=len(records) - tally.inserted - tally.updated - len(tally.rejected),
            rejected=tuple(sorted(tally.rejected, key=lambda refused: refused.index)),
            statements=tally.statements,
        )

    async def ping(self) -> None:
        """Ask the server for an answer, at most as long as connecting may take.

        Raises:
            DatabaseUnavailableError: none came.
            ConfigurationError: it refuses the login.
        """
        try:
            async with asyncio.timeout(self._settings.database_connect_timeout_seconds):
                await self._pool.execute("SELECT 1")
        except Exception as error:
            if classify(error) is None:
                raise
            raise to_nexus_error(error, self._target) from error

    async def close(self) -> None:
        """Close the connections; waits for writes under way, but not for ever."""
        await close_pool(self._pool)

    async def _write_chunk(self, rows: Sequence[Row], total: _Tally) -> None:
        """Write rows in one transaction, as simply as they allow.

        1. All at once. 2. If a row is bad: again, looking for the bad ones. 3. If the fold fails over a row that
        prospect_sessions took (a trigger on prospect_tracking, say): again, each piece with its fold.
        """
        step: _Step = _write_all
        known: Exception | None = None
        while True:
            tally = _Tally()
            try:
                async with (
                    self._pool.acquire(timeout=self._settings.database_connect_timeout_seconds) as connection,
                    transaction(connection, self._settings.database_statement_timeout_seconds),
                ):
                    await step(connection, rows, tally, known)
            except Exception as error:
                total.statements += tally.statements
                if classify(error) is not Failure.BAD_ROW or step is _bisect_with_fold:
                    raise
                known = error
                upsert_succeeded = bool(tally.people)
                step = _bisect_with_fold if upsert_succeeded or step is _bisect_then_fold else _bisect_then_fold
                continue
            total.statements += tally.statements
            total.inserted += tally.inserted
            total.updated += tally.updated
            total.rejected += tally.rejected
            return


async def _write_all(
    connection: AnyConnection, rows: Sequence[Row], tally: _Tally, known: Exception | None = None
) -> None:
    await _upsert(connection, rows, tally)
    await _fold(connection, tally)


async def _bisect_then_fold(
    connection: AnyConnection, rows: Sequence[Row], tally: _Tally, known: Exception | None
) -> None:
    await _bisect(connection, rows, tally, known, _upsert)
    await _fold(connection, tally)


async def _bisect_with_fold(
    connection: AnyConnection, rows: Sequence[Row], tally: _Tally, known: Exception | None
) -> None:
    await _bisect(connection, rows, tally, known, _write_all)


async def _upsert(connection: AnyConnection, rows: Sequence[Row], tally: _Tally) -> None:
    tally.statements += 1
    for record in await connection.fetch(_UPSERT, *columns(rows)):
        if record["is_new"]:
            tally.inserted += 1
        else:
            tally.updated += 1
        tally.people.add((record["tenant_id"], record["person_key"]))
        if record["moved_from"] is not None:
            tally.people.add((record["tenant_id"], record["moved_from"]))


async def _fold(connection: AnyConnection, tally: _Tally) -> None:
    if not tally.people:
        return
    tally.statements += 1
    people = sorted(tally.people)
    await connection.execute(_FOLD, [tenant_id for tenant_id, _ in people], [person_key for _, person_key in people])


async def _bisect(
    connection: AnyConnection,
    rows: Sequence[Row],
    tally: _Tally,
    known: Exception | None,
    write: _Write,
) -> None:
    """Write all rows but the bad ones, knowing that there is one: log2(n) + 2 statements more for each of those.

    Everything before ``start`` is dealt with. Halves are tried from the left, so that what is left unknown is always
    one piece, tried at once when the bad row is found.
    """
    start, end = 0, len(rows)
    error = known
    while start < len(rows):
        while error is not None and end - start > 1:
            middle = (start + end) // 2
            left_error = await _attempt(connection, rows[start:middle], tally, write)
            if left_error is None:
                start = middle
                if end - start == 1:
                    # It must be this one; ask for its own error.
                    error = await _attempt(connection, rows[start:end], tally, write)
            else:
                end, error = middle, left_error
        if error is not None:
            sqlstate = getattr(error, "sqlstate", None) or "22000"
            tally.rejected.append(Rejected(rows[start].index, sqlstate, describe(error)))
        start, end = end, len(rows)
        error = await _attempt(connection, rows[start:end], tally, write) if start < end else None


async def _attempt(
    connection: AnyConnection,
    rows: Sequence[Row],
    tally: _Tally,
    write: _Write,
) -> Exception | None:
    """Write rows under a savepoint; the error if one of them is bad."""
    piece = _Tally()
    try:
        async with connection.transaction():
            await write(connection, rows, piece)
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        tally.statements += piece.statements
        if classify(error) is not Failure.BAD_ROW:
            raise
        return error
    tally.statements += piece.statements
    tally.inserted += piece.inserted
    tally.updated += piece.updated
    tally.people |= piece.people
    return None
