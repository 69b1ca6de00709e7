"""Real errors of a real server, and the writer's reactions."""

from __future__ import annotations

import asyncio
import os
import signal
from functools import partial
from typing import TYPE_CHECKING

import asyncpg
import pytest

from nexus_stream.errors import ConfigurationError, DatabaseUnavailableError
from nexus_stream.host.free_ports import LOOPBACK, free_port
from nexus_stream.settings import load_settings
from nexus_stream.supabase.writer import ProspectWriter
from tests.integration.supabase.conftest import connected
from tests.stack import eventually

if TYPE_CHECKING:
    from tests.integration.supabase.conftest import Database, MakeRecord, Server

pytestmark = pytest.mark.own_database


async def test_a_login_that_does_not_exist_is_a_configuration_error(database: Database) -> None:
    with pytest.raises(ConfigurationError, match=r"refuses the login.*\[28000\]"):
        await ProspectWriter.connect(database.settings("nobody_knows"))


async def test_a_wrong_password_is_a_configuration_error_and_not_shown(database: Database, server: Server) -> None:
    # Given a server that asks for passwords, as every server of Supabase's does
    hba = await database.admin.fetchval("SHOW hba_file")
    original = await database.admin.fetchval("SELECT pg_read_file($1)", hba)
    rule = f"host {database.name} asks_for_a_password 127.0.0.1/32 scram-sha-256\n"
    await database.admin.execute("CREATE ROLE asks_for_a_password LOGIN PASSWORD 'right'")
    await database.admin.execute(f"COPY (SELECT $q${rule}{original}$q$) TO PROGRAM 'cat > {hba}.new'")
    await database.admin.execute(f"COPY (SELECT 1) TO PROGRAM 'printf %b \"$(cat {hba}.new)\" > {hba}'")
    await database.admin.execute("SELECT pg_reload_conf()")
    dsn = f"postgresql://asks_for_a_password:wr0ng@{LOOPBACK}:{server.port}/{database.name}"
    await eventually(partial(_is_refused, dsn), seconds=60, what="the rule in force")
    try:
        with pytest.raises(ConfigurationError, match=r"refuses the login.*\[28P01\]") as raised:
            await ProspectWriter.connect(load_settings(environ={}, database_url=dsn))
        assert "wr0ng" not in str(raised.value)
    finally:
        await database.admin.execute("DROP ROLE asks_for_a_password")


async def _is_refused(dsn: str) -> bool:
    try:
        connection = await asyncpg.connect(dsn)
    except asyncpg.InvalidPasswordError:
        return True
    await connection.close()
    return False


async def test_a_database_that_does_not_exist_is_a_configuration_error(server: Server) -> None:
    with pytest.raises(ConfigurationError, match=r"no such database.*\[3D000\]"):
        await ProspectWriter.connect(load_settings(environ={}, database_url=server.dsn("nowhere")))


async def test_missing_migrations_are_named_at_start(empty_database: Database) -> None:
    with pytest.raises(ConfigurationError, match="Run `nexus migrate`"):
        await ProspectWriter.connect(empty_database.settings())


async def test_a_port_where_nobody_listens_is_tried_again(server: Server) -> None:
    dsn = f"postgresql://postgres@{LOOPBACK}:{free_port({server.port})}/postgres"
    with pytest.raises(DatabaseUnavailableError, match="ConnectionRefusedError"):
        await ProspectWriter.connect(load_settings(environ={}, database_url=dsn))


async def test_no_connection_left_is_tried_again(database: Database) -> None:
    await database.admin.execute("CREATE ROLE crowded LOGIN SUPERUSER")
    await database.admin.execute("ALTER ROLE crowded NOSUPERUSER CONNECTION LIMIT 0")
    try:
        with pytest.raises(DatabaseUnavailableError, match="53300"):
            await ProspectWriter.connect(database.settings("crowded"))
    finally:
        await database.admin.execute("DROP ROLE crowded")


