"""Callers of update_prospect_data add contributions, which are folded with the sessions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from nexus_stream.supabase.writer import ProspectWriter

if TYPE_CHECKING:
    from tests.integration.supabase.conftest import Database, MakeRecord


async def test_a_call_makes_a_person(database: Database) -> None:
    result = await database.call("fp", {"nombre": "Ana", "nivel_interes": 7.5, "objeciones": ["precio", "mlm"]})

    assert result == {"success": True, "fingerprint_id": "fp", "changed": True}
    person = await database.person("fp")
    assert (person["nombre"], person["nivel_interes"], person["momento_optimo"]) == ("Ana", 7.5, "caliente")
    assert person["objeciones"] == ["price", "mlm"]
    assert (person["sessions"], person["last_session_id"]) == (0, None)


async def test_the_same_call_again_changes_nothing(database: Database) -> None:
    await database.call("fp", {"nombre": "Ana"})
    before = await database.admin.fetchrow("SELECT * FROM prospect_tracking")
    assert (await database.call("fp", {"nombre": "Ana"}))["changed"] is False
    assert await database.admin.fetchrow("SELECT * FROM prospect_tracking") == before
    assert await database.admin.fetchval("SELECT count(*) FROM prospect_contributions") == 1


async def test_a_call_obeys_the_merge_rules(database: Database, writer: ProspectWriter, record: MakeRecord) -> None:
    await writer.write([record("s", "fp", nombre="Pablo Hoyos", email="pablo@example.com", ocupacion="médico")])
    await database.call("fp", {"nombre": "Pablo", "email": "pablo.example.com", "ocupacion": "", "telefono": None})
    person = await database.person("fp")
    assert (person["nombre"], person["email"], person["ocupacion"]) == ("Pablo Hoyos", "pablo@example.com", "médico")

    await database.call("fp", {"nombre": "Pablo", "signals": ["correccion_nombre"]})
    person = await database.person("fp")
    assert person["nombre"] == "Pablo"
    assert "signals" not in person


async def test_calls_count_in_the_order_they_were_made(database: Database) -> None:
    for occupation in ("médica", "profesora", "médica"):
        await database.call("fp", {"ocupacion": occupation})
        assert (await database.person("fp"))["ocupacion"] == occupation


async def test_a_callers_level_stands_until_more_is_learned(
    database: Database, writer: ProspectWriter, record: MakeRecord, now_ms: Callable[[], int]
) -> None:
    # Given a session with level 2 and a caller's level 7.5
    await writer.write([record("s1", "fp", nombre="Ana")])
    await database.call("fp", {"nivel_interes": 7.5, "momento_optimo": "frio"})
    assert (await database.person("fp"))["nivel_interes"] == 7.5
    assert (await database.person("fp"))["momento_optimo"] == "caliente"

    # When a later session repeats what was known, then it stands
    later = now_ms() + 60_000
    await writer.write([record("s2", "fp", at=later, nombre="Ana")])
    assert (await database.person("fp"))["nivel_interes"] == 7.5

    # When a later session adds an e-mail, then that moves it on
    await writer.write([record("s3", "fp", at=later + 1, email="ana@example.com")])
    assert (await database.person("fp"))["nivel_interes"] == 9

    # And the level is never over 10, and lost interest counts
    await writer.write([record("s4", "fp", at=later + 2, telefono="+573005550102")])
    assert (await database.person("fp"))["nivel_interes"] == 10
    await writer.write([record("s5", "fp", at=later + 3, signals=("desinteres",))])
    assert (await database.person("fp"))["nivel_interes"] == 9


@pytest.mark.parametrize(
    ("given", "level"),
    [
        (7.5, 7.5),
        ("7.5", 7.5),
        (12, 10),
        (-1, 0),
        ("muy alto", 2),
        (None, 2),
        ({"x": 1}, 2),
        (6.123456789012345, 6.123456789012345),
    ],
)
async def test_a_level_is_a_number_from_0_to_10(database: Database, given: Any, level: float) -> None:
    await database.call("fp", {"nombre": "Ana", "nivel_interes": given})
    assert (await database.person("fp"))["nivel_interes"] == level


async def test_unknown_keys_survive_and_the_newest_wins(
    database: Database, writer: ProspectWriter, record: MakeRecord
) -> None:
    await database.call("fp", {"crm": {"id": 7, "tags": ["a"]}, "nota": "llamar", "activo": False})
    await database.call("fp", {"crm": None, "nota": "  ", "activo": True})
    await writer.write([record("s", "fp", nombre="Ana")])
    person = await database.person("fp")
    assert (person["crm"], person["nota"], person["activo"]) == ({"id": 7, "tags": ["a"]}, "llamar", True)


async def test_a_callers_own_counters_are_ignored(database: Database) -> None:
    await database.call("fp", {"sessions": 99, "last_session_id": "x"})
    assert (await database.person("fp"))["sessions"] == 0


async def test_a_blank_of_unicode_leaves_unknown_keys_alone(database: Database) -> None:
    await database.call("fp", {"ciudad": "Cali"})
    for blank in ("\u00a0", "\u3000", "\u200b "):
        await database.call("fp", {"ciudad": blank})
    assert (await database.person("fp"))["ciudad"] == "Cali"


async def test_very_many_sessions_push_out_no_call_and_very_many_calls_no_session(
    database: Database, writer: ProspectWriter, record: MakeRecord, now_ms: Callable[[], int]
) -> None:
    # Given more sessions than count, all of them before the call
    flood = [record(f"s{n:04}", "fp", at=n, nombre="Ana Ruiz") for n in range(2005)]
    for start in range(0, len(flood), 500):
        await writer.write(flood[start : start + 500])
    # Then a correction counts
    correction = {"nombre": "Ana", "signals": ["correccion_nombre"]}
    assert (await database.call("fp", correction))["changed"] is True
    assert (await database.person("fp"))["nombre"] == "Ana"

    # And when the limit of stored calls is reached, a further call is refused with an answer
    await database.admin.execute(
        "INSERT INTO prospect_contributions (fingerprint_id, contribution_id, data, contributed_at)"
        " SELECT 'fp', n::text, jsonb_build_object('n', n), now() - interval '1 day' + n * interval '1 second'"
        " FROM generate_series(1, 1999) n"
    )
    refused = await database.call("fp", {"nombre": "Eva", "signals": ["correccion_nombre"]})
    assert refused["success"] is False
    assert "2000 different calls" in refused["error"]
    assert await database.admin.fetchval("SELECT count(*) FROM prospect_contributions") == 2000
    # But one of those again is not
    assert (await database.call("fp", correction))["success"] is True
    # And the sessions count as before
    await writer.write([record("s9999", "fp", at=now_ms() + 1000), record("early", "fp", at=0, ocupacion="médica")])
    person = await database.person("fp")
    assert (person["nombre"], person["ocupacion"], person["n"], person["sessions"]) == ("Ana", "médica", 1999, 2000)


async def test_calls_to_a_persons_sessions_are_among_those_that_are_kept(
    database: Database, writer: ProspectWriter, record: MakeRecord
) -> None:
    await writer.write([record("s", "fp", nombre="Ana")])
    await database.admin.execute(
        "INSERT INTO prospect_contributions (fingerprint_id, contribution_id, data, contributed_at)"
        " SELECT (array['fp', 'session:s'])[1 + n % 2], n::text, jsonb_build_object('n', n), now()"
        " FROM generate_series(1, 2000) n"
    )
    for fingerprint in ("fp", "session:s"):
        assert (await database.call(fingerprint, {"n": -1}))["success"] is False


@pytest.mark.parametrize(
    ("fingerprint", "data"),
    [(None, {}), ("", {}), ("fp", None), ("fp", ["nombre"]), ("fp", "nombre"), ("session:unknown", {"nombre": "Ana"})],
)
async def test_a_wrong_call_fails_without_an_sql_error(database: Database, fingerprint: str | None, data: Any) -> None:
    result = await database.admin.fetchval("SELECT update_prospect_data($1, $2)", fingerprint, data)
    assert result["success"] is False
    assert result["error"]
    assert await database.people() == {}


async def test_a_call_to_a_session_follows_it(database: Database, writer: ProspectWriter, record: MakeRecord) -> None:
    await writer.write([record("s", None, at=1, nombre="Ana")])
    await database.call("session:s", {"telefono": "+573005550102"})
    assert (await database.person("session:s"))["telefono"] == "+573005550102"

    await writer.write([record("s", "fp", at=2, nombre="Ana")])
    assert list(await database.people()) == ["fp"]
    assert (await database.person("fp"))["telefono"] == "+573005550102"

    # A caller that still knows the session's key only, reaches the person.
    result = await database.call("session:s", {"email": "ana@example.com"})
    assert result == {"success": True, "fingerprint_id": "fp", "changed": True}
    assert (await database.person("fp"))["email"] == "ana@example.com"

    await writer.write([record("s", "other", at=3, nombre="Ana")])
    assert list(await database.people()) == ["other"]
    assert (await database.person("other"))["email"] == "ana@example.com"
