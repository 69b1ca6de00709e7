"""The throughput of one enricher worker, as a ratio to aiokafka loops in the same run on the same broker.

    python -m benchmarks.stream [--messages 20000] [--rounds 3] [--broker kafka|embedded] [--json]

Nothing is extracted (``NEXUS_EXTRACTOR=none``) and nothing settles, so only delivery is measured: deduplication, the
table write with its acknowledged changelog record, the acknowledged emission, the offsets in our ledger, and Faust.

- The *bare loop* reads as a group, makes the same record from each conversation as the enricher, with the same
  functions, sends it with the same producer options, and commits. It is the same work without the guarantees.
- The *minimal loop* only parses, and sends as many bytes as the record has. It shows aiokafka's speed for a program
  without contracts. The ratio to it is also printed but has no goal: most of the difference is the transform.

The rates come from the timestamps of the output records, from the first 10 % to the last record, without the start.
The machine is shared: only ratios within a round are reported.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import ConsumerRecord

from nexus_stream.contracts.conversation import decode
from nexus_stream.contracts.limits import enricher_limits
from nexus_stream.contracts.prospect import ExtractionFacts
from nexus_stream.delivery.received import Received
from nexus_stream.delivery.settling import Snapshot, Work
from nexus_stream.embedded.broker import EmbeddedBroker
from nexus_stream.extraction.consent import NoExtraction
from nexus_stream.extraction.extractor import Findings, Turn
from nexus_stream.extraction.grounding import check
from nexus_stream.extraction.merging import merge
from nexus_stream.kafka.clients import client_options
from nexus_stream.kafka.topics import apply_topics
from nexus_stream.settings import Settings
from tables.session_changes import after_extraction
from tests.kafka.launcher import KafkaCluster, available
from tests.stack import Stack

PARTITIONS = 4
WARM_UP_FRACTION = 0.1
# Size of an enriched record of a session without findings.
OUTPUT_BYTES = 800


def conversation(index: int) -> bytes:
    """One message of about 1.1 KB, of a different session for each index."""
    turns = [
        {"role": "user" if turn % 2 == 0 else "assistant", "content": f"turno {turn} de la sesión {index} " + "x" * 120}
        for turn in range(6)
    ]
    return orjson.dumps({"messages": turns, "sessionId": f"session-{index}", "fingerprint": f"fp-{index}"})


async def fill(stack: Stack, messages: int) -> None:
    """Put the conversations on the ingestion topic, keyed as the gateway does."""
    producer = AIOKafkaProducer(**client_options(stack.settings), acks="all", linger_ms=20, max_batch_size=262_144)
    await producer.start()
    try:
        sent = []
        for index in range(messages):
            key = f"session-{index}".encode()
            sent.append(await producer.send(stack.settings.ingestion_topic, conversation(index), key=key))
        await asyncio.gather(*sent)
    finally:
        await producer.stop()


async def output_times(stack: Stack, topic: str, messages: int) -> list[int]:
    """Wait for all records on a topic. Return their timestamps (ms), in order."""
    consumer = AIOKafkaConsumer(
        topic, **client_options(stack.settings), auto_offset_reset="earliest", fetch_max_wait_ms=50
    )
    await consumer.start()
    times: list[int] = []
    try:
        while len(times) < messages:
            for batch in (await consumer.getmany(timeout_ms=1000)).values():
                times.extend(record.timestamp for record in batch)
    finally:
        await consumer.stop()
    return sorted(times)


def rate(times: list[int]) -> float:
    """Records per second, from the first 10 % to the last record."""
    first = int(len(times) * WARM_UP_FRACTION)
    return (len(times) - 1 - first) / max(0.001, (times[-1] - times[first]) / 1000)


Transform = Callable[[ConsumerRecord], tuple[bytes, list[tuple[str, bytes]]]]


def minimal(record: ConsumerRecord) -> tuple[bytes, list[tuple[str, bytes]]]:
    """Parse, and make a value as large as an enriched record."""
    body = orjson.loads(record.value)
    return orjson.dumps({"session_id": body["sessionId"], "record": "x" * OUTPUT_BYTES}), []


def same_transform(settings: Settings) -> Transform:
    """The enricher's work for a first conversation, with the same functions: decode, check, merge, encode."""
    limits = enricher_limits(settings)
    extractor = NoExtraction()
    made_by = extractor.labels
    findings = Findings()

    def transform(record: ConsumerRecord) -> tuple[bytes, list[tuple[str, bytes]]]:
        conversation = decode(record.value, limits)
        origin = (record.topic, record.partition, record.offset, record.timestamp)
        received = Received(*origin, record.key, record.value, record.headers, epoch=0)
        snapshot = Snapshot.of(received, conversation)
        work = Work(conversation.key, snapshot, received, 0.0, 0.0)
        work.note_fingerprint(conversation.fingerprint)
        turns = [Turn(message.role, message.content) for message in conversation.messages]
        checked = check(findings, turns, default_region=settings.default_region)
        prospect, signals = merge(None, (), checked)
        extraction = ExtractionFacts(
            extractor=made_by.extractor,
            model=made_by.model,
            prompt_version=made_by.prompt_version,
            dropped_fields=checked.dropped_fields,
            signals=signals,
            input_tokens=0,
            output_tokens=0,
            cache_read_tokens=0,
            cost_usd=0.0,
            latency_ms=0,
        )
        now_ms = time.time_ns() // 1_000_000
        state = after_extraction(None, work, prospect, extraction, called=False, now_ms=now_ms)
        value = state.to_enriched(settings.ingestion_topic).model_dump_json().encode()
        return value, list(state.emission_headers("/bare"))

    return transform


