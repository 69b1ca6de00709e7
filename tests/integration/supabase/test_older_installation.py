"""A database with an older prospect_tracking: migrations only add objects, and the plan shows them first."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from nexus_stream.errors import ConfigurationError
from nexus_stream.supabase.command import command
from nexus_stream.supabase.inspection import objects_made_by
from nexus_stream.supabase.migrate import apply_migrations, load_migrations, plan_migrations
from nexus_stream.supabase.writer import ProspectWriter
from tests.integration.supabase.conftest import connected

if TYPE_CHECKING:
    from tests.integration.supabase.conftest import Database, MakeRecord

pytestmark = pytest.mark.own_database

_OLDER = (Path(__file__).parent / "older_installation.sql").read_text(encoding="utf-8")

# Everything in the schema, each thing with its definition.
_CATALOG = """
SELECT 'column ' || c.relname || '.' || a.attname AS name,
    format_type(a.atttypid, a.atttypmod) || a.attnotnull || coalesce(pg_get_expr(d.adbin, d.adrelid), '')
        || coalesce(col_description(c.oid, a.attnum), '') AS definition
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'v')
UNION ALL SELECT 'table ' || relname,
    relowner::text || relrowsecurity || relforcerowsecurity || coalesce(obj_description(oid, 'pg_class'), '')
FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v')
UNION ALL SELECT 'index ' || c.relname, pg_get_indexdef(c.oid)
FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'i'
UNION ALL SELECT 'constraint ' || conname, pg_get_constraintdef(oid)
FROM pg_constraint WHERE connamespace = 'public'::regnamespace
UNION ALL SELECT 'function ' || oid::regprocedure, pg_get_functiondef(oid) || coalesce(proacl::text, '')
FROM pg_proc WHERE pronamespace = 'public'::regnamespace
UNION ALL SELECT 'trigger ' || tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
UNION ALL SELECT 'grant ' || grantee || ' ' || table_name || ' ' || privilege_type, is_grantable
FROM information_schema.role_table_grants WHERE table_schema = 'public'
"""
_ROWS = (
    "SELECT id, fingerprint_id, prospect_data, constructor_id, created_at, updated_at"
    " FROM prospect_tracking ORDER BY id"
)


async def _catalog(database: Database) -> dict[str, str]:
    return {row["name"]: row["definition"] for row in await database.admin.fetch(_CATALOG)}


async def _row_of(database: Database, fingerprint: str) -> Any:
    (row,) = [row for row in await database.admin.fetch(_ROWS) if row["fingerprint_id"] == fingerprint]
    return row


@pytest.fixture
async def older(empty_database: Database) -> Database:
    await empty_database.admin.execute(_OLDER)
    return empty_database


def _migrate(database: Database, monkeypatch: pytest.MonkeyPatch, *arguments: str, mode: str = "tables") -> Result:
    monkeypatch.setenv("SUPABASE_DB_URL", database.dsn())
    monkeypatch.setenv("NEXUS_SINK_MODE", mode)
    return CliRunner().invoke(command, list(arguments))


async def test_only_tables_columns_indexes_and_functions_are_added(older: Database) -> None:
    before, rows = await _catalog(older), await older.admin.fetch(_ROWS)
    await apply_migrations(older.dsn())
    after = await _catalog(older)

    assert {name: after.get(name) for name in before} == before
    assert await older.admin.fetch(_ROWS) == rows
    # Only the existing table changed: it got our columns and indexes
    added = {name for name in after.keys() - before.keys() if "prospect_tracking" in name}
    assert {name for name in added if not name.startswith("grant ")} == {
        *(f"column prospect_tracking.{name}" for name in ("tenant_id", "merged_keys", "folded_at", "erased_at")),
        *(f"index prospect_tracking_{name}" for name in ("person", "fingerprint_id", "erased")),
    } | {name for name in added if name.startswith("constraint prospect_tracking_") and "not_null" in name}
    assert {name.split()[1] for name in added if name.startswith("grant ")} <= {"nexus_sink", "nexus_privacy"}


async def test_a_plan_names_everything_that_would_be_added(older: Database) -> None:
    before = await _catalog(older)
    planned = {
        made
        for migration in (await plan_migrations(older.dsn())).pending
        for made in objects_made_by(migration.statements)
    }
    assert await _catalog(older) == before

    await apply_migrations(older.dsn())
    added = (await _catalog(older)).keys() - before.keys()
    tables = {name for name in added if name.startswith("table ")}
    assert tables
    assert tables <= planned
    for name in added:
        kind, _, rest = name.partition(" ")
        if kind == "function":
            assert f"function {rest.partition('(')[0]}" in planned
        elif (kind == "column" and f"table {rest.partition('.')[0]}" not in tables) or (
            kind == "index" and not rest.endswith("_pkey")
        ):
            assert name in planned


def test_the_command_shows_what_stays(older: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = _migrate(older, monkeypatch, "--plan")
    assert plan.exit_code == 1
    lines = plan.output.splitlines()
    assert "  + table prospect_sessions" in lines
    assert "  + column prospect_tracking.merged_keys" in lines
    assert "  = table prospect_tracking: exists and stays" in lines
    assert "  = function update_prospect_data: exists and stays" in lines
    assert "  + function nexus_text" in lines
    assert any(
        line.startswith("update_prospect_data(text,jsonb,uuid) existed before and stays unchanged") for line in lines
    )
    assert any("two tenants cannot have the same fingerprint" in line for line in lines)

    applied = _migrate(older, monkeypatch)
    assert applied.exit_code == 0, applied.output
    assert applied.output.count("applied 2026") == len(load_migrations())
    assert _migrate(older, monkeypatch, "--plan").exit_code == 0


async def test_existing_facts_are_merged_and_other_rows_do_not_change(older: Database, record: MakeRecord) -> None:
    await apply_migrations(older.dsn())
    # The installation's own callers still work
    assert (await older.call("quiet", {"nota": "llamar"}))["success"] is True
    quiet = await _row_of(older, "quiet")

    # And the old consumer wrote a fact after the migration
    await older.admin.execute(
        'UPDATE prospect_tracking SET prospect_data = prospect_data || \'{"telefono": "+573005550102"}\','
        " updated_at = now() WHERE fingerprint_id = 'fp'"
    )

    # When the sink writes to one of its people, in the mode that folds
    async with connected(older.settings()) as writer:
        await writer.write(
            [record("s", "fp", at=1, nombre="Ana", email="ana@example.com"), record("t", "new", nombre="Leo")]
        )

    person = await older.person("fp")
    assert (person["nombre"], person["email"], person["crm"]) == ("Ana Ruiz", "ana@example.com", 7)
    assert person["telefono"] == "+573005550102"
    # Their judgement of 7.5; the session is older than it and adds nothing
    assert person["nivel_interes"] == 7.5
    assert (await older.person("new"))["nombre"] == "Leo"
    assert await _row_of(older, "quiet") == quiet


async def test_a_duplicate_fingerprint_is_reported_by_hash_and_stops_only_the_fold(
    older: Database, record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin = older.admin
    await admin.execute("ALTER TABLE prospect_tracking DROP CONSTRAINT prospect_tracking_fingerprint_id_key")
    await admin.execute("INSERT INTO prospect_tracking (fingerprint_id, prospect_data) VALUES ('secret-fp', '{}')")
    await admin.execute("INSERT INTO prospect_tracking (fingerprint_id, prospect_data) VALUES ('secret-fp', '{}')")
    await admin.execute("INSERT INTO prospect_tracking (fingerprint_id) VALUES ('fp'), ('fp'), (NULL), (NULL)")
    found = (await plan_migrations(older.dsn())).installation
    assert [(duplicate.hash, duplicate.rows) for duplicate in found.duplicates] == [
        (hashlib.sha256(b"fp").hexdigest()[:16], 3),
        (hashlib.sha256(b"secret-fp").hexdigest()[:16], 2),
    ]

    # When the migrations are applied all the same
    assert await apply_migrations(older.dsn())

    # Then the mode tables does not start and names the reason; the mode function starts
    with pytest.raises(ConfigurationError, match="has duplicate fingerprints") as raised:
        await ProspectWriter.connect(older.settings())
    assert "secret-fp" not in str(raised.value)
    await (await ProspectWriter.connect(older.settings(sink_mode="function"))).close()

    # And without duplicates, the index is made and the mode tables starts
    await admin.execute(
        "DELETE FROM prospect_tracking t USING prospect_tracking o"
        " WHERE t.fingerprint_id = o.fingerprint_id AND t.id > o.id"
    )
    assert await apply_migrations(older.dsn()) == []
    async with connected(older.settings()) as writer:
        assert (await writer.write([record("s", "secret-fp", nombre="Ana")])).inserted == 1


async def test_the_command_reports_duplicates_without_their_values(
    older: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await older.admin.execute("ALTER TABLE prospect_tracking DROP CONSTRAINT prospect_tracking_fingerprint_id_key")
    await older.admin.execute("INSERT INTO prospect_tracking (fingerprint_id) VALUES ('secret-fp'), ('secret-fp')")
    digest = hashlib.sha256(b"secret-fp").hexdigest()[:16]

    def run(*arguments: str, mode: str) -> Result:
        import concurrent.futures

        # The command has an event loop of its own.
        with concurrent.futures.ThreadPoolExecutor(1) as thread:
            return thread.submit(_migrate, older, monkeypatch, *arguments, mode=mode).result()

    for arguments, mode, exit_code in (
        (["--plan"], "tables", 1),
        ([], "tables", 1),
        ([], "function", 0),
        (["--plan"], "tables", 1),
        (["--plan"], "function", 0),
    ):
        result = run(*arguments, mode=mode)
        assert result.exit_code == exit_code, result.output
        assert f"sha256 {digest}…: 2 rows" in result.output
        assert "secret-fp" not in result.output


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("ALTER TABLE prospect_tracking ALTER prospect_data TYPE json", "prospect_data is json and must be jsonb"),
        ("ALTER TABLE prospect_tracking DROP fingerprint_id", "no column fingerprint_id"),
        ("ALTER TABLE prospect_tracking ADD tenant_id integer", "tenant_id is integer and must be text"),
        ("DROP TABLE prospect_tracking; CREATE VIEW prospect_tracking AS SELECT 1 AS a", "is not a table"),
    ],
)
async def test_a_table_the_migrations_do_not_understand_is_refused_before_anything_changes(
    older: Database, change: str, problem: str
) -> None:
    await older.admin.execute(change)
    before = await _catalog(older)
    assert problem in "; ".join((await plan_migrations(older.dsn())).installation.problems)
    with pytest.raises(ConfigurationError, match="Nothing was changed") as raised:
        await apply_migrations(older.dsn())
    assert problem in str(raised.value)
    assert await _catalog(older) == before


async def test_a_column_that_our_rows_cannot_fill_stops_the_fold_and_is_no_dead_letter(
    older: Database, record: MakeRecord
) -> None:
    await older.admin.execute("UPDATE prospect_tracking SET constructor_id = gen_random_uuid()")
    await older.admin.execute("ALTER TABLE prospect_tracking ALTER constructor_id SET NOT NULL")
    obstacles: Any = (await plan_migrations(older.dsn())).installation.obstacles
    assert obstacles == ("prospect_tracking.constructor_id must have a value and has no default",)
    await apply_migrations(older.dsn())
    with pytest.raises(ConfigurationError, match=r"constructor_id must have a value.*NEXUS_SINK_MODE=function"):
        await ProspectWriter.connect(older.settings())
