"""``nexus evaluate``: score an extractor on labelled conversations.

From: a JSON-lines file of conversations with labels (evaluation.py reads it). To: a table, or one JSON object.
Each conversation passes the enricher's own steps: extract, ground, merge into an empty record.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from nexus_stream.contracts.prospect import Prospect
from nexus_stream.errors import PermanentError, RetryableError
from nexus_stream.extraction import grounding, merging
from nexus_stream.extraction.evaluation import (
    FIELDS,
    EvaluationReport,
    LabelledCase,
    LabelsError,
    read_cases,
    score_cases,
)
from nexus_stream.extraction.extractor import Extractor, Turn
from nexus_stream.extraction.factory import create_extractor
from nexus_stream.extraction.perfect import VARIANTS, PerfectModel
from nexus_stream.settings import load_settings

__all__ = ["command", "evaluate_cases"]

_CONCURRENCY = 8


class _BadInputError(click.ClickException):
    exit_code = 2


@click.command(name="evaluate")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--extractor",
    type=click.Choice(["offline", "claude", "perfect"]),
    default=None,
    help="Default: Claude if ANTHROPIC_API_KEY is set, else the offline rules. perfect: answers made from the labels; "
    "what they lose is lost by the checks of Claude's answers.",
)
@click.option(
    "--variant",
    "variants",
    type=click.Choice([*VARIANTS, "all"]),
    multiple=True,
    help="With perfect: how carelessly the answers are written. Repeat it for several; all: all of them at once.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
@click.option("--failures", is_flag=True, help="Also list expected and given values. This shows the file's data.")
def command(file: Path, extractor: str | None, variants: tuple[str, ...], as_json: bool, failures: bool) -> None:
    """Score an extractor on labelled conversations (JSON lines).

    Exit 0 when every conversation was read, 1 when the extractor failed on one, 2 when the file or a setting is wrong.
    """
    try:
        cases = read_cases(file)
    except LabelsError as error:
        raise _BadInputError(str(error)) from None
    if variants and extractor != "perfect":
        raise _BadInputError("--variant needs --extractor perfect")
    used = tuple(name for name in VARIANTS if name in variants or "all" in variants)
    chosen: Extractor
    if extractor == "perfect":
        settings = load_settings()
        chosen = PerfectModel(cases, used, default_region=settings.default_region)
    else:
        settings = load_settings() if extractor is None else load_settings(extractor=extractor)
        chosen = create_extractor(settings)
    prospects, errors = asyncio.run(_run(chosen, cases, settings.default_region))
    report = score_cases(cases, prospects)
    if as_json:
        click.echo(json.dumps(_as_json(report, chosen, used, errors, failures=failures), ensure_ascii=False))
    else:
        _print(report, chosen, used, errors, failures=failures)
    if errors:
        raise SystemExit(1)


async def _run(
    extractor: Extractor, cases: Sequence[LabelledCase], default_region: str
) -> tuple[list[Prospect], dict[str, str]]:
    try:
        return await evaluate_cases(extractor, cases, default_region=default_region)
    finally:
        await extractor.close()


async def evaluate_cases(
    extractor: Extractor, cases: Sequence[LabelledCase], *, default_region: str
) -> tuple[list[Prospect], dict[str, str]]:
    """Return the prospect of each case, in order, and a message by case id for each failure of the extractor.

    A failed case counts as an empty prospect.
    """
    errors: dict[str, str] = {}
    slots = asyncio.Semaphore(_CONCURRENCY)

    async def one(case: LabelledCase) -> Prospect:
        turns = [Turn(message.role, message.content) for message in case.messages]
        async with slots:
            try:
                findings = await extractor.extract(turns)
            except (PermanentError, RetryableError) as error:
                errors[case.id] = f"{type(error).__name__}: {error}"
                return Prospect()
        checked = grounding.check(findings, turns, default_region=default_region)
        return merging.merge(None, (), checked)[0]

    prospects = await asyncio.gather(*(one(case) for case in cases))
    return list(prospects), errors


def _as_json(
    report: EvaluationReport,
    extractor: Extractor,
    variants: Sequence[str],
    errors: dict[str, str],
    *,
    failures: bool,
) -> dict[str, object]:
    result: dict[str, object] = {
        **asdict(extractor.labels),
        "variants": list(variants),
        "cases": len(report.cases),
        "passed": report.passed,
        "inventions": report.inventions,
        "fields": {name: score.as_dict() for name, score in report.fields.items()},
        "tags": {tag: {"passed": passed, "cases": total} for tag, (passed, total) in report.tags.items()},
        "failed": {case.id: sorted(case.wrong) for case in report.cases if not case.passed},
        "errors": errors,
    }
    if failures:
        result["failures"] = {
            case.id: {name: {"expected": expected, "given": given} for name, (expected, given) in case.wrong.items()}
            for case in report.cases
            if not case.passed
        }
    return result


def _print(
    report: EvaluationReport,
    extractor: Extractor,
    variants: Sequence[str],
    errors: dict[str, str],
    *,
    failures: bool,
) -> None:
    console = Console()
    name = " + ".join((extractor.labels.extractor, *variants))
    fields = Table(title=f"{name}: {report.passed} of {len(report.cases)} all right")
    for heading in ("field", "right", "scored", "precision", "recall", "F1", "inventions"):
        fields.add_column(heading, justify="left" if heading == "field" else "right")
    for name in FIELDS:
        score = report.fields[name]
        fields.add_row(
            name,
            str(score.right),
            str(score.scored),
            f"{score.precision:.3f}",
            f"{score.recall:.3f}",
            f"{score.f1:.3f}",
            str(score.inventions),
        )
    console.print(fields)
    tags = Table(title="by tag")
    tags.add_column("tag")
    tags.add_column("passed", justify="right")
    tags.add_column("cases", justify="right")
    for tag, (passed, total) in report.tags.items():
        tags.add_row(tag, str(passed), str(total))
    console.print(tags)
    for case in report.cases:
        if case.passed:
            continue
        console.print(f"{case.id}: wrong {', '.join(case.wrong)}", highlight=False, markup=False)
        if failures:
            for name, (expected, given) in case.wrong.items():
                console.print(f"    {name}: expected {expected!r}, given {given!r}", highlight=False, markup=False)
    for case_id, message in errors.items():
        console.print(f"{case_id}: {message}", highlight=False, markup=False, style="red")
