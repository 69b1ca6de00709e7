"""The commands that `nexus dev` prints for the user to type."""

import sys
from pathlib import Path

import pytest

from nexus_stream.embedded.terminal import typed

PROGRAM = Path(sys.executable).with_name("nexus")


@pytest.fixture
def elsewhere(tmp_path, monkeypatch) -> Path:
    """A working directory without a virtual environment."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_command_that_the_shell_finds_is_printed_by_its_name(elsewhere, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(PROGRAM.parent))
    assert typed("nexus dev reset") == "nexus dev reset"


def test_a_command_that_the_shell_does_not_find_is_printed_by_its_path(elsewhere, monkeypatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert typed("nexus demo") == f"{PROGRAM} demo"
    monkeypatch.chdir(PROGRAM.parents[1])
    assert typed("nexus demo") == "bin/nexus demo"


def test_another_program_with_the_same_name_is_not_used(elsewhere, monkeypatch) -> None:
    (elsewhere / "nexus").write_text("#!/bin/sh\n")
    (elsewhere / "nexus").chmod(0o755)
    monkeypatch.setenv("PATH", f"{elsewhere}:{PROGRAM.parent}")
    assert typed("nexus demo") == f"{PROGRAM} demo"
