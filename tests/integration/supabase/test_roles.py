"""The sink's login can write prospects and nothing else; browsers can do nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import asyncpg
import pytest

from nexus_stream.supabase.migrate import apply_migrations
from nexus_stream.supabase.writer import ProspectWriter

if TYPE_CHECKING:
    from conftest import Database, MakeRecord

_TABLES = ("prospect_sessions", "prospect_tracking", "prospect_contributions")


@pytest.fixture
async def sink_login(database: Database) -> AsyncIterator[str]:
    await database.admin.execute("CREATE ROLE my_sink LOGIN IN ROLE nexus_sink")
    yield "my_sink"
    await database.admin.execute("DROP ROLE my_sink")


async def test_a_member_of_nexus_sink_writes_and_links(database: Database, record: MakeRecord, sink_login: str) -> None:
    writer = await ProspectWriter.connect(database.settings(sink_login))
    await writer.write([record("s", None, at=1, nombre="Ana")])
    await writer.write([record("s", "fp", at=2, nombre="Ana"), record("bad", "fp", nombre="\x00")])
    await writer.close()
    assert list(await database.people()) == ["fp"]

    connection = await asyncpg.connect(database.dsn(sink_login))
    answer = await connection.fetchval(
        "SELECT update_prospect_data('fp', '{\"telefono\": \"+573005550102\"}')->>'success'"
    )
    assert answer == "true"
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
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute(forbidden)
    await connection.close()


async def test_browsers_can_neither_read_nor_write(empty_database: Database) -> None:
    # Given a database as Supabase makes it: its roles, and everything in public granted to them by default
    admin = empty_database.admin
    for role in ("anon", "authenticated", "service_role"):
        await admin.execute(f"CREATE ROLE {role} {'BYPASSRLS' if role == 'service_role' else ''}")
    try:
        for kind in ("TABLES", "FUNCTIONS"):
            await admin.execute(
                f"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON {kind} TO anon, authenticated, service_role"
            )
        await apply_migrations(empty_database.dsn())
        await empty_database.call("fp", {"nombre": "Ana"})

        for role in ("anon", "authenticated"):
            for statement in (
                *(f"{verb} {table}" for verb in ("TABLE", "DELETE FROM", "TRUNCATE") for table in _TABLES),
                "INSERT INTO prospect_tracking (fingerprint_id) VALUES ('x')",
                "SELECT update_prospect_data('fp', '{}')",
                "SELECT nexus_contribute('', 'fp', '{}')",
                "SELECT nexus_refresh_people('{}', '{}')",
                "SELECT nexus_fold('', 'fp')",
            ):
                await admin.execute(f"SET ROLE {role}")
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await admin.execute(statement)
                await admin.execute("RESET ROLE")

        # The site's own server, with the service key, still calls the function.
        await admin.execute("SET ROLE service_role")
        assert (await empty_database.call("fp", {"nombre": "Ana Ruiz"}))["success"] is True
        assert (await empty_database.person("fp"))["nombre"] == "Ana Ruiz"
        await admin.execute("RESET ROLE")
    finally:
        await admin.execute("RESET ROLE")
        for role in ("anon", "authenticated", "service_role"):
            await admin.execute(f"DROP OWNED BY {role}")
            await admin.execute(f"DROP ROLE {role}")


async def test_rows_are_hidden_from_a_role_that_was_granted_the_table_by_mistake(database: Database) -> None:
    await database.call("fp", {"nombre": "Ana"})
    await database.admin.execute("CREATE ROLE curious")
    await database.admin.execute("GRANT SELECT ON prospect_tracking, prospect_contributions TO curious")
    await database.admin.execute("SET ROLE curious")
    assert await database.admin.fetch("SELECT * FROM prospect_tracking") == []
    assert await database.admin.fetch("SELECT * FROM prospect_contributions") == []
    await database.admin.execute("RESET ROLE; DROP OWNED BY curious; DROP ROLE curious")
