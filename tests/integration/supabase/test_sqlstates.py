"""Real errors of a real server, one for each SQLSTATE that a test can raise, and the writer's reactions.

A trigger on prospect_sessions runs the statement that provokes the error, for one session of a batch. Errors that need
another connection, role or server are in test_failures.py.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from nexus_stream.errors import ConfigurationError, DatabaseUnavailableError
from nexus_stream.supabase.sqlstates import Failure, classify
from nexus_stream.supabase.writer import ProspectWriter

if TYPE_CHECKING:
    from tests.integration.supabase.conftest import Database, MakeRecord, Server

_T, _B, _S, _C = Failure.TRANSIENT, Failure.BAD_ROW, Failure.SMALLER_BATCH, Failure.CONFIGURATION

_THINGS = """
CREATE TABLE things (a int PRIMARY KEY CHECK (a < 9), b varchar(3), c int NOT NULL DEFAULT 0,
    d int4range, EXCLUDE USING gist (d WITH &&));
CREATE TABLE parts (a int REFERENCES things);
CREATE FUNCTION deep(n int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN deep(n + 1); END $$;
CREATE FUNCTION nobody() RETURNS int LANGUAGE sql RETURN 1;
CREATE FUNCTION fail_for_one() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE statement text;
BEGIN
  IF NEW.session_id = 'the one' THEN
    FOR statement IN SELECT s FROM provoke LOOP EXECUTE statement; END LOOP;
  END IF;
  RETURN NEW;
END $$;
CREATE TABLE provoke (s text);
CREATE TABLE indexed (s text);
CREATE INDEX ON indexed (s);
CREATE TRIGGER fail_for_one BEFORE INSERT ON prospect_sessions FOR EACH ROW EXECUTE FUNCTION fail_for_one();
"""

# (SQLSTATE, statements that raise it, the action)
_TABLE = [
    # 22: data
    ("22001", "INSERT INTO things (a, b) VALUES (2, 'too long')", _B),
    ("22003", "SELECT 2147483647 + 1", _B),
    ("22004", "SELECT set_config(NULL, '1', true)", _B),
    ("22007", "SELECT 'yesterdayish'::timestamptz", _B),
    ("22008", "SELECT '2026-02-30'::date", _B),
    ("22012", "SELECT 1 / 0", _B),
    ("22021", "SELECT convert_from('\\xff', 'UTF8')", _B),
    ("22023", "SELECT set_config('work_mem', '-7', true)", _B),
    ("2201B", "SELECT 'a' ~ '('", _B),
    ("22P02", "SELECT 'seven'::int", _B),
    ("22P05", "SELECT '\"\\u0000\"'::jsonb ->> 0", _B),
    # 23: constraints
    ("23502", "INSERT INTO things (a, c) VALUES (2, NULL)", _B),
    ("23503", "INSERT INTO parts VALUES (7)", _B),
    ("23505", "INSERT INTO things (a) VALUES (1)", _B),
    ("23514", "INSERT INTO things (a) VALUES (10)", _B),
    ("23P01", "INSERT INTO things (a, d) VALUES (3, '[2,3)')", _B),
    # 54: limits
    (
        "54000",
        "INSERT INTO indexed SELECT string_agg(md5(n::text), '') FROM generate_series(1, 900) n",
        _B,
    ),
    ("54001", "SELECT deep(1)", _B),
    # raised by the installation's own trigger
    ("P0001", "DO $$ BEGIN RAISE EXCEPTION 'no'; END $$", _B),
    # errors that no row caused
    ("21000", "SELECT (SELECT n FROM generate_series(1, 2) n)", _C),
    ("25001", "VACUUM", _C),
    ("26000", "EXECUTE no_such_statement", _C),
    ("2BP01", "DROP TABLE things", _C),
    ("3F000", "CREATE TABLE nowhere.t ()", _C),
    ("42501", "SET LOCAL ROLE nexus_sink ;; SELECT * FROM things", _C),
    ("42601", "SELECT FROM WHERE", _C),
    ("42703", "SELECT no_such_column FROM things", _C),
    ("42704", "SELECT 1::no_such_type", _C),
    ("42883", "SELECT no_such_function()", _C),
    ("42P01", "SELECT * FROM no_such_table", _C),
    ("42P05", "PREPARE twice AS SELECT 1 ;; PREPARE twice AS SELECT 1", _C),
    ("42P07", "CREATE TABLE things ()", _C),
    ("42P10", "INSERT INTO things (a) VALUES (1) ON CONFLICT (c) DO NOTHING", _C),
    # errors that a retry solves
    ("25006", "SET LOCAL transaction_read_only = on ;; INSERT INTO parts VALUES (1)", _T),
    ("55P03", "SELECT * FROM things FOR UPDATE NOWAIT", _T),
    ("57014", "SELECT pg_sleep(1)", _S),
    ("57P01", "SELECT pg_terminate_backend(pg_backend_pid())", _T),
    ("58P01", "SELECT pg_read_file('/no/such/file')", _T),
]


@pytest.fixture(scope="module")
def prepared(server: Server, module_database: str) -> None:
    async def prepare() -> None:
        connection = await asyncpg.connect(server.dsn(module_database))
        try:
            await connection.execute(_THINGS)
        finally:
            await connection.close()

    asyncio.run(prepare())


@pytest.fixture
async def provoked(prepared: None, database_of_module: Database) -> Database:
    await database_of_module.admin.execute("INSERT INTO things (a, d) VALUES (1, '[1,5)')")
    return database_of_module


@pytest.mark.parametrize(("sqlstate", "statements", "failure"), _TABLE, ids=[case[0] for case in _TABLE])
async def test_each_code_as_the_server_raises_it(
    provoked: Database, record: MakeRecord, sqlstate: str, statements: str, failure: Failure
) -> None:
    # Given a batch with one row whose statement fails, and somebody who holds a lock
    await provoked.admin.executemany("INSERT INTO provoke VALUES ($1)", [(s,) for s in statements.split(" ;; ")])
    holder = await asyncpg.connect(provoked.dsn())
    if sqlstate == "55P03":
        await holder.execute("BEGIN; SELECT FROM things FOR UPDATE")
    timeout = 0.1 if sqlstate == "57014" else 15.0
    writer = await ProspectWriter.connect(provoked.settings(database_statement_timeout_seconds=timeout))
    batch = [record(name, f"fp-{name}", nombre="Ana") for name in ("a", "b", "the one", "y", "z")]
    stored = "SELECT count(*) FROM prospect_sessions"
    try:
        if failure is Failure.BAD_ROW:
            result = await writer.write(batch)
            assert [(bad.index, bad.sqlstate) for bad in result.rejected] == [(2, sqlstate)]
            assert (result.inserted, await provoked.admin.fetchval(stored)) == (4, 4)
        elif failure is Failure.CONFIGURATION:
            with pytest.raises(ConfigurationError, match=sqlstate):
                await writer.write(batch)
            assert await provoked.admin.fetchval(stored) == 0
        else:
            # Nothing is lost or rejected. When the cause is gone, all rows are there.
            with pytest.raises(DatabaseUnavailableError, match=f"{sqlstate}|08003"):
                await writer.write(batch)
            await provoked.admin.execute("TRUNCATE provoke")
            await writer.write(batch)
            assert await provoked.admin.fetchval(stored) == 5
    finally:
        await writer.close()
        await holder.close()


async def test_a_deadlock_with_somebody_else_is_tried_again(
    database: Database, writer: ProspectWriter, record: MakeRecord
) -> None:
    await writer.write([record("s", "fp", at=1, nombre="Ana")])
    # Given another transaction that locks the person and then the session, while the writer locks them in reverse order
    other = await asyncpg.connect(database.dsn())
    try:
        await other.execute("SET deadlock_timeout = '20s'")
        transaction = other.transaction()
        await transaction.start()
        await other.execute("UPDATE prospect_tracking SET updated_at = now()")
        write = asyncio.create_task(writer.write([record("s", "fp", at=2, nombre="Ana")]))
        waiting = 0
        async with asyncio.timeout(60):
            while not waiting:
                await asyncio.sleep(0.02)
                waiting = await database.admin.fetchval(
                    "SELECT count(*) FROM pg_stat_activity"
                    " WHERE application_name = 'nexus-stream' AND wait_event_type = 'Lock'"
                    " AND datname = current_database()"
                )
        theirs = asyncio.create_task(other.execute("UPDATE prospect_sessions SET updated_at = now()"))

        with pytest.raises(DatabaseUnavailableError, match="40P01"):
            await asyncio.wait_for(write, 60)
        await theirs
        await transaction.commit()
    finally:
        await other.close()
    assert (await writer.write([record("s", "fp", at=2, nombre="Ana")])).updated == 1


async def _raised(connection: Any, *statements: str, pause_seconds: float = 0) -> BaseException:
    try:
        for statement in statements:
            await connection.execute(statement)
            await asyncio.sleep(pause_seconds)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        return error
    pytest.fail("nothing was raised")


async def test_codes_outside_a_batch(provoked: Database) -> None:
    one, two, three = [await asyncpg.connect(provoked.dsn()) for _ in range(3)]
    try:
        await one.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM things")
        await two.execute("UPDATE things SET c = 5")
        conflict = await _raised(one, "UPDATE things SET c = 6")
        idle = await _raised(
            two, "SET idle_in_transaction_session_timeout = '30ms'; BEGIN", "SELECT 1", pause_seconds=0.3
        )
        bored = await _raised(three, "SET idle_session_timeout = '30ms'", "SELECT 1", pause_seconds=0.3)
        found = [(getattr(error, "sqlstate", None), classify(error)) for error in (conflict, idle, bored)]
    finally:
        for connection in (one, two, three):
            connection.terminate()
    # The last two may be seen as a connection that is closed.
    assert found[0] == ("40001", _T)
    assert found[1] in {("25P03", _T), ("08003", _T), (None, _T)}
    assert found[2] in {("57P05", _T), ("08003", _T), (None, _T)}


async def test_a_transaction_that_took_too_long_is_made_smaller(provoked: Database) -> None:
    if await provoked.admin.fetchval("SELECT current_setting('server_version_num')::int") < 170_000:
        # transaction_timeout came with 17: then the code cannot occur either.
        return
    connection = await asyncpg.connect(provoked.dsn())
    try:
        error = await _raised(connection, "BEGIN", "SET LOCAL transaction_timeout = '30ms'", "SELECT pg_sleep(5)")
    finally:
        connection.terminate()
    assert (getattr(error, "sqlstate", None), classify(error)) in {("25P04", _S), ("08003", _T)}
