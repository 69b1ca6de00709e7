"""PostgreSQL servers for tests and benchmarks: Debian's, beside the embedded one. Each on a loopback port of its own.

Debian's PostgreSQL 15 is a version Supabase runs; the embedded one is newer. Both as whoever may run a server here.
"""

from __future__ import annotations

import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from nexus_stream.embedded.postgres_user import server_user
from nexus_stream.embedded.processes import last_lines, spawn, stop_process
from nexus_stream.errors import EmbeddedServiceError
from nexus_stream.host.free_ports import LOOPBACK, free_port

__all__ = ["DEBIAN_15", "FAST_SETTINGS", "debian_postgres", "missing_debian_postgres", "server_folder"]

DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")
_START_TIMEOUT_SECONDS = 30.0
_STOP_TIMEOUT_SECONDS = 20.0

# For databases that are thrown away: a crash of the machine may cost them, a crash of the server does not.
FAST_SETTINGS = ("fsync=off", "full_page_writes=off", "synchronous_commit=off")


def missing_debian_postgres() -> str | None:
    """What is missing, for `tests.support.requirements.require`; None when it is there."""
    return None if (DEBIAN_15 / "postgres").exists() else f"no {DEBIAN_15} (Debian's package postgresql-15)"


@contextmanager
def server_folder() -> Iterator[Path]:
    """A folder that the server's user can reach. Not below pytest's own, which every run closes to other users."""
    with tempfile.TemporaryDirectory(prefix="nexus-postgres-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)
        yield folder


@contextmanager
def debian_postgres(folder: Path, settings: Sequence[str] = FAST_SETTINGS) -> Iterator[int]:
    """Run Debian's PostgreSQL 15 on a new data directory.

    Args:
        folder: Where its data directory and its log go.
        settings: ``name=value`` each.

    Yields:
        Its port.
    """
    data_dir = folder / "data"
    user = server_user()
    data_dir.mkdir()
    user.own(data_dir)
    user.reach(data_dir)
    subprocess.run(
        [DEBIAN_15 / "initdb", "-D", data_dir, "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"],
        check=True,
        capture_output=True,
        timeout=60,
        user=user.uid,
        group=user.gid,
        cwd=data_dir,
        stdin=subprocess.DEVNULL,
    )
    port = free_port()
    argv = [str(DEBIAN_15 / "postgres"), "-D", str(data_dir), "-p", str(port), "-h", LOOPBACK]
    for setting in ("unix_socket_directories=", *settings):
        argv += ["-c", setting]
    log = folder / "postgres.log"
    process = spawn(argv, log_path=log, cwd=data_dir, user=user.uid, group=user.gid)
    try:
        deadline = time.monotonic() + _START_TIMEOUT_SECONDS
        pid_file = data_dir / "postmaster.pid"
        while not (pid_file.exists() and "ready" in pid_file.read_text()):
            if process.poll() is not None or time.monotonic() > deadline:
                raise EmbeddedServiceError(f"PostgreSQL 15 did not start:\n{last_lines(log)}")
            time.sleep(0.02)
        yield port
    finally:
        stop_process(process, _STOP_TIMEOUT_SECONDS, first=signal.SIGINT)
