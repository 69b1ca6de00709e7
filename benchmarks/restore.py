"""The start of a worker with many known sessions: from the changelog alone, and from its own files.

    python -m benchmarks.restore [--sessions 1000000] [--json]

Writes a changelog like the enricher (one state per session, on the partition of its key), then starts one enricher
three times: with an empty data directory, after SIGTERM, and after ``kill -9``. The time from the changelog counts from
the assignment of partitions to ``/ready``. The time from files counts from the start of the process to ``/ready``. The
start after ``kill -9`` includes the group's wait for the dead member: at most NEXUS_KAFKA_SESSION_TIMEOUT_SECONDS,
here 6.

Memory is the resident set when ready, and its peak until then. After the first stop, the stored sessions are counted in
the files. Calibration: a bare aiokafka consumer that reads the same changelog and stores nothing. Apache Kafka only:
the embedded broker holds everything in memory.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rocksdict
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.partitioner import murmur2

from nexus_stream.contracts.prospect import ExtractionFacts, Momento, Objecion, Prospect, Signal, SignalName
from nexus_stream.kafka.clients import client_options
from nexus_stream.kafka.topics import apply_topics
from tables.session_state import Counters, SessionState, encode_state
from tests.kafka.launcher import KafkaCluster
from tests.stack import Stack, StackProcess

GOAL_SESSIONS_A_SECOND = 8_000
GOAL_RESTART_SECONDS = 20
GOAL_MEMORY_MB = 600
READY_TIMEOUT_SECONDS = 300.0
TURNS = 6
_BATCH_BYTES = 512 * 1024
_BATCHES_IN_FLIGHT = 16
_POLL_SECONDS = 0.05


def state_of(number: int) -> tuple[bytes, bytes]:
    """Key and value of one known session with six turns and all fields, about 1.3 KB."""
    noise = random.Random(number)  # noqa: S311 - repeatable
    session_id = f"{noise.getrandbits(128):032x}"
    hashes = tuple(f"{noise.getrandbits(64):016x}" for _ in range(TURNS))
    state = SessionState.model_construct(
        session_id=session_id,
        fingerprints=(f"{noise.getrandbits(128):032x}",),
        chain=hashes,
        turns=TURNS,
        digest=f"{noise.getrandbits(256):064x}",
        snapshot_at_ms=1_790_000_000_000 + number,
        source_partition=number % 6,
        source_offset=number,
        correlation_id=f"{noise.getrandbits(80):020x}",
        enqueued_at="2026-11-24T10:00:00.000Z",
        first_url="https://example.com/productos?utm_source=example",
        prospect=Prospect.model_construct(
            nombre=f"Ana Ruiz {number:x}",
            email=f"person{number}@example.com",
            telefono=f"+141555501{number % 100:02}",
            ocupacion="ingeniera de software",
            nivel_interes=8.5,
            objeciones=(Objecion.PRICE, Objecion.TIME),
            momento_optimo=Momento.CALIENTE,
        ),
        extraction=ExtractionFacts.model_construct(
            extractor="claude",
            model="claude-haiku-5-5",
            prompt_version="v1",
            signals=tuple(
                Signal.model_construct(name=name, turn=turn, start=4, end=24) for turn, name in enumerate(SIGNALS)
            ),
            input_tokens=812,
            output_tokens=96,
            cache_read_tokens=640,
            cost_usd=0.00041,
            latency_ms=1480,
        ),
        enriched_at="2026-11-24T10:00:12.345+00:00",
        counters=Counters.model_construct(snapshots=3, calls=1, input_tokens=812, output_tokens=96, cost_usd=0.00041),
        first_seen_ms=1_790_000_000_000,
        last_seen_ms=1_790_000_012_345,
    )
    return session_id.encode(), encode_state(state)


SIGNALS = (SignalName.NOMBRE, SignalName.EMAIL, SignalName.TELEFONO, SignalName.INTENCION, SignalName.OCUPACION)


def states(count: int) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of many sessions, derived from one session because that is fast."""
    key, value = state_of(0)
    digest = json.loads(value)["digest"].encode()
    email = b"person0@example.com"
    for number in range(count):
        fresh = hashlib.sha256(number.to_bytes(8, "big")).hexdigest().encode()
        own_key = fresh[:32]
        yield (
            own_key,
            value.replace(key, own_key).replace(digest, fresh).replace(email, b"person%d@example.com" % number),
        )


