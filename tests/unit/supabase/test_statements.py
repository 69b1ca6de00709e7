"""An SQL file is split at the ends of its statements, as PostgreSQL parses them."""

from __future__ import annotations

import pytest

from nexus_stream.supabase.migrate import load_migrations
from nexus_stream.supabase.statements import essence, split_statements


@pytest.mark.parametrize(
    ("sql", "statements"),
    [
        ("select 1; select 2;", ["select 1", "select 2"]),
        ("select 1", ["select 1"]),
        ("-- only; a comment\n", []),
        (";;", []),
        ("select ';'; select 2", ["select ';'", "select 2"]),
        ("select 'it''s; one'; x", ["select 'it''s; one'", "x"]),
        (r"select e'\'; still'; x", [r"select e'\'; still'", "x"]),
        (r"select '\'; x", [r"select '\'", "x"]),
        ('create table "a;b" (); x', ['create table "a;b" ()', "x"]),
        ("do $$ begin; end $$; x", ["do $$ begin; end $$", "x"]),
        ("do $a$ $$;$$ $b$;$b$ $a$; x", ["do $a$ $$;$$ $b$;$b$ $a$", "x"]),
        ("select $1; select a$b$c; d", ["select $1", "select a$b$c", "d"]),
        ("/* a; /* b; */ c; */ select 1; x", ["/* a; /* b; */ c; */ select 1", "x"]),
        ("select 1 -- no; end\n; x", ["select 1 -- no; end", "x"]),
        ("select 1 -- don't\n; x", ["select 1 -- don't", "x"]),
    ],
)
def test_statements(sql: str, statements: list[str]) -> None:
    assert split_statements(sql) == statements


def test_essence_ignores_comments_and_space() -> None:
    written = ["-- why\ncreate  table t (a int)", "/* x */ select ' a  ;' "]
    assert essence(written) == essence(["create table t\n(a int);", "select ' a  ;'"])
    assert essence(written) != essence(["create table t (b int)", "select ' a  ;'"])


def test_our_own_migrations_are_found_in_order_and_named_as_the_supabase_cli_wants() -> None:
    migrations = load_migrations()
    assert len(migrations) >= 4
    assert all(len(migration.version) == 14 and migration.statements for migration in migrations)
    assert [migration.version for migration in migrations] == sorted(migration.version for migration in migrations)
