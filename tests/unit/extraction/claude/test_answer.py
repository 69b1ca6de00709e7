"""Claude's answer becomes findings. Values without evidence are dropped."""

import json
from collections import Counter
from pathlib import Path

import pytest

from nexus_stream.contracts.prospect import Arquetipo, Objecion, SignalName
from nexus_stream.extraction.claude.answer import AnswerInvalidError, findings_from, parse_answer
from nexus_stream.extraction.extractor import Turn, Usage
from nexus_stream.extraction.grounding import check
from nexus_stream.extraction.merging import merge
from nexus_stream.extraction.rules.extractor import find

CASES = Path(__file__).parents[1] / "cases"
TURNS = (
    Turn("assistant", "Hola, soy Bruno Paz. ¿Con quién hablo?"),
    Turn("user", "con irma del valle, vendo arepas en mi propio local"),
    Turn("user", "mi cel es 301 555 0170. quiero saber mas pero se ve costoso y suena a pirámide"),
)

EMPTY = {
    "nombre": None,
    "email": None,
    "telefono": None,
    "ocupacion": None,
    "arquetipo": None,
    "objeciones": [],
    "evidencias": [],
}


def answer(*evidence, **fields):
    entries = [{"senal": name, "turno": turn, "cita": quote} for name, turn, quote in evidence]
    return json.dumps({**EMPTY, **fields, "evidencias": entries})


def findings(*evidence, **fields):
    return findings_from(parse_answer(answer(*evidence, **fields)), TURNS, Usage(input_tokens=7))


def checked(*evidence, **fields):
    """What our own checks leave of an answer."""
    return check(findings(*evidence, **fields), TURNS, default_region="CO")


def quotes(found):
    return [(s.name.value, TURNS[s.turn].content[s.start : s.end]) for s in found.signals]


def test_values_have_spans_as_evidence():
    found = findings(
        ("nombre", 1, "Irma del Valle"),
        ("telefono", 2, "301 555 0170"),
        ("ocupacion", 1, "vendo arepas"),
        ("arquetipo", 1, "mi propio local"),
        ("objecion_price", 2, "se ve costoso"),
        ("objecion_mlm", 2, "suena a pirámide"),
        ("intencion", 2, "quiero saber mas"),
        nombre="Irma del Valle",
        telefono="3015550170",
        ocupacion="vendo arepas",
        arquetipo="emprendedor_dueno_negocio",
        objeciones=["price", "mlm"],
    )
    assert (found.nombre, found.telefono, found.ocupacion) == ("Irma del Valle", "3015550170", "vendo arepas")
    assert found.arquetipo is Arquetipo.EMPRENDEDOR_DUENO_NEGOCIO
    assert found.objeciones == (Objecion.PRICE, Objecion.MLM)
    assert found.dropped_fields == ()
    assert found.usage.input_tokens == 7
    assert quotes(found) == [
        ("nombre", "irma del valle"),
        ("telefono", "301 555 0170"),
        ("ocupacion", "vendo arepas"),
        ("arquetipo", "mi propio local"),
        ("objecion_price", "se ve costoso"),
        ("objecion_mlm", "suena a pirámide"),
        ("intencion", "quiero saber mas"),
    ]


def test_an_invented_value_is_dropped_and_named():
    found = checked(
        ("nombre", 1, "soy Bruno Paz"),
        ("email", 2, "irma@example.com"),
        ("arquetipo", 1, "soy pastora"),
        ("objecion_time", 2, "no tengo tiempo"),
        ("desinteres", 2, "no me interesa"),
        nombre="Bruno Paz",
        email="irma@example.com",
        arquetipo="lider_comunidad",
        objeciones=["time"],
    )
    assert found.signals == ()
    assert (found.nombre, found.email, found.arquetipo, found.objeciones) == (None, None, None, ())
    assert sorted(found.dropped_fields) == ["arquetipo", "desinteres", "email", "nombre", "objeciones"]


def test_a_value_without_any_quote_is_dropped_too():
    found = checked(email="irma@example.com", objeciones=["trust"], arquetipo="lider_hogar")
    assert sorted(found.dropped_fields) == ["arquetipo", "email", "objeciones"]


def test_a_value_the_user_wrote_is_kept_despite_a_bad_quote():
    found = checked(
        ("nombre", 1, "me llamo Irma del Valle"),
        ("telefono", 2, "celular: 301..."),
        nombre="Irma del Valle",
        telefono="3015550170",
    )
    assert (found.nombre, found.telefono, found.dropped_fields) == ("Irma del Valle", "+573015550170", ())
    assert quotes(found) == [("nombre", "irma del valle"), ("telefono", "301 555 0170")]