async def write_changelog(stack: Stack, sessions: int) -> int:
    """Write the states. Return their size in bytes."""
    topic = stack.settings.sessions_changelog_topic
    partitions = stack.settings.topic_partitions
    producer = AIOKafkaProducer(**client_options(stack.settings), acks="all", max_batch_size=_BATCH_BYTES)
    await producer.start()
    total = 0
    try:
        batches = {number: producer.create_batch() for number in range(partitions)}
        in_flight: set[asyncio.Future[Any]] = set()

        async def send(partition: int) -> None:
            in_flight.add(await producer.send_batch(batches[partition], topic, partition=partition))
            batches[partition] = producer.create_batch()
            if len(in_flight) >= _BATCHES_IN_FLIGHT:
                done, _ = await asyncio.wait(in_flight, return_when=asyncio.FIRST_COMPLETED)
                in_flight.difference_update(done)
                for one in done:
                    one.result()

        for key, value in states(sessions):
            partition = (murmur2(key) & 0x7FFFFFFF) % partitions
            if batches[partition].append(key=key, value=value, timestamp=None) is None:
                await send(partition)
                assert batches[partition].append(key=key, value=value, timestamp=None) is not None
            total += len(key) + len(value)
        for partition in range(partitions):
            if batches[partition].record_count():
                await send(partition)
        await asyncio.gather(*in_flight)
    finally:
        await producer.stop()
    return total


async def bare_rate(stack: Stack, sessions: int) -> float:
    """Records per second of a consumer that only reads."""
    topic = stack.settings.sessions_changelog_topic
    consumer = AIOKafkaConsumer(
        **client_options(stack.settings), enable_auto_commit=False, auto_offset_reset="earliest", max_poll_records=5000
    )
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, number) for number in range(stack.settings.topic_partitions)])
        started = time.monotonic()
        read = 0
        while read < sessions:
            batches = await asyncio.wait_for(consumer.getmany(timeout_ms=1000), 60)
            read += sum(map(len, batches.values()))
        return read / (time.monotonic() - started)
    finally:
        await consumer.stop()


@dataclass
class Start:
    """One start of the worker.

    Attributes:
        to_ready: Seconds from the process's start to ``/ready``.
        to_assigned: Seconds from the process's start to its assignment of partitions.
        memory_mb: Resident memory when ready.
        peak_mb: Peak of the resident memory until then.
    """

    how: str
    to_ready: float
    to_assigned: float
    memory_mb: float
    peak_mb: float

    @property
    def recovery(self) -> float:
        """Seconds from the assignment to ``/ready``."""
        return self.to_ready - self.to_assigned


def _ready_reason(process: StackProcess) -> str | None:
    """The reason why the worker is not ready; None if it is ready."""
    assert process.process.poll() is None, f"the worker ended:\n{process.log.read_text()[-3000:]}"
    try:
        with urllib.request.urlopen(f"{process.url}/ready", timeout=5) as answer:  # noqa: S310 - loopback
            return json.loads(answer.read())["reason"]
    except urllib.error.HTTPError as error:
        return str(json.loads(error.read())["reason"])
    except OSError:
        return "not serving yet"


