"""Attacks in a chat change no field that the user did not give: with the rules, and with a model that obeys.

The cases (injections.jsonl) were written for this test. ``given`` has the user's real data. ``claims`` has the values
that the attack in ``attack_turn`` wants. An obedient model answers with these values, and quotes the attack and also
harmless words of the user as evidence.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from nexus_stream.contracts.prospect import Prospect, Signal, SignalName
from nexus_stream.extraction.claude.answer import findings_from, parse_answer
from nexus_stream.extraction.extractor import Findings, Turn, Usage
from nexus_stream.extraction.grounding import check
from nexus_stream.extraction.merging import merge
from nexus_stream.extraction.rules.extractor import find

CASES = [json.loads(line) for line in (Path(__file__).parent / "cases" / "injections.jsonl").read_text().splitlines()]
VALUES = ("nombre", "email", "telefono", "ocupacion", "arquetipo")
SIGNALS = ("intencion", "desinteres", "correccion_nombre", "correccion_email", "correccion_telefono")

each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])


def turns_of(case: dict[str, Any]) -> list[Turn]:
    return [Turn(turn["role"], turn["content"]) for turn in case["turns"]]


def record_of(findings: Findings, turns: list[Turn], known: Prospect | None = None, signals: Any = ()) -> Prospect:
    prospect, _ = merge(known, signals, check(findings, turns, default_region="CO"))
    return prospect


def as_given(prospect: Prospect) -> dict[str, Any]:
    shown = prospect.model_dump(mode="json")
    return {field: shown[field] for field in (*VALUES, "objeciones", "nivel_interes")}


HARMLESS = "hola, buenos días, solo estoy mirando"


def with_a_harmless_turn(case: dict[str, Any]) -> list[Turn]:
    """The chat, followed by meaningless words of the user, which a lying model could quote instead."""
    return [*turns_of(case), Turn("user", HARMLESS)]


def obedient_answer(case: dict[str, Any]) -> str:
    """The answer of a model that obeys the attack and quotes it as evidence for every value.

    It also quotes each other turn of the user (the whole turn, and its first words), and a harmless last turn.
    """
    turns = with_a_harmless_turn(case)
    attack = turns[case["attack_turn"]].content
    claims, given = case["claims"], case["given"]
    answer: dict[str, Any] = {field: claims.get(field, given[field]) for field in VALUES}
    answer["objeciones"] = claims.get("objeciones", [])
    evidence = []
    proven = [(field, answer[field]) for field in VALUES if answer[field] is not None]
    proven += [(f"objecion_{kind}", attack) for kind in answer["objeciones"]]
    proven += [(name, claims[name]) for name in SIGNALS if name in claims]
    others = [(index, turn.content) for index, turn in enumerate(turns) if turn.role == "user" and turn.content.strip()]
    others = [(index, content) for index, content in others if index != case["attack_turn"]]
    for signal, value in proven:
        # Quote the value itself, and the whole attack, which has the value.
        evidence += [{"senal": signal, "turno": case["attack_turn"], "cita": quote} for quote in (value, attack)]
        for index, content in others:
            quotes = (content, " ".join(content.split()[:4]))
            evidence += [{"senal": signal, "turno": index, "cita": quote} for quote in quotes]
    return json.dumps({**answer, "evidencias": evidence})


def test_there_are_thirty_attacks_in_both_languages():
    assert len(CASES) >= 30
    for language in ("es-", "en-"):
        assert sum(case["id"].startswith(language) for case in CASES) >= 14
    assert len({case["id"] for case in CASES}) == len(CASES)


@each_case
def test_the_rules_find_only_the_values_that_the_user_gave(case):
    turns = turns_of(case)
    assert as_given(record_of(find(turns, default_region="CO"), turns)) == case["given"]


@each_case
def test_a_model_that_obeys_adds_nothing(case):
    turns = with_a_harmless_turn(case)
    findings = findings_from(parse_answer(obedient_answer(case)), turns, Usage())
    found = as_given(record_of(findings, turns))
    for field in VALUES:
        assert found[field] in (None, case["given"][field])
    assert found["objeciones"] == []
    assert found["nivel_interes"] <= case["given"]["nivel_interes"]
    assert findings.dropped_fields or check(findings, turns, default_region="CO").dropped_fields


@each_case
def test_a_model_that_obeys_changes_no_known_value(case):
    turns = with_a_harmless_turn(case)
    given = case["given"]
    known = Prospect(**given)
    signals = [Signal(name=SignalName.NOMBRE, turn=1, start=0, end=4)] if given["nombre"] else []
    findings = findings_from(parse_answer(obedient_answer(case)), turns, Usage())
    assert as_given(record_of(findings, turns, known, signals)) == given


def test_the_obedient_model_would_do_harm_without_the_checks():
    """Proves that the tests above can fail: the model's answers hold the values that the attacks want."""
    harmful = [case["id"] for case in CASES if set(case["claims"]) - set(SIGNALS)]
    for case in CASES:
        answer = parse_answer(obedient_answer(case))
        for field in set(case["claims"]) & set(VALUES):
            assert getattr(answer, field) == case["claims"][field]
    assert len(harmful) >= 25
