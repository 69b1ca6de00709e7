"""The latency from a POST to the committed row, on an idle system.

    python -m benchmarks.latency [--posts 300] [--broker kafka|embedded] [--database-dsn DSN] [--json] [NAME=VALUE ...]

Gateway, enricher and sink run as in the Procfile, with default settings, except that nothing is extracted
(``NEXUS_EXTRACTOR=none``) and nothing settles. Each post is a new person, and is sent after the row of the last post. A
trigger notifies of each committed row (LISTEN), so the measurement does not poll. The time of each stage comes from the
records' timestamps, which have the same clock on one host. ``NAME=VALUE`` are settings to try. Calibration: a bare
aiokafka producer and consumer on the same broker, and an INSERT with the same trigger, without the product.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from nexus_stream.embedded.broker import EmbeddedBroker
from nexus_stream.embedded.postgres import EmbeddedPostgres
from nexus_stream.kafka.clients import client_options
from tests.kafka.launcher import KafkaCluster, available
from tests.stack import Stack

GOAL_P95_MS = 250.0
WARM_UP_POSTS = 40
CALIBRATION_TURNS = 100
ROW_TIMEOUT_SECONDS = 30.0
# Between a row and the next post, because an idle system is measured.
PAUSE_SECONDS = 0.02

_CHANNEL = "benchmark_rows"
_TRIGGER = f"""
CREATE FUNCTION tell_of_row() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_notify('{_CHANNEL}', NEW.fingerprint_id); RETURN NULL; END $$;
CREATE TRIGGER tell_of_row AFTER INSERT OR UPDATE ON prospect_tracking FOR EACH ROW EXECUTE FUNCTION tell_of_row();
CREATE TABLE benchmark_calibration (fingerprint_id text);
CREATE TRIGGER tell_of_row AFTER INSERT ON benchmark_calibration FOR EACH ROW EXECUTE FUNCTION tell_of_row();
"""


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that ``percent`` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


@dataclass
class Post:
    """One post. Times are Unix milliseconds, from this host's clock."""

    sent_at: float
    accepted_at: float = 0.0
    row_at: float = 0.0
    # Timestamps of the records: one that the gateway sent, and two that the enricher sent.
    ingested_at: float = 0.0
    stored_at: float = 0.0
    emitted_at: float = 0.0


@dataclass
class Rows:
    """Waits for the database's notifications about rows."""

    waiting: dict[str, asyncio.Future[float]] = field(default_factory=dict)

    def notified(self, *notification: Any) -> None:
        """Handle a notification."""
        future = self.waiting.pop(notification[3], None)
        if future is not None and not future.done():
            future.set_result(time.time() * 1000)

    def expect(self, fingerprint: str) -> asyncio.Future[float]:
        """A future for the time of the row's notification, in Unix milliseconds."""
        future: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self.waiting[fingerprint] = future
        return future


@asynccontextmanager
async def listening(dsn: str) -> AsyncIterator[tuple[asyncpg.Connection[Any], Rows]]:
    """Open a connection that listens for rows."""
    rows = Rows()
    connection: asyncpg.Connection[Any] = await asyncpg.connect(dsn)
    try:
        await connection.execute(_TRIGGER)
        await connection.add_listener(_CHANNEL, rows.notified)
        yield connection, rows
    finally:
        await connection.close()


def body_of(number: int) -> dict[str, Any]:
    """A chat of six turns, about 1.1 KB, of a new person."""
    turns = [
        {"role": "user" if turn % 2 == 0 else "assistant", "content": f"turno {turn} de {number} " + "x" * 130}
        for turn in range(6)
    ]
    return {"messages": turns, "sessionId": f"session-{number}", "fingerprint": f"fp-{number}"}


async def post_all(stack: Stack, rows: Rows, posts: int) -> dict[str, Post]:
    """Send one post after the other, each after the row of the last one. Return the posts by session id."""
    url = f"{stack.processes['gateway'].url}/api/nexus/producer"
    done: dict[str, Post] = {}
    async with aiohttp.ClientSession() as client:
        for number in range(WARM_UP_POSTS + posts):
            body = body_of(number)
            row = rows.expect(body["fingerprint"])
            post = Post(sent_at=time.time() * 1000)
            async with client.post(url, json=body) as answer:
                assert answer.status == 202, await answer.text()
                await answer.read()
            post.accepted_at = time.time() * 1000
            post.row_at = await asyncio.wait_for(row, ROW_TIMEOUT_SECONDS)
            if number >= WARM_UP_POSTS:
                done[body["sessionId"]] = post
            await asyncio.sleep(PAUSE_SECONDS)
    return done


async def read_times(stack: Stack, posts: dict[str, Post]) -> None:
    """Fill in the timestamps of the records."""
    settings = stack.settings
    for topic, name in (
        (settings.ingestion_topic, "ingested_at"),
        (settings.sessions_changelog_topic, "stored_at"),
        (settings.enriched_topic, "emitted_at"),
    ):
        for record in await stack.read_topic(topic):
            post = posts.get((record.key or b"").decode())
            if post is not None:
                setattr(post, name, float(record.timestamp))