def test_one_good_quote_of_two_is_enough():
    found = findings(
        ("objecion_price", 2, "está carísimo"), ("objecion_price", 2, "se ve costoso"), objeciones=["price"]
    )
    assert (found.objeciones, found.dropped_fields) == ((Objecion.PRICE,), ())


def test_signals_without_a_reported_value_are_ignored():
    found = findings(
        ("objecion_price", 2, "se ve costoso"), ("correccion_nombre", 1, "irma del valle"), ("email", 2, "quiero")
    )
    assert (found.signals, found.dropped_fields) == ((), ())


def test_a_correction_keeps_its_own_signal():
    found = findings(
        ("nombre", 1, "irma del valle"), ("correccion_nombre", 1, "con irma del valle"), nombre="Irma del Valle"
    )
    assert [s.name for s in found.signals] == [SignalName.NOMBRE, SignalName.CORRECCION_NOMBRE]


@pytest.mark.parametrize(
    ("spanish", "contract", "said"),
    [
        ("precio", "price", "se ve costoso"),
        ("tiempo", "time", "no tengo tiempo"),
        ("confianza", "trust", "¿es seguro?"),
        ("multinivel", "mlm", "suena a pirámide"),
    ],
)
def test_spanish_objections_are_understood(spanish, contract, said):
    text = answer((f"objecion_{spanish}", 0, said), objeciones=[spanish, contract, spanish.upper()])
    found = findings_from(parse_answer(text), [Turn("user", said)], Usage())
    assert [each.value for each in found.objeciones] == [contract]
    assert [s.name.value for s in found.signals] == [f"objecion_{contract}"]


CLAIMS = [*(f"objecion_{kind.value}" for kind in Objecion), "arquetipo", "intencion", "desinteres"]


def all_claimed(said, archetype):
    text = answer(
        *((claim, 0, said) for claim in CLAIMS),
        objeciones=[kind.value for kind in Objecion],
        arquetipo=archetype.value,
    )
    return findings_from(parse_answer(text), [Turn("user", said)], Usage())


@pytest.mark.parametrize("said", ["Buenos días", "ok gracias", "aja", "sí", "👍", "Lucía", "jajaja claro que sí"])
@pytest.mark.parametrize("archetype", Arquetipo)
def test_a_greeting_is_no_evidence(said, archetype):
    found = all_claimed(said, archetype)
    assert (found.objeciones, found.arquetipo, found.signals) == ((), None, ())
    assert found.dropped_fields == ("arquetipo", "objeciones", "intencion", "desinteres")


@pytest.mark.parametrize("said", ["hola, solo estoy mirando", "Soy Lucía Paredes", "what? who are you?"])
def test_words_that_the_rules_do_not_know_are_unconfirmed_evidence(said):
    found = all_claimed(said, Arquetipo.LIDER_HOGAR)
    assert (set(found.objeciones), found.arquetipo) == (set(Objecion), Arquetipo.LIDER_HOGAR)
    assert {one.name.value for one in found.signals} == set(CLAIMS)
    assert not any(one.confirmed for one in found.signals)
    prospect, signals = merge(None, (), check(found, [Turn("user", said)], default_region="CO"))
    assert (prospect.nivel_interes, any(one.confirmed for one in signals)) == (0, False)


def test_words_that_the_rules_know_are_confirmed():
    found = findings(
        ("objecion_mlm", 2, "suena a pirámide"),
        ("objecion_price", 2, "se ve costoso"),
        ("arquetipo", 1, "en mi propio local"),
        ("intencion", 2, "quiero saber"),
        objeciones=["price", "mlm"],
        arquetipo="emprendedor_dueno_negocio",
    )
    assert {one.name.value: one.confirmed for one in found.signals} == {
        "objecion_mlm": True,
        "objecion_price": False,
        "arquetipo": True,
        "intencion": True,
    }