@pytest.mark.parametrize(
    ("break_it", "sqlstate", "advice"),
    [
        ("ALTER TABLE prospect_sessions RENAME TO elsewhere", "42P01", "nexus migrate"),
        ("ALTER TABLE prospect_sessions RENAME COLUMN moved_from TO elsewhere", "42703", "nexus migrate"),
        ("DROP FUNCTION nexus_refresh_people", "42883", "nexus migrate"),
        ("ALTER TABLE prospect_sessions DROP CONSTRAINT prospect_sessions_pkey", "42P10", "nexus migrate"),
    ],
)
async def test_a_database_that_is_not_as_expected_stops_and_dead_letters_nothing(
    database: Database, writer: ProspectWriter, record: MakeRecord, break_it: str, sqlstate: str, advice: str
) -> None:
    await database.admin.execute(break_it)
    with pytest.raises(ConfigurationError, match=sqlstate) as raised:
        await writer.write([record("s", "fp", nombre="Ana")])
    assert advice in str(raised.value)


async def test_a_missing_privilege_stops(database: Database, record: MakeRecord) -> None:
    await database.admin.execute("CREATE ROLE may_nothing LOGIN")
    try:
        async with connected(database.settings("may_nothing")) as writer:
            with pytest.raises(ConfigurationError, match=r"grant nexus_sink to .*\[42501\]"):
                await writer.write([record("s", "fp", nombre="Ana")])
    finally:
        await database.admin.execute("DROP ROLE may_nothing")


async def test_a_read_only_server_is_waited_for(database: Database, record: MakeRecord) -> None:
    # Given a failover under way: the server is read-only
    await database.admin.execute(f"ALTER DATABASE {database.name} SET default_transaction_read_only = on")
    async with connected(database.settings()) as writer:
        with pytest.raises(DatabaseUnavailableError, match=r"read-only.*\[25006\]"):
            await writer.write([record("s", "fp", nombre="Ana")])

        # When the failover is over, then the same writer continues with new connections
        await database.admin.execute("SET default_transaction_read_only = off")
        await database.admin.execute(f"ALTER DATABASE {database.name} RESET default_transaction_read_only")
        assert (await writer.write([record("s", "fp", nombre="Ana")])).inserted == 1


async def test_a_killed_backend_loses_the_batch_and_nothing_else(database: Database, record: MakeRecord) -> None:
    # Given a batch in the middle of its transaction, waiting for a lock
    async with connected(database.settings()) as writer:
        async with database.admin.transaction():
            await database.admin.execute("LOCK TABLE prospect_tracking IN ACCESS EXCLUSIVE MODE")
            batch = [record(f"s{n}", f"fp{n}", nombre="Ana") for n in range(10)]
            write = asyncio.create_task(writer.write(batch))
            killed = 0
            for _ in range(3000):
                await asyncio.sleep(0.02)
                killed = await database.admin.fetchval(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                    " WHERE application_name = 'nexus-stream' AND wait_event_type = 'Lock'"
                    " AND datname = current_database()"
                )
                if killed:
                    break
            assert killed == 1
            with pytest.raises(DatabaseUnavailableError, match=r"\[(57P01|08003)\]"):
                await write
        assert await database.admin.fetchval("SELECT count(*) FROM prospect_sessions") == 0

        # When the same batch is written again, then it succeeds
        result = await writer.write(batch)
        assert (result.inserted, result.unchanged) == (10, 0)


