"""Children have their own sessions, and a process's identity is more than its pid."""

import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from nexus_stream.embedded.processes import ProcessIdentity, last_lines, spawn, stop_process

_STUBBORN = "import signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = spawn([sys.executable, "-c", "import time; time.sleep(60)"], log_path=None)
    yield process
    process.kill()
    process.wait(10)


def test_a_child_has_its_own_session(sleeper) -> None:
    assert os.getsid(sleeper.pid) == sleeper.pid
    assert os.getsid(sleeper.pid) != os.getsid(0)


def test_a_recorded_process_is_found_while_it_runs_and_not_after(sleeper) -> None:
    identity = ProcessIdentity.of("worker", sleeper.pid)
    assert identity is not None

    found = identity.find()
    assert found is not None
    assert found.pid == sleeper.pid

    sleeper.kill()
    assert sleeper.wait(10) == -signal.SIGKILL
    assert identity.find() is None


def test_a_zombie_is_not_found(sleeper) -> None:
    identity = ProcessIdentity.of("worker", sleeper.pid)
    assert identity is not None
    os.kill(sleeper.pid, signal.SIGKILL)
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)

    assert identity.find() is None


def test_another_process_with_the_same_pid_is_not_found(sleeper) -> None:
    identity = ProcessIdentity.of("worker", sleeper.pid)
    assert identity is not None

    started_earlier = dataclasses.replace(identity, started_at=identity.started_at - 60)
    other_program = dataclasses.replace(identity, executable="/usr/bin/somebody-elses")

    assert started_earlier.find() is None
    assert other_program.find() is None


def test_an_ended_process_has_no_identity(sleeper) -> None:
    sleeper.kill()
    sleeper.wait(10)

    assert ProcessIdentity.of("worker", sleeper.pid) is None


def test_a_child_that_ends_when_asked_was_stopped_gracefully(sleeper) -> None:
    assert stop_process(sleeper, timeout_seconds=10)
    assert sleeper.returncode == -signal.SIGTERM


def test_a_child_that_ignores_the_request_is_killed(tmp_path) -> None:
    log = tmp_path / "stubborn.log"
    process = spawn([sys.executable, "-c", _STUBBORN], log_path=log)
    while "up" not in last_lines(log):
        assert process.poll() is None

    assert not stop_process(process, timeout_seconds=0.3)
    assert process.returncode == -signal.SIGKILL


def test_the_last_lines_of_a_log(tmp_path) -> None:
    log = tmp_path / "process.log"
    log.write_bytes(b"".join(b"line %d\n" % number for number in range(100)) + b"bad \xff byte\n")

    assert last_lines(log, 3) == "line 98\nline 99\nbad \ufffd byte"
    assert "cannot be read" in last_lines(tmp_path / "none.log")
    assert "not kept" in last_lines(None)
