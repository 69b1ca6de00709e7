"""Lock files: the holder of the lock is a running process. The system releases the lock when the process ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

__all__ = ["DirectoryInUseError", "lock_file"]


class DirectoryInUseError(Exception):
    """Another live process holds the lock.

    Attributes:
        owner: The process, for a message: ``nexus (pid 4711)``.
        pid: The process id, if it could be read.
    """

    def __init__(self, owner: str, pid: int | None) -> None:
        super().__init__(owner)
        self.owner = owner
        self.pid = pid


def lock_file(path: Path) -> IO[str]:
    """Take the lock and write our pid into the file. Close the returned file to release it; children do not inherit it.

    Raises:
        DirectoryInUseError: another process holds the lock.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Opened for appending, so that the holder's pid is not erased before we have the lock.
    lock = path.open("a+", encoding="utf-8")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.seek(0)
        content = lock.read().strip()
        lock.close()
        pid = int(content) if content.isdecimal() else None
        raise DirectoryInUseError(_describe(pid), pid) from error
    lock.seek(0)
    lock.truncate()
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def _describe(pid: int | None) -> str:
    if pid is None:
        return "another process"
    import psutil

    try:
        return f"{psutil.Process(pid).name()} (pid {pid})"
    except psutil.Error:
        return f"pid {pid}"
