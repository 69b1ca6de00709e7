"""The cost of metrics and logs for one enricher worker: with and without them, alternating, in one run on one broker.

    python -m benchmarks.overhead [--messages 20000] [--pairs 4] [--broker kafka|embedded] [--json]

*On* is the real product: every record is counted, timed and logged as a JSON line to a file, and ``/metrics`` is
scraped every two seconds. *Off* is the same worker from benchmarks/overhead_off.py, which removes those parts, and is
not scraped. Nothing is extracted and nothing settles, so only the worker's own cost remains, and the share of metrics
and logs is at its maximum. The order changes from pair to pair, and each pair has its own ratio. A shared machine
disturbs the throughput, so the CPU time per record is printed too: of the worker alone, with all its threads.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.stream import WARM_UP_FRACTION, fill, output_times, rate
from nexus_stream.embedded.broker import EmbeddedBroker
from nexus_stream.embedded.procfile import ProcessType
from nexus_stream.kafka.topics import apply_topics
from tests.kafka.launcher import KafkaCluster, available
from tests.stack import Stack, StackProcess

ROOT = Path(__file__).parents[1]
PARTITIONS = 4
SCRAPE_SECONDS = 2.0
CPU_SAMPLE_SECONDS = 0.02
ALLOWED = 0.05


@dataclass(frozen=True, slots=True)
class Measured:
    """The result of one worker on one topic."""

    records_per_second: float
    cpu_ms_per_record: float


class _Without(Stack):
    """A stack whose enricher has no metrics and no outcome logs."""

    def __init__(self, folder: Path, bootstrap_servers: str, dsn: str, **variables: str) -> None:
        super().__init__(folder, bootstrap_servers, dsn, **variables)
        self._procfile["enricher"] = ProcessType("enricher", "faust -A benchmarks.overhead_off worker")


async def _scrape(process: StackProcess) -> None:
    def get() -> int:
        with urllib.request.urlopen(f"{process.url}/metrics", timeout=10) as answer:  # noqa: S310 - loopback
            return len(answer.read())

    while True:
        with contextlib.suppress(OSError):
            await asyncio.to_thread(get)
        await asyncio.sleep(SCRAPE_SECONDS)


async def measure(name: str, bootstrap_servers: str, folder: Path, messages: int, *, on: bool) -> Measured:
    """Fill new topics, and let one worker process them."""
    make = Stack if on else _Without
    stack = make(
        folder,
        bootstrap_servers,
        "postgresql://unused@127.0.0.1:1/none",
        NEXUS_TOPIC_PREFIX=f"{name}-",
        NEXUS_ENRICHER_APP_ID=f"overhead-{name}",
        NEXUS_TOPIC_PARTITIONS=str(PARTITIONS),
        NEXUS_EXTRACTOR="none",
        NEXUS_SETTLE_SECONDS="0",
        NEXUS_MAX_WAIT_SECONDS="0",
        NEXUS_BATCH_MAX_WAIT_SECONDS="0",
        NEXUS_LOG_LEVEL="INFO",
        NEXUS_LOG_FORMAT="json",
        NEXUS_LOG_OUTCOMES="all",
    )
    await apply_topics(stack.settings)
    await fill(stack, messages)
    process = stack.start("enricher", f"enricher-{name}", PYTHONPATH=str(ROOT))
    used: list[tuple[float, float]] = []
    beside = [asyncio.create_task(_watch_cpu(process, used))]
    if on:
        beside.append(asyncio.create_task(_scrape(process)))
    try:
        times = await asyncio.wait_for(output_times(stack, stack.settings.enriched_topic, messages), 600)
    finally:
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        process.stop()
    _require_as_meant(process.log, messages, on=on)
    return Measured(rate(times), _cpu_ms_per_record(used, times))


async def _watch_cpu(process: StackProcess, used: list[tuple[float, float]]) -> None:
    """Sample (Unix milliseconds, CPU milliseconds so far) of the worker."""
    worker = psutil.Process(process.process.pid)
    while True:
        now = worker.cpu_times()
        used.append((time.time() * 1000, (now.user + now.system) * 1000))
        await asyncio.sleep(CPU_SAMPLE_SECONDS)


def _cpu_ms_per_record(used: list[tuple[float, float]], times: list[int]) -> float:
    """CPU time per record from the first 10 % of the records to the last, like the throughput: without the start."""
    first = int(len(times) * WARM_UP_FRACTION)

    def at(moment_ms: float) -> float:
        return next((cpu_ms for time_ms, cpu_ms in used if time_ms >= moment_ms), used[-1][1])

    return (at(times[-1]) - at(times[first])) / (len(times) - 1 - first)


def _require_as_meant(log: Path, messages: int, *, on: bool) -> None:
    """Check that the two workers really differ: one logs a line for every record, the other logs none."""
    lines = log.read_text().count('"record done"')
    wanted = messages if on else 0
    if lines != wanted:
        raise RuntimeError(f"{log.name} has lines for {lines} records, expected {wanted}")


def run(messages: int, pairs: int, kind: str) -> dict[str, Any]:
    """Run all pairs on one broker; the first pair is a warm-up and is not counted."""
    with ExitStack() as cleanup:
        folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="nexus-overhead-")))
        folder.chmod(0o755)
        if kind == "kafka":
            broker: Any = cleanup.enter_context(KafkaCluster.start(data_dir=folder / "kafka"))
        else:
            broker = cleanup.enter_context(EmbeddedBroker.start(log_path=folder / "broker.log"))
        results = []
        heads = ("on/s", "off/s", "ratio", "on ms CPU", "off ms CPU", "ratio")
        print("pair  " + "  ".join(f"{head:>{width}}" for head, width in zip(heads, (8, 8, 6, 10, 10, 6), strict=True)))
        for number in range(pairs + 1):
            count = messages // 4 if number == 0 else messages
            measured: dict[bool, Measured] = {}
            for on in (True, False) if number % 2 else (False, True):
                name = f"{'on' if on else 'off'}-{number}"
                measured[on] = asyncio.run(measure(name, broker.bootstrap_servers, folder, count, on=on))
            pair = {"on": asdict(measured[True]), "off": asdict(measured[False]), **_ratios(measured)}
            print(
                f"{number if number else 'warm':>4}  {measured[True].records_per_second:>8,.0f}  "
                f"{measured[False].records_per_second:>8,.0f}  {pair['throughput_ratio']:>6.3f}  "
                f"{measured[True].cpu_ms_per_record:>10.3f}  {measured[False].cpu_ms_per_record:>10.3f}  "
                f"{pair['cpu_ratio']:>6.3f}",
                flush=True,
            )
            results.append(pair)
    return {"broker": kind, "messages": messages, "pairs": results[1:], "allowed": ALLOWED, **_summary(results[1:])}


def _ratios(measured: dict[bool, Measured]) -> dict[str, float]:
    return {
        "throughput_ratio": measured[True].records_per_second / measured[False].records_per_second,
        "cpu_ratio": measured[True].cpu_ms_per_record / measured[False].cpu_ms_per_record,
    }


def _summary(pairs: list[dict[str, Any]]) -> dict[str, Any]:
    throughput = [pair["throughput_ratio"] for pair in pairs]
    cpu = [pair["cpu_ratio"] for pair in pairs]
    return {
        "throughput_ratio": statistics.median(throughput),
        "throughput_spread": [min(throughput), max(throughput)],
        "cpu_ratio": statistics.median(cpu),
        "cpu_spread": [min(cpu), max(cpu)],
    }


def within(result: dict[str, Any]) -> bool:
    """Whether the medians are within the allowed limits."""
    return bool(result["throughput_ratio"] >= 1 - ALLOWED and result["cpu_ratio"] <= 1 + ALLOWED)


def main() -> int:
    """Run the command line. Return 1 if the median of throughput or CPU is outside its limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--broker", choices=["kafka", "embedded"], default="embedded" if available() else "kafka")
    parser.add_argument("--json", action="store_true", help="print the result as JSON at the end")
    arguments = parser.parse_args()
    result = run(arguments.messages, arguments.pairs, arguments.broker)
    (low, high), (cpu_low, cpu_high) = result["throughput_spread"], result["cpu_spread"]
    print(
        f"\nmetrics and logs: throughput {result['throughput_ratio']:.3f} of without (from {low:.3f} to {high:.3f}), "
        f"CPU a record {result['cpu_ratio']:.3f} times (from {cpu_low:.3f} to {cpu_high:.3f}); "
        f"allowed {1 - ALLOWED:.2f} and {1 + ALLOWED:.2f} of the medians; worst pair {1 - low:.1%} of the throughput, "
        f"{cpu_high - 1:.1%} of CPU"
    )
    if arguments.json:
        print(json.dumps(result))
    return 0 if within(result) else 1


if __name__ == "__main__":
    sys.exit(main())
