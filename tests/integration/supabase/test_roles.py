"""The sink's login can write prospects and nothing else; browsers can do nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import asyncpg
import pytest

from nexus_stream.supabase.migrate import apply_migrations
from tests.integration.supabase.conftest import connected

if TYPE_CHECKING:
    from tests.integration.supabase.conftest import Database, MakeRecord

pytestmark = pytest.mark.own_database

_TABLES = ("prospect_sessions", "prospect_tracking", "prospect_contributions")


@pytest.fixture
async def sink_login(database: Database) -> AsyncIterator[str]:
    await database.admin.execute("CREATE ROLE my_sink LOGIN IN ROLE nexus_sink")
    yield "my_sink"
    await database.admin.execute("DROP ROLE my_sink")


async def test_a_member_of_nexus_sink_writes_and_links(database: Database, record: MakeRecord, sink_login: str) -> None:
    async with connected(database.settings(sink_login)) as writer:
        await writer.write([record("s", None, at=1, nombre="Ana")])
        await writer.write([record("s", "fp", at=2, nombre="Ana"), record("bad", "fp", nombre="\x00")])
    assert list(await database.people()) == ["fp"]

    connection = await asyncpg.connect(database.dsn(sink_login))
    try:
        answer = await connection.fetchval(
            "SELECT update_prospect_data('fp', '{\"telefono\": \"+573005550102\"}')->>'success'"
        )
        assert answer == "true"
    finally:
        await connection.close()


@pytest.mark.parametrize(
    "forbidden",
    [
        "DELETE FROM prospect_sessions",
        "DELETE FROM prospect_contributions",
        "TRUNCATE prospect_tracking",
        "DROP TABLE prospect_tracking",
        "CREATE TABLE theirs (a int)",
        "SELECT * FROM supabase_migrations.schema_migrations",
        "ALTER TABLE prospect_tracking DISABLE ROW LEVEL SECURITY",
    ],
)
async def test_a_member_of_nexus_sink_may_do_nothing_else(database: Database, sink_login: str, forbidden: str) -> None:
    connection = await asyncpg.connect(database.dsn(sink_login))
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(forbidden)
    finally:
        await connection.close()


_SUPABASE_ROLES = ("anon", "authenticated", "service_role")
_TABLES_OF_SCHEMA = """
SELECT relname AS name, relrowsecurity AS rls FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm') ORDER BY 1
"""
_FUNCTIONS_OF_SCHEMA = """
SELECT p.oid::regprocedure::text AS signature, has_function_privilege('anon', p.oid, 'execute') AS anon,
    has_function_privilege('authenticated', p.oid, 'execute') AS authenticated
FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace ORDER BY 1
"""


@pytest.fixture
async def supabase(empty_database: Database) -> AsyncIterator[Database]:
    """A database as Supabase makes it: its roles, and everything in public granted to them by default."""
    admin = empty_database.admin
    for role in _SUPABASE_ROLES:
        await admin.execute(f"CREATE ROLE {role} {'BYPASSRLS' if role == 'service_role' else ''}")
    try:
        for kind in ("TABLES", "FUNCTIONS", "SEQUENCES"):
            await admin.execute(
                f"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON {kind} TO {', '.join(_SUPABASE_ROLES)}"
            )
        await admin.execute(f"GRANT USAGE ON SCHEMA public TO {', '.join(_SUPABASE_ROLES)}")
        await apply_migrations(empty_database.dsn())
        await empty_database.call("fp", {"nombre": "Ana"})
        yield empty_database
    finally:
        await admin.execute("RESET ROLE")
        for role in _SUPABASE_ROLES:
            await admin.execute(f"DROP OWNED BY {role}")
            await admin.execute(f"DROP ROLE {role}")


@pytest.mark.parametrize("role", ["anon", "authenticated"])
async def test_browsers_can_neither_read_nor_write_any_table(supabase: Database, role: str) -> None:
    tables = await supabase.admin.fetch(_TABLES_OF_SCHEMA)
    assert {row["name"] for row in tables} >= {*_TABLES, "prospect_suppressions", "privacy_audit"}
    assert [row["name"] for row in tables if not row["rls"]] == []
    await supabase.admin.execute(f"SET ROLE {role}")
    for row in tables:
        for statement in (
            "TABLE {}",
            "DELETE FROM {}",
            "TRUNCATE {}",
            "INSERT INTO {} DEFAULT VALUES",
            "UPDATE {} SET tenant_id = 'theirs'",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await supabase.admin.execute(statement.format(row["name"]))
    await supabase.admin.execute("RESET ROLE")


async def test_browsers_can_execute_no_function(supabase: Database) -> None:
    functions = await supabase.admin.fetch(_FUNCTIONS_OF_SCHEMA)
    assert len(functions) > 12
    assert [row["signature"] for row in functions if row["anon"] or row["authenticated"]] == []
    for role in ("anon", "authenticated"):
        await supabase.admin.execute(f"SET ROLE {role}")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await supabase.admin.execute("SELECT update_prospect_data('fp', '{}')")
        await supabase.admin.execute("RESET ROLE")


@pytest.mark.parametrize("role", ["anon", "authenticated"])
async def test_a_grant_by_mistake_shows_browsers_no_row_and_takes_none(supabase: Database, role: str) -> None:
    # Given an operator who grants everything again, as a click in a dashboard does
    await supabase.admin.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
    await supabase.admin.execute(f"SET ROLE {role}")
    for table in _TABLES:
        assert await supabase.admin.fetch(f"TABLE {table}") == []
    assert await supabase.admin.execute("UPDATE prospect_tracking SET prospect_data = '{}'") == "UPDATE 0"
    assert await supabase.admin.execute("DELETE FROM prospect_tracking") == "DELETE 0"
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        await supabase.admin.execute("INSERT INTO prospect_tracking (fingerprint_id) VALUES ('x')")
    await supabase.admin.execute("RESET ROLE")
    assert list(await supabase.people()) == ["fp"]


async def test_the_sites_own_server_still_calls_the_function(supabase: Database) -> None:
    await supabase.admin.execute("SET ROLE service_role")
    assert (await supabase.call("fp", {"nombre": "Ana Ruiz"}))["success"] is True
    assert (await supabase.person("fp"))["nombre"] == "Ana Ruiz"
    await supabase.admin.execute("RESET ROLE")


async def test_rows_are_hidden_from_a_role_that_was_granted_the_table_by_mistake(database: Database) -> None:
    await database.call("fp", {"nombre": "Ana"})
    await database.admin.execute("CREATE ROLE curious")
    await database.admin.execute("GRANT SELECT ON prospect_tracking, prospect_contributions TO curious")
    await database.admin.execute("SET ROLE curious")
    assert await database.admin.fetch("SELECT * FROM prospect_tracking") == []
    assert await database.admin.fetch("SELECT * FROM prospect_contributions") == []
    await database.admin.execute("RESET ROLE; DROP OWNED BY curious; DROP ROLE curious")