def _memory_mb(pid: int) -> tuple[float, float]:
    """(resident, peak) memory of a process."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return tuple(int(fields[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))  # type: ignore[return-value]


def start(stack: Stack, how: str) -> Start:
    """Start the worker and wait until it is ready."""
    started = time.monotonic()
    process = stack.start("enricher")
    assigned: float | None = None
    while (reason := _ready_reason(process)) is not None:
        if assigned is None and reason == "recovering the table":
            assigned = time.monotonic() - started
        assert time.monotonic() - started < READY_TIMEOUT_SECONDS, f"not ready: {reason}"
        time.sleep(_POLL_SECONDS)
    ready = time.monotonic() - started
    resident, peak = _memory_mb(process.process.pid)
    result = Start(how, ready, ready if assigned is None else assigned, resident, peak)
    print(
        f"{how}: ready after {result.to_ready:.1f} s, of which {result.recovery:.1f} s of recovery; "
        f"{resident:.0f} MB resident, peak {peak:.0f} MB",
        flush=True,
    )
    return result


def stored_sessions(stack: Stack) -> int:
    """Count the sessions in the files. The worker must not run."""
    count = 0
    for path in sorted((stack.folder / "data").rglob("*.db/CURRENT")):
        options = rocksdict.Options(raw_mode=True)
        database = rocksdict.Rdict(str(path.parent), options=options, access_type=rocksdict.AccessType.read_only())
        count += sum(1 for key in database.keys() if not key.startswith(b"__faust\0"))  # noqa: SIM118 - no mapping
        database.close()
    return count


def run(sessions: int) -> dict[str, Any]:
    """Run all starts on one broker."""
    with ExitStack() as cleanup:
        folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="nexus-restore-")))
        folder.chmod(0o755)
        broker = cleanup.enter_context(KafkaCluster.start(data_dir=folder / "kafka"))
        stack = Stack(
            folder,
            broker.bootstrap_servers,
            "postgresql://unused@127.0.0.1:1/none",
            NEXUS_ENRICHER_APP_ID="restore",
            NEXUS_TOPIC_PARTITIONS="6",
            NEXUS_EXTRACTOR="none",
            NEXUS_TABLE_STORE="rocksdb",
        )
        cleanup.callback(stack.stop_all)
        asyncio.run(apply_topics(stack.settings))
        began = time.monotonic()
        size = asyncio.run(write_changelog(stack, sessions))
        print(
            f"changelog of {sessions:,} sessions, {size / sessions:.0f} bytes each, written in "
            f"{time.monotonic() - began:.0f} s",
            flush=True,
        )
        bare = asyncio.run(bare_rate(stack, sessions))
        print(f"calibration: a bare consumer reads it at {bare:,.0f}/s", flush=True)
        starts = [start(stack, "empty directory")]
        stack.processes["enricher"].stop()
        stored = stored_sessions(stack)
        starts.append(start(stack, "own files after SIGTERM"))
        stack.processes["enricher"].kill()
        starts.append(start(stack, "own files after kill -9"))
        stack.processes["enricher"].stop()
    restored = starts[0]
    rate = sessions / max(restored.recovery, 0.001)
    return {
        "sessions": sessions,
        "stored": stored,
        "bytes_a_session": size / sessions,
        "bare_consumer_a_second": bare,
        "restored_a_second": rate,
        "ratio_to_bare_consumer": rate / bare,
        "starts": [
            {"how": each.how, "to_ready": each.to_ready, "recovery": each.recovery}
            | {"memory_mb": each.memory_mb, "peak_mb": each.peak_mb}
            for each in starts
        ],
        "met": {
            f"all sessions restored ({stored:,})": stored == sessions,
            f"from the changelog {rate:,.0f}/s, goal {GOAL_SESSIONS_A_SECOND:,}/s": rate >= GOAL_SESSIONS_A_SECOND,
            f"restart goal {GOAL_RESTART_SECONDS} s": all(s.to_ready < GOAL_RESTART_SECONDS for s in starts[1:]),
            f"memory goal {GOAL_MEMORY_MB} MB": all(s.peak_mb < GOAL_MEMORY_MB for s in starts),
        },
    }


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=1_000_000)
    parser.add_argument("--broker", choices=["kafka"], default="kafka")
    parser.add_argument("--json", action="store_true", help="print the result as JSON at the end")
    arguments = parser.parse_args()
    result = run(arguments.sessions)
    print("\n| start | s until ready | of it recovery | MB resident | MB peak |\n| --- | --- | --- | --- | --- |")
    for each in result["starts"]:
        print(
            f"| {each['how']} | {each['to_ready']:.1f} | {each['recovery']:.1f} | {each['memory_mb']:.0f} "
            f"| {each['peak_mb']:.0f} |"
        )
    print(
        f"\n{result['restored_a_second']:,.0f} sessions/s from the changelog, "
        f"{result['ratio_to_bare_consumer']:.2f} of the bare consumer's {result['bare_consumer_a_second']:,.0f}/s"
    )
    for what, met in result["met"].items():
        print(f"{'met    ' if met else 'MISSED '}{what}")
    if arguments.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
