"""Four moments at which plain Faust idioms lose a record, against the product and against such an agent (naive.py).

One partition, a handful of chats. The product loses none; the naive agent loses some in each, which proves that the
test can fail.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from nexus_stream.embedded.processes import kill_process, last_lines, spawn, stop_process
from nexus_stream.host.free_ports import free_port
from nexus_stream.kafka.clients import client_options
from tests.chaos.claude_stand_in import ClaudeStandIn
from tests.chaos.environment import BrokerKind, Environment
from tests.chaos.ledger import SentSession
from tests.stack import Stack, eventually

CHATS = 6
_PATIENCE_SECONDS = 90.0
_QUIET_SECONDS = 5.0
ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.timeout(480)


class Worker(Protocol):
    """Something that enriches, as a process, in a group."""

    @property
    def group(self) -> str: ...

    def start(self) -> None: ...

    def kill(self) -> None: ...

    def terminate(self) -> None: ...


@dataclass
class Bench:
    """One worker, its topics and its stand-in."""

    stack: Stack
    stand_in: ClaudeStandIn
    worker: Worker
    chats: list[SentSession] = field(default_factory=list)

    async def send(self, count: int = 1) -> None:
        """Send new chats' first snapshots, in order, all to the one partition."""
        for _ in range(count):
            chat = SentSession(len(self.chats), f"person-{len(self.chats)}")
            self.chats.append(chat)
            value = json.dumps(chat.body(1), ensure_ascii=False).encode()
            await self.stack.produce(self.stack.settings.ingestion_topic, [(chat.session_id.encode(), value)])

    async def emitted(self) -> set[str]:
        """Sessions found on the enriched topic."""
        records = await self.stack.read_topic(self.stack.settings.enriched_topic)
        return {json.loads(record.value)["session_id"] for record in records}

    async def open_calls(self, count: int) -> None:
        """Wait until so many requests are open."""

        async def probe() -> bool:
            return len(self.stand_in.open_calls()) >= count

        await eventually(probe, seconds=90, what=f"{count} open requests")

    async def lost(self) -> set[str]:
        """Chats that do not come out: asked until all have, or all is committed and none comes any more."""
        wanted = {chat.session_id for chat in self.chats}
        deadline, quiet_since, found = time.monotonic() + _PATIENCE_SECONDS, time.monotonic(), set[str]()
        while time.monotonic() < deadline:
            now = await self.emitted()
            if now != found:
                found, quiet_since = now, time.monotonic()
            if wanted <= found:
                break
            quiet = time.monotonic() - quiet_since > _QUIET_SECONDS
            # Nothing is lost before it is committed: a slow machine is only slow.
            if quiet and found and await self._has_committed_all():
                break
            await asyncio.sleep(0.3)
        return wanted - found

    async def _has_committed_all(self) -> bool:
        settings = self.stack.settings
        committed = await self.stack.committed(self.worker.group, settings.ingestion_topic)
        return committed[0] >= len(await self.stack.read_topic(settings.ingestion_topic))


