"""Child processes: each in its own session, with a log file and an identity that is more than a pid.

A pid alone is no identity: the system reuses it after the process ended. Before a process of an earlier run is
signalled, ``ProcessIdentity.find`` also compares the start time and the executable.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

__all__ = ["ProcessIdentity", "kill_process", "last_lines", "spawn", "stop_process"]

# The start time is boot time plus ticks. The kernel's boot time changes when the clock is set.
_START_TIME_TOLERANCE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """The identity of a process, different from that of a later process with the same pid.

    Attributes:
        role: Its role for us: ``gateway``, ``broker``.
        pid: The process id.
        started_at: Start time, in seconds since the epoch.
        executable: Absolute path of its program; empty if the system does not show it.
    """

    role: str
    pid: int
    started_at: float
    executable: str

    @classmethod
    def of(cls, role: str, pid: int) -> ProcessIdentity | None:
        """Read the identity of a running process; None if it has ended."""
        try:
            process = psutil.Process(pid)
            return cls(role, pid, process.create_time(), _executable(process))
        except psutil.Error:
            return None

    def find(self) -> psutil.Process | None:
        """Return the process with this identity; None if it has ended, even if another process has its pid now."""
        try:
            process = psutil.Process(self.pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return None
            same_start = abs(process.create_time() - self.started_at) <= _START_TIME_TOLERANCE_SECONDS
            # If an upgrade replaces a running program's file, Linux appends " (deleted)" to its path.
            same_program = not self.executable or _executable(process).startswith(self.executable)
        except psutil.Error:
            return None
        return process if same_start and same_program else None


def _executable(process: psutil.Process) -> str:
    try:
        return process.exe()
    except (psutil.AccessDenied, OSError):
        return ""


def spawn(
    argv: Sequence[str],
    *,
    log_path: Path | None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    user: int | None = None,
    group: int | None = None,
) -> subprocess.Popen[bytes]:
    """Start a program in its own session, so that the terminal's Ctrl-C reaches only its supervisor.

    Args:
        argv: Program and arguments.
        log_path: Standard output and error are appended to it; None discards them.
        env: The whole environment; None inherits ours.
        cwd: The working directory; None inherits ours.
        user: Run as this user id (root only).
        group: Run as this group id (root only).
    """
    with open(log_path or os.devnull, "ab") as output:
        return subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=None if env is None else dict(env),
            cwd=cwd,
            start_new_session=True,
            user=user,
            group=group,
            extra_groups=None if user is None else [],
        )


def stop_process(process: subprocess.Popen[bytes], timeout_seconds: float, first: int = signal.SIGTERM) -> bool:
    """Ask a child to end, and kill it after the timeout.

    Returns:
        Whether it ended by itself within the timeout.
    """
    if process.poll() is not None:
        return True
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(first)
    try:
        process.wait(timeout_seconds)
    except subprocess.TimeoutExpired:
        kill_process(process)
        return False
    return True


def kill_process(process: subprocess.Popen[bytes]) -> None:
    """Kill a child and reap it."""
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    process.wait(10)


def last_lines(path: Path | None, count: int = 15) -> str:
    """Return the end of a log file, for an error message about its process."""
    if path is None:
        return "(its output was not kept)"
    try:
        with path.open(encoding="utf-8", errors="replace") as log:
            lines = deque(log, maxlen=count)
    except OSError:
        return f"({path} cannot be read)"
    return "".join(lines).rstrip() or "(it printed nothing)"
