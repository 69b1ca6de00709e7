"""Score an extractor against labelled conversations, field by field.

Input: a JSON-lines file (one ``LabelledCase`` a line) and the prospects that an extractor made from it. A field without
a label is not scored. If the label is null and the extractor gives a value, the value is an invention: the worst error.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nexus_stream.contracts.conversation import Message
from nexus_stream.contracts.prospect import Arquetipo, Momento, Objecion, Prospect

__all__ = [
    "FIELDS",
    "CaseResult",
    "EvaluationReport",
    "FieldScore",
    "LabelledCase",
    "LabelsError",
    "read_cases",
    "score_cases",
]

FIELDS = (
    "nombre",
    "email",
    "telefono",
    "ocupacion",
    "objeciones",
    "arquetipo",
    "nivel_interes",
    "momento_optimo",
)
_LEADING_WORDS = frozenset({"soy", "es", "un", "una", "el", "la", "trabajo", "trabaja", "como", "de"})


class LabelsError(ValueError):
    """The file of labelled conversations cannot be read; the message names the line."""


class _Expected(BaseModel):
    """The labels of one case. Only keys that are present are scored."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    nombre: str | None = None
    email: str | None = None
    # If there are several right answers; null may be one of them.
    email_any: Annotated[list[str | None], Field(min_length=1)] | None = None
    telefono: str | None = None
    ocupacion: None = None
    ocupacion_any: Annotated[list[str], Field(min_length=1)] | None = None
    objeciones: list[Objecion] | None = None
    arquetipo: Arquetipo | None = None
    nivel_interes_range: tuple[float, float] | None = None
    momento_optimo: Momento | None = None


