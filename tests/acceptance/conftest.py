"""``nexus dev`` as an operator starts it: a process, its output in a file, its working directory thrown away."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest

from nexus_stream.embedded.processes import ProcessIdentity
from nexus_stream.embedded.state import DevDirectory
from nexus_stream.host.free_ports import free_port, port_is_free

DEV = (str(Path(sys.executable).with_name("nexus")), "dev")
READY_TIMEOUT_SECONDS = 90.0
ROW_TIMEOUT_SECONDS = 40.0


class DevProcess:
    """One ``nexus dev``, or a command that starts one.

    Attributes:
        cwd: Its working directory; ``.nexus`` is below it.
        process: The started command.
    """

    def __init__(self, cwd: Path, *arguments: str, command: Sequence[str] = DEV, **variables: str) -> None:
        self.cwd = cwd
        self.output = cwd / f"output-{time.monotonic_ns()}.txt"
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("NEXUS_", "SUPABASE_", "ANTHROPIC_", "UPSTASH_")) and name != "PORT"
        }
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [*command, *arguments],
                cwd=cwd,
                env={**kept, **variables},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def text(self) -> str:
        """Everything it printed so far."""
        return self.output.read_text(encoding="utf-8")

    @property
    def info_path(self) -> Path:
        return self.cwd / ".nexus" / "dev.json"

    def wait_until_ready(self) -> dict[str, Any]:
        """Wait for this one's ``dev.json`` and return it."""
        deadline = time.monotonic() + READY_TIMEOUT_SECONDS
        while True:
            # The file of one that was killed stays until the next start, which deletes it.
            with contextlib.suppress(FileNotFoundError, psutil.NoSuchProcess):
                info: dict[str, Any] = json.loads(self.info_path.read_text())
                dev = psutil.Process(info["pids"]["dev"])
                if self.process.pid in {dev.pid, dev.ppid()}:
                    return info
            assert self.process.poll() is None, f"nexus dev ended early:\n{self.text()}"
            assert time.monotonic() < deadline, f"nexus dev is not ready:\n{self.text()}"
            time.sleep(0.05)

    def stop(self, number: int = signal.SIGTERM, timeout_seconds: float = 35.0) -> int:
        """Signal it and return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout_seconds)

    def recorded(self) -> list[ProcessIdentity]:
        """Every process it started so far."""
        return DevDirectory(self.cwd / ".nexus").read_processes()

    def clean_up(self) -> None:
        """Leave nothing running, whatever the test did."""
        left = self.recorded()
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(35)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)
        for identity in left:
            process = identity.find()
            if process is not None:
                process.kill()


@pytest.fixture
def start_dev(tmp_path) -> Iterator[Callable[..., DevProcess]]:
    """Start ``nexus dev`` in a directory of the test, as often as it likes, one after the other."""
    started: list[DevProcess] = []

    def start(*arguments: str, **variables: str) -> DevProcess:
        started.append(DevProcess(tmp_path, *arguments, **variables))
        return started[-1]

    yield start
    for dev in started:
        dev.clean_up()


@pytest.fixture(scope="module")
def running_dev(tmp_path_factory) -> Iterator[dict[str, Any]]:
    """One ``nexus dev`` for all tests that only use it: the content of its ``dev.json``."""
    dev = DevProcess(tmp_path_factory.mktemp("dev"), NEXUS_SETTLE_SECONDS="0.5")
    try:
        yield dev.wait_until_ready()
        assert dev.stop() == 0, dev.text()
    finally:
        dev.clean_up()


@pytest.fixture
def unused_port_base() -> int:
    """The first of four free ports in a row."""
    while True:
        base = free_port()
        if all(port_is_free(base + offset) for offset in range(4)):
            return base


@pytest.fixture
def post() -> Callable[[dict[str, Any], dict[str, Any]], tuple[int, dict[str, Any]]]:
    """Post a conversation to a gateway: (dev.json's content, body) -> (status, answer)."""

    # The loopback address is never behind the machine's proxy.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def send(info: dict[str, Any], body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        request = urllib.request.Request(  # noqa: S310 - the http address of dev.json
            f"{info['gateway_url']}/api/nexus/producer",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with opener.open(request, timeout=20) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    return send


@pytest.fixture
def wait_for_row() -> Callable[..., Any]:
    """Await a prospect's row: (dev.json's content, fingerprint, condition on prospect_data) -> the whole row."""

    async def wait(
        info: dict[str, Any], fingerprint: str, condition: Callable[[dict[str, Any]], bool] = lambda data: True
    ) -> dict[str, Any]:
        deadline = time.monotonic() + ROW_TIMEOUT_SECONDS
        connection = await asyncpg.connect(info["database_url"])
        try:
            while True:
                rows = await connection.fetch(
                    "SELECT *, prospect_data::text AS data_text FROM prospect_tracking WHERE fingerprint_id = $1",
                    fingerprint,
                )
                assert len(rows) <= 1, "one row per prospect"
                for row in rows:
                    data = json.loads(row["data_text"])
                    if condition(data):
                        return {**dict(row), "prospect_data": data}
                assert time.monotonic() < deadline, (
                    f"no such row of {fingerprint}: {[row['data_text'] for row in rows]}"
                )
                await asyncio.sleep(0.1)
        finally:
            await connection.close()

    return wait
