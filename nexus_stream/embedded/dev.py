"""``nexus dev``: run everything in one terminal. Start it in order, watch it, and stop it in order.

Steps: broker, database, migrations, topics, then the Procfile's processes. Each of the first four steps waits for the
step before it. The processes depend only on these four steps, so they all start at once, and are awaited one by one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import IO, Any, TypeVar

from nexus_stream.embedded.banner import banner
from nexus_stream.embedded.broker import EmbeddedBroker
from nexus_stream.embedded.log_echo import LogEcho
from nexus_stream.embedded.plan import (
    choose_ports,
    port_environment,
    process_environment,
    refuse_in_production,
    requested_ports,
    unused_variables,
    user_environment,
)
from nexus_stream.embedded.postgres import EmbeddedPostgres
from nexus_stream.embedded.processes import ProcessIdentity, last_lines
from nexus_stream.embedded.procfile import read_procfile
from nexus_stream.embedded.state import DevDirectory, DevInfo, stop_leftovers
from nexus_stream.embedded.supervisor import Supervisor, WorkerProcess
from nexus_stream.embedded.terminal import Terminal, typed
from nexus_stream.errors import ConfigurationError, EarlierCheckoutError, EmbeddedServiceError, NexusError
from nexus_stream.host.file_lock import DirectoryInUseError, lock_file
from nexus_stream.host.free_ports import port_is_free
from nexus_stream.settings import Settings, load_settings

__all__ = ["Dev", "claim"]

READY_TIMEOUT_SECONDS = 60.0
# Together 30 s, the maximum time of a stop. The database stops at the end and has its own part of that time.
WORKERS_STOP_SECONDS = 22.0
SERVICES_STOP_SECONDS = 8.0
# The gateway stops first, so that no new conversations come. The enricher stops before the sink, so that the sink
# stores the last enriched records.
_WORKER_STOP_ORDER = ("gateway", "console", "enricher", "sink")
_SERVICE_STOP_ORDER = ("database", "broker")
_ECHO_SECONDS = 0.25
# `timeout` and some supervisors signal a process and also its group. Two signals within this time are one request.
_SAME_REQUEST_SECONDS = 0.2
_T = TypeVar("_T")


def claim(directory: DevDirectory, terminal: Terminal) -> IO[str]:
    """Take the lock of this directory's ``nexus dev``, and clean up after one that was killed.

    Raises:
        ConfigurationError: another ``nexus dev`` runs in this directory.
    """
    try:
        lock = lock_file(directory.lock)
    except DirectoryInUseError as error:
        info = directory.read_info()
        raise ConfigurationError(
            f"`nexus dev` already runs in this directory: {error.owner}"
            + (f", gateway {info.gateway_url}" if info else "")
            + ". Stop it with Ctrl-C in its terminal"
            + (f" or with `kill {error.pid}`" if error.pid else "")
            + ", or start this one in another directory."
        ) from error
    left = stop_leftovers(directory)
    if left:
        listing = ", ".join(f"{identity.role} (pid {identity.pid})" for identity in left)
        terminal.say(f"an earlier run was killed; stopped its processes: {listing}")
    directory.forget()
    return lock


class Dev:
    """One run of ``nexus dev``, from the first step to the last stopped process."""

    def __init__(self, directory: DevDirectory, terminal: Terminal, *, port_base: int | None, ephemeral: bool) -> None:
        """Check the configuration before any process starts.

        Raises:
            ConfigurationError: ``NEXUS_ENV`` is production, a setting is wrong, or a requested port is taken.
        """
        self._directory = directory
        self._terminal = terminal
        self._ephemeral = ephemeral
        self._environ = user_environment()
        refuse_in_production(self._environ)
        self._process_types = read_procfile()
        # Load the settings with placeholder addresses to find every problem now, also in the user's port variables.
        environment = self._environment("127.0.0.1:1", "postgresql://127.0.0.1:1/postgres")
        load_settings("sink", {**environment, **requested_ports(self._environ)})
        for variable in unused_variables(self._environ):
            terminal.say(f"{variable} is not used: nexus dev has its own broker, database, local tables and web ports")
        self._ports_are_requested = port_base is not None
        self._ports = choose_ports(self._environ, port_base, terminal.say)
        self._supervisor = Supervisor()
        self._identities: list[ProcessIdentity] = []
        self._echo = LogEcho(terminal.repeat)
        self._stop_requested = asyncio.Event()
        self._stop_at_once = asyncio.Event()
        self._first_request_at = 0.0

    async def run(self) -> int:
        """Start everything, wait for a signal or the end of a process, then stop everything.

        Returns:
            The exit code: 0 after a signal, 1 if a process failed.
        """
        self._catch_signals()
        echo = asyncio.create_task(self._repeat_warnings())
        work = asyncio.create_task(self._start_and_watch())
        stop = asyncio.create_task(self._stop_requested.wait())
        try:
            await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                self._terminal.say("stopping; press Ctrl-C again to stop at once")
                return 0
            # The work only ends with an error, which is raised here.
            work.result()
        except NexusError as error:
            self._terminal.failed(str(error))
        finally:
            stop.cancel()
            work.cancel()
            # A cancelled start still finishes its current step, so that every started process is known.
            await asyncio.wait({work})
            await self._stop_everything()
            echo.cancel()
        return 1

    async def _start_and_watch(self) -> None:
        started = time.monotonic()
        bootstrap_servers = await self._start_broker()
        database_url = await self._start_database()
        environment = self._environment(bootstrap_servers, database_url)
        settings = load_settings("sink", environment)
        reset = f"\n`{typed('nexus dev reset')}` deletes this database. The next start creates an empty one."
        await self._run_step("migrations", self._migrate(database_url), "database", reset)
        await self._run_step("topics", self._create_topics(settings), "broker")
        await self._start_workers(environment)
        info = DevInfo(
            gateway_url=f"http://127.0.0.1:{self._ports.gateway}",
            console_url=f"http://127.0.0.1:{self._ports.console}",
            database_url=database_url,
            bootstrap_servers=bootstrap_servers,
            extractor="claude" if settings.use_claude else "offline-rules-v1",
            pids={"dev": os.getpid(), **self._supervisor.pids},
        )
        elapsed = time.monotonic() - started
        self._terminal.say(banner(info, settings, self._directory, elapsed, self._ephemeral))
        self._directory.write_info(info)
        raise EmbeddedServiceError(await self._supervisor.wait_until_one_ends())

    async def _start_broker(self) -> str:
        log = self._log("broker")

        def start(port: int | None) -> EmbeddedBroker:
            broker = EmbeddedBroker.start(log, port, on_spawn=lambda pid: self._record("broker", pid))
            self._supervisor.add("broker", broker, log)
            return broker

        started = time.monotonic()
        broker = await self._start_on_port("broker", start, self._ports.broker)
        detail = f"{broker.bootstrap_servers}, in memory only"
        self._terminal.step("broker", time.monotonic() - started, detail)
        return broker.bootstrap_servers

    async def _start_database(self) -> str:
        log = self._log("database")
        is_new = not self._directory.postgres.exists()

        def start(port: int | None) -> EmbeddedPostgres:
            database = EmbeddedPostgres.start(
                self._directory.postgres, port, log_path=log, on_spawn=lambda pid: self._record("database", pid)
            )
            self._supervisor.add("database", database, log)
            return database

        started = time.monotonic()
        database = await self._start_on_port("database", start, self._ports.database)
        detail = f"127.0.0.1:{database.port}, {'new' if is_new else 'existing data'}"
        self._terminal.step("database", time.monotonic() - started, detail)
        return database.dsn

    async def _start_on_port(self, role: str, start: Callable[[int | None], _T], port: int) -> _T:
        try:
            return await self._in_thread(lambda: start(port))
        except NexusError:
            # Another process took the port after the check. If the user did not request it, use another port.
            if self._ports_are_requested or port_is_free(port):
                raise
            self._terminal.say(f"port {port} was just taken: the {role} takes another port")
            return await self._in_thread(lambda: start(None))

    async def _migrate(self, database_url: str) -> str:
        from nexus_stream.supabase.migrate import apply_migrations, plan_migrations

        applied = await apply_migrations(database_url)
        newer = (await plan_migrations(database_url)).newer
        detail = f"{len(applied)} applied" if applied else "nothing new"
        return f"{detail}; a newer version made the database" if newer else detail

    async def _create_topics(self, settings: Settings) -> str:
        from nexus_stream.kafka.topics import apply_topics

        return f"{len(await apply_topics(settings))} created, {settings.topic_partitions} partitions"

    async def _run_step(self, name: str, work: Coroutine[Any, Any, str], log_role: str, hint: str = "") -> None:
        started = time.monotonic()
        try:
            detail = await work
        except EarlierCheckoutError as error:
            # Without the steps for other databases, and without the log: nothing failed there.
            raise EmbeddedServiceError(f"{name}: {error.found}{hint}") from error
        except Exception as error:
            log = self._directory.log(log_role)
            raise EmbeddedServiceError(f"{name}: {error}{hint}\nLast lines of {log}:\n{last_lines(log)}") from error
        self._terminal.step(name, time.monotonic() - started, detail)

    async def _start_workers(self, environment: dict[str, str]) -> None:
        own = port_environment(self._ports)
        started = time.monotonic()
        for role, process_type in self._process_types.items():
            env = {**environment, **own.get(role, {})}
            log = self._log(role)
            worker = WorkerProcess(process_type.argv(env), env, log)
            self._supervisor.add(role, worker, log)
            self._record(role, worker.pid)
        urls = {
            "gateway": f"http://127.0.0.1:{self._ports.gateway}/ready",
            "console": f"http://127.0.0.1:{self._ports.console}/ready",
            "enricher": f"http://127.0.0.1:{self._ports.enricher_web}/ready",
            "sink": f"http://127.0.0.1:{self._ports.sink_web}/ready",
        }
        for role in self._process_types:
            await self._supervisor.wait_until_ready(role, urls[role], READY_TIMEOUT_SECONDS)
            self._terminal.step(role, time.monotonic() - started, urls[role].removesuffix("/ready"))

    def _environment(self, bootstrap_servers: str, database_url: str) -> dict[str, str]:
        return process_environment(
            self._environ,
            bootstrap_servers=bootstrap_servers,
            database_url=database_url,
            tables=self._directory.tables,
            programs=Path(sys.executable).parent,
        )

    def _log(self, role: str) -> Path:
        """Create this run's log file; the last run's file is kept beside it as ``<role>.log.1``."""
        path = self._directory.log(role)
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            path.replace(path.with_name(f"{role}.log.1"))
        path.touch()
        self._echo.follow(role, path)
        return path

    def _record(self, role: str, pid: int) -> None:
        """Write a new process to disk at once, for the next start if ``nexus dev`` is killed."""
        identity = ProcessIdentity.of(role, pid)
        if identity is not None:
            self._identities.append(identity)
            self._directory.write_processes(self._identities)

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        task = asyncio.create_task(asyncio.to_thread(work))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            at_once = asyncio.create_task(self._stop_at_once.wait())
            await asyncio.wait({task, at_once}, return_when=asyncio.FIRST_COMPLETED)
            at_once.cancel()
            raise

    async def _repeat_warnings(self) -> None:
        while True:
            self._echo.read()
            await asyncio.sleep(_ECHO_SECONDS)

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal)
        # nohup ignores SIGHUP, so that the run continues after the terminal is closed.
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            loop.add_signal_handler(signal.SIGHUP, self._on_signal)

    def _on_signal(self) -> None:
        if not self._stop_requested.is_set():
            self._first_request_at = time.monotonic()
            self._stop_requested.set()
        elif time.monotonic() - self._first_request_at > _SAME_REQUEST_SECONDS:
            self._stop_at_once.set()

    async def _stop_everything(self) -> None:
        self._directory.info.unlink(missing_ok=True)
        say = self._terminal.say
        await self._supervisor.stop(_WORKER_STOP_ORDER, self._stop_at_once, WORKERS_STOP_SECONDS, say)
        await self._supervisor.stop(_SERVICE_STOP_ORDER, self._stop_at_once, SERVICES_STOP_SECONDS, say)
        for identity in self._identities:
            # Only a step that a second signal interrupted can leave a process.
            process = identity.find()
            if process is not None:
                process.kill()
        self._directory.forget()
