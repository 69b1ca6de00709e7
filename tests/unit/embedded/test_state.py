"""The small files of ``.nexus``; only our own processes are stopped."""

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from nexus_stream.embedded.processes import ProcessIdentity, spawn
from nexus_stream.embedded.state import DevDirectory, DevInfo, stop_leftovers

_INFO = DevInfo(
    gateway_url="http://127.0.0.1:1",
    console_url="http://127.0.0.1:2",
    database_url="postgresql://postgres@127.0.0.1:3/postgres",
    bootstrap_servers="127.0.0.1:4",
    extractor="offline-rules-v1",
    pids={"dev": 5},
)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = spawn([sys.executable, "-c", "import time; time.sleep(60)"], log_path=None)
    yield process
    process.kill()
    process.wait(10)


def test_written_content_can_be_read_and_no_other_file_is_left(tmp_path) -> None:
    directory = DevDirectory(tmp_path / ".nexus")
    assert directory.read_info() is None

    directory.write_info(_INFO)

    assert directory.read_info() == _INFO
    assert json.loads(directory.info.read_text()) == dataclasses.asdict(_INFO)
    assert [path.name for path in directory.root.iterdir()] == ["dev.json"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"gateway_url": "x"}', "null"])
def test_a_foreign_file_is_no_running_dev(tmp_path, content) -> None:
    directory = DevDirectory(tmp_path)
    directory.info.write_text(content)
    directory.pids.write_text(content)

    assert directory.read_info() is None
    assert directory.read_processes() == []


def test_a_recorded_process_is_stopped(tmp_path, sleeper) -> None:
    directory = DevDirectory(tmp_path)
    identity = ProcessIdentity.of("gateway", sleeper.pid)
    assert identity is not None
    directory.write_processes([identity])

    assert stop_leftovers(directory) == [identity]
    assert identity.find() is None
    assert sleeper.poll() is not None


def test_a_process_that_only_has_the_recorded_pid_is_not_signalled(tmp_path, sleeper) -> None:
    directory = DevDirectory(tmp_path)
    identity = ProcessIdentity.of("gateway", sleeper.pid)
    assert identity is not None
    directory.write_processes(
        [
            dataclasses.replace(identity, started_at=identity.started_at - 3600),
            dataclasses.replace(identity, executable="/opt/another/program"),
        ]
    )

    assert stop_leftovers(directory) == []
    assert sleeper.poll() is None


def test_reset_deletes_only_the_files_of_dev(tmp_path) -> None:
    directory = DevDirectory(tmp_path)
    for path in (directory.postgres, directory.tables, directory.logs):
        path.mkdir(parents=True)
        (path / "file").touch()
    (tmp_path / "notes.txt").touch()

    removed = directory.reset()

    assert {path.name for path in removed} == {"postgres", "data", "logs"}
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    assert directory.reset() == []


def test_an_ephemeral_run_keeps_its_data_apart_and_deletes_it(tmp_path) -> None:
    kept = DevDirectory(tmp_path)
    kept.postgres.mkdir()
    directory = DevDirectory(tmp_path, ephemeral=True)
    directory.postgres.mkdir(parents=True)

    directory.forget()

    assert not directory.postgres.exists()
    assert kept.postgres.exists()
