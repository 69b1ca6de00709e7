"""The installation's own update_prospect_data writes the rows; prospect_sessions makes replays harmless."""

from __future__ import annotations

import asyncio
import math
import random
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from nexus_stream.errors import ConfigurationError, DatabaseUnavailableError
from nexus_stream.settings import Settings, load_settings
from nexus_stream.supabase.writer import ProspectWriter
from tests.integration.supabase.conftest import connected

if TYPE_CHECKING:
    from tests.integration.supabase.conftest import Database, MakeRecord

pytestmark = pytest.mark.own_database

_ACME, _OTHER = "6f1f3c1e-0000-4000-8000-000000000001", "6f1f3c1e-0000-4000-8000-000000000002"
_TWO_ARGUMENTS = """
    DROP FUNCTION update_prospect_data;
    CREATE FUNCTION update_prospect_data(p_fingerprint_id text, p_data jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
    BEGIN
      INSERT INTO their_calls (fingerprint_id, data) VALUES (p_fingerprint_id, p_data);
      RETURN '{"success": true}';
    END $$;
"""


@pytest.fixture
def older(older_database: Database) -> Database:
    return older_database


def _settings(database: Database, constructors: str = "", **changes: Any) -> Settings:
    environ = {"NEXUS_ENV": "test", "NEXUS_SINK_MODE": "function", "NEXUS_TENANT_CONSTRUCTORS": constructors}
    return load_settings(environ=environ, database_url=database.dsn(), **changes)


async def _calls(database: Database) -> list[tuple[Any, ...]]:
    rows = await database.admin.fetch("SELECT fingerprint_id, data FROM their_calls ORDER BY number")
    return [tuple(row) for row in rows]


async def test_each_change_of_a_session_makes_one_call_with_all_known_facts(
    older: Database, record: MakeRecord
) -> None:
    async with connected(_settings(older)) as writer:
        first = record("s", "fp", at=1, nombre="Ana", nivel_interes=7.5, ocupacion="")
        result = await writer.write([first])
        assert (result.inserted, result.statements) == (1, 3)
        # No nulls and no empty strings, which could erase facts. Decimals stay unchanged.
        known = {"nombre": "Ana", "nivel_interes": 7.5, "objeciones": [], "momento_optimo": "frio"}
        assert await _calls(older) == [("fp", known)]

        # A repeat, and a newer record with the same facts: no call
        assert (await writer.write([first])).unchanged == 1
        assert (await writer.write([record("s", "fp", at=2, nombre="Ana", nivel_interes=7.5)])).updated == 1
        assert len(await _calls(older)) == 1

        await writer.write([record("s", "fp", at=3, nombre="Ana Ruiz", nivel_interes=7.5)])
        assert await _calls(older) == [("fp", known), ("fp", {**known, "nombre": "Ana Ruiz"})]
    # The person's row is what their function made of it
    assert (await older.person("fp"))["crm"] == 7


async def test_a_session_without_fingerprint_is_stored_and_passed_when_one_appears(
    older: Database, record: MakeRecord
) -> None:
    async with connected(_settings(older)) as writer:
        await writer.write([record("s", None, at=1, nombre="Ana")])
        assert await _calls(older) == []
        assert await older.admin.fetchval("SELECT count(*) FROM prospect_sessions") == 1

        await writer.write([record("s", "late", at=2, nombre="Ana")])
        assert [fingerprint for fingerprint, _ in await _calls(older)] == ["late"]


async def test_a_replay_in_any_order_calls_nothing_again(older: Database, record: MakeRecord) -> None:
    async with connected(_settings(older)) as writer:
        records = [
            record(f"s{n % 20}", [None, "fp", "a", "b"][n % 4], at=n, nombre="Ana", ocupacion=f"o{n % 3}")
            for n in range(100)
        ]
        for start in range(0, 100, 30):
            await writer.write(records[start : start + 30])
        calls, rows = await _calls(older), await older.people()
        assert calls

        random.Random(5).shuffle(records)  # noqa: S311 - reproducible on purpose
        for start in range(0, 100, 7):
            await writer.write(records[start : start + 7])
        assert (await _calls(older), await older.people()) == (calls, rows)


async def test_the_older_session_of_a_person_is_passed_first(older: Database, record: MakeRecord) -> None:
    async with connected(_settings(older)) as writer:
        await writer.write([record("a", "fp", at=9, ocupacion="newer"), record("z", "fp", at=8, ocupacion="older")])
        assert [data["ocupacion"] for _, data in await _calls(older)] == ["older", "newer"]


async def test_success_false_is_a_bad_row_and_leaves_nothing_behind(older: Database, record: MakeRecord) -> None:
    async with connected(_settings(older)) as writer:
        batch = [record(f"s{n:03}", f"p{n}", nombre="Mallory" if n == 77 else "Ana") for n in range(200)]
        result = await writer.write(batch)

        assert (result.inserted, [(bad.index, bad.sqlstate) for bad in result.rejected]) == (199, [(77, "P0001")])
        assert result.rejected[0].message == "update_prospect_data answered success: false"
        # Each piece of the search is an upsert, a call, and a note of the call
        assert result.statements <= 3 * (math.ceil(math.log2(200)) + 4)
        assert len(await _calls(older)) == 199
        # The session is not in the ledger either: a redrive calls the function again
        assert await older.admin.fetchval("SELECT count(*) FROM prospect_sessions") == 199
        await older.admin.execute(_TWO_ARGUMENTS)
        async with connected(_settings(older)) as again:
            assert (await again.write([batch[77]])).inserted == 1


