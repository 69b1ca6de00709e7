"""What the image holds starts as an unprivileged user on files it cannot write to, is found healthy, and stops."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nexus_stream import __version__
from nexus_stream.embedded.broker import EmbeddedBroker
from nexus_stream.embedded.postgres import EmbeddedPostgres
from nexus_stream.embedded.processes import last_lines
from nexus_stream.host.free_ports import free_port
from tests.stack import FAST_GROUPS

# The first test that uses it follows the Dockerfile, pip included.
pytestmark = pytest.mark.timeout(600)

_HEALTHY_WITHIN_SECONDS = 120
_GRACE_SECONDS = 60


@pytest.fixture(scope="module")
def prepared(image: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The image on a broker and a database that its own commands have set up."""
    folder = tmp_path_factory.mktemp("services")
    with EmbeddedBroker.start(folder / "broker.log") as broker, EmbeddedPostgres.start(folder / "db") as database:
        image.environment = {
            "NEXUS_KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
            "SUPABASE_DB_URL": database.dsn,
            "NEXUS_CONSOLE_TOKEN": "0123456789abcdef",
            "NEXUS_TOPIC_PARTITIONS": "2",
            **FAST_GROUPS,
        }
        yield image


def test_the_command_line_is_there(image: Any) -> None:
    answer = image.run("nexus", "--version")
    assert answer.returncode == 0, answer.stderr
    assert __version__ in answer.stdout


def test_topics_and_tables_are_made_by_its_own_commands(prepared: Any) -> None:
    topics = prepared.run("nexus", "topics", "apply")
    assert topics.returncode == 0, topics.stdout + topics.stderr
    assert "nexus-prospect-ingestion" in topics.stdout
    migrated = prepared.run("nexus", "migrate")
    assert migrated.returncode == 0, migrated.stdout + migrated.stderr
    assert "migration(s) applied" in migrated.stdout
    assert prepared.run("nexus", "migrate", "--plan").returncode == 0


@pytest.mark.parametrize(
    ("process_type", "argv"),
    [
        ("gateway", ("nexus", "gateway")),
        ("enricher", ("faust", "-A", "nexus_stream.enricher", "worker")),
        ("sink", ("faust", "-A", "nexus_stream.sink", "worker")),
        ("console", ("nexus", "console")),
    ],
)
def test_a_process_starts_is_healthy_and_stops(
    prepared: Any, tmp_path: Path, process_type: str, argv: tuple[str, ...]
) -> None:
    # The image's own ports may be taken on this machine: in a container they are its own.
    names = ("NEXUS_GATEWAY_PORT", "NEXUS_CONSOLE_PORT", "NEXUS_WEB_PORT", "NEXUS_METRICS_PORT")
    ports: dict[str, str] = {}
    for name in names:
        ports[name] = str(free_port([int(port) for port in ports.values()]))
    before = prepared.files()
    log = tmp_path / "process.log"
    process = prepared.start(*argv, log=log, **ports)
    try:
        assert _user_of(process.pid) != 0
        # First the image's HEALTHCHECK, which in a container finds the type by itself; then the stricter question.
        healthcheck = next(item.argv for item in prepared.instructions if item.name == "HEALTHCHECK")
        for question in (healthcheck, tuple(word for word in healthcheck if word != "--live")):
            deadline = time.monotonic() + _HEALTHY_WITHIN_SECONDS
            while (answer := prepared.run(*question, process_type, **ports)).returncode != 0:
                assert process.poll() is None, last_lines(log, 40)
                assert time.monotonic() < deadline, f"{answer.stdout}{answer.stderr}\n{last_lines(log, 40)}"
                time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(_GRACE_SECONDS) == 0, last_lines(log, 40)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(10)
    # Nothing was written but data: the root file system can be read-only.
    assert prepared.files() == before
    assert prepared.run(*healthcheck, process_type, **ports).returncode == 1


def test_the_console_refuses_to_be_open_to_everybody(prepared: Any) -> None:
    answer = prepared.run("nexus", "console", NEXUS_CONSOLE_TOKEN="")
    assert answer.returncode == 2
    assert "NEXUS_CONSOLE_TOKEN" in answer.stderr


def _user_of(pid: int) -> int:
    status = Path(f"/proc/{pid}/status")
    if not status.exists():  # macOS
        return int(subprocess.run(["ps", "-o", "uid=", str(pid)], capture_output=True, text=True).stdout)
    line = next(line for line in status.read_text().splitlines() if line.startswith("Uid:"))
    return int(line.split()[1])


def test_these_tests_run_it_as_somebody_else_than_root(image: Any) -> None:
    answer = image.run("sh", "-c", f"id -u; touch {image.root}/app/written 2>&1 || echo refused")
    uid, verdict = answer.stdout.split()[0], answer.stdout.split()[-1]
    assert int(uid) == (image.user or os.geteuid()) != 0
    assert verdict == "refused" or image.user is None
