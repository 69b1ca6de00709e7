"""The common part of the two Faust apps: configuration, the broker port, rebalances, readiness, stopping.

The apps start with ``faust -A nexus_stream.enricher worker`` and ``faust -A nexus_stream.sink worker``. The code that
depends on private parts of Faust 0.15.3 is in broker.py, consumer.py and recovery.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, NoReturn, cast

import faust
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from faust.web import Request, Response, View

from nexus_stream.contracts.status import ProcessRole
from nexus_stream.delivery.lease import Lease
from nexus_stream.errors import BrokerUnavailableError, ConfigurationError, NexusError
from nexus_stream.host.log import get_logger
from nexus_stream.kafka.access import require_access
from nexus_stream.kafka.access_watch import AccessWatch
from nexus_stream.kafka.clients import client_options, is_embedded
from nexus_stream.kafka.topics import require_topics
from nexus_stream.observability.exposition import exposition
from nexus_stream.observability.logs import configure_logs
from nexus_stream.observability.metrics_stage import RebalanceMetrics
from nexus_stream.observability.safe_errors import safe_message
from nexus_stream.observability.status import StatusPublisher, failed_status, process_id
from nexus_stream.settings import Settings
from nexus_stream.worker.broker import FaustBroker
from nexus_stream.worker.consumer import WorkerTransport
from nexus_stream.worker.directory import WorkerDirectory
from nexus_stream.worker.health import WorkerHealth
from nexus_stream.worker.options import faust_options
from nexus_stream.worker.status import stage_status

if TYPE_CHECKING:
    from nexus_stream.contracts.status import BudgetStanding
    from nexus_stream.delivery.stage import Stage

__all__ = ["WorkerApp", "create_app", "created_or_exit", "install_uvloop"]

_log = get_logger(__name__)

_MAX_BATCH_BYTES = 131_072
_STARTUP_PATIENCE_SECONDS = 60.0
_STAY_INTERVAL_SECONDS = 5.0
_STATUS_STOP_SECONDS = 3.0
_EX_CONFIG = 78  # sysexits.h: a supervisor should not restart on it


class _Worker(faust.Worker):
    """Faust's worker without its progress spinner, which would also set our log handler to WARNING."""

    def on_setup_root_logger(self, logger: logging.Logger, level: int) -> None:
        """Leave handlers and levels as `configure_logs` set them."""
        self.spinner = None

    def _on_sigusr1(self) -> None:
        """Log where each task of the worker and of its consumer's thread waits.

        Faust would also print local variables, which hold conversations.
        """
        loops = {"worker": self.loop}
        # None until the worker has reached its broker.
        consumer: Any = cast(Any, self.app)._consumer
        if consumer is not None:
            loops["consumer"] = consumer._thread.thread_loop
        for name, loop in loops.items():
            for task in asyncio.all_tasks(loop):
                _log.warning("task", loop=name, frames=_frames(task))

    def _on_sigusr2(self) -> None:
        """Do nothing. Faust would open a debugger, and the worker would stop until an operator came."""

    def execute_from_commandline(self) -> NoReturn:
        """Run, and end with an exit code that tells a supervisor whether to restart the worker."""
        try:
            super().execute_from_commandline()
        except SystemExit as exit_code:
            failed_with = cast(WorkerApp, self.app).failed_with
            if failed_with is None:
                raise
            is_misconfigured = isinstance(failed_with, ConfigurationError)
            raise SystemExit(_EX_CONFIG if is_misconfigured else 1) from exit_code


def _frames(task: asyncio.Task[Any]) -> list[str]:
    """The calls that a task waits in, from the outermost. `asyncio.Task.get_stack` shows only the first."""
    frames = []
    waits: Any = task.get_coro()
    while (frame := getattr(waits, "cr_frame", None)) is not None:
        frames.append(f"{frame.f_code.co_qualname}:{frame.f_lineno}")
        waits = waits.cr_await
    return frames


