"""Write batches of enriched prospects to Supabase: first prospect_sessions, then prospect_tracking.

From: the sink (topic ``prospects-enriched``). To: PostgreSQL, one transaction per batch. A replay changes nothing: each
session keeps its newest record, and only a newer record has an effect on the person. ``sink_mode`` chooses the effect:
recompute the person's row (tables_mode.py), or call the installation's own function (function_mode.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar

from nexus_stream.contracts.erased import ErasedSession
from nexus_stream.contracts.prospect import EnrichedProspect
from nexus_stream.errors import ConfigurationError
from nexus_stream.host.log import get_logger
from nexus_stream.settings import Settings
from nexus_stream.supabase.bisecting import Effect, Step, Tally, next_step, write_all
from nexus_stream.supabase.erasure import apply_erasure, suppressed_by_fingerprint
from nexus_stream.supabase.function_mode import find_function
from nexus_stream.supabase.pool import close_pool, open_pool, to_nexus_error, transaction
from nexus_stream.supabase.rows import RejectedRow, Row, newest_rows
from nexus_stream.supabase.sqlstates import Failure, classify, describe, needs_new_connection, original
from nexus_stream.supabase.tables_mode import Fold, check_person_row, check_schema
from nexus_stream.supabase.target import Mode, Target

if TYPE_CHECKING:
    from asyncpg import Pool

    from nexus_stream.supabase.pool import AnyConnection

__all__ = ["EraseResult", "ProspectWriter", "RejectedRow", "WriteResult"]

_log = get_logger(__name__)

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class WriteResult:
    """The result of one batch.

    Attributes:
        inserted: Number of new sessions.
        updated: Number of sessions whose record was replaced by a newer one.
        unchanged: Number of records that changed nothing: an equal or newer record exists, or the person was erased.
        rejected: Records that PostgreSQL refuses. The others are written.
        statements: Number of upserts and effect statements, failed ones included. Without errors: 2, or 3 with a
            function.
        bisected: Whether the writer had to search for bad rows.
    """

    inserted: int
    updated: int
    unchanged: int
    rejected: tuple[RejectedRow, ...]
    statements: int
    bisected: bool = False


@dataclass(frozen=True, slots=True)
class EraseResult:
    """The result of erasing.

    Attributes:
        erased: Number of newly erased sessions.
        rejected: Events that PostgreSQL refuses. The others are done.
    """

    erased: int
    rejected: tuple[RejectedRow, ...] = ()


class ProspectWriter:
    """Write batches. Concurrent calls are safe, up to the size of the pool."""

    def __init__(self, pool: Pool[Any], target: Target, settings: Settings, effect: Effect) -> None:
        self._pool = pool
        self._effect = effect
        self._target = target
        self._settings = settings
        # Row limit of a transaction. A statement timeout halves it. Each success raises it a little.
        self._max_rows: int = settings.sink_batch_max_rows

    @classmethod
    async def connect(cls, settings: Settings) -> Self:
        """Connect, and check that the database has the objects this mode needs.

        Raises:
            ConfigurationError: the DSN, the login, the database or its tables are wrong.
            DatabaseUnavailableError: the database does not answer, or has no free connection.
        """
        pool, target = await open_pool(settings)
        try:
            async with pool.acquire() as connection, connection.transaction():
                await check_schema(connection)
                if settings.sink_mode == "function":
                    effect: Effect = await find_function(connection, settings.tenant_constructors)
                else:
                    await check_person_row(connection)
                    effect = Fold()
        except Exception as error:
            await close_pool(pool)
            raise to_nexus_error(error, target) from error
        return cls(pool, target, settings, effect)

    @property
    def mode(self) -> Mode | None:
        """The kind of connection to the server."""
        return self._target.mode

    async def write(self, records: Sequence[EnrichedProspect]) -> WriteResult:
        """Store a batch in one transaction, and update its people.

        If the server runs out of time, the batch is split into smaller transactions. After any failure, the caller may
        write the whole batch again.

        Raises:
            DatabaseUnavailableError: the records are good. Write the batch again later.
            ConfigurationError: the operator must fix the database or the settings first.
        """
        rows, rejected = newest_rows(records)
        tally = Tally(rejected=rejected)
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
                    _log.warning("batch_halved", rows=self._max_rows)
                    continue
                if failure is None:
                    raise
                await self._leave_connections(raised)
                raise to_nexus_error(error, self._target) from error
            start += len(chunk)
            # Grow slowly: a batch that is too large wastes a whole statement timeout.
            self._max_rows = min(self._max_rows + 1 + self._max_rows // 8, self._settings.sink_batch_max_rows)
        return WriteResult(
            inserted=tally.inserted,
            updated=tally.updated,
            unchanged=len(records) - tally.inserted - tally.updated - len(tally.rejected),
            rejected=tuple(sorted(tally.rejected, key=lambda refused: refused.index)),
            statements=tally.statements,
            bisected=tally.bisected,
        )

    async def erase(self, events: Sequence[ErasedSession]) -> EraseResult:
        """Erase and suppress sessions, each in its own transaction.

        Raises:
            DatabaseUnavailableError: erase all events again later. A repeated erasure changes nothing.
            ConfigurationError: the operator must fix the database or the settings first.
        """
        erased = 0
        rejected: list[RejectedRow] = []
        for index, event in enumerate(events):
            try:
                erased += await self._in_transaction(partial(apply_erasure, event=event))
            except ConfigurationError as error:
                cause = error.__cause__
                if cause is None or classify(cause) is not Failure.BAD_ROW:
                    raise
                rejected.append(RejectedRow(index, getattr(cause, "sqlstate", None) or "22000", describe(cause)))
        return EraseResult(erased, tuple(rejected))

    async def suppressed(self, records: Sequence[EnrichedProspect]) -> list[int]:
        """Return the positions of records whose person was erased but whose session was not.

        Raises:
            DatabaseUnavailableError: try again later.
            ConfigurationError: the operator must fix the database or the settings first.
        """
        return await self._in_transaction(partial(suppressed_by_fingerprint, records=records))

    async def _in_transaction(self, work: Callable[[AnyConnection], Awaitable[_T]]) -> _T:
        try:
            async with (
                self._pool.acquire(timeout=self._settings.database_connect_timeout_seconds) as connection,
                transaction(connection, self._settings.database_statement_timeout_seconds),
            ):
                return await work(connection)
        except Exception as raised:
            error = original(raised)
            if classify(error) is None:
                raise
            await self._leave_connections(raised)
            raise to_nexus_error(error, self._target) from error

    async def _leave_connections(self, error: BaseException) -> None:
        """Let a retry use new connections: the old ones may lead to the wrong server."""
        if needs_new_connection(error):
            await self._pool.expire_connections()

    async def ping(self) -> None:
        """Query the server, with the connect timeout as limit.

        Raises:
            DatabaseUnavailableError: the server did not answer.
            ConfigurationError: the server refuses the login.
        """
        try:
            async with asyncio.timeout(self._settings.database_connect_timeout_seconds):
                await self._pool.execute("SELECT 1")
        except Exception as error:
            if classify(error) is None:
                raise
            raise to_nexus_error(error, self._target) from error

    async def close(self) -> None:
        """Close the connections. Wait a limited time for running writes."""
        await close_pool(self._pool)

    async def _write_chunk(self, rows: Sequence[Row], total: Tally) -> None:
        """Write rows in one transaction, with the simplest step that works (`next_step`)."""
        step: Step = write_all
        known: Exception | None = None
        while True:
            tally = Tally()
            try:
                async with (
                    self._pool.acquire(timeout=self._settings.database_connect_timeout_seconds) as connection,
                    transaction(connection, self._settings.database_statement_timeout_seconds),
                ):
                    await self._effect.begin(connection)
                    await step(connection, rows, tally, self._effect, known)
            except Exception as error:
                total.statements += tally.statements
                following = next_step(step, upsert_succeeded=bool(tally.sessions))
                if classify(error) is not Failure.BAD_ROW or following is None:
                    raise
                total.bisected = True
                known, step = error, following
                continue
            total.statements += tally.statements
            total.inserted += tally.inserted
            total.updated += tally.updated
            total.rejected += tally.rejected
            return