class LabelledCase(BaseModel):
    """One conversation and its labels: the right values."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    id: str
    tags: list[str] = []
    messages: Annotated[list[Message], Field(min_length=1)]
    expected: _Expected


def read_cases(path: Path) -> list[LabelledCase]:
    """Read every labelled conversation of a JSON-lines file; blank lines are skipped.

    Raises:
        LabelsError: a line is no labelled conversation (the message has its number and the problem), or the file has
            none.
    """
    cases: list[LabelledCase] = []
    seen: set[str] = set()
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise LabelsError(f"{path}: not UTF-8 at byte {error.start}") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            case = LabelledCase.model_validate_json(line)
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(part) for part in problem["loc"])
            raise LabelsError(f"{path}, line {number}: {place + ': ' if place else ''}{problem['msg']}") from None
        if case.id in seen:
            raise LabelsError(f"{path}, line {number}: id {case.id!r} occurs twice")
        seen.add(case.id)
        cases.append(case)
    if not cases:
        raise LabelsError(f"{path}: holds no labelled conversation")
    return cases


@dataclass(slots=True)
class FieldScore:
    """Counts of one field over all cases that label it.

    Right and scored count cases. Precision and recall count values (for objections, each kind is a value).
    """

    right: int = 0
    scored: int = 0
    inventions: int = 0
    true_positives: int = 0
    false_positives: int = 0
    false_negatives: int = 0

    @property
    def precision(self) -> float:
        """The share of the given values that is right; 1 if no value was given."""
        given = self.true_positives + self.false_positives
        return self.true_positives / given if given else 1.0

    @property
    def recall(self) -> float:
        """The share of the expected values that was given; 1 if no value was expected."""
        expected = self.true_positives + self.false_negatives
        return self.true_positives / expected if expected else 1.0

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0

    def as_dict(self) -> dict[str, float | int]:
        """The counts and scores for ``--json``."""
        return {
            "right": self.right,
            "scored": self.scored,
            "precision": round(self.precision, 4),
            "recall": round(self.recall, 4),
            "f1": round(self.f1, 4),
            "inventions": self.inventions,
        }


@dataclass(frozen=True, slots=True)
class CaseResult:
    """One case: the fields that were wrong, each with its expected and its given value."""

    id: str
    tags: tuple[str, ...]
    wrong: dict[str, tuple[Any, Any]]

    @property
    def passed(self) -> bool:
        """Whether every scored field is right."""
        return not self.wrong


@dataclass(slots=True)
class EvaluationReport:
    """Scores per field, case and tag."""

    fields: dict[str, FieldScore] = field(default_factory=lambda: {name: FieldScore() for name in FIELDS})
    cases: list[CaseResult] = field(default_factory=list)

    @property
    def passed(self) -> int:
        """Cases in which every scored field is right."""
        return sum(case.passed for case in self.cases)

    @property
    def tags(self) -> dict[str, tuple[int, int]]:
        """Tag -> (passed, cases), by name."""
        counts: dict[str, tuple[int, int]] = {}
        for case in self.cases:
            for tag in case.tags:
                passed, total = counts.get(tag, (0, 0))
                counts[tag] = (passed + case.passed, total + 1)
        return dict(sorted(counts.items()))

    @property
    def inventions(self) -> int:
        """The number of values given for fields whose label is null."""
        return sum(score.inventions for score in self.fields.values())


def normalise_occupation(text: str) -> str:
    """Lower case, no accents or punctuation, single spaces, no leading "soy", "es", "un" and the like."""
    decomposed = unicodedata.normalize("NFD", text.lower())
    bare = "".join(character for character in decomposed if not unicodedata.combining(character))
    words = re.sub(r"[^\w\s]|_", " ", bare).split()
    while words and words[0] in _LEADING_WORDS:
        words.pop(0)
    return " ".join(words)


def score_cases(cases: Sequence[LabelledCase], prospects: Sequence[Prospect]) -> EvaluationReport:
    """Compare each case's labels with the prospect made from its conversation; both are in the same order."""
    report = EvaluationReport()
    for case, prospect in zip(cases, prospects, strict=True):
        wrong: dict[str, tuple[Any, Any]] = {}
        labels = case.expected
        present = labels.model_fields_set
        for name in ("nombre", "email", "telefono", "arquetipo"):
            if name in present:
                expected, given = getattr(labels, name), getattr(prospect, name) or None
                if not _count(report.fields[name], expected, given, right=given == expected):
                    wrong[name] = (expected, given)
        if labels.email_any is not None:
            given = prospect.email or None
            right = given in labels.email_any
            expected = given if right else next((one for one in labels.email_any if one is not None), None)
            if not _count(report.fields["email"], expected, given, right=right):
                wrong["email"] = (labels.email_any, given)
        if "ocupacion_any" in present or "ocupacion" in present:
            accepted = labels.ocupacion_any
            given = prospect.ocupacion or None
            right = (
                given is None
                if accepted is None
                else (
                    given is not None and normalise_occupation(given) in {normalise_occupation(one) for one in accepted}
                )
            )
            if not _count(report.fields["ocupacion"], accepted, given, right=right):
                wrong["ocupacion"] = (accepted, given)
        if labels.objeciones is not None and not _count_set(
            report.fields["objeciones"], set(labels.objeciones), set(prospect.objeciones)
        ):
            wrong["objeciones"] = (sorted(labels.objeciones), sorted(prospect.objeciones))
        if labels.nivel_interes_range is not None:
            lowest, highest = labels.nivel_interes_range
            within = lowest <= prospect.nivel_interes <= highest
            if not _count(
                report.fields["nivel_interes"], labels.nivel_interes_range, prospect.nivel_interes, right=within
            ):
                wrong["nivel_interes"] = (labels.nivel_interes_range, prospect.nivel_interes)
        if labels.momento_optimo is not None:
            same = prospect.momento_optimo is labels.momento_optimo
            if not _count(report.fields["momento_optimo"], labels.momento_optimo, prospect.momento_optimo, right=same):
                wrong["momento_optimo"] = (labels.momento_optimo, prospect.momento_optimo)
        report.cases.append(CaseResult(case.id, tuple(case.tags), wrong))
    return report


def _count(score: FieldScore, expected: object, given: object, *, right: bool) -> bool:
    score.scored += 1
    score.right += right
    if expected is None and given is not None:
        score.inventions += 1
    if given is not None:
        score.true_positives += right
        score.false_positives += not right
    if expected is not None and not right:
        score.false_negatives += 1
    return right


def _count_set(score: FieldScore, expected: set[Objecion], given: set[Objecion]) -> bool:
    right = given == expected
    score.scored += 1
    score.right += right
    score.inventions += bool(given) and not expected
    score.true_positives += len(given & expected)
    score.false_positives += len(given - expected)
    score.false_negatives += len(expected - given)
    return right
