"""docs/reference/errors.md has an entry for every reason, exception and exit code."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from nexus_stream import errors
from nexus_stream.errors import NexusError, Reason
from nexus_stream.gateway.record import MESSAGES_REQUIRED, SESSION_REQUIRED

CATALOGUE = (Path(__file__).resolve().parents[3] / "docs" / "reference" / "errors.md").read_text(encoding="utf-8")
CLASSES = sorted(
    (value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, NexusError)),
    key=lambda value: value.__name__,
)


def section(heading: str) -> str:
    _, _, rest = CATALOGUE.partition(f"\n## {heading}\n")
    assert rest, f"no section {heading}"
    return rest.partition("\n## ")[0]


def entries(heading: str) -> dict[str, list[str]]:
    """First cell of each row, without code marks -> the other cells."""
    rows = re.findall(r"^\| `?([^|`]+?)`? \|(.+)\|$", section(heading), re.MULTILINE)
    return {first: [cell.strip() for cell in re.split(r"(?<!\\)\|", rest)] for first, rest in rows}


@pytest.mark.parametrize("reason", Reason)
def test_every_dead_letter_reason_has_its_cause_and_its_fix(reason: Reason) -> None:
    source, cause, fix = entries("Dead-letter reasons")[reason.value]
    assert source
    assert cause
    assert fix


def test_every_listed_reason_exists() -> None:
    listed = {code for code in entries("Dead-letter reasons") if code not in {"code", "---"}}
    assert listed == {reason.value for reason in Reason}


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_every_exception_has_its_case_and_its_advice(error: type[NexusError]) -> None:
    when, advice = entries("Exceptions")[error.__name__]
    assert when
    assert advice


def test_every_listed_exception_exists() -> None:
    listed = {name for name in entries("Exceptions") if name not in {"class", "---"}}
    assert listed == {error.__name__ for error in CLASSES}


@pytest.mark.parametrize("text", [MESSAGES_REQUIRED, SESSION_REQUIRED])
def test_the_gateways_error_texts_are_quoted(text: str) -> None:
    assert f"`{text}`" in section("HTTP answers of the gateway")


@pytest.mark.parametrize("code", ["0", "1", "2", "78"])
def test_every_exit_code_is_explained(code: str) -> None:
    assert entries("Exit codes")[code]
