"""Scoring of labelled conversations, and the command around it."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from nexus_stream.contracts.prospect import Arquetipo, Momento, Objecion, Prospect
from nexus_stream.extraction.evaluate_command import command
from nexus_stream.extraction.evaluation import (
    LabelledCase,
    LabelsError,
    normalise_occupation,
    read_cases,
    score_cases,
)

CASES = Path(__file__).parent / "cases" / "conversations.jsonl"


def case(case_id="c1", tags=("t",), **expected):
    return LabelledCase.model_validate(
        {"id": case_id, "tags": list(tags), "messages": [{"role": "user", "content": "hola"}], "expected": expected}
    )


def test_only_present_keys_are_scored():
    report = score_cases([case(nombre="Ana")], [Prospect(nombre="Ana", email="x@example.com")])
    assert (report.fields["nombre"].right, report.fields["email"].scored, report.passed) == (1, 0, 1)


def test_a_value_where_null_is_expected_is_an_invention():
    report = score_cases(
        [case(email=None, telefono=None, ocupacion=None, objeciones=[])],
        [Prospect(email="x@example.com", ocupacion="actriz", objeciones=(Objecion.PRICE,))],
    )
    assert {name: score.inventions for name, score in report.fields.items() if score.inventions} == {
        "email": 1,
        "ocupacion": 1,
        "objeciones": 1,
    }
    assert (report.inventions, report.passed) == (3, 0)


def test_precision_recall_and_f1():
    cases = [case(f"c{n}", email="a@example.com") for n in range(3)] + [case("c3", email=None)]
    given = [
        Prospect(email="a@example.com"),
        Prospect(email="b@example.com"),
        Prospect(),
        Prospect(email="c@example.com"),
    ]
    score = score_cases(cases, given).fields["email"]
    assert (score.precision, score.recall) == (pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert score.f1 == pytest.approx(1 / 3)
    assert (score.right, score.scored, score.inventions) == (1, 4, 1)


def test_objections_are_compared_as_sets_and_counted_one_by_one():
    labelled = case(objeciones=["time", "price"])
    assert score_cases([labelled], [Prospect(objeciones=(Objecion.PRICE, Objecion.TIME))]).passed == 1
    score = score_cases([labelled], [Prospect(objeciones=(Objecion.PRICE,))]).fields["objeciones"]
    assert (score.right, score.precision, score.recall) == (0, 1.0, 0.5)


def test_interest_within_its_range_and_archetype_and_moment_exact():
    labelled = case(nivel_interes_range=[1, 3], momento_optimo="frio", arquetipo=None)
    assert score_cases([labelled], [Prospect(nivel_interes=3)]).passed == 1
    wrong = Prospect(nivel_interes=3.5, momento_optimo=Momento.TIBIO, arquetipo=Arquetipo.LIDER_HOGAR)
    assert set(score_cases([labelled], [wrong]).cases[0].wrong) == {"nivel_interes", "momento_optimo", "arquetipo"}


def test_occupations_are_compared_without_accents_articles_and_punctuation():
    assert normalise_occupation("Soy una  Contadora Pública.") == normalise_occupation("contadora publica")
    assert score_cases([case(ocupacion_any=["panadería"])], [Prospect(ocupacion="una panaderia")]).passed == 1


def test_tags_count_cases():
    report = score_cases([case("a", ["x"], nombre=None), case("b", ["x", "y"], nombre="Ana")], [Prospect(), Prospect()])
    assert report.tags == {"x": (1, 2), "y": (0, 1)}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "line 2"),
        ('{"id": "x", "messages": [], "expected": {}}', "messages"),
        ('{"id": "x", "messages": [{"role": "bot", "content": "a"}], "expected": {}}', "messages.0.role"),
        ('{"id": "x", "messages": [{"role": "user", "content": "a"}], "expected": {"nombr": null}}', "nombr"),
        ('{"id": "c1", "messages": [{"role": "user", "content": "a"}], "expected": {}}', "twice"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, says):
    file = tmp_path / "cases.jsonl"
    file.write_text(case().model_dump_json(exclude_unset=True) + "\n" + line + "\n", encoding="utf-8")
    with pytest.raises(LabelsError, match="line 2") as raised:
        read_cases(file)
    assert says in str(raised.value)
    result = CliRunner().invoke(command, [str(file), "--extractor", "offline"])
    assert (result.exit_code, "line 2" in result.stderr) == (2, True)


def test_an_empty_file_is_an_error(tmp_path):
    file = tmp_path / "cases.jsonl"
    file.write_text("\n")
    with pytest.raises(LabelsError, match="no labelled conversation"):
        read_cases(file)


def test_the_command_prints_one_json_object():
    result = CliRunner().invoke(command, [str(CASES), "--extractor", "offline", "--json"])
    assert result.exit_code == 0, result.output
    shown = json.loads(result.stdout)
    assert (shown["extractor"], shown["cases"], shown["errors"]) == ("offline-rules-v1", 40, {})
    assert set(shown["fields"]["email"]) == {"right", "scored", "precision", "recall", "f1", "inventions"}
    assert shown["tags"]["injection"]["cases"] == 2


def test_the_command_prints_tables():
    result = CliRunner().invoke(command, [str(CASES), "--extractor", "offline"])
    assert result.exit_code == 0, result.output
    assert "telefono" in result.stdout
    assert "by tag" in result.stdout


def test_one_of_several_addresses_is_right():
    labels = {"email_any": ["ana.lopez@example.com", None]}
    for given in ("ana.lopez@example.com", None):
        assert score_cases([case(**labels)], [Prospect(email=given)]).passed == 1
    report = score_cases([case(**labels)], [Prospect(email="lopez@example.com")])
    assert report.cases[0].wrong == {"email": (labels["email_any"], "lopez@example.com")}
    assert (report.fields["email"].false_positives, report.inventions) == (1, 0)
