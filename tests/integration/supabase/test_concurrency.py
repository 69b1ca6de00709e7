"""Sinks that write the same people at the same time lose nothing and do not deadlock."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import asyncpg
import pytest

from nexus_stream.contracts.prospect import EnrichedProspect
from nexus_stream.supabase.writer import ProspectWriter
from tests.integration.supabase.conftest import connected

if TYPE_CHECKING:
    from tests.integration.supabase.conftest import Database, MakeRecord


@pytest.mark.parametrize("known", [False, True], ids=["a new person", "a known person"])
async def test_two_transactions_on_one_person_fold_both(
    database: Database, writer: ProspectWriter, record: MakeRecord, known: bool
) -> None:
    if known:
        await writer.write([record("s0", "fp", at=0, ocupacion="médica")])
    # Given one sink in the middle of its transaction: session s1 and its fold are written, not committed
    first = await asyncpg.connect(database.dsn())
    try:
        transaction = first.transaction()
        await transaction.start()
        await first.execute(
            "INSERT INTO prospect_sessions (tenant_id, session_id, fingerprint, record, snapshot_at_ms, enriched_at)"
            " VALUES ('', 's1', 'fp', $1, 1, now())",
            record("s1", "fp", at=1, nombre="Ana").model_dump_json(),
        )
        await first.execute("SELECT nexus_refresh_people('{\"\"}', '{fp}')")

        # When another writes another session of that person, then it waits
        second = asyncio.create_task(writer.write([record("s2", "fp", at=2, telefono="+573005550102")]))
        await asyncio.sleep(0.3)
        assert not second.done()

        # And folds both sessions after the first commit
        await transaction.commit()
    finally:
        await first.close()
    await asyncio.wait_for(second, 10)
    person = await database.person("fp")
    assert (person["nombre"], person["telefono"], person["sessions"]) == ("Ana", "+573005550102", 2 + known)


async def test_a_call_to_a_session_that_is_just_being_linked_reaches_its_person(
    database: Database, writer: ProspectWriter, record: MakeRecord
) -> None:
    await writer.write([record("s", None, at=1, nombre="Ana")])
    # Given a sink in the middle of linking the session to a fingerprint
    first = await asyncpg.connect(database.dsn())
    try:
        transaction = first.transaction()
        await transaction.start()
        await first.execute("UPDATE prospect_sessions SET fingerprint = 'fp'")
        await first.execute("SELECT nexus_refresh_people('{\"\",\"\"}', '{fp,session:s}')")

        call = asyncio.create_task(database.call("session:s", {"telefono": "+573005550102"}))
        await asyncio.sleep(0.2)
        await transaction.commit()
    finally:
        await first.close()

    assert (await asyncio.wait_for(call, 10))["fingerprint_id"] == "fp"
    assert list(await database.people()) == ["fp"]
    assert (await database.person("fp"))["telefono"] == "+573005550102"


async def test_a_first_transaction_that_fails_leaves_nothing_behind(
    database: Database, writer: ProspectWriter, record: MakeRecord
) -> None:
    first = await asyncpg.connect(database.dsn())
    try:
        transaction = first.transaction()
        await transaction.start()
        await first.execute("SELECT update_prospect_data('fp', '{\"nombre\": \"Eva\"}')")
        second = asyncio.create_task(writer.write([record("s2", "fp", at=2, nombre="Ana")]))
        await asyncio.sleep(0.2)
        await transaction.rollback()
    finally:
        await first.close()
    await asyncio.wait_for(second, 10)
    assert (await database.person("fp"))["nombre"] == "Ana"


async def test_many_sinks_on_few_people_lose_no_session(database: Database, record: MakeRecord) -> None:
    shuffle = random.Random(7)  # noqa: S311 - reproducible on purpose
    people = [None, *(f"fp{n}" for n in range(5))]

    def records(sessions: str) -> list[EnrichedProspect]:
        # Sessions change hands, come without a fingerprint, and meet in every batch in another order.
        return [
            record(f"{sessions}{n % 60}", people[(n * 7 + n // 60) % 6], at=n, ocupacion=f"o{n}") for n in range(240)
        ]

    async with AsyncExitStack() as stack:
        writers = [await stack.enter_async_context(connected(database.settings())) for _ in range(4)]

        async def deliver(number: int) -> None:
            # Sessions that everybody writes, and sessions of this sink alone: only the latter run at the same time.
            for batch_rows, mine in ((40, records("shared")), (5, records(f"own{number}-"))):
                shuffle.shuffle(mine)
                for start in range(0, len(mine), batch_rows):
                    await writers[number].write(mine[start : start + batch_rows])

        async def call() -> None:
            connection = await asyncpg.connect(database.dsn())
            try:
                for n in range(40):
                    await connection.execute("SELECT update_prospect_data($1, $2)", f"fp{n % 5}", f'{{"call{n}": {n}}}')
            finally:
                await connection.close()

        # When four sinks and a caller write at once. A deadlock would surface as an error here.
        await asyncio.wait_for(asyncio.gather(*(deliver(number) for number in range(4)), call()), 60)

    # Then every row equals a fold of the final set from scratch
    rows = await database.admin.fetch(
        "SELECT fingerprint_id, prospect_data, nexus_fold(tenant_id, fingerprint_id) AS folded FROM prospect_tracking"
    )
    assert {row["fingerprint_id"] for row in rows} == {
        row["person_key"] for row in await database.admin.fetch("SELECT DISTINCT person_key FROM prospect_sessions")
    } | {f"fp{n}" for n in range(5)}
    for row in rows:
        assert row["prospect_data"] == row["folded"]
    assert sum(row["prospect_data"]["sessions"] for row in rows) == 5 * 60
    assert sum(len([key for key in row["prospect_data"] if key.startswith("call")]) for row in rows) == 40