async def bare_loop(stack: Stack, messages: int, name: str, transform: Transform) -> float:
    """Measure aiokafka's speed in one process: read as a group, transform, send, commit."""
    topic = f"{stack.settings.topic_prefix}{name}-output"
    await create_topic(stack, topic)
    producer = AIOKafkaProducer(**client_options(stack.settings), acks="all", linger_ms=5, max_batch_size=131_072)
    consumer = AIOKafkaConsumer(
        stack.settings.ingestion_topic,
        **client_options(stack.settings),
        group_id=f"{stack.settings.topic_prefix}{name}",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_poll_records=1000,
        fetch_max_wait_ms=50,
        session_timeout_ms=6000,
        heartbeat_interval_ms=1000,
    )
    await producer.start()
    await consumer.start()
    try:
        done = 0
        while done < messages:
            pending = []
            for batch in (await consumer.getmany(timeout_ms=1000)).values():
                for record in batch:
                    value, headers = transform(record)
                    pending.append(await producer.send(topic, value, key=record.key, headers=headers))
            if pending:
                await asyncio.gather(*pending)
                await consumer.commit()
            done += len(pending)
        return rate(await output_times(stack, topic, messages))
    finally:
        await consumer.stop()
        await producer.stop()


async def one_round(number: int, bootstrap_servers: str, folder: Path, messages: int) -> tuple[float, float, float]:
    """Measure (minimal, bare, enricher) records per second on new topics."""
    stack = Stack(
        folder,
        bootstrap_servers,
        "postgresql://unused@127.0.0.1:1/none",
        NEXUS_TOPIC_PREFIX=f"round-{number}-",
        NEXUS_ENRICHER_APP_ID=f"bench-{number}",
        NEXUS_TOPIC_PARTITIONS=str(PARTITIONS),
        NEXUS_EXTRACTOR="none",
        NEXUS_SETTLE_SECONDS="0",
        NEXUS_MAX_WAIT_SECONDS="0",
        NEXUS_BATCH_MAX_WAIT_SECONDS="0",
        NEXUS_LOG_LEVEL="WARNING",
    )
    await apply_topics(stack.settings)
    await fill(stack, messages)
    least = await bare_loop(stack, messages, "minimal", minimal)
    bare = await bare_loop(stack, messages, "bare", same_transform(stack.settings))
    process = stack.start("enricher", f"enricher-{number}")
    try:
        ours = rate(await asyncio.wait_for(output_times(stack, stack.settings.enriched_topic, messages), 600))
    finally:
        process.stop()
    return least, bare, ours


async def create_topic(stack: Stack, name: str) -> None:
    """Create a loop's output topic."""
    from aiokafka.admin import AIOKafkaAdminClient, NewTopic

    admin = AIOKafkaAdminClient(**client_options(stack.settings))
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, PARTITIONS, 1)])
    finally:
        await admin.close()


def run(messages: int, rounds: int, kind: str) -> dict[str, Any]:
    """Run all rounds on one broker."""
    with ExitStack() as cleanup:
        folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="nexus-bench-")))
        folder.chmod(0o755)
        if kind == "kafka":
            broker: Any = cleanup.enter_context(KafkaCluster.start(data_dir=folder / "kafka"))
        else:
            broker = cleanup.enter_context(EmbeddedBroker.start(log_path=folder / "broker.log"))
        results = []
        for number in range(rounds + 1):
            # The first round warms up the broker, the page cache and the imports, and is not counted.
            count = messages // 4 if number == 0 else messages
            started = time.monotonic()
            least, bare, ours = asyncio.run(one_round(number, broker.bootstrap_servers, folder, count))
            results.append(
                {
                    "minimal_per_second": least,
                    "bare_per_second": bare,
                    "enricher_per_second": ours,
                    "ratio": ours / bare,
                    "ratio_to_minimal": ours / least,
                }
            )
            print(
                f"round {number}{' (warm-up)' if number == 0 else ''}: minimal {least:,.0f}/s, bare {bare:,.0f}/s, "
                f"enricher {ours:,.0f}/s, ratio to bare {ours / bare:.2f}, to minimal {ours / least:.2f} "
                f"({time.monotonic() - started:.0f} s)",
                flush=True,
            )
    counted = results[1:]
    ratios = [result["ratio"] for result in counted]
    return {
        "broker": kind,
        "messages": messages,
        "rounds": counted,
        "ratio_to_bare_loop": statistics.median(ratios),
        "ratio_spread": [min(ratios), max(ratios)],
        "ratio_to_minimal_loop": statistics.median(result["ratio_to_minimal"] for result in counted),
        "goal": 0.5,
        "gate": 0.2,
    }


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--broker", choices=["kafka", "embedded"], default="embedded" if available() else "kafka")
    parser.add_argument("--json", action="store_true", help="print the result as JSON at the end")
    arguments = parser.parse_args()
    result = run(arguments.messages, arguments.rounds, arguments.broker)
    low, high = result["ratio_spread"]
    bare = result["ratio_to_bare_loop"]
    print(f"\nratio to the bare loop: {bare:.2f} (from {low:.2f} to {high:.2f}); goal 0.5, gate 0.2")
    print(f"ratio to the minimal loop: {result['ratio_to_minimal_loop']:.2f}")
    if arguments.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
