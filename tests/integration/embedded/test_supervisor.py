"""The supervisor with real, small processes. Each process behaves in one way."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nexus_stream.embedded.supervisor import Supervisor, WorkerProcess
from nexus_stream.errors import EmbeddedServiceError
from nexus_stream.host.free_ports import free_port

# Answers 503 with a reason until the given second, then 200.
_SERVER = """
import sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer
ready_at = time.monotonic() + float(sys.argv[2])
class Ready(BaseHTTPRequestHandler):
    def do_GET(self):
        ready = time.monotonic() > ready_at
        self.send_response(200 if ready else 503)
        self.end_headers()
        self.wfile.write(b"ready" if ready else b"no partitions yet")
    def log_message(self, *args): pass
HTTPServer(("127.0.0.1", int(sys.argv[1])), Ready).serve_forever()
"""
_SLEEPER = "import time; print('up', flush=True); time.sleep(60)"
_STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + _SLEEPER
_FAILING = "print('cannot go on: the file is missing'); raise SystemExit(3)"


@pytest.fixture
def supervisor() -> Supervisor:
    return Supervisor()


@pytest.fixture
def start(supervisor, tmp_path) -> Iterator[Callable[..., WorkerProcess]]:
    started: list[WorkerProcess] = []

    def run(role: str, script: str, *arguments: object) -> WorkerProcess:
        log = tmp_path / f"{role}.log"
        worker = WorkerProcess([sys.executable, "-c", script, *map(str, arguments)], dict(os.environ), log)
        supervisor.add(role, worker, log)
        started.append(worker)
        return worker

    yield run
    for worker in started:
        worker.kill()
        worker.stop()


def _wait_until_up(log: Path) -> None:
    deadline = time.monotonic() + 10
    while "up" not in log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)


async def test_it_waits_until_a_process_is_ready(supervisor, start) -> None:
    port = free_port()
    start("web", _SERVER, port, 0.7)
    started = time.monotonic()

    await supervisor.wait_until_ready("web", f"http://127.0.0.1:{port}/ready", 20)

    assert time.monotonic() - started > 0.5


async def test_a_process_that_is_never_ready_is_reported_with_its_own_reason(supervisor, start) -> None:
    port = free_port()
    start("web", _SERVER, port, 60)

    with pytest.raises(EmbeddedServiceError, match=r"web was not ready after 2 s.*503: no partitions yet"):
        await supervisor.wait_until_ready("web", f"http://127.0.0.1:{port}/ready", 2)


async def test_a_process_that_ends_before_it_is_ready_is_reported_with_its_last_lines(supervisor, start) -> None:
    start("worker", _FAILING)

    with pytest.raises(EmbeddedServiceError, match=r"(?s)worker ended with exit code 3.*the file is missing"):
        await supervisor.wait_until_ready("worker", f"http://127.0.0.1:{free_port()}/ready", 20)


async def test_the_first_process_that_ends_is_noticed(supervisor, start) -> None:
    start("one", _SLEEPER)
    two = start("two", _SLEEPER)
    watching = asyncio.create_task(supervisor.wait_until_one_ends())
    await asyncio.sleep(0.5)
    assert not watching.done()

    os.kill(two.pid, signal.SIGKILL)

    async with asyncio.timeout(5):
        assert "two was killed by SIGKILL" in await watching


async def test_processes_are_stopped_in_the_order_given(supervisor, start) -> None:
    said: list[str] = []
    for role in ("one", "two", "three"):
        start(role, _SLEEPER)

    await supervisor.stop(["three", "one", "not started"], asyncio.Event(), 10, said.append)

    assert [line.split(" (")[0] for line in said] == ["stopped three", "stopped one"]
    assert set(supervisor.pids) == {"two"}


async def test_a_process_that_does_not_stop_in_time_is_killed(supervisor, start, tmp_path) -> None:
    said: list[str] = []
    stubborn = start("stubborn", _STUBBORN)
    good = start("good", _SLEEPER)
    _wait_until_up(tmp_path / "stubborn.log")

    await supervisor.stop(["stubborn", "good"], asyncio.Event(), 0.5, said.append)

    assert stubborn.exit_code() == -signal.SIGKILL
    assert good.exit_code() is not None
    assert any("killing the processes that still run" in line for line in said)


async def test_a_second_request_kills_the_running_processes(supervisor, start, tmp_path) -> None:
    at_once = asyncio.Event()
    stubborn = start("stubborn", _STUBBORN)
    _wait_until_up(tmp_path / "stubborn.log")
    stopping = asyncio.create_task(supervisor.stop(["stubborn"], at_once, 30, lambda line: None))
    await asyncio.sleep(0.3)
    assert not stopping.done()

    at_once.set()

    async with asyncio.timeout(5):
        await stopping
    assert stubborn.exit_code() == -signal.SIGKILL
