"""``python -m tests.chaos``: run the rows and print the table; ``make chaos`` and ``make chaos-full``.

Each row's result is kept under ``.nexus/chaos/<run>/``: an interrupted run goes on with the rows that have not passed.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

from tests.chaos.environment import BROKERS, BrokerKind, Environment, missing
from tests.chaos.report import Results, table
from tests.chaos.row import FULL, SHORT, Profile, Row
from tests.chaos.scenarios import SCENARIOS, by_name

ROOT = Path(__file__).resolve().parents[2]


def _run_broker(broker: BrokerKind, names: list[str], profile: Profile, results: Results) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    todo = [name for name in names if broker in by_name(name).brokers]
    done = {name: known for name in todo if (known := results.known(broker, name)) is not None}
    if len(done) == len(todo):
        return list(done.values())
    # Not below the checkout: the database server's own user has to reach its data.
    with tempfile.TemporaryDirectory(prefix=f"nexus-chaos-{broker}-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        with Environment(broker, Path(folder) / "services") as environment:
            for name in todo:
                if name in done:
                    rows.append(done[name])
                    continue
                print(f"{broker} {name} ...", flush=True)
                row = Row(by_name(name), profile, environment, results.folder / f"{broker}-{name}.logs")
                try:
                    result = results.save(asyncio.run(row.run()))
                except Exception:
                    traceback.print_exc()
                    rows.append({"scenario": name, "broker": broker, "passed": False, "verdict": None})
                    continue
                rows.append(result)
                print(table([result]).splitlines()[-1], f"{result['seconds']} s", flush=True)
                verdict = result["verdict"]
                for line in (
                    *verdict["problems"],
                    *verdict["timelines"],
                    *result["restarts_by_supervisor"],
                    *result["notes"],
                ):
                    print(f"    {line}", flush=True)
    return rows


def main() -> int:
    """Run what was asked for; 1 if any row did not pass."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--full", action="store_true", help="20,000 snapshots a row instead of a few hundred")
    parser.add_argument("--only", action="append", metavar="NAME", choices=[scenario.name for scenario in SCENARIOS])
    parser.add_argument("--broker", choices=BROKERS)
    parser.add_argument("--run", metavar="NAME", help="results folder; default: the unfinished run, or a new one")
    arguments = parser.parse_args()
    # Refused connections are the point.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    profile = FULL if arguments.full else SHORT
    results = Results(ROOT / ".nexus" / "chaos", profile.name, arguments.run)
    names = arguments.only or [scenario.name for scenario in SCENARIOS]
    rows: list[dict[str, Any]] = []
    brokers: list[BrokerKind] = [arguments.broker] if arguments.broker else list(BROKERS)
    for broker in brokers:
        if reason := missing(broker):
            print(f"{broker} is left out: {reason}")
            continue
        rows += _run_broker(broker, names, profile, results)
    print(f"\nResults in {results.folder}\n\n{table([row for row in rows if row['verdict'] is not None])}")
    failed = [f"{row['broker']} {row['scenario']}" for row in rows if not row["passed"]]
    if failed:
        print(f"\nFAILED: {', '.join(failed)}")
        return 1
    if not arguments.only and not arguments.broker:
        results.finish()
    return 0


if __name__ == "__main__":
    sys.exit(main())
