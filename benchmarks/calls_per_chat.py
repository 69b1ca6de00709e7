"""Paid calls for one chat, by the way in which its site posts: the real stage in memory, with a clock of its own.

    python -m benchmarks.calls_per_chat [--exchanges 6] [--think 3 12 30] [--json]

A chat of 12 turns: the user writes, the answer streams for four seconds, the user thinks. *Posts* are snapshots on the
topic, *calls* extractions that are paid, *records* those on ``prospects-enriched``. Times are simulated, so the numbers
are the same on every machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from dataclasses import asdict, dataclass

import orjson

from nexus_stream.settings import load_settings
from tests.unit.enrichment.site_patterns import PATTERNS, Post
from tests.unit.enrichment.test_stage import Bench

# Quiet time and longest wait: the default, and `nexus dev`.
SETTLING = {"default": (10.0, 60.0), "nexus dev": (2.0, 60.0)}


@dataclass(frozen=True, slots=True)
class Cost:
    """What one chat cost."""

    settling: str
    pattern: str
    think_seconds: float
    user_turns: int
    posts: int
    calls: int
    records: int


async def cost(settling: str, pattern: str, exchanges: int, think_seconds: float) -> Cost:
    """Post one chat and count."""
    settle, most = SETTLING[settling]
    bench = Bench(load_settings(environ={}, topic_partitions=1, settle_seconds=settle, max_wait_seconds=most))
    await bench.start()
    posts: list[Post] = PATTERNS[pattern](exchanges, think_seconds)
    try:
        now = 0.0
        for at, messages in posts:
            await bench.clock.advance(max(at - now, 0.001))
            now = at
            await bench.post_bytes(orjson.dumps({"messages": messages, "sessionId": "s-1"}))
        await bench.clock.advance(most + 60)
        calls, records = len(bench.extractor.calls), len(bench.enriched())
    finally:
        await bench.crash()
    return Cost(settling, pattern, think_seconds, exchanges, len(posts), calls, records)


async def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exchanges", type=int, default=6)
    parser.add_argument("--think", type=float, nargs="+", default=[3.0, 12.0, 30.0])
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    costs = [
        await cost(settling, pattern, arguments.exchanges, think)
        for settling in SETTLING
        for pattern in PATTERNS
        for think in arguments.think
    ]
    if arguments.json:
        print(json.dumps([asdict(one) for one in costs], indent=2))
        return
    print("| settling | how the site posts | user thinks, s | user turns | posts | calls | records |")
    print("|---|---|---|---|---|---|---|")
    for one in costs:
        print(
            f"| {one.settling} | {one.pattern} | {one.think_seconds:g} | {one.user_turns} | {one.posts} "
            f"| {one.calls} | {one.records} |"
        )


if __name__ == "__main__":
    asyncio.run(main())
