"""A perfect model gets through our own checks: its answers, made from the labels, must come out right.

A check that costs a right answer fails here.
"""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from nexus_stream.extraction.evaluate_command import command
from nexus_stream.extraction.evaluation import LabelledCase
from nexus_stream.extraction.perfect import VARIANTS, perfect_answer

CASES = Path(__file__).parent / "cases"
FILES = ("conversations", "varied", "batch_06", "batch_07", "batch_08", "batch_09", "batch_10", "batch_11")


def score(name, *variants):
    arguments = [str(CASES / f"{name}.jsonl"), "--extractor", "perfect", "--json"]
    result = CliRunner().invoke(command, [*arguments, *(part for one in variants for part in ("--variant", one))])
    assert result.exit_code == 0
    return json.loads(result.stdout)


@pytest.mark.parametrize("name", FILES)
def test_a_perfect_answer_comes_out_right(name):
    report = score(name)
    assert (report["extractor"], report["variants"], report["inventions"]) == ("perfect", [], 0)
    assert report["passed"] >= 0.95 * report["cases"], report["failed"]


@pytest.mark.parametrize("name", FILES)
def test_a_careless_perfect_answer_comes_out_right(name):
    """Accents lost, phones as typed, a code fence and wrong turn numbers, all at once."""
    report = score(name, "all")
    assert (report["variants"], report["inventions"]) == (list(VARIANTS), 0)
    assert report["passed"] >= 0.9 * report["cases"], report["failed"]


def labelled(*said, **expected):
    messages = [{"role": "user", "content": content} for content in said]
    return LabelledCase.model_validate({"id": "c", "messages": messages, "expected": expected})


def answer_to(case, *variants):
    return json.loads(perfect_answer(case, variants))


def quotes(answer):
    return [(one["senal"], one["turno"], one["cita"]) for one in answer["evidencias"]]


def test_the_answer_quotes_the_turns_that_hold_the_values():
    case = labelled(
        "Soy JOSÉ Peña, cocino por encargo",
        "mi cel es 300 555 0102, jose@example.com, quiero empezar pero está caro",
        nombre="José Peña",
        email="jose@example.com",
        telefono="+573005550102",
        ocupacion_any=["chef", "cocinero por encargo"],
        objeciones=["price"],
        nivel_interes_range=[7.5, 9.5],
    )
    answer = answer_to(case)
    assert (answer["nombre"], answer["ocupacion"], answer["arquetipo"]) == ("José Peña", "cocinero por encargo", None)
    assert quotes(answer) == [
        ("nombre", 0, "JOSÉ Peña"),
        ("email", 1, "jose@example.com"),
        ("telefono", 1, "300 555 0102"),
        ("ocupacion", 0, "cocino por encargo"),
        ("objecion_price", 1, "está caro"),
        ("intencion", 1, "quiero"),
    ]
    changed = answer_to(case, "accents", "national-phones", "turn-off-by-one")
    assert (changed["telefono"], quotes(changed)[0]) == ("3005550102", ("nombre", 1, "jose pena"))
    assert perfect_answer(case, ["code-fence"]).startswith("```json\n{")


def test_a_field_without_a_label_stays_null_and_lack_of_interest_is_told_by_the_range():
    answer = answer_to(labelled("soy Ana, no me interesa", nombre="Ana", nivel_interes_range=[0, 1]))
    assert (answer["email"], answer["telefono"], answer["ocupacion"]) == (None, None, None)
    assert quotes(answer) == [("nombre", 0, "Ana"), ("desinteres", 0, "no me interesa")]


def test_variants_are_named_and_belong_to_the_perfect_model():
    assert score("conversations", "turn-off-by-one", "accents")["variants"] == ["accents", "turn-off-by-one"]
    file = str(CASES / "conversations.jsonl")
    result = CliRunner().invoke(command, [file, "--extractor", "offline", "--variant", "accents"])
    assert result.exit_code == 2