class WorkerApp(faust.App):
    """A Faust app around one stage.

    Attributes:
        nexus: The settings.
        directory: The locked data directory.
        role: The worker's role.
        rebalances: Measures the group's rebalances.
        access: Receives errors about permissions.
        stage: The caller of `create_app` sets it before the start.
    """

    nexus: Settings
    directory: WorkerDirectory
    role: Literal["enricher", "sink"]
    access: AccessWatch
    rebalances: RebalanceMetrics
    stage: Stage
    broker: FaustBroker
    lease: Lease
    on_stage_stopped: Callable[[], Awaitable[None]]
    prepare: Callable[[], Awaitable[None]]
    budgets: Callable[[], Iterable[BudgetStanding]]
    failed_with: BaseException | None = None
    # Dependencies that must answer before the worker is ready.
    needs: tuple[str, ...] = ("broker",)
    # Set at the first start.
    health: WorkerHealth | None = None
    cluster_id: str | None = None
    _status: asyncio.Task[None] | None = None

    def _new_transport(self) -> WorkerTransport:
        return WorkerTransport(self.conf.broker_consumer, self)

    async def on_first_start(self) -> None:
        """Check access and topics at the broker, then start the app; end the process if a check fails."""
        try:
            await self._wait_for_broker()
            await self.prepare()
        except ConfigurationError as error:
            _log.error("not started", problem=str(error))
            self.failed_with = error
            key, failed_by = self._process_id(), str(self._failed_by())
            await StatusPublisher(self.nexus, key, failed_status(self.role, key, failed_by)).say_once()
            # Exit directly: nothing is open yet, and Faust would wrap the message in two tracebacks.
            os._exit(_EX_CONFIG)
        except BrokerUnavailableError as error:
            _log.error("not started: no broker", problem=str(error))
            os._exit(1)
        await super().on_first_start()
        health = WorkerHealth(
            self.nexus,
            self.role,
            self.stage,
            group=str(self.conf.id),
            not_reading_because=self._not_reading_because,
            needs=self.needs,
            on_fatal=self.fail,
        )
        self.health = health
        self.stage.assignment.lease = self.lease
        self.stage.start()
        self.stage.spawn(health.run())
        self.stage.spawn(self._stay_in_group())
        self.stage.spawn(self.access.run())
        self._status = asyncio.create_task(self._publish_status(health), name="status")

    async def _wait_for_broker(self) -> None:
        deadline = asyncio.get_running_loop().time() + _STARTUP_PATIENCE_SECONDS
        while True:
            try:
                await require_access(self.nexus, self.role)
                await require_topics(self.nexus, self.role)
                cluster_id = await _cluster_id(self.nexus)
                self.directory.bind({"cluster_id": cluster_id, "app_id": str(self.conf.id)})
            except BrokerUnavailableError as error:
                if asyncio.get_running_loop().time() > deadline:
                    raise
                _log.warning("broker not reachable yet, waiting", problem=str(error))
                await asyncio.sleep(1.0)
            else:
                self.cluster_id = cluster_id
                # On the embedded broker one record per batch. Otherwise a table that is recovered from its changelog
                # misses the last records: see is_embedded.
                await self.broker.start(max_batch_bytes=1 if is_embedded(cluster_id) else _MAX_BATCH_BYTES)
                return

    async def require_same_cluster(self) -> None:
        """Stop if another cluster answers at the broker's address, for example a restarted memory-only broker.

        A new cluster has new offsets, groups and a new changelog. A consumer beyond the new end would wait for ever.
        The next start discards the local tables and reads from the beginning.
        """
        while True:
            try:
                cluster_id = await _cluster_id(self.nexus)
            except BrokerUnavailableError:
                await asyncio.sleep(1.0)
                continue
            if cluster_id != self.cluster_id:
                self.fail(
                    NexusError("another cluster answers at NEXUS_KAFKA_BOOTSTRAP_SERVERS now: restart the worker")
                )
            return

    async def _stay_in_group(self) -> None:
        """Keep aiokafka in the group while this worker pauses.

        A pause (Claude or Supabase unavailable, a bound reached) may last for hours. After
        ``kafka_max_poll_interval_seconds`` without a poll, aiokafka would leave the group. It joins again only at the
        next poll (``ensure_active_group``, aiokafka/consumer/group_coordinator.py), but Faust polls only after it has
        joined. So the worker would never return. A hanging event loop does not run this task, so its partitions go to
        other workers, as they should.
        """
        pause_seconds = min(_STAY_INTERVAL_SECONDS, self.nexus.kafka_max_poll_interval_seconds / 4)
        while True:
            consumer: Any = self.consumer
            client = consumer._thread._consumer
            if client is not None:
                client._subscription._last_fetch_ended = time.monotonic()
            await asyncio.sleep(pause_seconds)

    async def _publish_status(self, health: WorkerHealth) -> None:
        """Report this worker's status to the console. Not a task of the stage: a failure here stops nothing."""
        role: ProcessRole = self.role
        key = self._process_id()
        report = stage_status(
            self.nexus, role, key, self.stage, health.not_processing_because, health.lag, self.budgets
        )
        await StatusPublisher(self.nexus, key, report, failed_by=self._failed_by).run()

    def _process_id(self) -> str:
        return process_id(self.role, str(self.directory.path.resolve()))

    def _failed_by(self) -> str | None:
        """The cause of a failed worker, None otherwise: the dependency it waits for, or the error's type."""
        error = self.failed_with or self.crash_reason
        if error is None:
            return None
        waits = self.stage.waiting_for
        return type(error).__name__ if waits is None else waits[0]

    async def on_stop(self) -> None:
        """Finish running work within the time bound, commit, then stop Faust's services."""
        with contextlib.suppress(Exception):
            self.flow_control.suspend()
        await self.stage.stop(drain_seconds=self.nexus.stop_timeout_seconds)
        await self.on_stage_stopped()
        if self._status is not None:
            self._status.cancel()
            await asyncio.wait([self._status], timeout=_STATUS_STOP_SECONDS)
        await super().on_stop()
        await self.broker.stop()

    async def _on_agent_error(self, agent: Any, exc: BaseException) -> None:
        """Stop if an agent's loop raised: Faust would restart it after the record, and the record would be lost."""
        if not isinstance(exc, asyncio.CancelledError):
            self.fail(exc)

    def fail(self, error: BaseException) -> None:
        """Stop the worker with a message: the error is not about one record, and going on could lose records."""
        if self.failed_with is None:
            self.failed_with = error
            # A configuration error explains itself; other errors need their traceback.
            trace = None if isinstance(error, ConfigurationError) else error
            _log.critical("worker stops", error=type(error).__name__, problem=safe_message(error), exc_info=trace)
            # The same signal as from a supervisor, so that the worker stops in order. The exit code shows the failure.
            os.kill(os.getpid(), signal.SIGTERM)

    def on_rebalance_start(self) -> None:
        """Called by Faust when a rebalance of the group starts."""
        self.rebalances.began()
        super().on_rebalance_start()

    def on_rebalance_end(self) -> None:
        """Called by Faust when records flow again."""
        super().on_rebalance_end()
        self.rebalances.ended()

    async def give_up_partitions(self) -> None:
        """Let the stage finish running work within a third of the group's rebalance timeout, and drop the rest.

        The other two thirds are for Faust and the network.
        """
        await self.stage.revoked(drain_seconds=self.nexus.kafka_rebalance_timeout_seconds / 3)

    def _not_reading_because(self) -> str | None:
        if self.should_stop or self.failed_with is not None:
            return "stopping"
        # Check the recovery first: for Faust a rebalance lasts until the recovery ends.
        if self.in_recovery:
            return "recovering the table"
        if self.rebalancing:
            return "rebalancing"
        if not self.stage.assignment.partitions:
            return None if self._assignment is not None else "no partitions assigned yet"
        return None


