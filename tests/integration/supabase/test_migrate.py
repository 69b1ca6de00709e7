"""Migrations apply once, in order, recorded as the Supabase CLI records them; drift is reported."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from nexus_stream.errors import ConfigurationError
from nexus_stream.supabase.command import command
from nexus_stream.supabase.migrate import apply_migrations, load_migrations, plan_migrations

if TYPE_CHECKING:
    from tests.integration.supabase.conftest import Database

pytestmark = pytest.mark.own_database

_LEDGER = "SELECT version, name, statements FROM supabase_migrations.schema_migrations ORDER BY version"


_FILES = Path(__file__).resolve().parents[3] / "supabase" / "migrations"
# Installations have these files in their ledger. A change of one stops `nexus migrate` there: write a new file instead.
_PUBLISHED = {
    "20261130000100_nexus_stream_tables.sql": "3bd7407a697ead9c88c795bad4f715717c0c8c90e0148ad6beb0b35920865f61",
    "20261130000200_nexus_stream_fold.sql": "118fcdc442d5c9ad2665d2b867b2e521d4d3149879e07799ee7dffcc8ce1fcc5",
    "20261130000300_nexus_stream_own_function.sql": "329a684167ef50007fc50b2bb5da2077fa9c871e7b673f976610d7d042d6cf90",
    "20261130000400_nexus_stream_writers.sql": "c47a60a583e5e2f5b63b6d9c0b8c80870132e3701437e6585a5a4d8c19a51bb8",
    "20261130000500_nexus_stream_privacy.sql": "0bb3f1114deef19a87c5a8c40fe0ce4bf97e16a11a384ba6ae2bf129e0586b6e",
    "20261130000600_nexus_stream_access.sql": "90642925937cc6b4d870a056f54f84f8271f00170385ddb709e9cdbbfc7a0dd9",
}


def _write(directory: Path, **files: str) -> Path:
    directory.mkdir(exist_ok=True)
    for name, sql in files.items():
        (directory / f"{name.removeprefix('v')}.sql").write_text(sql, encoding="utf-8")
    return directory


async def test_they_apply_once_and_stand_in_the_ledger_of_the_supabase_cli(empty_database: Database) -> None:
    applied = await apply_migrations(empty_database.dsn())
    assert applied == [str(migration) for migration in load_migrations()]
    assert await apply_migrations(empty_database.dsn()) == []

    rows = await empty_database.admin.fetch(_LEDGER)
    assert [f"{row['version']}_{row['name']}" for row in rows] == applied
    assert all(row["statements"] for row in rows)
    columns = await empty_database.admin.fetch(
        "SELECT column_name, data_type, is_nullable FROM information_schema.columns"
        " WHERE table_schema = 'supabase_migrations' AND table_name = 'schema_migrations'"
    )
    assert {tuple(row) for row in columns} == {
        ("version", "text", "NO"),
        ("statements", "ARRAY", "YES"),
        ("name", "text", "YES"),
    }


async def test_an_installation_with_the_published_files_gets_only_the_new_ones(
    empty_database: Database, tmp_path: Path
) -> None:
    assert {name: hashlib.sha256((_FILES / name).read_bytes()).hexdigest() for name in _PUBLISHED} == _PUBLISHED
    for name in _PUBLISHED:
        shutil.copy(_FILES / name, tmp_path)
    await apply_migrations(empty_database.dsn(), tmp_path)
    new = [str(migration) for migration in load_migrations() if f"{migration}.sql" not in _PUBLISHED]
    assert await apply_migrations(empty_database.dsn()) == new
    facts = '{"prospect": {"nombre": "Ana"}, "extraction": {"signals": [{"name": "intencion", "confirmed": false}]}}'
    level = "SELECT public.nexus_merge(array[$1::text::jsonb], '{true}', '{s-1}') ->> 'nivel_interes'"
    assert await empty_database.admin.fetchval(level, facts) == "2"


async def test_two_at_once_apply_each_file_once(empty_database: Database) -> None:
    results = await asyncio.gather(*(apply_migrations(empty_database.dsn()) for _ in range(3)))
    assert sorted(itertools.chain(*results)) == [str(migration) for migration in load_migrations()]


async def test_what_the_supabase_cli_applied_is_not_applied_again(empty_database: Database) -> None:
    # Given the CLI's ledger, with a newer column, another project's migration, and our first file split its way
    first, *rest = load_migrations()
    await empty_database.admin.execute(
        "CREATE SCHEMA supabase_migrations; CREATE TABLE supabase_migrations.schema_migrations"
        " (version text PRIMARY KEY, statements text[], name text, created_by text)"
    )
    await empty_database.admin.execute(";\n".join(first.statements))
    await empty_database.admin.execute(
        "INSERT INTO supabase_migrations.schema_migrations (version, name, statements) VALUES"
        " ('20240101000000', 'theirs', '{select 1}'), ($1, $2, $3)",
        first.version,
        first.name,
        [f"{statement} \n;" for statement in first.statements],
    )

    plan = await plan_migrations(empty_database.dsn())
    assert (list(plan.applied), list(plan.pending), plan.foreign) == ([first], rest, ("20240101000000",))
    assert await apply_migrations(empty_database.dsn()) == [str(migration) for migration in rest]


async def test_a_plan_changes_nothing(empty_database: Database) -> None:
    plan = await plan_migrations(empty_database.dsn())
    assert len(plan.pending) == len(load_migrations())
    assert await empty_database.admin.fetchval("SELECT to_regnamespace('supabase_migrations')") is None


async def test_a_statement_that_fails_leaves_no_trace_of_its_file(empty_database: Database, tmp_path: Path) -> None:
    directory = _write(
        tmp_path / "m",
        v20260101000000_good="create table good (a int);",
        v20260102000000_bad="create table half (a int);\ninsert into half values (1); select no_such_column from half;",
    )
    with pytest.raises(ConfigurationError, match=r"20260102000000_bad\.sql, statement 3 failed .*\[42703\]"):
        await apply_migrations(empty_database.dsn(), directory)
    assert await empty_database.admin.fetchval("SELECT to_regclass('half')") is None
    assert [row["version"] for row in await empty_database.admin.fetch(_LEDGER)] == ["20260101000000"]

    _write(directory, v20260102000000_bad="create table half (a int);")
    assert await apply_migrations(empty_database.dsn(), directory) == ["20260102000000_bad"]


async def test_drift_is_reported(empty_database: Database, tmp_path: Path) -> None:
    directory = _write(tmp_path / "m", v20260102000000_one="create table one (a int);")
    await apply_migrations(empty_database.dsn(), directory)

    _write(directory, v20260102000000_one="-- a comment is no change\ncreate table one\n(a int)")
    assert await apply_migrations(empty_database.dsn(), directory) == []

    _write(directory, v20260102000000_one="create table one (a int, b int);")
    with pytest.raises(ConfigurationError, match="was changed after it was applied"):
        await apply_migrations(empty_database.dsn(), directory)

    (directory / "20260102000000_one.sql").rename(directory / "20260102000000_other.sql")
    with pytest.raises(ConfigurationError, match="was applied as 'one'"):
        await plan_migrations(empty_database.dsn(), directory)

    (directory / "20260102000000_other.sql").rename(directory / "20260102000000_one.sql")
    _write(
        directory,
        v20260102000000_one="create table one (a int);",
        v20260101000000_late="create table late (a int);",
    )
    with pytest.raises(ConfigurationError, match=r"20260101000000_late\.sql is not applied, but"):
        await apply_migrations(empty_database.dsn(), directory)


def test_the_command_plans_applies_and_says_so(empty_database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPABASE_DB_URL", empty_database.dsn())
    runner = CliRunner()

    plan = runner.invoke(command, ["--plan"])
    assert plan.exit_code == 1
    assert plan.output.count(": missing, ") == len(load_migrations())

    applied = runner.invoke(command, [])
    assert applied.exit_code == 0, applied.output
    assert applied.output.count("applied 2026") == len(load_migrations())

    assert runner.invoke(command, ["--plan"]).exit_code == 0
    assert "up to date" in runner.invoke(command, []).output
