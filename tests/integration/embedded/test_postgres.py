"""The embedded PostgreSQL: committed data survives any end of the server or its supervisor."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from nexus_stream.embedded.postgres import EmbeddedPostgres, servers_of
from nexus_stream.embedded.postgres_user import ServerUser
from nexus_stream.errors import ConfigurationError
from nexus_stream.host.free_ports import LOOPBACK

_START_AND_HANG = """
import sys, time
from pathlib import Path
from nexus_stream.embedded.postgres import EmbeddedPostgres
server = EmbeddedPostgres.start(Path(sys.argv[1]))
print(server.pid, server.dsn, flush=True)
time.sleep(60)
"""


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory) -> Path:
    """One directory for the module. Every test stops its server, and no test needs an empty directory."""
    return tmp_path_factory.mktemp("database") / "postgres"


@pytest.fixture
def foreign_process() -> Iterator[subprocess.Popen[bytes]]:
    """A live process that is not ours."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        yield process
        process.kill()


async def _execute(dsn: str, *statements: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        for statement in statements[:-1]:
            await connection.execute(statement)
        return await connection.fetchval(statements[-1])
    finally:
        await connection.close()


async def test_a_restart_keeps_the_data(data_dir) -> None:
    with EmbeddedPostgres.start(data_dir) as server:
        await _execute(server.dsn, "CREATE TABLE kept (word text)", "INSERT INTO kept VALUES ('Ñandú')", "SELECT 1")

    with EmbeddedPostgres.start(data_dir) as server:
        assert await _execute(server.dsn, "SELECT lower(word) FROM kept") == "ñandú"
    assert servers_of(data_dir) == []


async def test_after_kill_9_the_next_start_recovers_committed_data(data_dir) -> None:
    server = EmbeddedPostgres.start(data_dir)
    await _execute(server.dsn, "CREATE TABLE committed (number int)", "INSERT INTO committed VALUES (7)", "SELECT 1")
    server.kill()
    assert (data_dir / "postmaster.pid").exists()

    with EmbeddedPostgres.start(data_dir) as again:
        assert await _execute(again.dsn, "SELECT number FROM committed") == 7


async def test_a_server_whose_supervisor_was_killed_is_replaced(data_dir) -> None:
    with subprocess.Popen(  # noqa: ASYNC220 - nothing else runs in this loop
        [sys.executable, "-c", _START_AND_HANG, str(data_dir)], stdout=subprocess.PIPE, text=True
    ) as supervisor:
        assert supervisor.stdout is not None
        pid, dsn = supervisor.stdout.readline().split()
        supervisor.kill()
    left = psutil.Process(int(pid))
    await _execute(dsn, "CREATE TABLE left_behind (number int)", "INSERT INTO left_behind VALUES (3)", "SELECT 1")

    with EmbeddedPostgres.start(data_dir) as server:
        assert server.pid != int(pid)
        assert not left.is_running()
        assert await _execute(server.dsn, "SELECT number FROM left_behind") == 3


async def test_a_stale_pid_file_with_a_foreign_live_pid_is_replaced_and_the_process_left_alone(
    data_dir, foreign_process
) -> None:
    EmbeddedPostgres.start(data_dir).kill()
    pid_file = data_dir / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    pid_file.write_text("\n".join([str(foreign_process.pid), *lines[1:]]) + "\n")

    with EmbeddedPostgres.start(data_dir) as server:
        assert await _execute(server.dsn, "SELECT 1") == 1

    assert foreign_process.poll() is None
    assert psutil.Process(foreign_process.pid).status() != psutil.STATUS_ZOMBIE


def test_a_server_in_use_is_not_taken_over(data_dir) -> None:
    with EmbeddedPostgres.start(data_dir) as server:
        with pytest.raises(ConfigurationError, match=rf"in use by .*\(pid {os.getpid()}\)"):
            EmbeddedPostgres.start(data_dir)

        assert server.exit_code() is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts the server as another user")
async def test_as_root_closed_parent_directories_get_only_the_traverse_bit(tmp_path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)

    with EmbeddedPostgres.start(closed / "project" / "postgres") as server:
        assert await _execute(server.dsn, "SELECT 1") == 1
        assert psutil.Process(server.pid).uids().real != 0

    assert closed.stat().st_mode & 0o777 == 0o701
    assert (closed / "project" / "postgres").stat().st_mode & 0o777 == 0o700


def test_a_server_of_another_directory_is_left_alone(data_dir, tmp_path) -> None:
    with EmbeddedPostgres.start(data_dir) as ours, EmbeddedPostgres.start(tmp_path / "postgres") as other:
        assert {process.pid for process in servers_of(tmp_path / "postgres")}.isdisjoint({ours.pid})
        assert other.port != ours.port
        assert ours.exit_code() is None


async def test_the_log_has_no_value_of_a_refused_row(data_dir) -> None:
    log = data_dir.with_name("postgres.log")
    with EmbeddedPostgres.start(data_dir) as server:
        insert = "INSERT INTO people VALUES ('somebody@example.com')"
        with pytest.raises(asyncpg.UniqueViolationError):
            await _execute(server.dsn, "CREATE TABLE people (email text UNIQUE)", insert, insert, "SELECT 1")

    assert "duplicate key" in log.read_text()
    assert "somebody" not in log.read_text()


def test_it_listens_only_on_loopback_in_its_own_session(data_dir) -> None:
    with EmbeddedPostgres.start(data_dir) as server:
        addresses = {
            connection.laddr.ip
            for connection in psutil.Process(server.pid).net_connections(kind="tcp")
            if connection.status == psutil.CONN_LISTEN
        }
        session = os.getsid(server.pid)

    assert addresses == {LOOPBACK}
    assert session == server.pid


def test_a_taken_port_is_named_with_its_owner(data_dir, tmp_path) -> None:
    with (
        EmbeddedPostgres.start(data_dir) as server,
        pytest.raises(ConfigurationError, match=rf"{server.port}.*{server.pid}"),
    ):
        EmbeddedPostgres.start(tmp_path / "postgres", port=server.port)


def test_a_directory_of_another_version_is_refused_with_a_fix(data_dir, tmp_path) -> None:
    old = tmp_path / "postgres"
    old.mkdir()
    (old / "PG_VERSION").write_text("12\n")

    with pytest.raises(ConfigurationError, match=r"made by PostgreSQL 12.*move the directory away"):
        EmbeddedPostgres.start(old)


def test_a_directory_with_other_content_is_left_alone(tmp_path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "thesis.txt").write_text("years of work")

    with pytest.raises(ConfigurationError, match="not empty"):
        EmbeddedPostgres.start(tmp_path / "postgres")

    assert (tmp_path / "postgres" / "thesis.txt").read_text() == "years of work"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts the server as another user")
async def test_as_root_a_directory_closed_after_the_check_is_opened_again(tmp_path, monkeypatch) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    looks = []
    reach = ServerUser.reach

    def reach_and_then_somebody_closes(self, path) -> bool:
        opened = reach(self, path)
        if not looks:
            closed.chmod(0o700)
        if path.is_relative_to(closed):
            looks.append(path)
        return opened

    monkeypatch.setattr(ServerUser, "reach", reach_and_then_somebody_closes)

    with EmbeddedPostgres.start(closed / "postgres") as server:
        assert await _execute(server.dsn, "SELECT 1") == 1
    assert len(looks) >= 2
