"""The whole product as real processes on a real broker and a real PostgreSQL, for acceptance and chaos tests.

From: a broker's address and a database's DSN. To: the Procfile's processes, each on ports and a data directory of its
own, started, stopped and killed by name. Everything stays on loopback and is stopped by process id.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.structs import ConsumerRecord

from nexus_stream.contracts.topics import declared_topics
from nexus_stream.embedded.processes import kill_process, last_lines, spawn, stop_process
from nexus_stream.embedded.procfile import read_procfile
from nexus_stream.host.free_ports import free_port
from nexus_stream.kafka.clients import client_options
from nexus_stream.kafka.reading import read_to
from nexus_stream.kafka.topics import apply_topics
from nexus_stream.settings import Settings, load_settings
from nexus_stream.supabase.migrate import apply_migrations

__all__ = ["Stack", "StackProcess", "eventually"]

READY_TIMEOUT_SECONDS = 60.0
# A group join on the embedded broker takes half the session timeout.
FAST_GROUPS = {
    "NEXUS_KAFKA_SESSION_TIMEOUT_SECONDS": "6",
    "NEXUS_KAFKA_HEARTBEAT_INTERVAL_SECONDS": "1",
    "NEXUS_KAFKA_REBALANCE_TIMEOUT_SECONDS": "8",
    "NEXUS_KAFKA_FETCH_MAX_WAIT_SECONDS": "0.05",
}
# The answer to SIGUSR1, in both formats of the log.
_TASK_LINE = re.compile(r'"event": ?"task"|\] task  ')
_TELL_SECONDS = 3.0
_OWN_VARIABLES = ("NEXUS_", "SUPABASE_", "ANTHROPIC_", "UPSTASH_")

_T = TypeVar("_T")


async def eventually(probe: Callable[[], Awaitable[_T]], *, seconds: float, what: str) -> _T:
    """Ask until the answer is truthy and return it.

    Raises:
        AssertionError: it was not within the time; with the last answer.
    """
    deadline = time.monotonic() + seconds
    while True:
        answer = await probe()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}; last answer: {answer!r}"
        await asyncio.sleep(0.1)


@dataclass(slots=True)
class StackProcess:
    """One running process of the Procfile."""

    name: str
    kind: str
    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def kill(self) -> None:
        """``kill -9``."""
        kill_process(self.process)

    def stop(self, timeout_seconds: float = 40.0) -> int:
        """SIGTERM; returns the exit code. If the process does not end, its log shows where each thread stands."""
        self.process.terminate()
        try:
            self.process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            self.tell_where_it_stands()
            # faulthandler writes the stacks of the threads.
            stop_process(self.process, 10.0, first=signal.SIGABRT)
        return self.process.returncode

    def tell_where_it_stands(self) -> str:
        """Ask a running worker where its tasks wait (SIGUSR1), and return its last log lines, with the answer."""
        before = _TASK_LINE.findall(self.log.read_text(errors="replace"))
        self.process.send_signal(signal.SIGUSR1)
        deadline = time.monotonic() + _TELL_SECONDS
        while len(_TASK_LINE.findall(self.log.read_text(errors="replace"))) == len(before):
            if time.monotonic() > deadline:
                return f"{last_lines(self.log, 15)}\nno answer to SIGUSR1: its event loop stands"
            time.sleep(0.05)
        return last_lines(self.log, 120)

    def stacks(self) -> str:
        """Where the tasks and threads of a process stood that did not end."""
        before, found, stacks = self.log.read_text(errors="replace").partition("Fatal Python error: Aborted")
        return found and f"{before[-6000:]}{found}{stacks[:6000]}"

    def is_ready(self) -> bool:
        """Whether ``/ready`` answers 200; fails when the process is gone."""
        assert self.process.poll() is None, (
            f"{self.name} ended with {self.process.returncode}:\n{last_lines(self.log, 40)}"
        )
        try:
            with urllib.request.urlopen(f"{self.url}/ready", timeout=2) as answer:  # noqa: S310
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def wait_until_ready(self, timeout_seconds: float = READY_TIMEOUT_SECONDS) -> None:
        """Wait for ``/ready``."""
        deadline = time.monotonic() + timeout_seconds
        while not self.is_ready():
            assert time.monotonic() < deadline, f"{self.name} is not ready:\n{last_lines(self.log, 40)}"
            time.sleep(0.1)


class Stack:
    """Processes around one broker and one database.

    Args:
        folder: For logs and data; thrown away by the test.
        bootstrap_servers: The broker.
        dsn: The database.
        variables: Settings for every process.
    """

    def __init__(self, folder: Path, bootstrap_servers: str, dsn: str, **variables: str) -> None:
        self.folder = folder
        self.dsn = dsn
        self.variables = {
            "NEXUS_KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
            "SUPABASE_DB_URL": dsn,
            "NEXUS_DATA_DIR": str(folder / "data"),
            "NEXUS_TOPIC_PARTITIONS": "4",
            "NEXUS_SETTLE_SECONDS": "0.5",
            "NEXUS_MAX_WAIT_SECONDS": "5",
            "NEXUS_GATEWAY_REQUESTS_PER_MINUTE": "100000",
            **FAST_GROUPS,
            **variables,
        }
        self.processes: dict[str, StackProcess] = {}
        self._procfile = read_procfile()

    @property
    def settings(self) -> Settings:
        """The settings its processes see."""
        return load_settings(environ=self.variables)

    async def prepare(self) -> None:
        """Create topics and tables."""
        await apply_topics(self.settings)
        await apply_migrations(self.dsn)

    async def alter_topic(self, topic: str, options: Mapping[str, str]) -> None:
        """Change options of a topic, as an installation may have them."""
        declared = {spec.name: spec.configs for spec in declared_topics(self.settings)}[topic]
        admin = AIOKafkaAdminClient(**client_options(self.settings))
        await admin.start()
        try:
            # The request replaces all options.
            configs = {**declared, **options}
            await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs=configs)])
        finally:
            await admin.close()

    def start(self, kind: str, name: str | None = None, **variables: str) -> StackProcess:
        """Start one process of that kind, as the Procfile says, without waiting."""
        name = name or kind
        port = free_port([int(process.url.rsplit(":", 1)[1]) for process in self.processes.values()])
        port_variables = {"gateway": ["PORT"], "console": ["PORT"]}.get(kind, ["NEXUS_WEB_PORT"])
        kept = {key: value for key, value in os.environ.items() if not key.startswith(_OWN_VARIABLES) and key != "PORT"}
        environ = {
            **kept,
            # A process that does not end tells where it stands.
            "PYTHONFAULTHANDLER": "1",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            **self.variables,
            **dict.fromkeys(port_variables, str(port)),
            **variables,
        }
        log = self.folder / f"{name}.log"
        process = spawn(self._procfile[kind].argv(environ), log_path=log, env=environ, cwd=self.folder)
        self.processes[name] = StackProcess(name, kind, f"http://127.0.0.1:{port}", process, log)
        return self.processes[name]

    def start_all(self, *kinds: str) -> None:
        """Start one of each kind and wait for all."""
        for kind in kinds or ("gateway", "enricher", "sink"):
            self.start(kind)
        for process in self.processes.values():
            process.wait_until_ready()

    def stop_all(self) -> None:
        """Stop everything: all are asked first, then each is waited for."""
        running = [process for process in self.processes.values() if process.process.poll() is None]
        for process in running:
            process.process.terminate()
        for process in running:
            stop_process(process.process, 40.0)
        self.processes.clear()

    # The outside world

    def post(self, body: object, headers: Mapping[str, str] | None = None) -> tuple[int, dict[str, Any]]:
        """POST a body to the gateway."""
        url = f"{self.processes['gateway'].url}/api/nexus/producer"
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310 - a loopback address of ours
            url, data=data, headers={"content-type": "application/json", **(headers or {})}, method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    async def fetch(self, query: str, *arguments: object) -> list[dict[str, Any]]:
        """Rows of a query; jsonb comes decoded."""
        connection = await asyncpg.connect(self.dsn)
        try:
            await connection.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
            return [dict(row) for row in await connection.fetch(query, *arguments)]
        finally:
            await connection.close()

    async def prospect(self, fingerprint: str) -> dict[str, Any] | None:
        """``prospect_data`` of a person, by fingerprint."""
        rows = await self.fetch("SELECT * FROM prospect_tracking WHERE fingerprint_id = $1", fingerprint)
        return rows[0]["prospect_data"] if rows else None

    async def read_topic(self, topic: str, *, stall_seconds: float = 60.0) -> list[ConsumerRecord]:
        """Everything a topic holds when this is called; writers that go on do not lengthen it."""
        # Without a group, naming the topic assigns all of its partitions.
        consumer = AIOKafkaConsumer(
            topic,
            **client_options(self.settings),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=50,
        )
        try:
            await consumer.start()
            ends = await consumer.end_offsets(consumer.assignment())
            batches = read_to(consumer, ends, stall_seconds=stall_seconds)
            return [record async for records in batches for record in records]
        finally:
            await consumer.stop()

    async def produce(
        self, topic: str, records: list[tuple[bytes | None, bytes | None]], partition: int | None = None
    ) -> None:
        """Send (key, value) pairs and wait for the broker."""
        producer = AIOKafkaProducer(**client_options(self.settings), acks="all", linger_ms=5)
        try:
            await producer.start()
            sent = [await producer.send(topic, value, key=key, partition=partition) for key, value in records]
            await asyncio.gather(*sent)
        finally:
            await producer.stop()

    async def committed(self, group: str, topic: str) -> dict[int, int]:
        """The group's committed offset of each partition."""
        consumer = AIOKafkaConsumer(**client_options(self.settings), group_id=group, enable_auto_commit=False)
        try:
            await consumer.start()
            numbers = range(self.settings.topic_partitions)
            return {number: await consumer.committed(TopicPartition(topic, number)) or 0 for number in numbers}
        finally:
            await consumer.stop()
