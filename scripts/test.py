"""`make test`: lint, types, then every test tier that can run here; a line at the end for each, with its seconds.

Two lanes run at once. One holds the steps that compute, the other the tiers that mostly wait: for group joins,
restarts and outages. Each line of output names its step. Inside a tier, pytest-xdist runs modules side by side;
tests/conftest.py says which belong together.

``make test ARGS="tests/unit -k ledger"`` hands pytest its arguments. A folder alone runs side by side too. With
``NEXUS_REQUIRE=kafka,node`` a missing optional part fails instead of being skipped.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CORES = os.cpu_count() or 2
# How many modules of a tier run at once. A chaos row uses a third of a core, a browser test shares one browser.
WORKERS = {
    "tests/unit": max(2, CORES),
    "tests/integration": CORES + 1,
    "tests/acceptance": CORES + 1,
    "tests/chaos": 4,
    "tests/browser": 1,
}
COMPUTING = ("lint", "format", "types", "tests/unit", "tests/integration", "tests/browser")
WAITING = ("tests/chaos", "tests/acceptance")
_CHECKS = {"lint": ("ruff", "check", "."), "format": ("ruff", "format", "--check", "."), "types": ("mypy",)}
# pytest's closing line: "==== 4718 passed, 2 skipped in 61.20s (0:01:01) ====".
_CLOSING = re.compile(r"=* ?(\d+ .+?) in [\d.]+s\b")

# pytest's short summary: "FAILED tests/unit/test_ledger.py::test_order - assert 1 == 2".
_FAILURE = re.compile(r"(FAILED|ERROR) \S+::")
_FAILURE_CHARS = 500


@dataclass
class Step:
    """One command, and what came of it."""

    name: str
    command: list[str]
    code: int = 0
    seconds: float = 0.0
    result: str = field(default="")
    # pytest's short summary of what failed, a line a test.
    failures: list[str] = field(default_factory=list)

    def run(self, environ: dict[str, str]) -> None:
        """Run it and print its output line by line, each with the step's name."""
        started = time.monotonic()
        with subprocess.Popen(
            self.command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            for line in process.stdout or ():
                print(f"{self.name:17} | {line}", end="", flush=True)
                if closing := _CLOSING.match(line):
                    self.result = closing[1]
                elif _FAILURE.match(line):
                    self.failures.append(line[:_FAILURE_CHARS].rstrip())
        self.code = process.returncode
        self.seconds = time.monotonic() - started
        print(f"{self.name:17} | {self}", flush=True)

    def __str__(self) -> str:
        word = "ok    " if self.code == 0 else "FAILED"
        return f"{word} {self.name:17} {self.seconds:5.0f} s  {self.result}".rstrip()


def side_by_side(tier: str) -> list[str]:
    """The options of pytest that run a tier's modules at once."""
    workers = WORKERS[tier]
    return ["-n", str(workers)] if workers > 1 else []


def pytest_step(*arguments: str) -> Step:
    """A step that hands pytest these arguments; folders alone run side by side."""
    folders = [Path(argument) for argument in arguments]
    tiers = {"/".join(folder.parts[:2]) for folder in folders if (ROOT / folder).is_dir()} & WORKERS.keys()
    options = [] if len(tiers) != len(arguments) else side_by_side(max(tiers, key=WORKERS.__getitem__))
    name = arguments[0] if len(arguments) == 1 else "tests"
    return Step(name, [sys.executable, "-m", "pytest", *options, *arguments])


def steps(names: tuple[str, ...]) -> list[Step]:
    """The steps of a lane."""
    return [
        Step(name, [sys.executable, "-m", *_CHECKS[name]]) if name in _CHECKS else pytest_step(name) for name in names
    ]


def total(results: list[str]) -> str:
    """The sum of pytest's closing lines: ``5 passed, 0 failed, 2 skipped``. An error counts as a failure."""
    counts: Counter[str] = Counter()
    for number, word in re.findall(r"(\d+) (\w+)", " ".join(results)):
        counts["failed" if word.startswith("error") else word] += int(number)
    return ", ".join(f"{counts[word]} {word}" for word in ("passed", "failed", "skipped"))


def main() -> int:
    """Run all steps, even after a failure, and return 1 if any step failed."""
    arguments = sys.argv[1:]
    # Each test starts processes of the product. Without compiled files each start compiles the product again: 1.5 s.
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    if arguments:
        return subprocess.run(pytest_step(*arguments).command, cwd=ROOT, env=environ, check=False).returncode
    started = time.monotonic()
    lanes = [steps(COMPUTING), steps(WAITING)]

    def work(lane: list[Step]) -> None:
        for step in lane:
            step.run(environ)

    threads = [threading.Thread(target=work, args=(lane,)) for lane in lanes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print()
    # Last, so that a reader of the log's end sees which tests failed, and why.
    all_steps = [step for lane in lanes for step in lane]
    for failure in (line for step in all_steps for line in step.failures):
        print(failure)
    for step in all_steps:
        print(step)
    print(f"{time.monotonic() - started:.0f} s in all")
    print(total([step.result for step in all_steps]))
    return int(any(step.code != 0 for step in all_steps))


if __name__ == "__main__":
    sys.exit(main())
