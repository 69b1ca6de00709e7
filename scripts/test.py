"""`make test`: lint, types, then every test tier that can run here; a line at the end for each.

``make test ARGS="tests/unit -k ledger"`` hands pytest its arguments. With ``NEXUS_REQUIRE=kafka,node`` a missing
optional part fails instead of being skipped.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# In the order of how soon each tells something.
TIERS = ("tests/unit", "tests/integration", "tests/acceptance", "tests/chaos", "tests/browser")


def step(name: str, command: list[str]) -> tuple[str, int, float]:
    """Run one command and return its name, exit code and seconds."""
    print(f"\n== {name}", flush=True)
    started = time.monotonic()
    code = subprocess.run(command, cwd=ROOT, check=False).returncode
    return name, code, time.monotonic() - started


def main() -> int:
    """Run all steps, also after one failed, and return 1 if any did."""
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
