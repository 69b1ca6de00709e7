"""Erasing and retention if the installation's own function writes the rows, in an older table."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from nexus_stream.contracts.erased import ErasedSession
from nexus_stream.contracts.subject import subject_hash
from nexus_stream.privacy.people import People
from nexus_stream.privacy.selector import Selector
from nexus_stream.supabase.migrate import apply_migrations
from nexus_stream.supabase.writer import EraseResult, ProspectWriter
from tests.integration.supabase.conftest import connected

if TYPE_CHECKING:
    from tests.integration.supabase.conftest import Database, MakeRecord

pytestmark = pytest.mark.own_database

_OLDER = (Path(__file__).parent / "older_installation.sql").read_text(encoding="utf-8")
# Their function fills it; the fold could not.
_NOT_NULL = """
    ALTER TABLE prospect_tracking ADD region text NOT NULL DEFAULT 'x';
    ALTER TABLE prospect_tracking ALTER region DROP DEFAULT;
"""
# As their function does.
_WRITES_REGION = _OLDER.replace(
    "(fingerprint_id, prospect_data, constructor_id)\n  values (p_fingerprint_id, p_data, p_constructor_id)",
    "(fingerprint_id, prospect_data, constructor_id, region)\n"
    "  values (p_fingerprint_id, p_data, p_constructor_id, 'x')",
)
_DUPLICATES = """
    ALTER TABLE prospect_tracking DROP CONSTRAINT prospect_tracking_fingerprint_id_key;
    INSERT INTO prospect_tracking (fingerprint_id, prospect_data) VALUES ('fp', '{"nombre": "Ana"}');
    CREATE OR REPLACE FUNCTION
      update_prospect_data(p_fingerprint_id text, p_data jsonb, p_constructor_id uuid DEFAULT NULL)
    RETURNS jsonb LANGUAGE plpgsql AS $$
    BEGIN
      UPDATE prospect_tracking SET prospect_data = coalesce(prospect_data, '{}') || p_data
      WHERE fingerprint_id = p_fingerprint_id;
      IF NOT found THEN
        INSERT INTO prospect_tracking (fingerprint_id, prospect_data) VALUES (p_fingerprint_id, p_data);
      END IF;
      RETURN '{"success": true}';
    END $$;
