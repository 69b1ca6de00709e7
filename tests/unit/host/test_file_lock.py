"""Lock files name their holder, and the lock is released when the holder ends."""

import os
import subprocess
import sys

import pytest

from nexus_stream.host.file_lock import DirectoryInUseError, lock_file

_HOLD = "import sys,time; from pathlib import Path; from nexus_stream.host.file_lock import lock_file\n"
_HOLD += "held = lock_file(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"


def test_a_held_lock_names_its_holder_and_is_released_when_the_holder_is_killed(tmp_path) -> None:
    path = tmp_path / "made" / "dev.lock"
    with subprocess.Popen([sys.executable, "-c", _HOLD, str(path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        try:
            with pytest.raises(DirectoryInUseError) as refused:
                lock_file(path)
        finally:
            holder.kill()

    assert refused.value.pid == holder.pid
    assert f"(pid {holder.pid})" in refused.value.owner
    with lock_file(path):
        assert path.read_text() == str(os.getpid())


def test_a_closed_lock_can_be_taken_again(tmp_path) -> None:
    lock_file(tmp_path / "lock").close()
    lock_file(tmp_path / "lock").close()
