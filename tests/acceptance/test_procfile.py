"""The Procfile's processes, several of a type on one host, on services they did not start."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import asyncpg
import pytest

from nexus_stream.embedded.broker import EmbeddedBroker
from nexus_stream.embedded.plan import process_environment
from nexus_stream.embedded.postgres import EmbeddedPostgres
from nexus_stream.embedded.processes import last_lines, spawn
from nexus_stream.embedded.procfile import read_procfile
from nexus_stream.host.free_ports import free_port
from nexus_stream.kafka.topics import apply_topics
from nexus_stream.settings import load_settings
from nexus_stream.supabase.migrate import apply_migrations

pytestmark = pytest.mark.timeout(300)

_SESSIONS = 40
_READY_TIMEOUT_SECONDS = 60
_ROWS_TIMEOUT_SECONDS = 40


class _Formation:
    """Processes started from the Procfile, each with a port of its own."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self.environment = environment
        self.folder = folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.ports: dict[str, int] = {}

    def start(self, process_type: str, number: int) -> None:
        name = f"{process_type}.{number}"
        port = free_port(self.ports.values())
        # As a platform does it: a port for the process that serves the public, loopback ones for the workers.
        variable = "PORT" if process_type in {"gateway", "console"} else "NEXUS_WEB_PORT"
        environment = {**self.environment, variable: str(port)}
        argv = read_procfile()[process_type].argv(environment)
        self.processes[name] = spawn(argv, log_path=self.log(name), env=environment, cwd=self.folder)
        self.ports[name] = port

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    async def wait_until_ready(self) -> None:
        async with aiohttp.ClientSession() as session, asyncio.timeout(_READY_TIMEOUT_SECONDS):
            for name, port in self.ports.items():
                while not await self._is_ready(session, name, port):  # noqa: ASYNC110 - another process
                    await asyncio.sleep(0.1)

    async def _is_ready(self, session: aiohttp.ClientSession, name: str, port: int) -> bool:
        assert self.processes[name].poll() is None, f"{name} ended:\n{last_lines(self.log(name), 40)}"
        try:
            async with session.get(f"http://127.0.0.1:{port}/ready") as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False

    def stop(self) -> dict[str, int]:
        """Ask all to end, kill those that do not; exit codes by name."""
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        codes = {}
        for name, process in self.processes.items():
            try:
                codes[name] = process.wait(40)
            except subprocess.TimeoutExpired:
                process.kill()
                codes[name] = process.wait(10)
        return codes


@pytest.fixture
async def formation(tmp_path) -> Iterator[_Formation]:
    with EmbeddedBroker.start(tmp_path / "broker.log") as broker, EmbeddedPostgres.start(tmp_path / "db") as database:
        environment = process_environment(
            {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "NEXUS_SETTLE_SECONDS": "0.2"}
            | {"NEXUS_TOPIC_PARTITIONS": "4"},
            bootstrap_servers=broker.bootstrap_servers,
            database_url=database.dsn,
            tables=tmp_path / "data",
            programs=Path(sys.executable).parent,
        )
        await apply_migrations(database.dsn)
        await apply_topics(load_settings("sink", environment))
        started = _Formation(environment, tmp_path)
        try:
            yield started
        finally:
            await asyncio.to_thread(started.stop)


async def _post(session: aiohttp.ClientSession, port: int, number: int) -> None:
    body = {
        "messages": [{"role": "user", "content": "Hola, me llamo Carlos"}],
        "sessionId": f"session-{number}",
        "fingerprint": f"fingerprint-{number}",
    }
    async with session.post(f"http://127.0.0.1:{port}/api/nexus/producer", json=body) as response:
        assert response.status == 202, await response.text()


async def _row_count(dsn: str) -> int:
    connection = await asyncpg.connect(dsn)
    try:
        return int(await connection.fetchval("SELECT count(*) FROM prospect_tracking"))
    finally:
        await connection.close()


async def test_two_enrichers_and_two_sinks_share_the_work_on_one_host(formation, tmp_path) -> None:
    formation.start("gateway", 1)
    for number in (1, 2):
        formation.start("enricher", number)
        formation.start("sink", number)
    await formation.wait_until_ready()

    async with aiohttp.ClientSession() as session:
        for number in range(_SESSIONS):
            await _post(session, formation.ports["gateway.1"], number)

    async with asyncio.timeout(_ROWS_TIMEOUT_SECONDS):
        while await _row_count(formation.environment["SUPABASE_DB_URL"]) < _SESSIONS:  # noqa: ASYNC110 - likewise
            await asyncio.sleep(0.2)
    assert await _row_count(formation.environment["SUPABASE_DB_URL"]) == _SESSIONS

    # Each worker has a slot of its own below one data directory.
    for app in ("nexus-enricher", "nexus-sink"):
        assert {path.name for path in (tmp_path / "data" / app).iterdir()} == {"0", "1"}
    assert set((await asyncio.to_thread(formation.stop)).values()) == {0}
