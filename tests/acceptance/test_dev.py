"""``nexus dev``, from the first line it prints to the last process it stops."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import aiohttp
import asyncpg
import psutil
import pytest
from aiokafka.admin import AIOKafkaAdminClient

import nexus_stream
from nexus_stream.embedded.plan import GATEWAY_PORT
from nexus_stream.embedded.postgres import EmbeddedPostgres
from nexus_stream.embedded.terminal import typed
from nexus_stream.host.free_ports import LOOPBACK, free_port
from nexus_stream.supabase.migrate import apply_migrations

pytestmark = pytest.mark.timeout(300)

NEXUS = Path(sys.executable).with_name("nexus")
_PROJECT = Path(nexus_stream.__file__).parents[1]
README = _PROJECT / "README.md"
STEPS = ["broker", "database", "migrations", "topics", "gateway", "enricher", "sink", "console"]
WARM_START_SECONDS = 40.0
ROLES = {"dev", "broker", "database", "gateway", "enricher", "sink", "console"}
CARLOS = {
    "messages": [
        {"role": "user", "content": "Hola, me llamo Carlos"},
        {"role": "assistant", "content": "Hola Carlos"},
    ],
    "fingerprint": "test-fp-123",
    "sessionId": "test-session-456",
}


def _alive(pids) -> list[int]:
    return [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]


def _wait_until(condition, timeout_seconds: float, what: str) -> None:
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


async def _created_at(info, fingerprint: str):
    connection = await asyncpg.connect(info["database_url"])
    try:
        return await connection.fetchval(
            "SELECT created_at FROM prospect_tracking WHERE fingerprint_id = $1", fingerprint
        )
    finally:
        await connection.close()


@pytest.fixture
def make_dev(tmp_path) -> list[str]:
    """``make dev`` of the project, in a directory of the test and without installing anything again."""
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        (tmp_path / name).symlink_to(_PROJECT / name)
    venv = Path(sys.prefix)
    return ["make", f"--assume-old={venv}/.installed", f"VENV={venv}", "dev"]


async def test_make_dev_twice_with_the_same_curl(start_dev, make_dev, post, wait_for_row) -> None:
    # Given a first run, in which the walk-through becomes a row
    first = start_dev(command=make_dev)
    info = first.wait_until_ready()
    status, answer = post(info, CARLOS)
    assert status == 202
    assert len(answer["messageId"]) == 21
    assert int(answer["kafka"]["offset"]) >= 0
    row = await wait_for_row(info, "test-fp-123")
    assert row["prospect_data"]["nombre"] == "Carlos"
    pids = dict(info["pids"])

    # When make is asked to end, and asks in turn; how make itself ends then is make's affair
    first.stop(signal.SIGTERM)

    # Then nothing is left of it
    assert _alive(pids.values()) == []
    assert not first.info_path.exists()
    assert not (first.cwd / ".nexus" / "dev.pids.json").exists()
    stopped = re.findall(r"stopped (\w+) \(", first.text())
    assert stopped == ["gateway", "console", "enricher", "sink", "database", "broker"]

    # And in the next run the row is still there, and the same curl is accepted and processed again
    second = start_dev(command=make_dev)
    info = second.wait_until_ready()
    assert await _created_at(info, "test-fp-123") == row["created_at"]
    other = {**CARLOS, "fingerprint": "test-fp-124", "sessionId": "test-session-457"}
    assert post(info, CARLOS)[0] == 202
    assert post(info, other)[0] == 202
    assert (await wait_for_row(info, "test-fp-124"))["prospect_data"]["nombre"] == "Carlos"
    assert (await wait_for_row(info, "test-fp-123"))["prospect_data"]["nombre"] == "Carlos"
    assert await _created_at(info, "test-fp-123") == row["created_at"]
    # Ctrl-C reaches make and nexus dev.
    os.killpg(second.process.pid, signal.SIGINT)
    second.process.wait(35)
    assert re.findall(r"stopped (\w+) \(", second.text()) == stopped
    assert _alive(info["pids"].values()) == []
    # An idle machine takes a few seconds for a start on what is there; this is for a busy one.
    (ready_after,) = re.findall(r"^nexus dev is ready after (\d+\.\d) s$", second.text(), flags=re.MULTILINE)
    assert 0 < float(ready_after) < WARM_START_SECONDS


async def test_what_it_prints_and_what_dev_json_says(start_dev) -> None:
    dev = start_dev()
    info = dev.wait_until_ready()

    # The steps in order, each with its time.
    printed = re.findall(r"^ok  (\w+) +(\d+\.\d) s  ", dev.text(), flags=re.MULTILINE)
    assert [name for name, _ in printed] == STEPS

    # Every address leads somewhere.
    assert set(info) == {"gateway_url", "console_url", "database_url", "bootstrap_servers", "extractor", "pids"}
    assert set(info["pids"]) == ROLES
    assert len(set(info["pids"].values())) == len(ROLES)
    async with aiohttp.ClientSession() as session:
        for url in (info["gateway_url"], info["console_url"]):
            async with session.get(f"{url}/ready") as response:
                assert response.status == 200
    connection = await asyncpg.connect(info["database_url"])
    await connection.close()
    admin = AIOKafkaAdminClient(bootstrap_servers=info["bootstrap_servers"])
    await admin.start()
    try:
        topics = set(await admin.list_topics())
    finally:
        await admin.close()
    assert {"nexus-prospect-ingestion", "prospects-enriched", "nexus-prospect-dlq"} <= topics
    assert info["extractor"] == "offline-rules-v1"

    # The banner says the same, where data stays, and what to try.
    text = dev.text()
    for expected in (
        info["gateway_url"],
        info["console_url"],
        info["database_url"],
        info["bootstrap_servers"],
        "kept in .nexus/postgres",
        "in memory only",
        "pages may post from http://localhost:*, http://127.0.0.1:*",
        "offline rules: set ANTHROPIC_API_KEY for Claude",
        typed("nexus demo"),
    ):
        assert expected in text, expected

    # Each child is in a session of its own.
    for role, pid in info["pids"].items():
        assert role == "dev" or os.getsid(pid) == pid, role

    # The curl of the banner, pasted into a shell, is accepted.
    curl = re.search(r"^  curl .*?'\n  \}'$|^  curl .*?\}'$", text, flags=re.MULTILINE | re.DOTALL)
    assert curl is not None, text
    body = json.loads(curl.group(0).split("-d '", 1)[1].rstrip("'"))
    assert body == CARLOS
    assert dev.stop(signal.SIGINT) == 0, dev.text()


def test_the_pasted_commands_work(start_dev) -> None:
    dev = start_dev()
    info = dev.wait_until_ready()
    (readme_curl,) = re.findall(r"^```\n(curl .*?)^```$", README.read_text(), flags=re.MULTILINE | re.DOTALL)
    assert "http://127.0.0.1:8080/" in readme_curl
    readme_curl = readme_curl.replace("http://127.0.0.1:8080", info["gateway_url"])
    answer = subprocess.run(["sh", "-c", readme_curl], cwd=dev.cwd, capture_output=True, text=True, timeout=30)
    accepted = json.loads(answer.stdout)
    assert len(accepted["messageId"]) == 21, answer.stderr
    assert int(accepted["kafka"]["offset"]) == 0

    blocks = re.findall(r"^  ((?:curl|\S*psql) .*?)\n\n", dev.text(), flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    curl, psql = blocks

    answer = subprocess.run(["sh", "-c", f"{curl} -s"], cwd=dev.cwd, capture_output=True, text=True, timeout=30)
    assert json.loads(answer.stdout)["status"] == "accepted", answer.stderr
    assert json.loads(answer.stdout)["messageId"] != accepted["messageId"]

    def row_is_there() -> bool:
        row = subprocess.run(["sh", "-c", psql], cwd=dev.cwd, capture_output=True, text=True, timeout=30)
        assert row.returncode == 0, row.stderr
        return "Carlos" in row.stdout

    _wait_until(row_is_there, 40, "the row of the banner did not appear")


def test_demo_shows_rows_as_they_change(start_dev) -> None:
    dev = start_dev(NEXUS_SETTLE_SECONDS="0.5")
    info = dev.wait_until_ready()

    demo = subprocess.run([str(NEXUS), "demo", "--fast"], cwd=dev.cwd, capture_output=True, text=True, timeout=120)

    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert len(re.findall(r"^\w+ +row ", demo.stdout, flags=re.MULTILINE)) >= 3
    assert "lucia.ramirez@example.com" in demo.stdout
    assert info["console_url"] in demo.stdout


def test_demo_without_a_running_dev_says_what_to_do(tmp_path) -> None:
    demo = subprocess.run([str(NEXUS), "demo"], cwd=tmp_path, capture_output=True, text=True, timeout=30)

    assert demo.returncode == 2
    assert "make dev" in demo.stderr


async def test_after_kill_9_the_next_start_cleans_up_and_keeps_the_rows(start_dev, post, wait_for_row) -> None:
    killed = start_dev(NEXUS_SETTLE_SECONDS="0.2")
    info = killed.wait_until_ready()
    assert post(info, CARLOS)[0] == 202
    await wait_for_row(info, "test-fp-123")
    left = [pid for role, pid in info["pids"].items() if role != "dev"]

    killed.process.kill()
    killed.process.wait(10)
    assert _alive(left) == left

    again = start_dev(NEXUS_SETTLE_SECONDS="0.2")
    info = again.wait_until_ready()

    assert _alive(left) == []
    assert "an earlier run was killed" in again.text()
    assert (await wait_for_row(info, "test-fp-123"))["prospect_data"]["nombre"] == "Carlos"
    assert again.stop() == 0, again.text()


def test_a_second_one_in_the_same_directory_is_refused(start_dev) -> None:
    first = start_dev()
    info = first.wait_until_ready()

    second = start_dev()

    assert second.process.wait(30) == 2
    assert f"(pid {first.process.pid})" in second.text()
    assert info["gateway_url"] in second.text()
    assert first.process.poll() is None
    assert json.loads(first.info_path.read_text()) == info

    reset = subprocess.run([str(NEXUS), "dev", "reset"], cwd=first.cwd, capture_output=True, text=True, timeout=30)
    assert reset.returncode == 2
    assert (first.cwd / ".nexus" / "postgres").is_dir()


def test_a_process_that_dies_ends_everything_and_is_reported(start_dev) -> None:
    dev = start_dev()
    info = dev.wait_until_ready()

    os.kill(info["pids"]["sink"], signal.SIGKILL)

    assert dev.process.wait(40) == 1
    assert "sink was killed by SIGKILL" in dev.text()
    assert _alive(info["pids"].values()) == []
    assert not dev.info_path.exists()


def test_ctrl_c_in_a_terminal_stops_in_order(tmp_path) -> None:
    # A session's first process that opens a terminal gets it as its own: what a person types reaches it.
    keyboard, screen = os.openpty()
    terminal = os.ttyname(screen)
    command = f"exec {NEXUS} dev <{terminal} >{terminal} 2>&1"
    shown = bytearray()
    with subprocess.Popen(["sh", "-c", command], cwd=tmp_path, start_new_session=True) as dev:
        reader = threading.Thread(target=_read_all, args=(keyboard, shown), daemon=True)
        reader.start()
        try:
            info_path = tmp_path / ".nexus" / "dev.json"
            _wait_until(lambda: info_path.exists() or dev.poll() is not None, 90, "not ready")
            info = json.loads(info_path.read_text())

            os.write(keyboard, b"\x03")

            assert dev.wait(35) == 0, shown.decode()
        finally:
            dev.terminate()
    os.close(screen)
    reader.join(10)
    os.close(keyboard)
    assert _alive(info["pids"].values()) == []
    stopped = re.findall(r"stopped (\w+) \(", shown.decode())
    assert stopped == ["gateway", "console", "enricher", "sink", "database", "broker"]


def _read_all(descriptor: int, into: bytearray) -> None:
    # EIO is how a terminal ends.
    with contextlib.suppress(OSError):
        while chunk := os.read(descriptor, 4096):
            into += chunk


def test_a_second_signal_stops_at_once(start_dev) -> None:
    dev = start_dev()
    info = dev.wait_until_ready()
    # Held up, so that only killing it can end this quickly.
    os.kill(info["pids"]["gateway"], signal.SIGSTOP)

    dev.process.send_signal(signal.SIGINT)
    _wait_until(lambda: "stopping" in dev.text(), 10, "the first signal was not noticed")
    time.sleep(0.5)
    started = time.monotonic()
    dev.process.send_signal(signal.SIGINT)

    assert dev.process.wait(10) == 0
    assert time.monotonic() - started < 9
    assert _alive(info["pids"].values()) == []
    assert not dev.info_path.exists()


def test_a_signal_during_the_start_leaves_nothing_running(start_dev) -> None:
    dev = start_dev()
    _wait_until(lambda: "ok  topics" in dev.text() or dev.process.poll() is not None, 60, "no topics")
    pids = [identity.pid for identity in dev.recorded()]
    assert pids

    assert dev.stop() == 0, dev.text()

    assert _alive(pids) == []
    assert "is ready after" not in dev.text()


def test_a_step_that_fails_shows_its_last_lines_and_stops_the_rest(start_dev, tmp_path) -> None:
    (tmp_path / ".nexus" / "postgres").mkdir(parents=True)
    (tmp_path / ".nexus" / "postgres" / "PG_VERSION").write_text("18\n")

    dev = start_dev()
    _wait_until(lambda: dev.process.poll() is not None, 60, "it did not end")

    assert dev.process.returncode == 1
    assert "postgresql.conf" in dev.text()
    assert dev.recorded() == []


def test_a_database_of_an_earlier_checkout_is_told_with_what_removes_it(start_dev, tmp_path) -> None:
    earlier = tmp_path / "earlier"
    earlier.mkdir()
    (earlier / "20261124000100_prospect_tables.sql").write_text("create table public.prospect_sessions ()")
    with EmbeddedPostgres.start(tmp_path / ".nexus" / "postgres") as database:
        asyncio.run(apply_migrations(database.dsn, earlier))

    dev = start_dev()
    assert dev.process.wait(60) == 1

    assert "migrations: Database 127.0.0.1" in dev.text()
    assert "was made by an earlier checkout of nexus-stream" in dev.text()
    assert "20261124000100_prospect_tables. Nothing was changed." in dev.text()
    assert "nexus dev reset` deletes this database. The next start creates an empty one." in dev.text()
    for other in ("pg_dump", "The last lines of", "Traceback"):
        assert other not in dev.text()
    reset = subprocess.run([str(NEXUS), "dev", "reset"], cwd=dev.cwd, capture_output=True, text=True, timeout=30)
    assert reset.returncode == 0
    again = start_dev()
    again.wait_until_ready()
    assert again.stop() == 0, again.text()


def test_a_taken_port_that_was_asked_for_is_refused(start_dev) -> None:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((LOOPBACK, 0))
        listener.listen()
        port = listener.getsockname()[1]

        refused = start_dev("--port-base", str(port))

        assert refused.process.wait(30) == 2
        assert f"Port {port}" in refused.text()
        assert f"(pid {os.getpid()})" in refused.text()


async def test_a_taken_port_is_replaced_and_a_managed_cluster_in_env_is_not_used(start_dev, tmp_path) -> None:
    metrics_port = free_port()
    theirs = {"NEXUS_KAFKA_PROVIDER": "msk-iam", "NEXUS_KAFKA_AWS_REGION": "us-east-1", "NEXUS_DATA_DIR": "/nowhere"}
    lines = [f"{name}={value}\n" for name, value in {**theirs, "NEXUS_METRICS_PORT": metrics_port}.items()]
    (tmp_path / ".env").write_text("".join(lines))
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Somebody else's is as good.
        with contextlib.suppress(OSError):
            listener.bind((LOOPBACK, GATEWAY_PORT))
            listener.listen()

        dev = start_dev()
        info = dev.wait_until_ready()

    (replaced_by,) = re.findall(
        rf"^port {GATEWAY_PORT} is .*: the gateway takes (\d+)$", dev.text(), flags=re.MULTILINE
    )
    assert info["gateway_url"] == f"http://127.0.0.1:{replaced_by}"
    for variable in theirs:
        assert f"{variable} is not used" in dev.text()
    said = re.findall(r"the gateway's metrics take (\d+), the console's (\d+)$", dev.text(), flags=re.MULTILINE)
    assert [port for port, _ in said] == [str(metrics_port)]
    async with aiohttp.ClientSession() as session:
        for port in said[0]:
            async with session.get(f"http://127.0.0.1:{port}/metrics") as response:
                assert "nexus_" in await response.text()
    assert dev.stop() == 0, dev.text()


@pytest.mark.parametrize(
    ("variable", "value"), [("PORT", "99999"), ("NEXUS_GATEWAY_PORT", "abc"), ("NEXUS_METRICS_PORT", "-1")]
)
def test_a_port_that_is_none_is_refused_with_its_variable(start_dev, variable, value) -> None:
    dev = start_dev(**{variable: value})

    assert dev.process.wait(30) == 2
    assert f"  - {variable}: " in dev.text()
    assert "Traceback" not in dev.text()


def test_a_port_base_decides_all_addresses(start_dev, unused_port_base) -> None:
    dev = start_dev("--port-base", str(unused_port_base), "--ephemeral")
    info = dev.wait_until_ready()

    assert info["gateway_url"] == f"http://127.0.0.1:{unused_port_base}"
    assert info["console_url"] == f"http://127.0.0.1:{unused_port_base + 1}"
    assert info["bootstrap_servers"] == f"127.0.0.1:{unused_port_base + 2}"
    assert info["database_url"] == f"postgresql://postgres@127.0.0.1:{unused_port_base + 3}/postgres"

    # And nothing of an ephemeral one stays but its logs.
    assert dev.stop() == 0, dev.text()
    assert not (dev.cwd / ".nexus" / "ephemeral").exists()
    assert not (dev.cwd / ".nexus" / "postgres").exists()


def test_reset_removes_the_database(start_dev) -> None:
    dev = start_dev()
    dev.wait_until_ready()
    assert dev.stop() == 0

    reset = subprocess.run([str(NEXUS), "dev", "reset"], cwd=dev.cwd, capture_output=True, text=True, timeout=30)

    assert reset.returncode == 0
    assert ".nexus/postgres" in reset.stdout
    assert [path.name for path in (dev.cwd / ".nexus").iterdir()] == ["dev.lock"]


def test_production_is_refused_before_anything_is_touched(start_dev, tmp_path) -> None:
    dev = start_dev(NEXUS_ENV="production")

    assert dev.process.wait(30) == 2
    assert "NEXUS_ENV=production" in dev.text()
    assert not (tmp_path / ".nexus").exists()


def test_every_wrong_setting_is_said_before_anything_is_started(start_dev) -> None:
    dev = start_dev(NEXUS_SETTLE_SECONDS="soon", NEXUS_SETLE="1")

    assert dev.process.wait(30) == 2
    assert "NEXUS_SETTLE_SECONDS" in dev.text()
    assert "NEXUS_SETLE" in dev.text()
    assert dev.recorded() == []
