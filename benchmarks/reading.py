"""CPU time of the offline rules for one chat, also against another checkout in the same run.

    python -m benchmarks.reading [--against DIRECTORY] [--rounds 5]

Chats of six user turns, joined from the labelled conversations. Reading is what the enricher does with them: find, and
check. Each round measures the checkouts one after the other, each in a process of its own; the fastest round counts.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from nexus_stream.extraction.extractor import Turn
from nexus_stream.extraction.grounding import check
from nexus_stream.extraction.rules.extractor import find

ROOT = Path(__file__).parents[1]
FILES = ("conversations", "varied")
USER_TURNS = 6


def chats() -> list[list[Turn]]:
    """Neighbouring conversations, joined to chats of six user turns."""
    joined: list[list[Turn]] = []
    turns: list[Turn] = []
    for name in FILES:
        path = ROOT / "tests" / "unit" / "extraction" / "cases" / f"{name}.jsonl"
        for line in path.read_text(encoding="utf-8").splitlines():
            turns += [Turn(one["role"], one["content"]) for one in json.loads(line)["messages"]]
            if sum(turn.role == "user" for turn in turns) >= USER_TURNS:
                joined.append(turns)
                turns = []
    return joined


def measured() -> dict[str, float]:
    """Milliseconds of CPU time a chat: to find, and to find and check."""
    all_chats = chats()
    for turns in all_chats:
        find(turns, default_region="CO")
    started = time.process_time()
    found = [find(turns, default_region="CO") for turns in all_chats]
    found_at = time.process_time()
    for findings, turns in zip(found, all_chats, strict=True):
        check(findings, turns, default_region="CO")
    ended = time.process_time()
    scale = 1000 / len(all_chats)
    return {"find": (found_at - started) * scale, "read": (ended - started) * scale}


def _in(directory: Path) -> dict[str, float]:
    environ = os.environ | {"PYTHONPATH": str(directory)}
    command = [sys.executable, __file__, "--once"]
    result = subprocess.run(command, env=environ, cwd=directory, capture_output=True, text=True, check=True)
    return {name: float(value) for name, value in json.loads(result.stdout).items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", type=Path, help="another checkout of this project")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.once:
        print(json.dumps(measured()))
        return
    checkouts = [ROOT] if arguments.against is None else [ROOT, arguments.against.resolve()]
    rounds = [[_in(checkout) for checkout in checkouts] for _ in range(arguments.rounds)]
    fastest = [
        {name: min(one[place][name] for one in rounds) for name in ("find", "read")} for place in range(len(checkouts))
    ]
    print(f"{'checkout':<32}{'find, ms':>10}{'find and check, ms':>20}")
    for checkout, times in zip(checkouts, fastest, strict=True):
        print(f"{str(checkout)[-31:]:<32}{times['find']:>10.3f}{times['read']:>20.3f}")
    if len(fastest) > 1:
        ratios = {name: fastest[0][name] / fastest[1][name] for name in ("find", "read")}
        print(f"{'ratio':<32}{ratios['find']:>10.2f}{ratios['read']:>20.2f}")


if __name__ == "__main__":
    main()
