"""The merge rules, one by one, on the server that applies them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from nexus_stream.supabase.writer import ProspectWriter

if TYPE_CHECKING:
    from tests.integration.supabase.conftest import Database, MakeRecord

_NOTHING: tuple[str, ...] = ()


@pytest.mark.parametrize(
    ("field", "values", "signals", "expected"),
    [
        # nulls and empty strings never erase
        ("nombre", ["Ana", None], (), "Ana"),
        ("nombre", ["Ana", ""], (), "Ana"),
        ("nombre", ["Ana", "  "], (), "Ana"),
        # nor do values that only look filled
        *(
            (field, ["Ana", blank], (), "Ana")
            for field in ("nombre", "ocupacion", "telefono")
            for blank in ("\u00a0", "\u3000", "\u2003 ", "\u200b", "\ufeff\t")
        ),
        ("ocupacion", ["médica", "\u00a0abogada\u200b"], (), "abogada"),
        ("ocupacion", ["médica", None], (), "médica"),
        ("email", ["ana@example.com", ""], (), "ana@example.com"),
        ("telefono", ["+573005550102", None], (), "+573005550102"),
        ("arquetipo", ["lider_hogar", None], (), "lider_hogar"),
        # a longer superset wins, a contained name never does, whatever the case and the accents
        ("nombre", ["Pablo", "Pablo Hoyos"], (), "Pablo Hoyos"),
        ("nombre", ["Pablo Hoyos", "Pablo"], (), "Pablo Hoyos"),
        ("nombre", ["Pablo Hoyos", "hoyos"], (), "Pablo Hoyos"),
        ("nombre", ["María Peña", "maria"], (), "María Peña"),
        ("nombre", ["pablo", "Pablo"], (), "Pablo"),
        ("nombre", ["Pablo", "pablo"], (), "Pablo"),
        ("nombre", ["Pablo", "PABLO  HOYOS"], (), "PABLO  HOYOS"),
        # nor do initials, prefixes, a single name, or text that is not a name
        ("nombre", ["Pablo Hoyos", "Pablo H"], (), "Pablo Hoyos"),
        ("nombre", ["Pablo Hoyos", "P. Hoy"], (), "Pablo Hoyos"),
        ("nombre", ["Pablo Hoyos", "Pablito"], (), "Pablo Hoyos"),
        ("nombre", ["Pablo de Hoyos", "Juan"], (), "Pablo de Hoyos"),
        ("nombre", ["Anabel", "Ana"], (), "Anabel"),
        *(
            ("nombre", [known, worse], (), known)
            for known in ("Pablo", "Pablo Hoyos")
            for worse in ("Yo", "a", "A.", "acepto", "Visionario", "el pequeño")
        ),
        ("nombre", ["el pequeño", "Pablo"], (), "Pablo"),
        ("nombre", ["P. H.", "Pablo"], (), "Pablo"),
        ("nombre", ["Pablo H", "Pablo Hoyos"], (), "Pablo Hoyos"),
        # another name: the newest session's
        ("nombre", ["Pablo Hoyos", "Eva Ruiz"], (), "Eva Ruiz"),
        ("nombre", ["Pablo Hoyos Gil", "Eva Ruiz"], (), "Eva Ruiz"),
        ("nombre", ["Ana", "Eva"], (), "Eva"),
        # an explicit correction always, also to less
        ("nombre", ["Pablo Hoyos", "Pablo"], ("correccion_nombre",), "Pablo"),
        ("nombre", ["Pablo Hoyos", None], ("correccion_nombre",), "Pablo Hoyos"),
        ("nombre", ["Pablo Hoyos", "Pablo"], ("correccion_email",), "Pablo Hoyos"),
        # valid over invalid, else the newest; lower case
        ("email", ["ana@example.com", "billgates.example.com"], (), "ana@example.com"),
        ("email", ["bill,gates@example.com", "bill@example.com"], (), "bill@example.com"),
        ("email", ["bill,gates@example.com", "bill gates"], (), "bill gates"),
        ("email", ["ana@example.com", "EVA@Example.COM"], (), "eva@example.com"),
        ("email", ["ana@example.com", "ana@example"], ("correccion_email",), "ana@example"),
        ("telefono", ["+573005550102", "300 555"], (), "+573005550102"),
        ("telefono", ["300 555", "+573005550102"], (), "+573005550102"),
        ("telefono", ["+573005550102", "+14155550103"], (), "+14155550103"),
        ("telefono", ["+573005550102", "300 555"], ("correccion_telefono",), "300 555"),
        # the newest otherwise
        ("ocupacion", ["médica", "profesora"], (), "profesora"),
        ("arquetipo", ["lider_hogar", "joven_ambicion"], (), "joven_ambicion"),
        # objections unite, in the order they came up
        ("objeciones", [["time"], ["price", "time"], []], (), ["time", "price"]),
    ],
)
async def test_two_sessions_merge(
    database: Database,
    writer: ProspectWriter,
    record: MakeRecord,
    field: str,
    values: list[Any],
    signals: tuple[str, ...],
    expected: Any,
) -> None:
    last = len(values) - 1
    records = [
        record(f"s{n}", "fp", at=n, signals=signals if n == last else _NOTHING, **{field: value})
        for n, value in enumerate(values)
    ]
    await writer.write(records)
    assert (await database.person("fp"))[field] == expected


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ([("lider_hogar", ("arquetipo",)), ("joven_ambicion", ("arquetipo?",))], "lider_hogar"),
        ([("lider_hogar", ("arquetipo?",)), ("joven_ambicion", ("arquetipo?",))], "joven_ambicion"),
        ([("lider_hogar", ("arquetipo?",)), ("joven_ambicion", ("arquetipo",))], "joven_ambicion"),
        # an unconfirmed signal of another name says nothing about it
        ([("lider_hogar", ("arquetipo",)), ("joven_ambicion", ("arquetipo", "intencion?"))], "joven_ambicion"),
    ],
)
async def test_an_unconfirmed_archetype_replaces_no_confirmed_one(
    database: Database,
    writer: ProspectWriter,
    record: MakeRecord,
    told: list[tuple[str, tuple[str, ...]]],
    expected: str,
) -> None:
    await writer.write(
        [record(f"s{n}", "fp", at=n, signals=signals, arquetipo=one) for n, (one, signals) in enumerate(told)]
    )
    assert (await database.person("fp"))["arquetipo"] == expected


@pytest.mark.parametrize(
    ("sessions", "nivel_interes", "momento_optimo"),
    [
        ([({}, ())], 0, "frio"),
        ([({"nombre": "Ana"}, ())], 2, "frio"),
        ([({"nombre": "Ana", "email": "ana@example.com"}, ())], 3.5, "frio"),
        ([({"nombre": "Ana"}, ("intencion",))], 4, "tibio"),
        ([({"telefono": "+573005550102"}, ()), ({"email": "ana@example.com"}, ())], 4.5, "tibio"),
        ([({"nombre": "Ana", "telefono": "+573005550102"}, ("intencion",))], 7, "caliente"),
        # once, even if it is repeated
        ([({"nombre": "Ana"}, ("intencion",)), ({}, ("intencion", "intencion"))], 4, "tibio"),
        (
            [({"nombre": "Ana", "telefono": "+573005550102"}, ("intencion", "desinteres")), ({}, ("desinteres",))],
            4,
            "tibio",
        ),
        # only what is confirmed
        ([({"nombre": "Ana"}, ("intencion?", "desinteres?"))], 2, "frio"),
        ([({"nombre": "Ana"}, ("intencion?", "intencion"))], 4, "tibio"),
        # never below 0
        ([({"nombre": "Ana"}, ("desinteres",))], 0, "frio"),
        # everything is 8.5
        ([({"nombre": "A", "telefono": "+573005550102", "email": "a@example.com"}, ("intencion",))], 8.5, "caliente"),
        # invalid phones and e-mails score nothing
        ([({"nombre": "Ana", "telefono": "300 555", "email": "ana.example.com"}, ())], 2, "frio"),
    ],
)
async def test_interest_is_computed_from_the_merged_facts(
    database: Database,
    writer: ProspectWriter,
    record: MakeRecord,
    sessions: list[tuple[dict[str, Any], tuple[str, ...]]],
    nivel_interes: float,
    momento_optimo: str,
) -> None:
    await writer.write(
        [record(f"s{n}", "fp", at=n, signals=signals, **facts) for n, (facts, signals) in enumerate(sessions)]
    )
    person = await database.person("fp")
    assert (person["nivel_interes"], person["momento_optimo"]) == (nivel_interes, momento_optimo)


async def test_the_order_is_that_of_the_snapshots_then_of_the_session_ids(
    database: Database, writer: ProspectWriter, record: MakeRecord
) -> None:
    await writer.write([record("b", "fp", at=2, ocupacion="second"), record("a", "fp", at=2, ocupacion="first")])
    await writer.write([record("c", "fp", at=1, ocupacion="late arrival of an old chat")])
    person = await database.person("fp")
    assert (person["ocupacion"], person["last_session_id"], person["sessions"]) == ("second", "b", 3)


async def test_of_very_many_sessions_the_first_2000_count(
    database: Database, writer: ProspectWriter, record: MakeRecord
) -> None:
    # Given another user who opens sessions under a person's fingerprint, after the person's own
    await writer.write([record("own", "fp", at=1, nombre="Ana Ruiz", email="ana@example.com")])
    flood = [record(f"flood{n:04}", "fp", at=10 + n, ocupacion=f"o{n}") for n in range(2005)]
    for start in range(0, len(flood), 500):
        await writer.write(flood[start : start + 500])

    person = await database.person("fp")
    assert (person["sessions"], person["last_session_id"], person["ocupacion"]) == (2000, "flood1998", "o1998")
    assert (person["nombre"], person["email"]) == ("Ana Ruiz", "ana@example.com")
    # The chosen sessions do not depend on the order of arrival
    await writer.write([record("earlier", "fp", at=0, telefono="+573005550102")])
    person = await database.person("fp")
    assert (person["sessions"], person["last_session_id"], person["telefono"]) == (2000, "flood1997", "+573005550102")
