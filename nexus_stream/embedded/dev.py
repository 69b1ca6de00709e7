"""``nexus dev``: everything in one terminal, started in order, watched, stopped in order.

Steps: broker, database, migrations, topics, then the Procfile's processes. Each step waits until the one before is
done. The processes depend on those four only, not on one another, so they load side by side, each awaited in its turn.
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

from nexus_stream.common.file_lock import DirectoryInUseError, lock_file
from nexus_stream.embedded.banner import banner
from nexus_stream.embedded.broker import EmbeddedBroker
from nexus_stream.embedded.log_echo import LogEcho
from nexus_stream.embedded.plan import (
    asked_ports,
    choose_ports,
    port_environment,
    process_environment,
    refuse_in_production,
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
from nexus_stream.free_ports import port_is_free
from nexus_stream.settings import Settings, load_settings

__all__ = ["Dev", "claim"]

READY_TIMEOUT_SECONDS = 60.0
# Together the 30 s that a stop may take; what is stopped last, the database, has its time too.
WORKERS_STOP_SECONDS = 22.0
SERVICES_STOP_SECONDS = 8.0
# No new conversations first; the enricher before the sink, so that the sink takes what was just enriched.
_WORKER_STOP_ORDER = ("gateway", "console", "enricher", "sink")
_SERVICE_STOP_ORDER = ("database", "broker")
_ECHO_SECONDS = 0.25
# `timeout` and some supervisors signal a process and its group: the same request, twice within a moment.
_SAME_REQUEST_SECONDS = 0.2
_T = TypeVar("_T")


def claim(directory: DevDirectory, terminal: Terminal) -> IO[str]:
    """Become the one ``nexus dev`` of this directory, and clean up after one that was killed.

    Raises:
        ConfigurationError: another one runs.
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
        terminal.say(f"an earlier run was killed; stopped what it left: {listing}")
    directory.forget()
    return lock


class Dev:
    """One run, from the first step to the last stopped process."""

    def __init__(self, directory: DevDirectory, terminal: Terminal, *, port_base: int | None, ephemeral: bool) -> None:
        """Check everything that can be wrong before anything is started.

        Raises:
            ConfigurationError: production, a setting is wrong, or a port that was asked for is taken.
        """
        self._directory = directory
        self._terminal = terminal
        self._ephemeral = ephemeral
        self._environ = user_environment()
        refuse_in_production(self._environ)
        self._process_types = read_procfile()
        # With stand-in addresses, to hear of every problem now; also of ports that no process gets as they are.
        environment = self._environment("127.0.0.1:1", "postgresql://127.0.0.1:1/postgres")
        load_settings("sink", {**environment, **asked_ports(self._environ)})
        for variable in unused_variables(self._environ):
            terminal.say(
                f"{variable} is not used: nexus dev has a broker, a database, local tables and web ports of its own"
            )
        self._ports_are_asked_for = port_base is not None
        self._ports = choose_ports(self._environ, port_base, terminal.say)
        self._supervisor = Supervisor()
        self._identities: list[ProcessIdentity] = []
        self._echo = LogEcho(terminal.repeat)
        self._stop_requested = asyncio.Event()
        self._stop_at_once = asyncio.Event()
        self._first_request_at = 0.0

    async def run(self) -> int:
        """Start, run until a signal or until a process dies, stop.

        Returns:
            The exit code: 0 after a signal, 1 when a process failed.
        """
        self._catch_signals()
        echo = asyncio.create_task(self._repeat_warnings())
        work = asyncio.create_task(self._start_and_watch())
        stop = asyncio.create_task(self._stop_requested.wait())
        try:
            await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                self._terminal.say("stopping; once more to stop at once")
                return 0
            # It only ever ends with an error.
            work.result()
        except NexusError as error:
            self._terminal.failed(str(error))
        finally:
            stop.cancel()
            work.cancel()
            # A start that is cancelled still finishes the step it is in, so that no process is started unseen.
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
        reset = f"\n`{typed('nexus dev reset')}` removes this database: the next start makes an empty one."
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
        broker = await self._on_its_port("broker", start, self._ports.broker)
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
        database = await self._on_its_port("database", start, self._ports.database)
        detail = f"127.0.0.1:{database.port}, {'new' if is_new else 'as it was'}"
        self._terminal.step("database", time.monotonic() - started, detail)
        return database.dsn

    async def _on_its_port(self, role: str, start: Callable[[int | None], _T], port: int) -> _T:
        try:
            return await self._in_thread(lambda: start(port))
        except NexusError:
            # Somebody took it after we had looked. Of our own choosing, any other will do.
            if self._ports_are_asked_for or port_is_free(port):
                raise
            self._terminal.say(f"port {port} was just taken: the {role} takes another")
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
            raise EmbeddedServiceError(f"{name}: {error}{hint}\nThe last lines of {log}:\n{last_lines(log)}") from error
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
        """A fresh log file for this run; the one of the run before is kept beside it."""
        path = self._directory.log(role)
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            path.replace(path.with_name(f"{role}.log.1"))
        path.touch()
        self._echo.follow(role, path)
        return path

    def _record(self, role: str, pid: int) -> None:
        """On disk as soon as a process exists, for the start after a ``kill -9`` of us."""
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
        # Under nohup the terminal's end is none of our business.
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
            # Only a step interrupted by a second signal leaves one.
            process = identity.find()
            if process is not None:
                process.kill()
        self._directory.forget()
