"""An installation's own update_prospect_data with any arguments: its callers and the sink can call it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nexus_stream.supabase.migrate import apply_migrations
from tests.integration.supabase.conftest import connected

if TYPE_CHECKING:
    from tests.integration.supabase.conftest import Database, MakeRecord

pytestmark = pytest.mark.own_database

_CALL = "SELECT update_prospect_data('fp', '{\"nombre\": \"Ana\"}')->>'theirs'"
_SIGNATURES = (
    "text, jsonb",
    "text, json",
    "varchar, jsonb",
    "character varying, json",
    "text, jsonb, text default null",
    "text, jsonb, uuid default null",
    "text, json, uuid default null",
)


def _own(signature: str) -> str:
    return f"""
        CREATE FUNCTION update_prospect_data({signature}) RETURNS jsonb
        LANGUAGE sql AS $$ SELECT '{{"success": true, "theirs": true}}'::jsonb $$
    """


async def _signatures(database: Database) -> list[str]:
    rows = await database.admin.fetch(
        "SELECT oid::regprocedure::text AS s FROM pg_proc WHERE proname = 'update_prospect_data'"
    )
    return [row["s"] for row in rows]


@pytest.mark.parametrize("signature", _SIGNATURES)
async def test_the_installations_function_stays_alone_and_is_called(
    empty_database: Database, record: MakeRecord, signature: str
) -> None:
    await empty_database.admin.execute(_own(signature))
    before = await _signatures(empty_database)
    await apply_migrations(empty_database.dsn())
    assert await _signatures(empty_database) == before
    assert await empty_database.admin.fetchval(_CALL) == "true"

    async with connected(empty_database.settings(sink_mode="function")) as writer:
        assert (await writer.write([record("s", "fp", nombre="Ana")])).rejected == ()
    assert await empty_database.people() == {}


async def test_the_installations_function_is_called_and_not_ours(database: Database, record: MakeRecord) -> None:
    """A database with old migrations, or whose own function was made after ours."""
    await database.admin.execute(_own("varchar, jsonb"))
    async with connected(database.settings(sink_mode="function")) as writer:
        assert (await writer.write([record("s", "fp", nombre="Ana")])).rejected == ()
    assert await database.people() == {}
    assert await database.admin.fetchval("SELECT count(*) FROM prospect_contributions") == 0


async def test_our_function_stays_beside_one_with_more_arguments(empty_database: Database) -> None:
    await empty_database.admin.execute(_own("text, jsonb, text"))
    await apply_migrations(empty_database.dsn())
    assert sorted(await _signatures(empty_database)) == [
        "update_prospect_data(text,jsonb)",
        "update_prospect_data(text,jsonb,text)",
    ]
    assert (await empty_database.call("fp", {"nombre": "Ana"}))["success"] is True
