"""The set of migrations: each thing is made once, and supabase/remove.sql and the access file know all of them."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from nexus_stream.supabase.inspection import objects_made_by, objects_replaced_by
from nexus_stream.supabase.migrate import Migration, load_migrations
from nexus_stream.supabase.statements import without_comments

_REMOVE = (Path(__file__).resolve().parents[3] / "supabase" / "remove.sql").read_text(encoding="utf-8")
# Of the files before the present set only.
_GONE = {"nexus_contribute_unguarded"}


def _statements() -> list[str]:
    return [statement for migration in load_migrations() for statement in migration.statements]


def _functions() -> set[str]:
    made = {name.removeprefix("function ") for name in objects_made_by(_statements()) if name.startswith("function ")}
    return made - {"update_prospect_data"}


def test_each_thing_is_made_once() -> None:
    """The published files make each thing once. They never change, so a newer file replaces a function."""
    access = [migration.name for migration in load_migrations()].index("nexus_stream_access")
    first, newer = load_migrations()[: access + 1], load_migrations()[access + 1 :]
    statements = [statement for migration in first for statement in migration.statements]
    made = Counter(name for statement in statements for name in objects_made_by([statement]))
    assert len(made) > 50
    assert [name for name, times in made.items() if times > 1] == []
    assert objects_replaced_by(statements) == set()
    for migration in newer:
        replaced = objects_replaced_by(migration.statements)
        # A function that is new needs its access too (the file nexus_stream_access).
        assert replaced == set(objects_made_by(migration.statements)) <= set(made), str(migration)
    for statement in map(without_comments, _statements()):
        assert re.search(r"\b(drop|rename)\b", statement, re.IGNORECASE) is None, statement[:80]


def _access() -> Migration:
    (access,) = (migration for migration in load_migrations() if migration.name == "nexus_stream_access")
    return access


def test_the_access_of_each_function_is_given_once() -> None:
    access = " ".join(without_comments(statement) for statement in _access().statements)
    named = Counter(re.findall(r"public\.(nexus_\w+)\(", access))
    assert named == dict.fromkeys(_functions(), 1)


def test_every_file_name_contains_nexus() -> None:
    assert [migration for migration in load_migrations() if not migration.name.startswith("nexus_stream_")] == []


def test_everything_that_is_made_can_be_removed() -> None:
    assert set(re.findall(r"'(nexus_\w+)'", _REMOVE)) == _functions() | _GONE
    made = objects_made_by(_statements())
    tables = {name.removeprefix("table ") for name in made if name.startswith("table ")} - {"prospect_tracking"}
    drop = _REMOVE.partition("drop table")[2].partition(";")[0]
    assert set(re.findall(r"public\.(\w+)", drop)) == tables
    # A policy of a table goes with the table.
    policies = {name.removeprefix("policy ") for name in made if name.endswith(" on prospect_tracking")}
    dropped = re.findall(r"drop policy if exists (\w+ on) public\.(prospect_tracking)", _REMOVE)
    assert {" ".join(parts) for parts in dropped} == policies


def test_a_plan_tells_what_a_newer_file_replaces() -> None:
    statements = ["create or replace function public.nexus_text(a jsonb) returns text", "create table public.more ()"]
    assert objects_made_by(statements) == ["function nexus_text", "table more"]
    assert objects_replaced_by(statements) == {"function nexus_text"}