"""


def _event(
    session_id: str, tenant_id: str = "", *hashes: str, request: str = "request-1", **fields: Any
) -> ErasedSession:
    return ErasedSession(
        session_id=session_id,
        tenant_id=tenant_id,
        fingerprint_hashes=hashes,
        request_id=request,
        requested_at="2026-01-02T00:00:00Z",
        erased_at="2026-01-02T00:00:00Z",
        **fields,
    )


def _expired(session_id: str, tenant_id: str = "") -> ErasedSession:
    return _event(session_id, tenant_id, reason="retention", through_ms=5000, request=f"expires-{session_id}")


def _writer(database: Database, mode: str = "function") -> AbstractAsyncContextManager[ProspectWriter]:
    return connected(database.settings(sink_mode=mode, database_statement_timeout_seconds=5))


async def _fingerprints(database: Database) -> list[str]:
    rows = await database.admin.fetch("SELECT fingerprint_id FROM prospect_tracking ORDER BY 1")
    return [row["fingerprint_id"] for row in rows]


async def _sessions(database: Database) -> list[str]:
    rows = await database.admin.fetch("SELECT session_id FROM prospect_sessions ORDER BY 1")
    return [row["session_id"] for row in rows]


@pytest.fixture
async def writer(older_database: Database) -> AsyncIterator[ProspectWriter]:
    async with _writer(older_database) as writer:
        yield writer


async def _in_time(work: Any) -> EraseResult:
    result: EraseResult = await asyncio.wait_for(work, 30)
    return result


@pytest.mark.parametrize("tenant_id", ["", "acme"])
async def test_an_erased_person_goes_with_the_row_of_whichever_tenant_the_function_writes(
    older_database: Database, writer: ProspectWriter, record: MakeRecord, tenant_id: str
) -> None:
    one = record("s-1", "fp-a", tenant_id=tenant_id, nombre="Ana Ruiz", email="ana@example.com")
    await writer.write([one, record("s-2", "fp-a", tenant_id=tenant_id, at=2000, nombre="Ana Ruiz")])
    # d: and before, is exported with the row
    async with People.connect(older_database.settings()) as people:
        person = await people.find(Selector("email", "ana@example.com", tenant_id))
        exported = await people.export(person)
        (row,) = exported["prospect_tracking"]
        assert row["prospect_data"]["email"] == "ana@example.com"
        assert len(exported["prospect_sessions"]) == 2

    # a
    assert await _in_time(writer.erase([_event("s-1", tenant_id)])) == EraseResult(1)
    assert await _fingerprints(older_database) == ["fp", "null", "quiet"]
    assert await _sessions(older_database) == []
    # The session stays suppressed, also after repeats
    assert (await writer.write([one])).unchanged == 1
    assert (await writer.write([record("s-9", "fp-a", tenant_id=tenant_id, at=9000, nombre="Ana")])).unchanged == 1
    await _in_time(writer.erase([_event("s-1", tenant_id), _event("s-1", tenant_id, request="request-2")]))
    assert await _fingerprints(older_database) == ["fp", "null", "quiet"]


async def test_a_person_who_is_found_only_by_what_the_function_wrote_is_exported(
    older_database: Database, writer: ProspectWriter, record: MakeRecord
) -> None:
    await writer.write([record("s-1", "fp-a", tenant_id="acme", nombre="Ana Ruiz")])
    await older_database.call("fp-a", {"email": "ana@example.com"})
    async with People.connect(older_database.settings()) as people:
        person = await people.find(Selector("email", "ana@example.com", "acme"))
        assert (person.session_ids, person.fingerprints) == ({"s-1"}, {"fp-a"})
        assert [row["fingerprint_id"] for row in (await people.export(person))["prospect_tracking"]] == ["fp-a"]
        nobody = await people.find(Selector("email", "ana@example.com", "other"))
        assert nobody.size == 0
        await people.erase(person, "request-1")
        assert await people.rows_left(person) == 0
    assert await _fingerprints(older_database) == ["fp", "null", "quiet"]


async def test_a_function_that_knows_tenants_loses_that_tenants_row_only(
    older_database: Database, writer: ProspectWriter, record: MakeRecord
) -> None:
    await older_database.admin.execute(
        "ALTER TABLE prospect_tracking DROP CONSTRAINT prospect_tracking_fingerprint_id_key"
    )
    await older_database.admin.execute("CREATE UNIQUE INDEX ON prospect_tracking (fingerprint_id) WHERE tenant_id = ''")
    await older_database.admin.execute(
        "INSERT INTO prospect_tracking (tenant_id, fingerprint_id, prospect_data) VALUES ('acme', 'fp', '{}')"
    )
    await older_database.admin.execute(
        "INSERT INTO prospect_sessions (tenant_id, session_id, fingerprint, record, snapshot_at_ms, enriched_at,"
        " called_with) VALUES ('acme', 's-1', 'fp', '{}', 1, now(), 'x')"
    )
    await _in_time(writer.erase([_event("s-1", "acme")]))
    rows = await older_database.admin.fetch("SELECT tenant_id FROM prospect_tracking WHERE fingerprint_id = 'fp'")
    assert [row["tenant_id"] for row in rows] == [""]


@pytest.mark.parametrize("tenant_id", ["", "acme"])
async def test_retention_takes_the_row_with_the_last_session_of_any_tenant(
    older_database: Database, writer: ProspectWriter, record: MakeRecord, tenant_id: str
) -> None:
    await writer.write(
        [
            record("s-1", "fp-a", tenant_id=tenant_id, nombre="Ana"),
            record("s-2", "fp-a", tenant_id=tenant_id, at=2000, nombre="Ana Ruiz"),
            record("s-3", "fp-a", tenant_id="other", at=3000, ocupacion="médica"),
        ]
    )
    kept = await older_database.person("fp-a")
    for session, tenant, left in (("s-1", tenant_id, True), ("s-2", tenant_id, True), ("s-3", "other", False)):
        assert await _in_time(writer.erase([_expired(session, tenant)])) == EraseResult(1)
        assert (await older_database.people()).get("fp-a") == (kept if left else None)
    # It comes back: stored anew
    await writer.write([record("s-1", "fp-a", tenant_id=tenant_id, at=9000, nombre="Ana")])
    assert (await older_database.person("fp-a"))["nombre"] == "Ana"


@pytest.mark.parametrize("erases", [True, False])
async def test_a_session_that_moved_takes_both_rows(
    older_database: Database, writer: ProspectWriter, record: MakeRecord, erases: bool
) -> None:
    for at, fingerprint in ((1, "fp-a"), (2, "fp-b")):
        await writer.write([record("s-1", fingerprint, tenant_id="acme", at=at, nombre="Ana")])
    hashes = [subject_hash("acme", "fingerprint", fingerprint) for fingerprint in ("fp-a", "fp-b")]
    await _in_time(writer.erase([_event("s-1", "acme", *hashes) if erases else _expired("s-1", "acme")]))
    assert await _fingerprints(older_database) == ["fp", "null", "quiet"]


@pytest.mark.parametrize("obstacle", ["a column that must have a value", "a fingerprint on two rows"])
async def test_a_table_that_the_fold_cannot_write_to(
    empty_database: Database, record: MakeRecord, obstacle: str
) -> None:
    if obstacle == "a fingerprint on two rows":  # c
        await empty_database.admin.execute(_OLDER + _DUPLICATES)
    else:  # b
        await empty_database.admin.execute(_WRITES_REGION + _NOT_NULL)
    await apply_migrations(empty_database.dsn())
    async with _writer(empty_database) as writer:
        sessions = [record("s-1", "fp-a", nombre="Ana"), record("s-2", None, nombre="Leo"), record("s-3", "fp-b")]
        assert (await writer.write(sessions)).inserted == 3
        events = [_event("s-1"), _event("s-2"), _event("unknown"), _expired("s-3"), _expired("unknown-too")]
        assert await _in_time(writer.erase(events)) == EraseResult(4)
        await _in_time(writer.erase(events))
    assert await _sessions(empty_database) == []
    assert {"fp-a", "fp-b"}.isdisjoint(await _fingerprints(empty_database))
    async with People.connect(empty_database.settings()) as people:
        person = await people.find(Selector("fingerprint", "fp", ""))
        await people.erase(person, "request-9")
        assert await people.rows_left(person) == 0


async def test_a_batch_and_an_erasure_at_once(
    older_database: Database, writer: ProspectWriter, record: MakeRecord
) -> None:
    """In either order, the person is erased when both are done. No row of ours makes one wait for the other."""
    await writer.write([record("s-1", "fp-a", nombre="Ana")])
    blocker = await asyncpg.connect(older_database.dsn())
    try:
        async with blocker.transaction():
            # The batch is held up in their function
            await blocker.execute("LOCK TABLE their_calls IN ACCESS EXCLUSIVE MODE")
            writing = asyncio.create_task(writer.write([record("s-2", "fp-a", at=2000, nombre="Ana")]))
            await _waits(older_database, "relation")
            erasing = asyncio.create_task(writer.erase([_event("s-1")]))
            await _waits(older_database, "advisory")
            # A batch that comes later waits for the erasure
            later = asyncio.create_task(writer.write([record("s-3", "fp-a", at=3000, nombre="Ana")]))
            await _waits(older_database, "advisory", 2)
        await asyncio.wait_for(asyncio.gather(writing, erasing, later), 30)
    finally:
        await blocker.close()
    assert await _fingerprints(older_database) == ["fp", "null", "quiet"]
    assert await _sessions(older_database) == []


async def test_a_call_and_an_erasure_at_once(older_database: Database, writer: ProspectWriter) -> None:
    """A contribution during an erasure does not survive it: the erasure waits for the call."""
    caller, officer = await asyncpg.connect(older_database.dsn()), await asyncpg.connect(older_database.dsn())
    try:
        async with caller.transaction():
            said = await caller.fetchval("""SELECT nexus_contribute('acme', 'fp-x', '{"nombre": "Ana"}')""")
            assert '"success": true' in said
            erasing = asyncio.create_task(
                officer.execute("SELECT nexus_erase_people('acme', ARRAY['fp-x'], 'request-1')"),
            )
            await _waits(older_database, "advisory")
        await asyncio.wait_for(erasing, 30)
        refused = await caller.fetchval("""SELECT nexus_contribute('acme', 'fp-x', '{"nombre": "Ana"}')""")
        assert "this person was erased" in refused
    finally:
        await caller.close()
        await officer.close()
    left = "SELECT count(*) FROM prospect_contributions WHERE fingerprint_id = 'fp-x'"
    assert await older_database.admin.fetchval(left) == 0
    assert "fp-x" not in await _fingerprints(older_database)


async def _waits(database: Database, lock: str, count: int = 1) -> None:
    waiting = 0
    async with asyncio.timeout(60):
        while waiting < count:
            await asyncio.sleep(0.02)
            waiting = await database.admin.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND wait_event = $1"
                " AND datname = current_database()",
                lock,
            )


async def test_in_tables_mode_a_fingerprint_that_another_tenant_has_is_no_endless_loop(
    older_database: Database, record: MakeRecord
) -> None:
    async with _writer(older_database, "tables") as writer:
        await writer.write([record("s-1", "fp-a", tenant_id="acme", nombre="Ana")])
        async with People.connect(older_database.settings()) as people:
            for tenant_id in ("other", ""):
                person = await people.find(Selector("fingerprint", "fp-a", tenant_id))
                await asyncio.wait_for(people.erase(person, f"request-{tenant_id}"), 30)
        assert "fp-a" in await _fingerprints(older_database)
        # The erasure inserts no row, so no trigger of the installation fires
        await older_database.admin.execute(
            "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no row of yours'; END $$;"
            " CREATE TRIGGER no BEFORE INSERT ON prospect_tracking FOR EACH ROW EXECUTE FUNCTION no()"
        )
        assert await _in_time(writer.erase([_event("s-1", "acme"), _event("unknown")])) == EraseResult(2)
    assert await _fingerprints(older_database) == ["fp", "null", "quiet"]


async def test_no_endless_loop_without_an_own_function(empty_database: Database) -> None:
    """An older table that allows a fingerprint once, and update_prospect_data is ours."""
    await empty_database.admin.execute(_OLDER.split("-- Every call")[0])
    await apply_migrations(empty_database.dsn())
    async with _writer(empty_database, "tables"), People.connect(empty_database.settings()) as people:
        person = await people.find(Selector("fingerprint", "fp", "acme"))
        await asyncio.wait_for(people.erase(person, "request-1"), 30)
    assert await _fingerprints(empty_database) == ["fp", "null", "quiet"]
