"""A database of an earlier checkout is refused, and the message's steps keep its rows. A newer one is accepted."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from nexus_stream.errors import EarlierCheckoutError
from nexus_stream.supabase.command import command
from nexus_stream.supabase.migrate import apply_migrations, load_migrations, plan_migrations
from tests.integration.supabase.conftest import connected

if TYPE_CHECKING:
    from tests.integration.supabase.conftest import Database, MakeRecord

pytestmark = pytest.mark.own_database

_ROOT = Path(__file__).resolve().parents[3]
_EARLIER = (
    "20261124000100_prospect_tables",
    "20261124000200_prospect_fold",
    "20261124000300_prospect_writers",
    "20261124000400_prospect_roles",
    "20261124000500_privacy",
    "20261124000600_corrections",
)
_THEIRS = "20240101000000_theirs"
# Any change of the schema makes another oid; the ledger is compared as a whole.
_EVERYTHING = """
SELECT 'relation', oid, relname::text FROM pg_class
UNION ALL SELECT 'function', oid, proname::text FROM pg_proc
UNION ALL SELECT 'policy', oid, polname::text FROM pg_policy
UNION ALL SELECT 'ledger', NULL, to_jsonb(l)::text FROM supabase_migrations.schema_migrations l
ORDER BY 1, 2, 3
"""
_TABLES = ("prospect_tracking", "prospect_sessions", "prospect_contributions", "prospect_suppressions", "privacy_audit")


async def _rewrite_ledger(database: Database, *names: str) -> None:
    await database.admin.execute("TRUNCATE supabase_migrations.schema_migrations")
    await database.admin.executemany(
        "INSERT INTO supabase_migrations.schema_migrations (version, name, statements) VALUES ($1, $2, '{select 1}')",
        [name.split("_", 1) for name in names],
    )


@pytest.fixture
async def earlier(database: Database) -> Database:
    """A database of the earlier files: two more functions, and other names in the ledger."""
    await database.admin.execute(
        """
        CREATE FUNCTION nexus_contribute_unguarded(text, text, jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT $3';
        CREATE FUNCTION nexus_forget_people(text, text[]) RETURNS void LANGUAGE sql AS 'SELECT';
        """
    )
    await _rewrite_ledger(database, *_EARLIER, _THEIRS)
    return database


def _migrate(database: Database, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Result:
    monkeypatch.setenv("SUPABASE_DB_URL", database.dsn())
    return CliRunner().invoke(command, list(arguments))


@pytest.mark.parametrize("names", [_EARLIER, _EARLIER[:4], (*_EARLIER, "20261130000050_nexus_stream_gone")])
async def test_it_is_refused_and_nothing_changes(earlier: Database, names: tuple[str, ...]) -> None:
    await _rewrite_ledger(earlier, *names, _THEIRS)
    before = await earlier.admin.fetch(_EVERYTHING)
    for work in (apply_migrations, plan_migrations):
        with pytest.raises(EarlierCheckoutError) as raised:
            await work(earlier.dsn())
        assert "was made by an earlier checkout of nexus-stream" in raised.value.found
        assert (
            f"names {len(names)} migration(s) without a file: {', '.join(names)}. Nothing was changed."
            in raised.value.found
        )
        assert str(raised.value) == f"{raised.value.found}\n{raised.value.fix}"
        assert earlier.name in str(raised.value)
    assert await earlier.admin.fetch(_EVERYTHING) == before


def test_both_commands_say_what_to_do(earlier: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments in ([], ["--plan"]):
        refused = _migrate(earlier, monkeypatch, *arguments)
        assert isinstance(refused.exception, EarlierCheckoutError)
        for step in ("nexus dev reset", "pg_dump", "--file=supabase/remove.sql", "\n  nexus migrate\n"):
            assert step in str(refused.exception)


async def test_the_steps_of_the_message_start_anew_and_keep_every_row(
    earlier: Database, record: MakeRecord, tmp_path: Path
) -> None:
    """The commands run as they are printed, with the server's own programs."""
    admin = earlier.admin
    async with connected(earlier.settings()) as writer:
        await writer.write([record("s-1", "fp", nombre="Ana"), record("s-2", None, nombre="Leo")])
        await writer.write([record("gone", "gone", nombre="Eva")])
    await earlier.call("fp", {"crm": 7, "telefono": "+573005550102"})
    await admin.execute("SELECT nexus_erase_people('', array['gone'], 'request')")
    await admin.execute(
        "INSERT INTO privacy_audit (request_id, action, requested_by, selector_kind, selector_hash)"
        " VALUES ('request', 'erase', 'officer', 'fingerprint', 'x')"
    )
    await admin.execute("CREATE FUNCTION nexus_theirs() RETURNS integer LANGUAGE sql AS 'SELECT 7'")
    rows = await _rows(earlier)
    assert all(rows[table] for table in _TABLES)

    with pytest.raises(EarlierCheckoutError) as raised:
        await apply_migrations(earlier.dsn())
    commands = [line.strip() for line in raised.value.fix.splitlines() if line.startswith("  ")]
    assert [line.split()[0] for line in commands if not line.startswith("--")] == [
        *("pg_dump", "psql", "nexus", "psql", "rm")
    ]
    (tmp_path / "supabase").symlink_to(_ROOT / "supabase")
    path = f"{earlier.server.programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    ran = await asyncio.to_thread(
        subprocess.run,
        ["sh", "-ec", "\n".join(commands)],
        cwd=tmp_path,
        env={**os.environ, "PATH": path, "SUPABASE_DB_URL": earlier.dsn(), "NEXUS_ENV": "test"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr

    assert await _rows(earlier) == rows
    assert os.listdir(tmp_path) == ["supabase"]
    plan = await plan_migrations(earlier.dsn())
    assert (list(plan.applied), plan.pending, plan.foreign) == (load_migrations(), (), (_THEIRS.split("_")[0],))
    functions = await admin.fetch("SELECT proname::text AS name FROM pg_proc WHERE proname LIKE 'nexus%' ORDER BY 1")
    names = [row["name"] for row in functions]
    assert names.count("nexus_forget_people") == 1
    assert "nexus_theirs" in names
    assert "nexus_contribute_unguarded" not in names
    # The rows are written on, and the erased person stays away.
    async with connected(earlier.settings()) as writer:
        await writer.write([record("s-3", "fp", at=2_000, email="ana@example.com")])
        await writer.write([record("again", "gone", nombre="Eva")])
    person = await earlier.person("fp")
    assert (person["nombre"], person["email"], person["crm"]) == ("Ana", "ana@example.com", 7)
    assert "gone" not in await earlier.people()


async def _rows(database: Database) -> dict[str, list[Any]]:
    return {
        table: [
            json.dumps(row["row"], sort_keys=True)
            for row in await database.admin.fetch(f"SELECT to_jsonb(t) AS row FROM {table} t ORDER BY 1")  # noqa: S608
        ]
        for table in _TABLES
    }


async def test_a_newer_version_made_the_database_and_the_present_one_works(database: Database) -> None:
    newer = "29991231000000_nexus_stream_more"
    ours = [str(migration) for migration in load_migrations()]
    await database.admin.execute(
        "INSERT INTO supabase_migrations.schema_migrations (version, name) VALUES"
        " ('29991231000000', 'nexus_stream_more'), ('29991231000001', 'theirs')"
    )
    assert await apply_migrations(database.dsn()) == []
    plan = await plan_migrations(database.dsn())
    assert [str(migration) for migration in plan.applied] == ours
    assert (plan.pending, plan.newer, plan.foreign) == ((), (newer,), ("29991231000001",))


def test_the_commands_tell_a_newer_version(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    asyncio.run(_add(database, "29991231000000", "nexus_stream_more"))
    for arguments in ([], ["--plan"]):
        result = _migrate(database, monkeypatch, *arguments)
        assert result.exit_code == 0, result.output
        assert "made by a newer version of nexus-stream" in result.output
        assert "29991231000000_nexus_stream_more" in result.output
        assert "not ours" not in result.output


async def _add(database: Database, version: str, name: str) -> None:
    import asyncpg

    connection = await asyncpg.connect(database.dsn())
    await connection.execute(
        "INSERT INTO supabase_migrations.schema_migrations (version, name) VALUES ($1, $2)", version, name
    )
    await connection.close()


async def test_another_project_may_have_a_version_of_the_earlier_files(database: Database) -> None:
    await database.admin.execute(
        "INSERT INTO supabase_migrations.schema_migrations (version, name) VALUES ('20261124000100', 'theirs')"
    )
    assert (await plan_migrations(database.dsn())).foreign == ("20261124000100",)
    assert await apply_migrations(database.dsn()) == []
