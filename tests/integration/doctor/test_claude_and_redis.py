"""The API checks with our own stand-in for ``/v1/models`` (no proof about the real API), and a real Redis."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis
from aiohttp import web

from nexus_stream.host.free_ports import LOOPBACK, free_port
from tests.support.requirements import require

if TYPE_CHECKING:
    from tests.integration.doctor.conftest import Doctor

_WAIT_SECONDS = 60
_MODELS = ("claude-haiku-5-5", "claude-opus-5")


class StandIn:
    """Knows `_MODELS`, or answers everything with one status."""

    def __init__(self) -> None:
        self.status = 200
        self.headers: dict[str, str] = {}
        self.asked: list[str] = []

    async def handle(self, request: web.Request) -> web.Response:
        self.asked.append(f"{request.method} {request.path}")
        if self.status != 200:
            # As a gateway may do it: it repeats what it was sent.
            body = {"type": "error", "error": {"type": "x", "message": f"key {request.headers.get('x-api-key')}"}}
            return web.json_response(body, status=self.status, headers=self.headers)
        models = [
            {"type": "model", "id": name, "display_name": name, "created_at": "2026-01-01T00:00:00Z"}
            for name in _MODELS
        ]
        if request.path == "/v1/models":
            page = {"data": models, "has_more": False, "first_id": _MODELS[0], "last_id": _MODELS[-1]}
            return web.json_response(page, headers=self.headers)
        name = request.path.rpartition("/")[2]
        for model in models:
            if model["id"] == name:
                return web.json_response(model, headers=self.headers)
        return web.json_response({"type": "error", "error": {"type": "not_found_error", "message": name}}, status=404)

    @contextmanager
    def serving(self) -> Iterator[str]:
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()

        async def start() -> tuple[web.ServerRunner, str]:
            runner = web.ServerRunner(web.Server(self.handle))
            await runner.setup()
            await web.TCPSite(runner, LOOPBACK, 0).start()
            return runner, f"http://{LOOPBACK}:{runner.addresses[0][1]}"

        runner, url = asyncio.run_coroutine_threadsafe(start(), loop).result(_WAIT_SECONDS)
        try:
            yield url
        finally:
            asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(_WAIT_SECONDS)
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()


@pytest.fixture
def stand_in() -> StandIn:
    return StandIn()


@pytest.fixture
def with_claude(without_database: Doctor, stand_in: StandIn) -> Iterator[Doctor]:
    with stand_in.serving() as url:
        without_database.environ |= {"ANTHROPIC_API_KEY": "sk-ant-of-no-account", "ANTHROPIC_BASE_URL": url}
        yield without_database


def test_a_key_and_a_model_that_work_cost_no_token(with_claude: Doctor, stand_in: StandIn, finding: Any) -> None:
    report = with_claude.examine("enricher")

    for check in ("key", "model", "price", "reachable", "clock"):
        assert finding(report, f"claude.{check}").severity == "ok"
    assert stand_in.asked == ["GET /v1/models/claude-haiku-5-5"]


def test_a_retired_model_is_reported_with_its_successor(with_claude: Doctor, finding: Any) -> None:
    report = with_claude.examine("enricher", NEXUS_CLAUDE_MODEL="claude-sonnet-4-20250514")

    found = [each for each in report.findings if each.check == "claude.model"]
    # By the table, and by the API, which no longer knows it.
    assert [each.severity for each in found] == ["error", "error"]
    assert "retired on 2026-06-15" in found[0].found
    assert "NEXUS_CLAUDE_MODEL=claude-haiku-5-5" in found[0].fix
    assert finding(report, "claude.price").severity == "warning"
    assert report.exit_code(strict=False) == 1


def test_a_model_with_a_typing_error(with_claude: Doctor, finding: Any) -> None:
    report = with_claude.examine("enricher", NEXUS_CLAUDE_MODEL="claude-haku-5-5")

    assert finding(report, "claude.model", "error").fix == "NEXUS_CLAUDE_MODEL=claude-haiku-5-5"


@pytest.mark.parametrize(
    ("status", "severity", "found", "fix"),
    [
        (401, "error", "the key is refused", "ANTHROPIC_API_KEY"),
        (403, "error", "may not use claude-haiku-5-5", "workspace"),
        (404, "warning", "404 for the model and for the list", "ANTHROPIC_BASE_URL"),
        (429, "warning", "HTTP 429, asks to wait 7 s", "NEXUS_CLAUDE_REQUESTS_PER_MINUTE"),
        (529, "warning", "HTTP 529", "NEXUS_CLAUDE_REQUESTS_PER_MINUTE"),
    ],
)
def test_each_refusal_has_its_own_fix(
    with_claude: Doctor, stand_in: StandIn, finding: Any, status: int, severity: str, found: str, fix: str
) -> None:
    stand_in.status, stand_in.headers = status, {"retry-after": "7"}

    answer = finding(with_claude.examine("enricher"), "claude.reachable")

    assert answer.severity == severity
    assert found in answer.found
    assert fix in answer.fix
    assert "sk-ant" not in answer.found


def test_a_clock_that_is_wrong(with_claude: Doctor, stand_in: StandIn, finding: Any) -> None:
    theirs = datetime.now(UTC) + timedelta(minutes=5)
    stand_in.headers = {"Date": format_datetime(theirs, usegmt=True)}

    found = finding(with_claude.examine("enricher"), "claude.clock")

    assert found.severity == "error"
    assert "behind the API" in found.found


@contextmanager
def _redis(folder: Path, *options: str) -> Iterator[int]:
    program = shutil.which("redis-server")
    require("redis", None if program else "redis-server (apt-get install redis-server)")
    assert program is not None
    port = free_port()
    argv = [program, "--port", str(port), "--bind", LOOPBACK, "--save", "", "--dir", str(folder), *options]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + _WAIT_SECONDS
            while True:
                try:
                    with redis.Redis(port=port) as client:
                        client.ping()
                    break
                except redis.AuthenticationError:
                    break
                except redis.ConnectionError:
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
            yield port
        finally:
            process.terminate()


def test_a_redis_that_evicts_is_fine_and_one_that_fills_up_is_not(
    without_database: Doctor, finding: Any, tmp_path: Path
) -> None:
    for policy, severity in (("allkeys-lru", "ok"), ("noeviction", "warning")):
        with _redis(tmp_path, "--maxmemory", "64mb", "--maxmemory-policy", policy) as port:
            report = without_database.examine("enricher", NEXUS_REDIS_URL=f"redis://{LOOPBACK}:{port}/0")

        assert finding(report, "redis.reachable").severity == "ok"
        assert finding(report, "redis.memory").severity == severity


def test_a_redis_that_refuses_the_login(without_database: Doctor, finding: Any, tmp_path: Path) -> None:
    with _redis(tmp_path, "--requirepass", "the-right-one") as port:
        address = f"{LOOPBACK}:{port}/0"
        without = without_database.examine("enricher", NEXUS_REDIS_URL=f"redis://{address}")
        wrong = without_database.examine("enricher", NEXUS_REDIS_URL=f"redis://:the-wrong-one@{address}")

    for report in (without, wrong):
        found = finding(report, "redis.reachable")
        assert found.severity == "warning"
        assert "refuses the login" in found.found