@pytest.mark.parametrize(
    ("break_it", "error", "sqlstate"),
    [
        # A configuration error that the function caught: not a dead letter
        ("ALTER TABLE prospect_tracking RENAME COLUMN constructor_id TO elsewhere", ConfigurationError, "42P01"),
        ("REVOKE ALL ON their_calls FROM PUBLIC; ALTER TABLE their_calls RENAME TO gone", ConfigurationError, "42P01"),
    ],
)
async def test_an_error_in_the_answer_is_classified_like_the_error(
    older: Database, record: MakeRecord, break_it: str, error: type[Exception], sqlstate: str
) -> None:
    async with connected(_settings(older)) as writer:
        await older.admin.execute(break_it)
        with pytest.raises(error, match=sqlstate):
            await writer.write([record("s", "fp", nombre="Ana")])
        assert await older.admin.fetchval("SELECT count(*) FROM prospect_sessions") == 0


async def test_a_lock_timeout_in_the_answer_is_retried(older: Database, record: MakeRecord) -> None:
    async with connected(_settings(older, database_statement_timeout_seconds=3.0)) as writer:
        # Given another transaction that locks the person's row for longer than the timeout
        other = await asyncpg.connect(older.dsn())
        try:
            transaction = other.transaction()
            await transaction.start()
            await other.execute("UPDATE prospect_tracking SET updated_at = now() WHERE fingerprint_id = 'fp'")
            with pytest.raises(DatabaseUnavailableError, match=r"40001|55P03"):
                await asyncio.wait_for(writer.write([record("s", "fp", nombre="Ana")]), 20)
            await transaction.rollback()
        finally:
            await other.close()
        assert (await writer.write([record("s", "fp", nombre="Ana")])).inserted == 1


async def test_the_tenant_becomes_the_third_argument(older: Database, record: MakeRecord) -> None:
    async with connected(_settings(older, f"acme={_ACME},other={_OTHER}")) as writer:
        result = await writer.write(
            [
                record("a", "fp-a", tenant_id="acme", nombre="Ana"),
                record("b", "fp-b", tenant_id="other", nombre="Eva"),
                record("c", "fp-c", nombre="Leo"),
                record("d", "fp-d", tenant_id="unknown", nombre="Isa"),
            ]
        )
        # An unmapped tenant's data would go to another tenant: a dead letter, not a row
        assert [(bad.index, bad.sqlstate) for bad in result.rejected] == [(3, "22023")]
        assert "NEXUS_TENANT_CONSTRUCTORS" in result.rejected[0].message
        rows = await older.admin.fetch("SELECT fingerprint_id, constructor_id::text AS c FROM their_calls ORDER BY 1")
        assert [(row["fingerprint_id"], row["c"]) for row in rows] == [
            ("fp-a", _ACME),
            ("fp-b", _OTHER),
            ("fp-c", None),
        ]


async def test_without_a_mapping_the_third_argument_keeps_its_default(older: Database, record: MakeRecord) -> None:
    for function in ("SELECT 1", _TWO_ARGUMENTS):
        await older.admin.execute(function)
        async with connected(_settings(older)) as writer:
            result = await writer.write([record(f"s{len(function)}", "fp", tenant_id="acme", nombre="Ana")])
            assert (result.inserted, result.rejected) == (1, ())
    assert len(await _calls(older)) == 2


@pytest.mark.parametrize(
    ("prepare", "constructors", "message"),
    [
        ("DROP FUNCTION update_prospect_data", "", "there is no public.update_prospect_data"),
        (_TWO_ARGUMENTS, f"acme={_ACME}", r"there is no public.update_prospect_data\(text, jsonb, uuid\)"),
    ],
)
async def test_a_function_that_cannot_be_called_stops_the_start(
    older: Database, prepare: str, constructors: str, message: str
) -> None:
    await older.admin.execute(prepare)
    with pytest.raises(ConfigurationError, match=message):
        await ProspectWriter.connect(_settings(older, constructors))


async def test_our_own_function_is_not_called(database: Database) -> None:
    with pytest.raises(ConfigurationError, match="Set NEXUS_SINK_MODE=tables"):
        await ProspectWriter.connect(_settings(database))


async def test_a_login_that_may_not_execute_it_is_told_how(older: Database) -> None:
    await older.admin.execute("REVOKE EXECUTE ON FUNCTION update_prospect_data FROM PUBLIC")
    await older.admin.execute("CREATE ROLE my_caller LOGIN IN ROLE nexus_sink")
    try:
        settings = load_settings(environ={"NEXUS_SINK_MODE": "function"}, database_url=older.dsn("my_caller"))
        with pytest.raises(ConfigurationError, match=r"grant execute on function public\.update_prospect_data\(text"):
            await ProspectWriter.connect(settings)
    finally:
        await older.admin.execute("DROP ROLE my_caller")


async def test_a_killed_backend_between_upsert_and_call_loses_nothing_and_calls_once(
    older: Database, record: MakeRecord
) -> None:
    async with connected(_settings(older)) as writer:
        async with older.admin.transaction():
            await older.admin.execute("LOCK TABLE their_calls IN ACCESS EXCLUSIVE MODE")
            batch = [record(f"s{n}", f"p{n}", nombre="Ana") for n in range(10)]
            write = asyncio.create_task(writer.write(batch))
            killed = 0
            async with asyncio.timeout(10):
                while not killed:
                    await asyncio.sleep(0.02)
                    killed = await older.admin.fetchval(
                        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                        " WHERE application_name = 'nexus-stream' AND wait_event_type = 'Lock'"
                        " AND datname = current_database()"
                    )
            with pytest.raises(DatabaseUnavailableError):
                await write
        assert (await writer.write(batch)).inserted == 10
        assert len(await _calls(older)) == 10
