"""`make test`: run lint, types, then every test tier that can run here. Print a result line for each at the end.

``make test ARGS="tests/unit -k ledger"`` passes arguments to pytest. With ``NEXUS_REQUIRE=kafka,node`` tests of a
missing optional part fail instead of being skipped.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# The fastest tier is first.
TIERS = ("tests/unit", "tests/integration", "tests/acceptance", "tests/chaos", "tests/browser")


def step(name: str, command: list[str]) -> tuple[str, int, float]:
    """Run one command and return its name, exit code and seconds."""
    print(f"\n== {name}", flush=True)
    started = time.monotonic()
    code = subprocess.run(command, cwd=ROOT, check=False).returncode
    return name, code, time.monotonic() - started


def main() -> int:
    """Run all steps, even after a failure, and return 1 if any step failed."""
    arguments = sys.argv[1:]
    python = sys.executable
    results = []
    if not arguments:
        results += [
            step("lint", [python, "-m", "ruff", "check", "."]),
            step("format", [python, "-m", "ruff", "format", "--check", "."]),
            step("types", [python, "-m", "mypy"]),
        ]
    tiers = [tier for tier in TIERS if any((ROOT / tier).rglob("test_*.py"))]
    results.append(step("tests", [python, "-m", "pytest", *(arguments or tiers)]))
    print()
    for name, code, seconds in results:
        print(f"{'ok    ' if code == 0 else 'FAILED'} {name} ({seconds:.0f} s)")
    return int(any(code != 0 for _, code, _ in results))


if __name__ == "__main__":
    sys.exit(main())
