"""The running product under a little traffic, scraped by a real Prometheus that has our rules.

Gateway, enricher (Claude played by a stand-in), sink and console as processes; embedded broker and PostgreSQL.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from nexus_stream.embedded.broker import EmbeddedBroker
from nexus_stream.embedded.postgres import EmbeddedPostgres
from nexus_stream.host.free_ports import free_port
from tests.chaos.claude_stand_in import REFUSED_WORD, ClaudeStandIn
from tests.stack import Stack
from tests.support.prometheus import Prometheus, missing_prometheus
from tests.support.requirements import require

DEPLOY = Path(__file__).resolve().parents[3] / "deploy"
RULE_FILES = (DEPLOY / "prometheus" / "recording.rules.yml", DEPLOY / "prometheus" / "alerts.rules.yml")
DASHBOARD = DEPLOY / "grafana" / "nexus-stream.json"

_BETWEEN_POSTS_SECONDS = 0.25
_SCRAPED_SECONDS = 90.0


@pytest.fixture(scope="package")
def prometheus_installed() -> None:
    """Skips without Debian's package, or fails where it is required."""
    require("prometheus", missing_prometheus())


class Traffic(threading.Thread):
    """Posts a new chat every quarter of a second; every fourth repeats an earlier text, which a cache knows."""

    def __init__(self, stack: Stack) -> None:
        super().__init__(name="traffic", daemon=True)
        self._stack = stack
        self._over = threading.Event()
        self.accepted = 0

    def run(self) -> None:
        for number in itertools.count():
            if self._over.wait(_BETWEEN_POSTS_SECONDS):
                return
            person = number - 4 if number % 4 == 3 else number
            text = f"Hola, me llamo Ana Prado y mi correo es ana{person}@example.com, quiero empezar"
            # A few are refused by the model, as in life: dead letters.
            if number % 40 == 9:
                text += f" con {REFUSED_WORD}"
            self.accepted += self._post({"messages": [{"role": "user", "content": text}], "sessionId": f"s-{number}"})
            if number % 10 == 5:
                # Refused: no messages. And a health check.
                self._post({"messages": [], "sessionId": "s-none"})
                url = f"{self._stack.processes['gateway'].url}/api/nexus/producer"
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(url, timeout=10).close()  # noqa: S310 - a loopback address of ours

    def _post(self, body: object) -> bool:
        try:
            return self._stack.post(body)[0] == 202
        except OSError:
            return False

    def end(self) -> None:
        """Stop and wait."""
        self._over.set()
        self.join(30)


@contextmanager
def claude_stand_in() -> Iterator[str]:
    """The address of one that answers, on an event loop in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="claude", daemon=True)
    thread.start()
    stand_in = ClaudeStandIn()
    try:
        asyncio.run_coroutine_threadsafe(stand_in.__aenter__(), loop).result(30)
        yield stand_in.url
    finally:
        asyncio.run_coroutine_threadsafe(stand_in.__aexit__(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()


@dataclass(frozen=True)
class Observed:
    """The product, its traffic, and who watches it."""

    stack: Stack
    traffic: Traffic
    prometheus: Prometheus


@pytest.fixture(scope="package")
def observed(prometheus_installed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    """All four process types under traffic, each scraped at least once."""
    folder = tmp_path_factory.mktemp("observed")
    folder.chmod(0o755)
    with (
        EmbeddedBroker.start(log_path=folder / "broker.log") as broker,
        EmbeddedPostgres.start(folder / "postgres") as database,
        claude_stand_in() as claude_url,
    ):
        stack = Stack(
            folder,
            broker.bootstrap_servers,
            database.dsn,
            ANTHROPIC_API_KEY="sk-test-0000000000000000",
            ANTHROPIC_BASE_URL=claude_url,
            NEXUS_BUDGET_USD_PER_HOUR="50",
            NEXUS_BUDGET_USD_PER_DAY="100",
            NEXUS_BUDGET_FALLBACK="offline",
        )
        asyncio.run(stack.prepare())
        metrics_ports = {"gateway": free_port()}
        metrics_ports["console"] = free_port(metrics_ports.values())
        try:
            for kind in ("gateway", "enricher", "sink", "console"):
                variables = {"NEXUS_METRICS_PORT": str(metrics_ports[kind])} if kind in metrics_ports else {}
                stack.start(kind, **variables)
            targets = {
                f"nexus-{kind}": [f"127.0.0.1:{metrics_ports.get(kind, process.url.rpartition(':')[2])}"]
                for kind, process in stack.processes.items()
            }
            for process in stack.processes.values():
                process.wait_until_ready(90)
            with Prometheus(folder / "prometheus", targets, RULE_FILES) as prometheus:
                _wait_until_scraped(prometheus)
                traffic = Traffic(stack)
                traffic.start()
                try:
                    yield Observed(stack, traffic, prometheus)
                finally:
                    traffic.end()
        finally:
            stack.stop_all()


def _wait_until_scraped(prometheus: Prometheus) -> None:
    deadline = time.monotonic() + _SCRAPED_SECONDS
    while set(health := prometheus.targets().values()) != {"up"}:
        assert time.monotonic() < deadline, f"not scraped: {prometheus.targets()} {health}"
        time.sleep(0.5)