async def calibrate(stack: Stack, connection: asyncpg.Connection[Any], rows: Rows) -> dict[str, float]:
    """The median milliseconds without the product: one hop through the broker, and one insert into the database."""
    options = client_options(stack.settings)
    topic = f"{stack.settings.topic_prefix}calibration"
    admin = AIOKafkaAdminClient(**options)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 1, 1)])
    await admin.close()
    producer = AIOKafkaProducer(**options, acks="all")
    consumer = AIOKafkaConsumer(topic, **options, enable_auto_commit=False, auto_offset_reset="earliest")
    await producer.start()
    await consumer.start()
    hops: list[float] = []
    inserts: list[float] = []
    try:
        for number in range(CALIBRATION_TURNS):
            started = time.perf_counter()
            await producer.send_and_wait(topic, b"x" * 1000)
            await asyncio.wait_for(consumer.getone(), 30)
            hops.append((time.perf_counter() - started) * 1000)
            row = rows.expect(f"calibration-{number}")
            started = time.perf_counter()
            await connection.execute("INSERT INTO benchmark_calibration VALUES ($1)", f"calibration-{number}")
            await asyncio.wait_for(row, ROW_TIMEOUT_SECONDS)
            inserts.append((time.perf_counter() - started) * 1000)
    finally:
        await consumer.stop()
        await producer.stop()
    return {"broker_hop_ms": statistics.median(hops), "insert_ms": statistics.median(inserts)}


async def measure(stack: Stack, posts: int) -> dict[str, Any]:
    """Measure everything on a stack that is not started yet."""
    await stack.prepare()
    await asyncio.to_thread(stack.start_all)
    async with listening(stack.dsn) as (connection, rows):
        calibration = await calibrate(stack, connection, rows)
        done = await post_all(stack, rows, posts)
    await read_times(stack, done)
    every = list(done.values())
    stages = {
        "gateway: POST until 202": [post.accepted_at - post.sent_at for post in every],
        "enricher: ingested until its state is sent": [post.stored_at - post.ingested_at for post in every],
        "enricher: state sent until record emitted": [post.emitted_at - post.stored_at for post in every],
        "sink: emitted until the row is seen": [post.row_at - post.emitted_at for post in every],
        "POST until the row is seen": [post.row_at - post.sent_at for post in every],
    }
    return {
        "posts": len(every),
        "calibration": calibration,
        "milliseconds": {
            name: {f"p{percent}": percentile(values, percent) for percent in (50, 95, 99)} | {"max": max(values)}
            for name, values in stages.items()
        },
        "p95_ms": percentile(stages["POST until the row is seen"], 95),
        "goal_ms": GOAL_P95_MS,
    }


def run(posts: int, kind: str, dsn: str | None, variables: dict[str, str]) -> dict[str, Any]:
    """Run on a new broker and, without ``dsn``, a new database."""
    with ExitStack() as cleanup:
        folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="nexus-latency-")))
        folder.chmod(0o755)
        if kind == "kafka":
            broker: Any = cleanup.enter_context(KafkaCluster.start(data_dir=folder / "kafka"))
        else:
            broker = cleanup.enter_context(EmbeddedBroker.start(log_path=folder / "broker.log"))
        if dsn is None:
            postgres = EmbeddedPostgres.start(folder / "postgres")
            cleanup.callback(postgres.stop)
            dsn = postgres.dsn
        defaults = {
            "NEXUS_KAFKA_FETCH_MAX_WAIT_SECONDS": "0.5",
            "NEXUS_TOPIC_PARTITIONS": "6",
            "NEXUS_EXTRACTOR": "none",
            "NEXUS_SETTLE_SECONDS": "0",
            "NEXUS_MAX_WAIT_SECONDS": "0",
        }
        stack = Stack(folder, broker.bootstrap_servers, dsn, **{**defaults, **variables})
        cleanup.callback(stack.stop_all)
        result = asyncio.run(measure(stack, posts))
    return {"broker": kind, "variables": variables, **result}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--posts", type=int, default=300)
    parser.add_argument("--broker", choices=["kafka", "embedded"], default="embedded" if available() else "kafka")
    parser.add_argument("--database-dsn", help="an empty database to use instead of an embedded one")
    parser.add_argument("--json", action="store_true", help="print the result as JSON at the end")
    parser.add_argument("variables", nargs="*", metavar="NAME=VALUE", help="settings of every process")
    arguments = parser.parse_args()
    variables = dict(variable.split("=", 1) for variable in arguments.variables)
    result = run(arguments.posts, arguments.broker, arguments.database_dsn, variables)
    print(f"{result['posts']} posts on {result['broker']}\n\n| ms | p50 | p95 | p99 | max |")
    print("| --- | --- | --- | --- | --- |")
    for name, row in result["milliseconds"].items():
        print(f"| {name} | {row['p50']:.0f} | {row['p95']:.0f} | {row['p99']:.0f} | {row['max']:.0f} |")
    calibration = result["calibration"]
    print(
        f"\ncalibration (p50): a hop through the broker {calibration['broker_hop_ms']:.1f} ms, an insert seen by "
        f"LISTEN {calibration['insert_ms']:.1f} ms"
    )
    print(f"{'met    ' if result['p95_ms'] < GOAL_P95_MS else 'MISSED '}p95 {result['p95_ms']:.0f} ms, goal 250 ms")
    if arguments.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
