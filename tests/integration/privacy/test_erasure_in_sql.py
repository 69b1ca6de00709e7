"""Erasing in PostgreSQL: delete, suppress and unblock, with replays and concurrent transactions."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import asyncpg
import pytest

from nexus_stream.contracts.subject import subject_hash
from nexus_stream.privacy.people import People
from nexus_stream.privacy.selector import Selector

if TYPE_CHECKING:
    from tests.integration.privacy.conftest import Database


async def test_the_hash_is_the_same_in_both_languages(database: Database):
    for tenant, kind, value in (("", "session", "s-1"), ("acme", "fingerprint", "ñ-é"), ("a.b", "session", "a:b")):
        in_sql = await database.admin.fetchval("SELECT nexus_subject_hash($1, $2, $3)", tenant, kind, value)
        assert in_sql == subject_hash(tenant, kind, value)


async def test_an_erased_session_takes_the_whole_person_with_it(database: Database):
    await database.writer.write(
        [
            database.record("s-1", "fp", nombre="Ana", email="ana@example.com"),
            database.record("s-2", "fp", at=2000, nombre="Ana Ruiz"),
            database.record("s-3", "other", nombre="Leo"),
        ]
    )
    await database.admin.execute("SELECT update_prospect_data('fp', '{\"crm\": \"ana@example.com\"}')")
    await database.admin.execute("SELECT update_prospect_data('session:s-1', '{\"note\": 1}')")
    assert (await database.writer.erase([database.erased("s-1")])).erased == 1
    assert list(await database.people()) == ["other"]
    assert await database.sessions() == ["s-3"]
    assert await database.rows("prospect_contributions") == []
    suppressed = {(row["kind"], row["subject_hash"]) for row in await database.rows("prospect_suppressions")}
    assert suppressed == {
        ("session", subject_hash("", "session", "s-1")),
        ("fingerprint", subject_hash("", "fingerprint", "fp")),
    }


async def test_what_others_wrote_into_the_row_goes_too(database: Database):
    await database.writer.write([database.record("s-1", "fp", nombre="Ana")])
    await database.admin.execute(
        'UPDATE prospect_tracking SET prospect_data = prospect_data || \'{"theirs": "ana@example.com"}\''
    )
    await database.writer.erase([database.erased("s-1")])
    assert await database.people() == {}


async def test_a_replay_brings_nothing_back_and_reports_a_new_session_only(database: Database):
    records = [database.record("s-1", "fp", nombre="Ana"), database.record("s-2", None, nombre="Ana")]
    await database.writer.write(records)
    events = [database.erased("s-1"), database.erased("s-2")]
    await database.writer.erase(events)
    for _ in range(2):
        result = await database.writer.write(
            [
                *records,
                database.record("s-1", "fp-new", at=9000, nombre="Ana"),
                database.record("s-4", "fp", nombre="A"),
            ]
        )
        assert (result.inserted, result.updated) == (0, 0)
        await database.writer.erase(events)
    assert await database.people() == {}
    assert await database.sessions() == []
    again = [*records, database.record("s-4", "fp", nombre="Ana"), database.record("s-5", "x", nombre="Leo")]
    assert await database.writer.suppressed(again) == [2]
    answer = await database.admin.fetchval("SELECT update_prospect_data('fp', '{\"nombre\": \"Ana\"}')")
    assert answer == {"success": False, "error": "this person was erased"}


async def test_an_erasure_affects_only_its_tenant(database: Database):
    await database.writer.erase([database.erased("s-1", subject_hash("", "fingerprint", "fp"))])
    mine = database.record("s-1", "fp", nombre="Ana").model_copy(update={"tenant_id": "acme"})
    assert (await database.writer.write([mine])).inserted == 1


async def test_unblock_accepts_later_messages_and_a_replay_does_not_erase_them(database: Database):
    early, late = (
        database.record("s-1", "fp", at=1000, nombre="Ana"),
        database.record("s-1", "fp", at=3000, nombre="Eva"),
    )
    await database.writer.write([early])
    await database.writer.erase([database.erased("s-1")])
    hashes = [subject_hash("", "session", "s-1"), subject_hash("", "fingerprint", "fp")]
    moment = datetime.fromtimestamp(2, UTC)
    assert await database.admin.fetchval("SELECT nexus_lift('', $1, $2)", hashes, moment) == 2
    for _ in range(2):
        await database.writer.write([early])
        await database.writer.erase([database.erased("s-1")])
        assert await database.people() in ({}, {"fp": (await database.people()).get("fp")})
        await database.writer.write([late])
    assert (await database.people())["fp"]["nombre"] == "Eva"
    # Another request erases it again.
    await database.writer.erase([database.erased("s-1", request="request-2")])
    assert await database.people() == {}


async def test_an_erasure_from_before_an_unblock_that_arrives_later_suppresses_nobody(database: Database):
    await database.writer.erase([database.erased("s-1", subject_hash("", "fingerprint", "fp"))])
    hashes = [subject_hash("", "session", "s-1"), subject_hash("", "fingerprint", "fp")]
    moment = datetime(2026, 1, 3, tzinfo=UTC)
    await database.admin.execute("SELECT nexus_lift('', $1, $2)", hashes, moment)
    after_ms = round(moment.timestamp() * 1000) + 1
    late = database.erased("s-1", subject_hash("", "fingerprint", "fp"), request="request-2")
    await database.writer.write([database.record("s-1", "fp", at=after_ms, nombre="Ana")])
    await database.writer.erase([late])
    assert list(await database.people()) == ["fp"]
    await database.writer.erase([database.erased("s-1", request="request-3", requested_at="2026-01-04T00:00:00Z")])
    assert await database.people() == {}


async def test_the_same_event_in_two_sinks_at_once(database: Database):
    await database.writer.write([database.record("s-1", "fp", nombre="Ana")])
    await asyncio.gather(*(database.writer.erase([database.erased("s-1")]) for _ in range(4)))
    assert await database.people() == {}
    assert len(await database.rows("prospect_suppressions")) == 2


@pytest.mark.parametrize("folds_before", [True, False])
async def test_a_sink_that_writes_another_session_at_the_same_time(database: Database, folds_before: bool):
    """Its upsert saw no suppression. In either order of commits, the person is erased when both have ended."""
    await database.writer.write([database.record("s-1", "fp", nombre="Ana")])
    dsn = database.settings.database_url.get_secret_value()
    other = await asyncpg.connect(dsn)
    transaction = other.transaction()
    await transaction.start()
    fold = "SELECT nexus_refresh_people(array[''], array['fp'])"
    await other.execute(
        "INSERT INTO prospect_sessions (session_id, fingerprint, record, snapshot_at_ms, enriched_at)"
        " VALUES ('s-2', 'fp', '{\"prospect\": {\"nombre\": \"Ana\"}}', 5000, now())"
    )
    if folds_before:
        await other.execute(fold)
    erasing = asyncio.create_task(database.writer.erase([database.erased("s-1")]))
    if folds_before:
        await asyncio.sleep(0.3)
        assert not erasing.done(), "it waits for the person's row"
    else:
        await erasing
        await other.execute(fold)
    await transaction.commit()
    await erasing
    await other.close()
    assert await database.people() == {}
    assert await database.sessions() == []


async def test_an_event_that_postgresql_refuses_is_rejected_and_the_others_are_done(database: Database):
    """Such a record cannot be read from the topic any more; a table with a rule of its own has the same effect."""
    await database.writer.write([database.record(f"s-{n}", f"fp-{n}", nombre="Ana") for n in range(3)])
    unread = database.erased("s-9").model_copy(update={"fingerprint_hashes": ("abc",)})
    result = await database.writer.erase(
        [
            database.erased("s-0"),
            unread,
            unread.model_copy(update={"fingerprint_hashes": (), "session_id": ""}),
            unread.model_copy(update={"fingerprint_hashes": (), "session_id": "s\x00"}),
            database.erased("s-2"),
        ]
    )
    assert result.erased == 2
    assert [(bad.index, bad.sqlstate) for bad in result.rejected] == [(1, "23514"), (2, "23514"), (3, "22021")]
    assert list(await database.people()) == ["fp-1"]


async def test_an_idle_session_is_deleted_and_its_person_with_the_last_session(database: Database):
    await database.writer.write(
        [database.record("s-1", "fp", at=1000, email="ana@example.com"), database.record("s-2", "fp", at=9000)]
    )
    event = database.erased("s-1", reason="retention", through_ms=5000)
    await database.writer.erase([event])
    assert await database.sessions() == ["s-2"]
    assert (await database.people())["fp"]["email"] is None
    # It speaks again: an event that is replayed leaves it alone.
    await database.writer.write([database.record("s-1", "fp", at=7000, email="ana@example.com")])
    await database.writer.erase([event])
    assert await database.sessions() == ["s-1", "s-2"]
    await database.writer.erase(
        [database.erased(one, reason="retention", through_ms=9000, request=one + "-expires") for one in ("s-1", "s-2")]
    )
    assert await database.people() == {}
    assert await database.rows("prospect_suppressions") == []


async def test_a_row_that_the_installations_own_function_keeps_is_not_folded_and_goes_with_the_last_session(
    database: Database,
):
    await database.writer.write([database.record("s-1", "fp", at=1000), database.record("s-2", "fp", at=2000)])
    theirs = {"nombre": "As they keep it"}
    await database.admin.execute("UPDATE prospect_sessions SET called_with = repeat('a', 64)")
    await database.admin.execute("UPDATE prospect_tracking SET prospect_data = $1, folded_at = NULL", theirs)
    for session, left in (("s-1", {"fp": theirs}), ("s-2", {})):
        event = database.erased(session, reason="retention", through_ms=5000, request=f"request-{session}")
        await database.writer.erase([event])
        assert await database.people() == left


async def test_a_person_is_found_by_what_they_gave_with_all_their_browsers(database: Database):
    await database.writer.write(
        [
            database.record("s-1", "fp-1", email="ana@example.com"),
            database.record("s-2", "fp-1", telefono="+573005550102"),
            database.record("s-3", "fp-2", email="ana@example.com"),
            database.record("s-4", None, telefono="+573005550102"),
            database.record("s-5", "fp-5", email="leo@example.com"),
        ]
    )
    async with People.connect(database.settings) as people:
        by_email = await people.find(Selector.of("email", "ANA@example.com", "", "CO"))
        by_phone = await people.find(Selector.of("phone", "3005550102", "", "CO"))
        by_session = await people.find(Selector.of("session", "s-2", "", "CO"))
        nobody = await people.find(Selector.of("email", "x@example.com", "", "CO"))
        exported = await people.export(by_email)
    assert (by_email.session_ids, by_email.fingerprints) == ({"s-1", "s-2", "s-3"}, {"fp-1", "fp-2"})
    assert (by_phone.session_ids, by_phone.fingerprints) == ({"s-1", "s-2", "s-4"}, {"fp-1"})
    assert (by_session.session_ids, by_session.fingerprints) == ({"s-1", "s-2"}, {"fp-1"})
    assert nobody.size == 0
    assert {table: len(rows) for table, rows in exported.items()} == {
        "prospect_tracking": 2,
        "prospect_sessions": 3,
        "prospect_contributions": 0,
    }
    assert exported["prospect_tracking"][0]["prospect_data"]["email"] == "ana@example.com"


async def test_roles_may_do_what_they_are_for_and_nothing_else(database: Database):
    await database.writer.write([database.record("s-1", "fp", nombre="Ana")])
    refused = (
        "DELETE FROM prospect_sessions",
        "DELETE FROM prospect_suppressions",
        "INSERT INTO prospect_suppressions VALUES ('', repeat('a', 64), 'session', 'r')",
        "SELECT nexus_forget_people('', array['fp'], false)",
    )
    async with database.admin.transaction():
        await database.admin.execute("SET LOCAL ROLE nexus_sink")
        for statement in (*refused, "SELECT nexus_lift('', '{}', now())", "SELECT * FROM privacy_audit"):
            await _refused(database, statement)
        await database.admin.execute("SELECT nexus_erase_session('', 's-1', '{}', 'request-1', now())")
        assert await database.people() == {}
    async with database.admin.transaction():
        await database.admin.execute("SET LOCAL ROLE nexus_privacy")
        for statement in (*refused, "SELECT nexus_erase_session('', 's', '{}', 'r', now())"):
            await _refused(database, statement)
        await database.admin.execute("SELECT nexus_erase_people('', array['fp'], 'request-2')")
        assert await database.admin.fetchval("SELECT count(*) FROM prospect_suppressions") == 3


async def _refused(database: Database, statement: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with database.admin.transaction():
            await database.admin.execute(statement)
