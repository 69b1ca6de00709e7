"""Debian's pgbouncer, as a stand-in for Supabase's poolers: in session or transaction mode, before any server."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from nexus_stream.embedded.postgres_user import server_user
from nexus_stream.embedded.processes import kill_process, last_lines, spawn, stop_process
from nexus_stream.errors import EmbeddedServiceError
from nexus_stream.host.free_ports import LOOPBACK, free_port

__all__ = ["PgBouncer", "missing_pgbouncer"]

_START_TIMEOUT_SECONDS = 10.0


def _program() -> str | None:
    # Not on an ordinary user's path.
    return shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")


def missing_pgbouncer() -> str | None:
    """What is missing, for `tests.support.requirements.require`; None when it is there."""
    return None if _program() else "no pgbouncer (Debian's package of that name)"


class PgBouncer:
    """One pooler that can be killed and started again on its port; a context manager.

    Args:
        folder: For its configuration and log; its user must be able to reach it.
        server_port: The server's, on loopback.
        mode: Pool mode.
        users: Who may come in, without a password.
        settings: More of pgbouncer's own settings.
    """

    def __init__(
        self,
        folder: Path,
        server_port: int,
        mode: Literal["session", "transaction"],
        *,
        users: tuple[str, ...] = ("postgres",),
        settings: Mapping[str, str] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port({server_port})
        self.mode = mode
        self._log = folder / "pgbouncer.log"
        self._config = folder / "pgbouncer.ini"
        self._process: subprocess.Popen[bytes] | None = None
        self._user = server_user()
        users_file = folder / "users.txt"
        users_file.write_text("".join(f'"{user}" ""\n' for user in users), encoding="utf-8")
        options = {
            "listen_addr": LOOPBACK,
            "listen_port": str(self.port),
            "unix_socket_dir": "",
            "auth_type": "trust",
            "auth_file": str(users_file),
            "pool_mode": mode,
            # Few, so that clients share connections.
            "default_pool_size": "3",
            "max_client_conn": "50",
            # The default of 15 s would be the time to recover of whatever is tested behind it.
            "server_login_retry": "1",
            **(settings or {}),
        }
        lines = "".join(f"{name} = {value}\n" for name, value in options.items())
        self._config.write_text(
            f"[databases]\n* = host={LOOPBACK} port={server_port}\n\n[pgbouncer]\n{lines}", encoding="utf-8"
        )
        self._user.own(folder)
        self._user.reach(self._config)

    def start(self) -> None:
        """Start, and return when it takes connections."""
        program = _program()
        if program is None:
            raise EmbeddedServiceError(missing_pgbouncer() or "")
        argv = [program, "--quiet", str(self._config)]
        process = spawn(argv, log_path=self._log, user=self._user.uid, group=self._user.gid)
        self._process = process
        deadline = time.monotonic() + _START_TIMEOUT_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            with socket.socket() as probe:
                probe.settimeout(1)
                if probe.connect_ex((LOOPBACK, self.port)) == 0:
                    return
            time.sleep(0.02)
        raise EmbeddedServiceError(f"pgbouncer did not start:\n{last_lines(self._log)}")

    def kill(self) -> None:
        """As a machine that fails: every connection through it is cut."""
        if self._process is not None:
            kill_process(self._process)
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process is not None:
            # SIGTERM would wait for the clients.
            stop_process(self._process, 5, first=signal.SIGINT)
            self._process = None