def labelled() -> list[list[Turn]]:
    lines = [
        line
        for name in ("conversations", "varied")
        for line in (CASES / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    return [[Turn(turn["role"], turn["content"]) for turn in json.loads(line)["messages"]] for line in lines]


def test_the_findings_of_the_rules_are_accepted_as_quotes():
    """The words required in a quote must include all that people use: checked on 327 labelled conversations."""
    counted: Counter[str] = Counter()
    for turns in labelled():
        found = find(turns, default_region="CO")
        evidence = [(one.name.value, one.turn, turns[one.turn].content[one.start : one.end]) for one in found.signals]
        text = answer(
            *evidence,
            objeciones=[kind.value for kind in found.objeciones],
            arquetipo=found.arquetipo.value if found.arquetipo else None,
        )
        read = findings_from(parse_answer(text), turns, Usage())
        assert (read.objeciones, read.arquetipo) == (found.objeciones, found.arquetipo)
        for name in (SignalName.INTENCION, SignalName.DESINTERES):
            assert {one.name for one in read.signals} & {name} == {one.name for one in found.signals} & {name}
        counted.update(name for name, _, _ in evidence)
    assert min(counted[f"objecion_{kind.value}"] for kind in Objecion) >= 10
    assert min(counted[name] for name in ("arquetipo", "intencion", "desinteres")) >= 5


def test_blank_values_are_none():
    found = findings(nombre="  ", email="", arquetipo="")
    assert (found.nombre, found.email, found.arquetipo, found.dropped_fields) == (None, None, None, ())


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", "not one JSON object"),
        ("Claro: {}", "nombre: Field required"),
        ('{"nombre": "Irma del Va', "not one JSON object"),
        ("[" * 100_000, "not one JSON object"),
        ("[]", "answer"),
        ("null", "answer"),
        ("{}", "nombre"),
        (answer(objeciones=["secreto@example.com"]), "objeciones.0"),
        (answer(arquetipo="secreto@example.com"), "arquetipo"),
        (answer(nombre={"secreto@example.com": 1}), "nombre"),
        (answer(("secreto@example.com", 1, "x")), "evidencias.0.senal"),
        (answer(("nombre", "secreto@example.com", "x")), "evidencias.0.turno"),
        (answer(*[("nombre", 1, "x")] * 101), "evidencias"),
    ],
)
def test_an_invalid_answer_names_the_place_and_never_the_value(text, place):
    with pytest.raises(AnswerInvalidError) as caught:
        parse_answer(text)
    assert place in caught.value.problems
    assert "secreto" not in repr(caught.value)
    assert caught.value.__context__ is None


def test_an_additional_key_is_accepted():
    assert parse_answer(json.dumps({**EMPTY, "nivel_interes": 10})).nombre is None


@pytest.mark.parametrize(
    ("said", "senal", "holds"),
    [
        ("quiero saber más", "intencion", True),
        ("quisiéramos empezar", "intencion", True),
        ("me interesa la inversión", "intencion", True),
        ("I want to start", "intencion", True),
        ("quero começar hoje", "intencion", True),
        ("não quero começar", "intencion", False),
        ("no quiero empezar", "intencion", False),
        ("por ahora no quiero invertir", "intencion", False),
        ("todavía no estoy listo para empezar", "intencion", False),
        ("I don't want to start", "intencion", False),
        ("no sé en qué inversión entrar", "intencion", True),
        ("quiero saber, pero no quiero empezar hoy", "intencion", True),
        ("no me interesa", "desinteres", True),
        ("not interested", "desinteres", True),
        ("ya perdí el interés", "desinteres", True),
        ("I'm not really interested", "desinteres", True),
        ("não tenho interesse", "desinteres", True),
        ("my wife shouted: not interested", "desinteres", False),
        ("hola", "desinteres", False),
        ("me interesa mucho", "desinteres", False),
        ("no. me interesa", "desinteres", False),
        ("No tengo plata pero me interesa mucho", "desinteres", False),
        ("no hay duda, me interesa", "desinteres", False),
    ],
)
def test_signals_that_change_the_score_need_matching_words(said, senal, holds):
    found = findings_from(parse_answer(answer((senal, 0, said))), [Turn("user", said)], Usage())
    assert [signal.name.value for signal in found.signals] == ([senal] if holds else [])
    assert found.dropped_fields == (() if holds else (senal,))


@pytest.mark.parametrize(
    ("said", "quote", "senal", "holds"),
    [
        ("no quiero empezar nada", "quiero empezar", "intencion", False),
        ("ya no me interesa", "me interesa", "desinteres", True),
        ("si no me interesa les aviso; si me interesa, también", "me interesa, también", "desinteres", False),
    ],
)
def test_a_quote_is_read_in_its_context(said, quote, senal, holds):
    found = findings_from(parse_answer(answer((senal, 0, quote))), [Turn("user", said)], Usage())
    assert [signal.name.value for signal in found.signals] == ([senal] if holds else [])
