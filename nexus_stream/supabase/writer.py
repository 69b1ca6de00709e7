"""Batches of enriched prospects into Supabase: prospect_sessions, and from it prospect_tracking.

From: the sink (topic ``prospects-enriched``). To: PostgreSQL, one transaction a batch. A replay changes nothing: each
session keeps its newest record, and what follows, follows only from records that were newer. What that is depends on
``sink_mode``: folding each person's row anew (tables_mode.py), or an installation's own function (function_mode.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar

from nexus_stream.contracts.erased import ErasedSession
from nexus_stream.contracts.prospect import EnrichedProspect
from nexus_stream.errors import ConfigurationError
from nexus_stream.settings import Settings
from nexus_stream.supabase.bisecting import Effect, Step, Tally, next_step, write_all
from nexus_stream.supabase.erasure import apply_erasure, suppressed_by_fingerprint
from nexus_stream.supabase.function_mode import find_function
from nexus_stream.supabase.pool import close_pool, open_pool, to_nexus_error, transaction
from nexus_stream.supabase.rows import Rejected, Row, newest_rows
from nexus_stream.supabase.sqlstates import Failure, classify, describe, needs_new_connection, original
from nexus_stream.supabase.tables_mode import Fold, check_person_row, check_schema
from nexus_stream.supabase.target import Mode, Target

if TYPE_CHECKING:
    from asyncpg import Pool

    from nexus_stream.supabase.pool import AnyConnection

__all__ = ["EraseResult", "ProspectWriter", "Rejected", "WriteResult"]

logger = logging.getLogger(__name__)

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class WriteResult:
    """What a batch did.

    Attributes:
        inserted: Sessions that were new.
        updated: Sessions whose record was replaced by a newer one.
        unchanged: Records not newer than the stored one or another of the batch, and those of an erased person.
        rejected: Records PostgreSQL refuses; the others are written.
        statements: Upserts and what follows them, also those that failed: 2 when all is well, 3 with a function.
        bisected: Whether bad rows had to be looked for.
    """

    inserted: int
    updated: int
    unchanged: int
    rejected: tuple[Rejected, ...]
    statements: int
    bisected: bool = False


@dataclass(frozen=True, slots=True)
class EraseResult:
    """What erasing did.

    Attributes:
        erased: Sessions that were not erased before.
        rejected: Events PostgreSQL refuses; the others are done.
    """

    erased: int
    rejected: tuple[Rejected, ...] = ()


class ProspectWriter:
    """Writes batches; safe to call concurrently, as far as the pool goes."""

    def __init__(self, pool: Pool[Any], target: Target, settings: Settings, effect: Effect) -> None:
        self._pool = pool
        self._effect = effect
        self._target = target
        self._settings = settings
        # Rows a transaction may hold; halved when the server ran out of time, a little more after each success.
        self._max_rows: int = settings.sink_batch_max_rows

    @classmethod
    async def connect(cls, settings: Settings) -> Self:
        """Connect, and check that the database is as this mode needs it.

        Raises:
            ConfigurationError: the DSN, the login, the database or its tables are wrong.
            DatabaseUnavailableError: it does not answer, or has no connection left.
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
                    logger.warning(
                        "the database ran out of time, trying smaller batches",
                        extra={"event": "batch_halved", "rows": self._max_rows},
                    )
                    continue
                if failure is None:
                    raise
                await self._leave_connections(raised)
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
            bisected=tally.bisected,
        )

    async def erase(self, events: Sequence[ErasedSession]) -> EraseResult:
        """Erase sessions, each in a transaction of its own, and keep them away.

        Raises:
            DatabaseUnavailableError: hand them in again later; those that were erased are left alone then.
            ConfigurationError: somebody has to fix the database or the settings first.
        """
        erased = 0
        rejected: list[Rejected] = []
        for index, event in enumerate(events):
            try:
                erased += await self._in_transaction(partial(apply_erasure, event=event))
            except ConfigurationError as error:
                cause = error.__cause__
                if cause is None or classify(cause) is not Failure.BAD_ROW:
                    raise
                rejected.append(Rejected(index, getattr(cause, "sqlstate", None) or "22000", describe(cause)))
        return EraseResult(erased, tuple(rejected))

    async def suppressed(self, records: Sequence[EnrichedProspect]) -> list[int]:
        """Which records are of an erased person's session that was not erased itself, by their positions.

        Raises:
            DatabaseUnavailableError: ask again later.
            ConfigurationError: somebody has to fix the database or the settings first.
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
        """Whoever tries again gets a new connection: the old ones may lead to a server that is no longer the one."""
        if needs_new_connection(error):
            await self._pool.expire_connections()

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

    async def _write_chunk(self, rows: Sequence[Row], total: Tally) -> None:
        """Write rows in one transaction, as simply as they allow (`next_step`)."""
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
