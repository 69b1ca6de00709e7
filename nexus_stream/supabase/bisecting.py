"""Write one batch in one transaction: the upsert, its effect, and the search for rows that PostgreSQL refuses.

To: ``prospect_sessions``, and the tables or the function of the effect.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias

import asyncpg

from nexus_stream.supabase.rows import RejectedRow, Row
from nexus_stream.supabase.sqlstates import Failure, RefusedCallError, classify, describe
from nexus_stream.supabase.upsert import upsert

if TYPE_CHECKING:
    from nexus_stream.supabase.pool import AnyConnection

__all__ = ["Effect", "Step", "Tally", "next_step", "write_all"]


@dataclass(slots=True)
class Tally:
    """Counts and results of one transaction so far.

    Attributes:
        bisected: Whether the writer had to search for bad rows.
        people: (tenant, person) of every written session, and of its former person if the session moved.
        sessions: (tenant, session) of every written session.
    """

    inserted: int = 0
    updated: int = 0
    statements: int = 0
    rejected: list[RejectedRow] = field(default_factory=list)
    bisected: bool = False
    people: set[tuple[str, str]] = field(default_factory=set)
    sessions: set[tuple[str, str]] = field(default_factory=set)


class Effect(Protocol):
    """Further writes for the written sessions, in the same transaction."""

    async def begin(self, connection: AnyConnection) -> None:
        """Take the locks that the upsert needs."""
        ...

    async def apply(self, connection: AnyConnection, tally: Tally) -> None:
        """Apply the effect to ``tally``'s people or sessions, and count the statements."""
        ...


Step: TypeAlias = Callable[["AnyConnection", Sequence[Row], Tally, Effect, Exception | None], Awaitable[None]]
_Write: TypeAlias = Callable[["AnyConnection", Sequence[Row], Tally], Awaitable[None]]


def next_step(step: Step, *, upsert_succeeded: bool) -> Step | None:
    """Return the next step after ``step`` met a bad row. Return None if no further step is left.

    1. Write all rows at once.
    2. If a row is bad: search for the bad rows, then apply the effect.
    3. If the effect fails for a row that prospect_sessions accepted (example: a trigger on prospect_tracking): search
       for the bad rows, and apply the effect to each piece.
    """
    if step is _bisect_with_effect:
        return None
    return _bisect_with_effect if upsert_succeeded or step is _bisect_then_effect else _bisect_then_effect


async def write_all(
    connection: AnyConnection, rows: Sequence[Row], tally: Tally, effect: Effect, known: Exception | None = None
) -> None:
    """Write all rows at once, then apply the effect."""
    await _upsert(connection, rows, tally)
    await effect.apply(connection, tally)


async def _bisect_then_effect(
    connection: AnyConnection, rows: Sequence[Row], tally: Tally, effect: Effect, known: Exception | None
) -> None:
    await _bisect(connection, rows, tally, known, _upsert)
    await effect.apply(connection, tally)


async def _bisect_with_effect(
    connection: AnyConnection, rows: Sequence[Row], tally: Tally, effect: Effect, known: Exception | None
) -> None:
    async def write(connection: AnyConnection, rows: Sequence[Row], tally: Tally) -> None:
        await write_all(connection, rows, tally, effect)

    await _bisect(connection, rows, tally, known, write)


async def _upsert(connection: AnyConnection, rows: Sequence[Row], tally: Tally) -> None:
    tally.statements += 1
    for written in await upsert(connection, rows):
        if written.is_new:
            tally.inserted += 1
        else:
            tally.updated += 1
        tally.sessions.add((written.tenant_id, written.session_id))
        tally.people.add((written.tenant_id, written.person_key))
        if written.moved_from is not None:
            tally.people.add((written.tenant_id, written.moved_from))


async def _bisect(
    connection: AnyConnection, rows: Sequence[Row], tally: Tally, known: Exception | None, write: _Write
) -> None:
    """Write all rows except the bad ones. Each bad row needs log2(n) + 2 more statements.

    At least one row is known to be bad. Rows before ``start`` are done. The search tries halves from the left, so the
    untested rows are always one piece. When a bad row is found, the search tries this piece at once.
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
                    # Only this row is left, so it is bad. Write it alone to get its own error.
                    error = await _attempt(connection, rows[start:end], tally, write)
            else:
                end, error = middle, left_error
        if error is not None:
            sqlstate = getattr(error, "sqlstate", None) or "22000"
            tally.rejected.append(RejectedRow(rows[start].index, sqlstate, describe(error)))
        start, end = end, len(rows)
        error = await _attempt(connection, rows[start:end], tally, write) if start < end else None


async def _attempt(connection: AnyConnection, rows: Sequence[Row], tally: Tally, write: _Write) -> Exception | None:
    """Write rows under a savepoint. Return the error if one of the rows is bad."""
    piece = Tally()
    try:
        async with connection.transaction():
            await write(connection, rows, piece)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, RefusedCallError) as error:
        tally.statements += piece.statements
        if classify(error) is not Failure.BAD_ROW:
            raise
        return error
    tally.statements += piece.statements
    tally.inserted += piece.inserted
    tally.updated += piece.updated
    tally.people |= piece.people
    tally.sessions |= piece.sessions
    return None
