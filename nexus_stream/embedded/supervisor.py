"""Supervise the processes of ``nexus dev``: wait until each is ready, notice a process that ends, stop them in order.

Each child has its own session, so the terminal's Ctrl-C reaches only ``nexus dev``. It stops the children one after the
other, so that no process loses a service that it still needs.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import aiohttp

from nexus_stream.embedded.processes import last_lines, spawn
from nexus_stream.errors import EmbeddedServiceError

__all__ = ["Part", "Supervisor", "WorkerProcess"]

_POLL_SECONDS = 0.05
_WATCH_SECONDS = 0.25
_PROBE_TIMEOUT = aiohttp.ClientTimeout(total=2.0)
_HTTP_OK = 200


class Part(Protocol):
    """A supervised process: a worker, the broker or the database."""

    @property
    def pid(self) -> int:
        """The process id."""
        ...

    def exit_code(self) -> int | None:
        """The exit code; None while it runs."""
        ...

    def stop(self) -> None:
        """Ask it to end, and block until it has ended."""
        ...

    def kill(self) -> None:
        """Kill it. May be called while ``stop`` runs in another thread."""
        ...


class WorkerProcess:
    """One process of the Procfile."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], log_path: Path) -> None:
        self._process = spawn(argv, log_path=log_path, env=env)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def exit_code(self) -> int | None:
        """The exit code; None while it runs."""
        return self._process.poll()

    def stop(self) -> None:
        """Ask it to end, and wait without a timeout; the caller may call ``kill`` meanwhile."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        self._process.wait()

    def kill(self) -> None:
        """``kill -9``."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()


@dataclass(frozen=True, slots=True)
class _Running:
    part: Part
    log_path: Path


class Supervisor:
    """The running parts, in the order of their start."""

    def __init__(self) -> None:
        self._running: dict[str, _Running] = {}

    def add(self, role: str, part: Part, log_path: Path) -> None:
        """Add a part that was just started."""
        self._running[role] = _Running(part, log_path)

    @property
    def pids(self) -> dict[str, int]:
        """The process ids by role."""
        return {role: running.part.pid for role, running in self._running.items()}

    async def wait_until_ready(self, role: str, url: str, timeout_seconds: float) -> None:
        """Poll ``url`` until it answers 200.

        Raises:
            EmbeddedServiceError: the process ended, or the timeout passed; the message has its last log lines.
        """
        deadline = time.monotonic() + timeout_seconds
        last_answer = "it does not listen yet"
        async with aiohttp.ClientSession(timeout=_PROBE_TIMEOUT) as session:
            while True:
                code = self._running[role].part.exit_code()
                if code is not None:
                    raise EmbeddedServiceError(self._end_message(role, code))
                if time.monotonic() > deadline:
                    raise EmbeddedServiceError(
                        f"{role} was not ready after {timeout_seconds:.0f} s: {last_answer}. {self._last_lines(role)}"
                    )
                with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
                    async with session.get(url) as response:
                        if response.status == _HTTP_OK:
                            return
                        last_answer = f"{url} answers {response.status}: {(await response.text())[:300].strip()}"
                await asyncio.sleep(_POLL_SECONDS)

    async def wait_until_one_ends(self) -> str:
        """Wait until any part ends. Return a message with its exit code and its last log lines."""
        while True:
            for role, running in self._running.items():
                code = running.part.exit_code()
                if code is not None:
                    return self._end_message(role, code)
            await asyncio.sleep(_WATCH_SECONDS)

    async def stop(
        self, order: Sequence[str], at_once: asyncio.Event, timeout_seconds: float, say: Callable[[str], None]
    ) -> None:
        """Stop the parts in ``order``, one after the other.

        When ``at_once`` is set or the timeout passes, the parts that still run are killed.
        """
        roles = [role for role in order if role in self._running]
        killer = asyncio.create_task(self._kill_when(roles, at_once, timeout_seconds, say))
        try:
            for role in roles:
                started = time.monotonic()
                part = self._running[role].part
                if part.exit_code() is None:
                    await asyncio.to_thread(part.stop)
                    how = "stopped" if part.exit_code() != -signal.SIGKILL else "killed"
                    say(f"{how} {role} ({time.monotonic() - started:.1f} s)")
                else:
                    # Already ended. For a database, ``kill`` also waits for its children and releases its lock.
                    await asyncio.to_thread(part.kill)
        finally:
            killer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await killer
        for role in roles:
            del self._running[role]

    async def _kill_when(
        self, roles: Sequence[str], at_once: asyncio.Event, timeout_seconds: float, say: Callable[[str], None]
    ) -> None:
        try:
            async with asyncio.timeout(timeout_seconds):
                await at_once.wait()
        except TimeoutError:
            say(f"not stopped after {timeout_seconds:.0f} s: killing the processes that still run")
        for role in roles:
            await asyncio.to_thread(self._running[role].part.kill)

    def _end_message(self, role: str, code: int) -> str:
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return f"{role} {how}. {self._last_lines(role)}"

    def _last_lines(self, role: str) -> str:
        path = self._running[role].log_path
        return f"Last lines of {path}:\n{last_lines(path)}"