async def test_a_held_lock_is_reported_as_a_lock_timeout(database: Database, record: MakeRecord) -> None:
    async with connected(database.settings(database_statement_timeout_seconds=3.0)) as writer:
        async with database.admin.transaction():
            await database.admin.execute("LOCK TABLE prospect_sessions IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(DatabaseUnavailableError, match="55P03"):
                await writer.write([record("s", "fp", nombre="Ana"), record("s2", "fp")])
        assert (await writer.write([record("s", "fp", nombre="Ana")])).inserted == 1


@pytest.fixture
async def slow_database(database: Database) -> Database:
    """Each session's row takes 20 ms."""
    await database.admin.execute(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql"
        " AS $$ BEGIN PERFORM pg_sleep(0.02); RETURN NEW; END $$;"
        "CREATE TRIGGER slow BEFORE INSERT ON prospect_sessions FOR EACH ROW EXECUTE FUNCTION slow();"
    )
    return database


async def test_a_batch_the_server_has_no_time_for_is_made_smaller(slow_database: Database, record: MakeRecord) -> None:
    # 64 rows need 1.3 s
    async with connected(slow_database.settings(database_statement_timeout_seconds=0.5)) as writer:
        result = await writer.write([record(f"s{n}", f"fp{n % 3}", nombre="Ana") for n in range(64)])
        assert (result.inserted, result.rejected) == (64, ())
        assert result.statements > 2
        assert await slow_database.admin.fetchval("SELECT count(*) FROM prospect_sessions") == 64


async def test_one_row_the_server_has_no_time_for_is_tried_again_later(
    slow_database: Database, record: MakeRecord
) -> None:
    async with connected(slow_database.settings(database_statement_timeout_seconds=0.01)) as writer:
        with pytest.raises(DatabaseUnavailableError, match="57014"):
            await writer.write([record("s", "fp", nombre="Ana"), record("s2", "fp")])


@pytest.mark.parametrize("server", ["embedded"], indirect=True)
async def test_a_server_that_stopped_answering_is_abandoned(database: Database, record: MakeRecord) -> None:
    # Given a server process that hangs in the middle of a batch, so that it cannot report its own timeout
    writer = await ProspectWriter.connect(
        database.settings(
            database_statement_timeout_seconds=0.5, database_connect_timeout_seconds=2, database_pool_max=1
        )
    )
    find = "SELECT pid FROM pg_stat_activity WHERE application_name = 'nexus-stream' AND datname = current_database()"
    pid = await database.admin.fetchval(find)
    os.kill(pid, signal.SIGSTOP)
    try:
        # Then the batch fails in bounded time
        with pytest.raises(DatabaseUnavailableError):
            await asyncio.wait_for(writer.write([record("s", "fp", nombre="Ana")]), 20)
        # And a new connection serves the next
        assert (await asyncio.wait_for(writer.write([record("s", "fp", nombre="Ana")]), 20)).inserted == 1
    finally:
        os.kill(pid, signal.SIGCONT)
        await writer.close()


async def test_ping_tells_whether_the_server_answers(server: Server, database: Database) -> None:
    async with connected(database.settings(database_connect_timeout_seconds=2)) as writer:
        await writer.ping()
        await database.admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'nexus-stream' AND datname = current_database()"
        )
        # A closed connection is replaced, at the latest by the second try.
        try:
            await writer.ping()
        except DatabaseUnavailableError:
            await writer.ping()
    with pytest.raises(DatabaseUnavailableError):
        await writer.ping()


async def test_timeouts_end_with_their_transaction(database: Database, record: MakeRecord) -> None:
    async with connected(database.settings()) as writer:
        await writer.write([record("s", "fp", nombre="Ana")])
        async with writer._pool.acquire() as connection:
            assert await connection.fetchval("SHOW statement_timeout") == "0"
            assert await connection.fetchval("SHOW lock_timeout") == "0"


async def test_the_server_stopping_for_good_is_unavailable_and_quick(database: Database, record: MakeRecord) -> None:
    async with connected(database.settings()) as writer:
        root = await asyncpg.connect(database.server.dsn())
        try:
            await database.admin.close()
            await root.execute(f"ALTER DATABASE {database.name} WITH ALLOW_CONNECTIONS false")
            await root.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", database.name
            )
            for _ in range(3):
                with pytest.raises((DatabaseUnavailableError, ConfigurationError)):
                    await asyncio.wait_for(writer.write([record("s", "fp")]), 5)
            await root.execute(f"ALTER DATABASE {database.name} WITH ALLOW_CONNECTIONS true")
        finally:
            await root.close()
        assert (await writer.write([record("s", "fp")])).inserted == 1