class Product:
    """The product's enricher."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.group = stack.settings.enricher_app_id

    def start(self) -> None:
        self._stack.start("enricher")

    def kill(self) -> None:
        self._stack.processes["enricher"].kill()

    def terminate(self) -> None:
        self._stack.processes["enricher"].stop()


class Naive:
    """The naive agent."""

    def __init__(self, stack: Stack, claude: str, **variables: str) -> None:
        settings = stack.settings
        self.log = stack.folder / "naive.log"
        self.group = f"{settings.topic_prefix}naive"
        self._folder = stack.folder
        self._environ = {
            **stack.variables,
            "PATH": str(Path(sys.executable).parent),
            "PYTHONPATH": str(ROOT),
            "NAIVE_BROKER": settings.kafka_bootstrap_servers,
            "NAIVE_APP_ID": self.group,
            "NAIVE_SOURCE": settings.ingestion_topic,
            "NAIVE_TARGET": settings.enriched_topic,
            "NAIVE_CLAUDE": claude,
            "NAIVE_DATA_DIR": str(stack.folder / "naive-data"),
            "NAIVE_WEB_PORT": str(free_port()),
            **variables,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        argv = [str(Path(sys.executable).with_name("faust")), "-A", "tests.chaos.naive", "worker"]
        self._process = spawn(argv, log_path=self.log, env=self._environ, cwd=self._folder)

    def kill(self) -> None:
        assert self._process is not None
        assert self._process.poll() is None, last_lines(self.log, 30)
        kill_process(self._process)

    def terminate(self) -> None:
        assert self._process is not None
        stop_process(self._process, 30.0, first=signal.SIGTERM)

    def close(self) -> None:
        if self._process is not None:
            kill_process(self._process)


@pytest.fixture
async def bench(
    request: pytest.FixtureRequest, environment_of: Callable[[BrokerKind], Environment], tmp_path: Path
) -> AsyncIterator[Bench]:
    """``request.param``: ``product``, or what the naive agent is to be told."""
    environment = environment_of("embedded")
    name = f"matrix-{time.monotonic_ns()}"
    async with ClaudeStandIn(latency_seconds=(0.05, 0.1)) as stand_in:
        stack = Stack(
            tmp_path,
            environment.bootstrap_servers,
            environment.postgres.dsn,
            NEXUS_TOPIC_PREFIX=f"{name}.",
            NEXUS_ENRICHER_APP_ID=f"{name}-enricher",
            NEXUS_TOPIC_PARTITIONS="1",
            NEXUS_SETTLE_SECONDS="0",
            NEXUS_EXTRACTOR="claude",
            NEXUS_CLAUDE_TIMEOUT_SECONDS="20",
            NEXUS_STOP_TIMEOUT_SECONDS="2",
            ANTHROPIC_API_KEY="sk-test-0000",
            ANTHROPIC_BASE_URL=stand_in.url,
        )
        await stack.prepare()
        worker: Product | Naive
        if request.param == "product":
            worker = Product(stack)
        else:
            worker = Naive(stack, stand_in.url, **request.param)
            await _create_topic(stack, f"{stack.settings.topic_prefix}naive-seen-changelog")
        try:
            yield Bench(stack, stand_in, worker)
        finally:
            if isinstance(worker, Naive):
                worker.close()
            await asyncio.to_thread(stack.stop_all)


async def _create_topic(stack: Stack, name: str) -> None:
    admin = AIOKafkaAdminClient(**client_options(stack.settings))
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, 1, 1)])
    finally:
        await admin.close()


def loses_none_but(**naive: str) -> pytest.MarkDecorator:
    """Run with the product, which must lose nothing, and with a naive agent, which must lose something."""
    return pytest.mark.parametrize("bench", ["product", naive], ids=["product", "naive"], indirect=True)


async def _judge(bench: Bench) -> None:
    lost = await bench.lost()
    if isinstance(bench.worker, Product):
        assert not lost
    else:
        assert lost, f"the naive agent lost nothing: this test could not fail\n{last_lines(bench.worker.log, 30)}"


@loses_none_but()
async def test_the_body_raises(bench: Bench):
    """One request fails. Faust acknowledges what its agent raised on."""
    bench.stand_in.set_mode("overloaded")
    bench.worker.start()
    await bench.send()

    async def refused() -> bool:
        return bench.stand_in.refusals_sent.get("overloaded", 0) > 0

    await eventually(refused, seconds=90, what="a refused request")
    bench.stand_in.set_mode("answer")
    await bench.send(CHATS)
    await _judge(bench)


@loses_none_but(NAIVE_REMEMBERS="yes")
async def test_killed_while_awaiting(bench: Bench):
    """A chat is marked as seen, Claude asked, the process killed: the mark survives, the chat seems a duplicate."""
    bench.worker.start()
    await bench.send()

    async def first_is_out() -> bool:
        return len(await bench.emitted()) == 1

    await eventually(first_is_out, seconds=90, what="the first chat")
    bench.stand_in.latency_seconds = (5.0, 5.0)
    await bench.send()
    await bench.open_calls(1)
    await asyncio.sleep(0.5)
    bench.worker.kill()
    bench.stand_in.latency_seconds = (0.05, 0.1)
    bench.worker.start()
    await bench.send(CHATS)
    await _judge(bench)


@loses_none_but(NAIVE_WAITS="no")
async def test_terminated_in_flight(bench: Bench):
    """SIGTERM while Claude is asked: Faust cancels the agent, which acknowledges on its way out."""
    bench.stand_in.latency_seconds = (40.0, 40.0)
    bench.worker.start()
    await bench.send()
    await bench.open_calls(1)
    await asyncio.to_thread(bench.worker.terminate)
    bench.stand_in.latency_seconds = (0.05, 0.1)
    bench.worker.start()
    await bench.send(CHATS)
    await _judge(bench)


@loses_none_but(NAIVE_CONCURRENCY="2")
async def test_a_slow_head_of_the_partition(bench: Bench):
    """The first is slow, those behind it are done and committed, then the process is killed."""
    bench.stand_in.latency_seconds = (60.0, 60.0)
    bench.worker.start()
    await bench.send()
    await bench.open_calls(1)
    bench.stand_in.latency_seconds = (0.05, 0.1)
    await bench.send(CHATS)

    async def others_are_out() -> bool:
        return len(await bench.emitted()) >= CHATS

    await eventually(others_are_out, seconds=90, what="the chats behind the slow one")
    # Longer than both commit intervals.
    await asyncio.sleep(2.0)
    bench.worker.kill()
    bench.worker.start()
    await bench.send()
    await _judge(bench)
