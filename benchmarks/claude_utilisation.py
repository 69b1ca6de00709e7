"""The share of an account's allowance that the extractor uses, and the number of its 429 answers.

    python -m benchmarks.claude_utilisation [--short] [--workers 1 4] [--json]

The account is simulated by llmock (not our program): 1,000 requests a minute in a bucket that refills continuously,
1.5 s latency, the vendor's rate-limit headers, and over the limit a 429 with the real wait. Each worker is a process
with the production extractor and the real SDK. It knows its share but not the limit, which it learns from the first
answer. More conversations are pending than can be sent. After a failure, a worker waits as the enricher does. The used
share is counted in the server's own journal, from the first request on. Memory is each worker's resident size: after a
third of the run, and at its end.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from nexus_stream.delivery.backoff import backoff_seconds
from nexus_stream.errors import RetryableError
from nexus_stream.extraction.claude.extractor import ClaudeExtractor
from nexus_stream.extraction.extractor import Turn
from nexus_stream.host.free_ports import free_port
from nexus_stream.settings import load_settings

REQUESTS_PER_MINUTE = 1000
LATENCY_MS = 1500
FULL_SECONDS, SHORT_SECONDS = 180.0, 30.0
# The limit is not known before the first answer, and that time is a large part of a short run.
GATES = {FULL_SECONDS: 0.98, SHORT_SECONDS: 0.90}
FIRST_SECONDS = 5.0
MAX_GROWTH_MB = 8.0
ANSWER = json.dumps(
    {
        "nombre": None,
        "email": None,
        "telefono": None,
        "ocupacion": None,
        "arquetipo": None,
        "objeciones": [],
        "evidencias": [],
    }
)


@contextlib.asynccontextmanager
async def account() -> AsyncIterator[str]:
    """Run an llmock server in its own process; yields its address."""
    port = free_port()
    binary = Path(sys.executable).with_name("llmock")
    command = [str(binary), "serve", "--port", str(port), "--latency-ms", str(LATENCY_MS), "--log-level", "warning"]
    server = await asyncio.create_subprocess_exec(
        *command, "--rpm", str(REQUESTS_PER_MINUTE), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"
    try:
        async with aiohttp.ClientSession() as session:
            for _ in range(300):
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get(f"{url}/health") as answer:
                        if answer.status == 200:
                            break
                await asyncio.sleep(0.1)
            reply = {"type": "reply", "text": ANSWER, "times": None}
            async with session.post(f"{url}/_llmock/scenario", json={"behaviors": [reply]}) as answer:
                answer.raise_for_status()
        yield url
    finally:
        server.terminate()
        await asyncio.wait_for(server.wait(), 10)


async def journal(url: str) -> list[dict[str, Any]]:
    """Every request in the server's journal."""
    async with aiohttp.ClientSession() as session, session.get(f"{url}/_llmock/requests") as answer:
        requests: list[dict[str, Any]] = (await answer.json())["requests"]
        return requests


# --- a worker


def conversations(seed: int) -> Iterator[list[Turn]]:
    """Conversations of six turns, all different."""
    number = 0
    while True:
        number += 1
        yield [
            Turn(
                "user" if turn % 2 else "assistant",
                f"turno {turn} de la conversación {seed}-{number} " + "palabra " * 12,
            )
            for turn in range(6)
        ]


async def work(url: str, share: float, seconds: float, seed: int) -> dict[str, Any]:
    """Extract without a pause. Return the number done, the failures by message, and the resident sizes."""
    settings = load_settings(
        environ={"ANTHROPIC_API_KEY": "sk-bench-0000", "ANTHROPIC_BASE_URL": f"{url}/anthropic"}, claude_share=share
    )
    extractor = ClaudeExtractor(settings)
    source, failures, done = conversations(seed), Counter[str](), 0

    async def one_after_the_other() -> None:
        nonlocal done
        for turns in source:
            attempt = 0
            while True:
                attempt += 1
                try:
                    await extractor.extract(turns)
                except RetryableError as error:
                    failures[str(error).split(" (")[0]] += 1
                    await asyncio.sleep(backoff_seconds(attempt, error.retry_after_seconds, random=random.random))
                else:
                    done += 1
                    break

    # The number of pending conversations in an enricher under load. It is more than the limit of concurrent calls.
    tasks = [asyncio.create_task(one_after_the_other()) for _ in range(2 * settings.claude_concurrency)]
    process, sizes_mb = psutil.Process(), []
    for _ in range(2):
        await asyncio.sleep(seconds / 3 if not sizes_mb else seconds * 2 / 3)
        sizes_mb.append(process.memory_info().rss / 1e6)
    for task in tasks:
        task.cancel()
    for ended in await asyncio.gather(*tasks, return_exceptions=True):
        if not isinstance(ended, asyncio.CancelledError):
            raise RuntimeError("a task ended before the run did") from ended  # noqa: TRY004 - any other result
    await extractor.close()
    return {"done": done, "failures": dict(failures), "sizes_mb": sizes_mb}