def created_or_exit(create: Callable[[], WorkerApp]) -> WorkerApp:
    """Create the app that ``faust -A`` imports. On a configuration error print only its message and exit."""
    try:
        return create()
    except ConfigurationError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(_EX_CONFIG) from None


def create_app(settings: Settings, app_id: str) -> WorkerApp:
    """Create a worker's Faust app; the caller sets ``stage`` and declares the agent."""
    install_uvloop()
    log_handler = configure_logs(settings)
    directory = WorkerDirectory.claim(settings.data_dir, app_id)
    app = WorkerApp(
        app_id,
        loghandlers=[log_handler],
        Worker=_Worker,
        **faust_options(settings, directory),
    )
    app.nexus = settings
    # Half of the session timeout, after which the group reassigns partitions: the other half is for sends in progress.
    app.lease = Lease(settings.kafka_session_timeout_seconds / 2)
    app.role = "sink" if app_id == settings.sink_app_id else "enricher"
    app.rebalances = RebalanceMetrics(app.role)
    app.access = AccessWatch(settings, app.role, app.fail)
    app.broker = FaustBroker(app, settings, app.lease, app.access)
    app.directory = directory

    async def nothing() -> None:
        return None

    app.prepare = nothing
    app.on_stage_stopped = nothing
    app.budgets = tuple
    _declare_rebalances(app)
    _declare_pages(app)
    return app


def install_uvloop() -> None:
    """Use uvloop if it is installed: a worker spends much of its time in the event loop."""
    with contextlib.suppress(ImportError):
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())


async def _cluster_id(settings: Settings) -> str:
    admin = AIOKafkaAdminClient(**client_options(settings))
    try:
        await admin.start()
        cluster = await admin.describe_cluster()
    except KafkaError as error:
        raise BrokerUnavailableError(f"the cluster cannot be described: {type(error).__name__}") from error
    finally:
        await admin.close()
    return str(cluster.get("cluster_id"))


def _declare_rebalances(app: WorkerApp) -> None:
    @app.on_partitions_revoked.connect
    async def on_revoked(_sender: Any, /, *args: Any, signal: Any, **kwargs: Any) -> None:
        await app.give_up_partitions()

    @app.on_partitions_assigned.connect
    async def on_assigned(_sender: Any, /, *args: Any, signal: Any, **kwargs: Any) -> None:
        await app.stage.assigned((tp.topic, tp.partition) for tp in args[0])
        app.rebalances.assigned()
        app.stage.spawn(app.require_same_cluster())

    @app.on_rebalance_complete.connect
    async def on_complete(_sender: Any, /, *args: Any, signal: Any, **kwargs: Any) -> None:
        # Faust sends this when the tables are recovered, before it reads any record.
        app.rebalances.recovered()


def _declare_pages(app: WorkerApp) -> None:
    @app.page("/ready")
    class Ready(View):
        async def get(self, request: Request) -> Response:
            reason = "starting" if app.health is None else app.health.not_ready_because()
            body = {"ready": reason is None, "reason": reason, "state": app.stage.state}
            return self.json(body, status=200 if reason is None else 503)

    @app.page("/metrics")
    class Metrics(View):
        async def get(self, request: Request) -> Response:
            body, content_type = exposition(request.headers.get("Accept", ""))
            return self.bytes(body, headers={"Content-Type": content_type})

    @app.page("/live")
    class Live(View):
        async def get(self, request: Request) -> Response:
            reason = None if app.health is None else app.health.not_live_because()
            body = {"live": reason is None, "reason": reason, "state": app.stage.state}
            return self.json(body, status=200 if reason is None else 503)
