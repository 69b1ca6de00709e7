"""A gateway in the test's event loop or as a process, on a real broker, each test with a topic of its own."""

import asyncio
import os
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiokafka import ConsumerRecord
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from nexus_stream.embedded.broker import EmbeddedBroker
from nexus_stream.gateway.app import PRODUCER_PATH, create_app
from nexus_stream.gateway.protocol import GatewayRunner
from nexus_stream.gateway.publisher import Publisher
from nexus_stream.kafka.reading import TopicLog
from nexus_stream.settings import Settings, load_settings

_PARTITIONS = 3


@pytest.fixture(scope="package")
def shared_broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker.start() as broker:
        yield broker


@dataclass
class Topic:
    """A test's own ingestion topic, made and read with clients of its own."""

    bootstrap_servers: str
    prefix: str = field(default_factory=lambda: f"t{uuid.uuid4().hex[:12]}.")

    @property
    def name(self) -> str:
        return f"{self.prefix}nexus-prospect-ingestion"

    async def create(self) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap_servers)
        await admin.start()
        try:
            response = await admin.create_topics([NewTopic(self.name, _PARTITIONS, 1)])
            assert [code for _, code, *_ in response.topic_errors] == [0]
        finally:
            await admin.close()

    async def exists(self) -> bool:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap_servers)
        await admin.start()
        try:
            return self.name in await admin.list_topics()
        finally:
            await admin.close()

    async def records(self) -> list[ConsumerRecord]:
        """Every record, by partition and offset."""
        settings = load_settings(environ={"NEXUS_KAFKA_BOOTSTRAP_SERVERS": self.bootstrap_servers})
        async with TopicLog(settings, self.name) as log:
            found = [record async for record in log.read()]
        return sorted(found, key=lambda record: (record.partition, record.offset))


@pytest.fixture
async def topic(shared_broker: EmbeddedBroker) -> Topic:
    own = Topic(shared_broker.bootstrap_servers)
    await own.create()
    return own


@dataclass
class RunningGateway:
    """A gateway that listens; ``url`` is its producer endpoint."""

    base_url: str
    session: aiohttp.ClientSession
    publisher: Publisher | None = None

    @property
    def url(self) -> str:
        return self.base_url + PRODUCER_PATH

    @property
    def port(self) -> int:
        return int(self.base_url.rpartition(":")[2])

    async def post(self, body: Any, **options: Any) -> tuple[int, dict[str, Any], Any]:
        """POST a JSON body, or bytes as they are; returns status, JSON answer and headers."""
        kind = "data" if isinstance(body, bytes) else "json"
        headers = {"Content-Type": "application/json", **options.pop("headers", {})}
        async with self.session.post(self.url, **{kind: body}, headers=headers, **options) as response:
            return response.status, await response.json(), response.headers

    async def wait_for_health(self, status: int, timeout_seconds: float = 20.0) -> dict[str, Any]:
        """Poll GET until it answers this status."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            async with self.session.get(self.url) as response:
                answer: dict[str, Any] = await response.json()
                if response.status == status:
                    return answer
            assert time.monotonic() < deadline, f"still {response.status}: {answer}"
            await asyncio.sleep(0.1)


StartGateway = Callable[..., Awaitable[RunningGateway]]


@pytest.fixture
async def start_gateway() -> AsyncIterator[StartGateway]:
    """Start gateways in this event loop; all are stopped after the test."""
    stops: list[Callable[[], Awaitable[None]]] = []

    async def start(own: Topic, body_timeout_seconds: float = 10.0, **overrides: Any) -> RunningGateway:
        settings = make_settings(own, **overrides)
        publisher = Publisher(settings)
        await publisher.start()
        stops.append(lambda: publisher.stop(2.0))
        runner = GatewayRunner(
            create_app(settings, publisher, body_timeout_seconds=body_timeout_seconds), shutdown_timeout=2.0
        )
        await runner.setup()
        stops.append(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=30), connector=aiohttp.TCPConnector(limit=0)
        )
        stops.append(session.close)
        return RunningGateway(f"http://127.0.0.1:{runner.addresses[0][1]}", session, publisher)

    yield start
    for stop in reversed(stops):
        await stop()


def make_settings(own: Topic, **overrides: Any) -> Settings:
    values: dict[str, Any] = {
        "kafka_bootstrap_servers": own.bootstrap_servers,
        "topic_prefix": own.prefix,
        "gateway_requests_per_minute": 1_000_000,
        **overrides,
    }
    return load_settings("gateway", environ={}, **values)


@pytest.fixture
async def gateway(topic: Topic, start_gateway: StartGateway) -> RunningGateway:
    running = await start_gateway(topic)
    await running.wait_for_health(200)
    return running


@dataclass
class GatewayProcess:
    """A real ``nexus gateway``."""

    process: subprocess.Popen[bytes]
    base_url: str
    log: Path


@pytest.fixture
def start_process(tmp_path: Path) -> Iterator[Callable[..., GatewayProcess]]:
    """Start ``nexus gateway`` processes; those still running after the test are killed."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(own: Topic, extra: Sequence[tuple[str, str]] = ()) -> GatewayProcess:
        log = tmp_path / f"gateway-{len(processes)}.log"
        env = {name: value for name, value in os.environ.items() if not name.startswith(("NEXUS_", "PORT"))}
        env |= {
            "NEXUS_KAFKA_BOOTSTRAP_SERVERS": own.bootstrap_servers,
            "NEXUS_TOPIC_PREFIX": own.prefix,
            "NEXUS_GATEWAY_REQUESTS_PER_MINUTE": "1000000",
            "PORT": "0",
            "PYTHONUNBUFFERED": "1",
            **dict(extra),
        }
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-c", "from nexus_stream.cli import main; main()", "gateway"],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=env,
                cwd=tmp_path,
                start_new_session=True,
            )
        processes.append(process)
        deadline = time.monotonic() + 60
        while "listening on " not in (text := log.read_text()):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, text
            time.sleep(0.05)
        return GatewayProcess(process, text.partition("listening on ")[2].split()[0], log)

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.wait(10)