# --- the run


@dataclass(frozen=True)
class Result:
    """One row of the table."""

    workers: int
    seconds: float
    used: float
    busiest_minute: int
    refused: int
    refused_late: int
    growth_mb: float
    size_mb: float

    @property
    def passed(self) -> bool:
        """Whether all gates are met."""
        return self.used >= GATES[self.seconds] and self.refused_late == 0 and self.growth_mb <= MAX_GROWTH_MB


async def measure(workers: int, seconds: float) -> Result:
    async with account() as url:
        command = [sys.executable, "-m", "benchmarks.claude_utilisation", "--as-worker", url, str(1 / workers)]
        started = [
            await asyncio.create_subprocess_exec(*command, str(seconds), str(seed), stdout=asyncio.subprocess.PIPE)
            for seed in range(workers)
        ]
        outputs = [(await process.communicate())[0] for process in started]
        reports = [json.loads(output) for output in outputs]
        seen = await journal(url)
    first = min(request["started_at"] for request in seen)
    within = [request for request in seen if request["started_at"] - first < seconds]
    # Every status except 429 was admitted, also requests that the worker cancelled at the end.
    starts = sorted(request["started_at"] for request in within if request["status"] != 429)
    refused = [request["started_at"] - first for request in within if request["status"] == 429]
    window_seconds = min(60.0, seconds)
    return Result(
        workers=workers,
        seconds=seconds,
        used=len(starts) / (REQUESTS_PER_MINUTE * seconds / 60),
        busiest_minute=_most_within(starts, window_seconds) if window_seconds == 60.0 else 0,
        refused=len(refused),
        refused_late=sum(after > FIRST_SECONDS for after in refused),
        growth_mb=max(report["sizes_mb"][1] - report["sizes_mb"][0] for report in reports),
        size_mb=max(report["sizes_mb"][1] for report in reports),
    )


def _most_within(starts: list[float], seconds: float) -> int:
    most = left = 0
    for right, start in enumerate(starts):
        while start - starts[left] >= seconds:
            left += 1
        most = max(most, right - left + 1)
    return most


def table(results: list[Result]) -> str:
    """The table in docs/reference/claude.md."""
    lines = [
        "| workers | seconds | of the allowance used | most in any minute | 429 | 429 after 5 s | worker's memory |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in results:
        busiest = str(one.busiest_minute) if one.busiest_minute else "-"
        lines.append(
            f"| {one.workers} | {one.seconds:.0f} | {one.used:.1%} | {busiest} | {one.refused} | {one.refused_late} "
            f"| {one.size_mb:.0f} MB, {one.growth_mb:+.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help=f"{SHORT_SECONDS:.0f} s instead of {FULL_SECONDS:.0f}")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--as-worker", nargs=4, metavar=("URL", "SHARE", "SECONDS", "SEED"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.as_worker:
        url, share, seconds, seed = arguments.as_worker
        print(json.dumps(asyncio.run(work(url, float(share), float(seconds), int(seed)))))
        return
    seconds = SHORT_SECONDS if arguments.short else FULL_SECONDS
    started = time.strftime("%Y-%m-%d")
    results = [asyncio.run(measure(workers, seconds)) for workers in arguments.workers]
    if arguments.json:
        print(json.dumps([{**vars(one), "passed": one.passed} for one in results]))
    else:
        print(f"{started}, {REQUESTS_PER_MINUTE} requests a minute allowed, {LATENCY_MS / 1000} s latency\n")
        print(table(results))
    sys.exit(0 if all(one.passed for one in results) else 1)


if __name__ == "__main__":
    main()
