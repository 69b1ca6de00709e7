"""The commands, options, settings and make targets in the documents exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
import pytest

from nexus_stream.cli import _nexus
from nexus_stream.settings import _variables

COMMAND = re.compile(r"(?:^|[\s(])nexus ((?:[a-z][a-z|-]*|--?[a-z-]+)(?: [^\s]+)*)")
VARIABLE = re.compile(r"\bNEXUS_[A-Z0-9_]*[A-Z0-9]\b(?!_?…)")
# A variable of the tests, not a setting.
TEST_VARIABLES = {"NEXUS_REQUIRE"}


def problem_of(words: list[str]) -> str | None:
    """Return the problem of a `nexus` command line, or None if it is right or no command line."""
    command: click.Command = _nexus
    for position, word in enumerate(words):
        if not isinstance(command, click.Group) or word.startswith("-"):
            break
        context = click.Context(command)
        if not re.fullmatch(r"[a-z][a-z-]*(\|[a-z-]+)*", word):
            return None
        for name in word.split("|"):
            if command.get_command(context, name) is None:
                # After a group that runs without a subcommand, and in prose, a word is no subcommand.
                return None if command.invoke_without_command else f"no such command: nexus {' '.join(words)}"
        if "|" in word:
            return None
        command = command.get_command(context, word) or command
        rest = words[position + 1 :]
        if not isinstance(command, click.Group):
            known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
            for option in rest:
                if option.startswith("#"):
                    break
                if option.startswith("--") and option.partition("=")[0].rstrip(",;.:") not in known:
                    return f"no such option: nexus {' '.join(words)}"
            return None
    return None


def test_every_nexus_command_exists(page: Any) -> None:
    problems = [
        problem
        for line in page.code()
        for match in COMMAND.finditer(line.removeprefix("$ "))
        if (problem := problem_of(match[1].split())) is not None
    ]
    assert problems == []


@pytest.mark.parametrize(
    ("line", "is_right"),
    [
        ("topics plan", True),
        ("topics plan|apply|check", True),
        ("topics", True),
        ("dlq redrive --reason row_rejected --since 1d", True),
        ("topics delete", False),
        ("topics plan|remove", False),
        ("ingest", False),
        ("dlq redrive --all", False),
        ("migrate --plan   # what the database needs", True),
    ],
)
def test_an_unknown_command_or_option_is_found(line: str, is_right: bool) -> None:
    assert (problem_of(line.split()) is None) is is_right


def test_every_named_setting_exists(page: Any) -> None:
    names = {name for line in page.code() for name in VARIABLE.findall(line)}
    prefixes = {name for name in names if any(variable.startswith(f"{name}_") for variable in _variables())}
    unknown = names - set(_variables()) - TEST_VARIABLES - prefixes
    assert unknown == set()


def test_every_named_make_target_exists(page: Any, root: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (root / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {match[1] for line in page.code() if (match := re.match(r"(?:[A-Z_]+=\S+ )*make ([a-z-]+)", line))}
    assert named - targets == set()


def test_a_setting_is_recognised_as_one() -> None:
    found = VARIABLE.findall("NEXUS_SETTLE_SECOND=2 NEXUS_KAFKA_… NEXUS_CLAUDE_MODEL")
    assert found == ["NEXUS_SETTLE_SECOND", "NEXUS_CLAUDE_MODEL"]
