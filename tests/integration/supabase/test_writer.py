"""Batches become rows: each session's newest record, one row a person, bad rows alone rejected."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from nexus_stream.errors import NexusError
from nexus_stream.supabase.writer import ProspectWriter, WriteResult
from tests.integration.supabase.conftest import connected

if TYPE_CHECKING:
    from tests.integration.supabase.conftest import Database, MakeRecord


async def test_a_prospect_is_seen_as_users_select_it(
    database: Database, writer: ProspectWriter, record: MakeRecord
) -> None:
    result = await writer.write(
        [
            record(
                "session-1",
                "fp-1",
                signals=("intencion",),
                nombre="Carlos",
                email="carlos@example.com",
                ocupacion="empresa de software",
                arquetipo="profesional_vision",
                objeciones=["price"],
                nivel_interes=5.5,
                momento_optimo="tibio",
            )
        ]
    )

    assert result == WriteResult(inserted=1, updated=0, unchanged=0, rejected=(), statements=2)
    row = await database.admin.fetchrow("SELECT * FROM prospect_tracking WHERE fingerprint_id = 'fp-1'")
    assert row is not None
    assert row["prospect_data"] == {
        "nombre": "Carlos",
        "email": "carlos@example.com",
        "telefono": None,
        "ocupacion": "empresa de software",
        "nivel_interes": 5.5,
        "objeciones": ["price"],
        "arquetipo": "profesional_vision",
        "momento_optimo": "tibio",
        "sessions": 1,
        "last_session_id": "session-1",
    }
    assert row["created_at"] == row["updated_at"]
    session = await database.admin.fetchrow("SELECT * FROM prospect_sessions")
    assert session is not None
    assert session["record"]["prospect"]["nombre"] == "Carlos"
    assert session["source"] == "nexus-prospect-ingestion-0-0"


async def test_only_a_newer_record_replaces_a_sessions(
    database: Database, writer: ProspectWriter, record: MakeRecord
) -> None:
    first = record("s", "fp", at=5, enriched_at="2026-01-01T00:00:05.000Z", nombre="Ana")
    await writer.write([first])
    before = await database.admin.fetchrow("SELECT * FROM prospect_tracking")

    equal = await writer.write([first])
    older_snapshot = await writer.write([record("s", "fp", at=4, enriched_at="2026-02-01T00:00:00.000Z", nombre="Eva")])
    older_enriched = await writer.write([record("s", "fp", at=5, enriched_at="2026-01-01T00:00:04.999Z", nombre="Eva")])
    for result in (equal, older_snapshot, older_enriched):
        assert (result.inserted, result.updated, result.unchanged, result.statements) == (0, 0, 1, 1)
    assert await database.admin.fetchrow("SELECT * FROM prospect_tracking") == before

    newer = await writer.write([record("s", "fp", at=5, enriched_at="2026-01-01T00:00:05.001Z", nombre="Eva")])
    assert (newer.updated, newer.unchanged) == (1, 0)
    assert (await database.person("fp"))["nombre"] == "Eva"


async def test_updated_at_moves_only_when_prospect_data_changes(
    database: Database, writer: ProspectWriter, record: MakeRecord
) -> None:
    await writer.write([record("s", "fp", at=1, nombre="Ana")])
    first = await database.admin.fetchval("SELECT updated_at FROM prospect_tracking")

    assert (await writer.write([record("s", "fp", at=2, nombre="Ana")])).updated == 1
    assert await database.admin.fetchval("SELECT updated_at FROM prospect_tracking") == first

    await writer.write([record("s", "fp", at=3, nombre="Ana", telefono="+573005550102")])
    assert await database.admin.fetchval("SELECT updated_at FROM prospect_tracking") > first


async def test_a_session_twice_in_a_batch_is_written_once(
    database: Database, writer: ProspectWriter, record: MakeRecord
) -> None:
    result = await writer.write(
        [record("s", "fp", at=2, nombre="Ana Ruiz"), record("s", "fp", at=3, nombre="Eva"), record("s", "fp", at=1)]
    )
    assert (result.inserted, result.unchanged) == (1, 2)
    assert (await database.person("fp"))["nombre"] == "Eva"


async def test_a_batch_may_be_empty(writer: ProspectWriter) -> None:
    assert await writer.write([]) == WriteResult(0, 0, 0, (), 0)


async def test_a_session_without_fingerprint_is_kept_and_joins_the_person_when_one_appears(
    database: Database, writer: ProspectWriter, record: MakeRecord
) -> None:
    await writer.write([record("s1", None, at=1, nombre="Ana"), record("s2", "fp", at=2, email="ana@example.com")])
    assert (await database.person("session:s1"))["nombre"] == "Ana"

    await writer.write([record("s1", "fp", at=3, nombre="Ana")])

    assert list(await database.people()) == ["fp"]
    person = await database.person("fp")
    assert (person["nombre"], person["email"], person["sessions"]) == ("Ana", "ana@example.com", 2)


async def test_a_session_that_changes_hands_leaves_its_former_person(
    database: Database, writer: ProspectWriter, record: MakeRecord
) -> None:
    await writer.write([record("s1", "a", at=1, nombre="Ana"), record("s2", "a", at=2, telefono="+573005550102")])
    await writer.write([record("s2", "b", at=3, telefono="+573005550102")])

    people = await database.people()
    assert (people["a"]["nombre"], people["a"]["telefono"]) == ("Ana", None)
    assert (people["b"]["nombre"], people["b"]["telefono"]) == (None, "+573005550102")


async def test_facts_from_other_writers_move_with_the_session(
    database: Database, writer: ProspectWriter, record: MakeRecord
) -> None:
    await writer.write([record("s", None, at=1, nombre="Ana")])
    await database.admin.execute("UPDATE prospect_tracking SET prospect_data = prospect_data || '{\"crm_id\": 7}'")
    await database.call("session:s", {"nota": "llamar"})
    await writer.write([record("s", "fp", at=2, nombre="Ana")])

    assert list(await database.people()) == ["fp"]
    person = await database.person("fp")
    assert (person["crm_id"], person["nota"]) == (7, "llamar")

    # The value stays, even after further folds.
    await writer.write([record("s", "fp", at=3, nombre="Ana Ruiz")])
    assert (await database.person("fp"))["crm_id"] == 7


async def test_unknown_keys_survive_a_fold(database: Database, writer: ProspectWriter, record: MakeRecord) -> None:
    await writer.write([record("s", "fp", at=1, nombre="Ana")])
    await database.admin.execute("UPDATE prospect_tracking SET prospect_data = prospect_data || '{\"crm_id\": 7}'")
    await writer.write([record("s", "fp", at=2, nombre="Ana Ruiz")])
    person = await database.person("fp")
    assert (person["nombre"], person["crm_id"]) == ("Ana Ruiz", 7)


async def test_tenants_do_not_share_sessions_or_people(
    database: Database, writer: ProspectWriter, record: MakeRecord
) -> None:
    result = await writer.write(
        [record("s", "fp", tenant_id="", nombre="Ana"), record("s", "fp", tenant_id="acme", nombre="Eva")]
    )
    assert result.inserted == 2
    rows = await database.admin.fetch(
        "SELECT tenant_id, prospect_data->>'nombre' AS n FROM prospect_tracking ORDER BY 1"
    )
    assert [(row["tenant_id"], row["n"]) for row in rows] == [("", "Ana"), ("acme", "Eva")]


async def test_one_bad_row_of_500_is_rejected_alone_at_log2_cost(
    database: Database, writer: ProspectWriter, record: MakeRecord
) -> None:
    for position in (0, 137, 250, 499):
        batch = [record(f"s{position}-{n:03}", f"fp{position}-{n}", nombre="Ana") for n in range(500)]
        batch[position] = record(f"s{position}-{position:03}", "fp", nombre="A\x00na")

        result = await writer.write(batch)

        assert result.inserted == 499
        assert [(refused.index, refused.sqlstate) for refused in result.rejected] == [(position, "22P05")]
        assert result.statements <= 2 + math.ceil(math.log2(500)) + 2
    assert await database.admin.fetchval("SELECT count(*) FROM prospect_sessions") == 4 * 499
    assert await database.admin.fetchval("SELECT count(*) FROM prospect_tracking") == 4 * 499


async def test_every_kind_of_bad_row_is_reported_by_index_and_code_without_its_data(
    database: Database, writer: ProspectWriter, record: MakeRecord
) -> None:
    good = record("good", "fp", nombre="Ana")
    wide = "".join(chr(0x1F300 + (n * 7919) % 4000) for n in range(1024))
    bad = {
        "22P05": record("nul in json", "x", nombre="secreto\x00"),
        "22021": record("nul in key \x00secreto", "x"),
        "22003": record("too large", "x", at=2**70),
        "23514": record("in the far future", "x", at=253402300800000),
        "22007": record("when", "x", enriched_at="secreto"),
        "54000": record(wide, "x"),
    }
    batch = [good, *bad.values(), record("good 2", "fp", telefono="+573005550102")]

    result = await writer.write(batch)

    assert result.inserted == 2
    assert [refused.sqlstate for refused in result.rejected] == list(bad)
    assert [refused.index for refused in result.rejected] == list(range(1, len(bad) + 1))
    assert not any("secreto" in refused.message for refused in result.rejected)
    assert (await database.person("fp"))["nivel_interes"] == 5


async def test_a_reserved_fingerprint_is_a_bad_row(writer: ProspectWriter, record: MakeRecord) -> None:
    result = await writer.write([record("s", "session:other", nombre="Ana")])
    assert [(refused.sqlstate, "prospect_sessions_fingerprint" in refused.message) for refused in result.rejected] == [
        ("23514", True)
    ]


async def test_a_batch_of_nothing_but_bad_rows_ends(writer: ProspectWriter, record: MakeRecord) -> None:
    result = await writer.write([record(f"s{n}", "fp", nombre="\x00") for n in range(64)])
    assert len(result.rejected) == 64
    assert result.inserted == 0


@pytest.mark.own_database
async def test_a_row_that_only_fails_in_the_fold_is_found(
    database: Database, writer: ProspectWriter, record: MakeRecord
) -> None:
    # Given an installation's own trigger that refuses one person
    await database.admin.execute(
        """
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
          IF NEW.prospect_data->>'nombre' = 'Mallory' THEN RAISE check_violation; END IF;
          RETURN NEW;
        END $$;
        CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON prospect_tracking FOR EACH ROW EXECUTE FUNCTION refuse();
        """
    )
    batch = [record(f"s{n}", f"fp{n}", nombre="Mallory" if n == 5 else "Ana") for n in range(16)]

    result = await writer.write(batch)

    assert [(refused.index, refused.sqlstate) for refused in result.rejected] == [(5, "23514")]
    assert result.inserted == 15
    assert await database.admin.fetchval("SELECT count(*) FROM prospect_sessions") == 15
    assert await database.admin.fetchval("SELECT count(*) FROM prospect_tracking") == 15


async def test_erased_data_stays_erased(database: Database, writer: ProspectWriter, record: MakeRecord) -> None:
    await writer.write([record("s1", "gone", nombre="Ana"), record("s2", "fp", nombre="Eva")])
    await database.admin.execute(
        "UPDATE prospect_sessions SET erased_at = now(), record = '{}' WHERE session_id IN ('s1', 's2')"
    )
    await database.admin.execute(
        "UPDATE prospect_tracking SET erased_at = now(), prospect_data = '{}' WHERE fingerprint_id = 'gone'"
    )

    result = await writer.write(
        [
            record("s1", "gone", at=9_000, nombre="Ana"),  # the same session again
            record("s3", "gone", at=9_000, nombre="Ana"),  # another session of an erased person
            record("s4", "fp", at=9_000, telefono="+573005550102"),  # an erased session's person, not erased
        ]
    )

    assert (result.inserted, result.updated, result.unchanged) == (1, 0, 2)
    people = await database.people()
    assert people["gone"] == {}
    assert (people["fp"]["nombre"], people["fp"]["telefono"]) == (None, "+573005550102")
    assert await database.admin.fetchval("SELECT count(*) FROM prospect_sessions WHERE session_id = 's3'") == 0
    assert await database.call("gone", {"nombre": "Ana"}) == {"success": False, "error": "this person was erased"}


@pytest.mark.own_database
async def test_nothing_of_the_dsn_or_the_row_is_in_an_error(database: Database, record: MakeRecord) -> None:
    settings = database.settings()
    async with connected(settings) as writer:
        await database.admin.execute("ALTER TABLE prospect_sessions RENAME TO elsewhere")
        with pytest.raises(NexusError) as raised:
            await writer.write([record("s", "fp", nombre="Secreto")])
    assert "Secreto" not in str(raised.value)
    assert "postgresql://" not in str(raised.value)
