"""What the two Faust apps share: configuration, the broker port, rebalances, readiness, stopping.

From: settings and a stage. To: ``faust -A nexus_stream.enricher worker`` and ``faust -A nexus_stream.sink worker``. The
parts that touch Faust 0.15.3 from inside are its neighbours: broker.py, consumer.py, recovery.py.
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
import structlog
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from faust.web import Request, Response, View

from nexus_stream.contracts.status import ProcessRole
from nexus_stream.delivery.lease import Lease
from nexus_stream.errors import BrokerUnavailableError, ConfigurationError, NexusError
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

_log = structlog.get_logger(__name__)

_MAX_BATCH_BYTES = 131_072
_STARTUP_PATIENCE_SECONDS = 60.0
_STAY_INTERVAL_SECONDS = 5.0
_STATUS_STOP_SECONDS = 3.0
_EX_CONFIG = 78  # sysexits.h: a supervisor should not restart on it


class _Worker(faust.Worker):
    """Faust's worker without its progress spinner, which would also hold our log handler at WARNING."""

    def on_setup_root_logger(self, logger: logging.Logger, level: int) -> None:
        """Leave handlers and levels as `configure_logs` set them."""
        self.spinner = None

    def _on_sigusr1(self) -> None:
        """Log where each task stands. Faust would print local variables too, and those hold conversations."""
        for task in asyncio.all_tasks(self.loop):
            frames = [f"{frame.f_code.co_qualname}:{frame.f_lineno}" for frame in task.get_stack(limit=4)]
            _log.warning("task", frames=frames)

    def _on_sigusr2(self) -> None:
        """Do nothing. Faust would open a debugger, and the worker would stand still until somebody came."""

    def execute_from_commandline(self) -> NoReturn:
        """Run, and end with an exit code that tells a supervisor whether to start again."""
        try:
            super().execute_from_commandline()
        except SystemExit as exit_code:
            failed_with = cast(WorkerApp, self.app).failed_with
            if failed_with is None:
                raise
            configured_wrong = isinstance(failed_with, ConfigurationError)
            raise SystemExit(_EX_CONFIG if configured_wrong else 1) from exit_code


class WorkerApp(faust.App):
    """A Faust app around one stage.

    Attributes:
        nexus: The settings.
        directory: The locked data directory.
        role: Which worker it is.
        rebalances: Times what happens to its group.
        access: Told of errors that speak of permissions.
        stage: Set by whoever creates the app, before it starts.
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
    # Of what the stage may wait for, what it cannot do without.
    needs: tuple[str, ...] = ("broker",)
    # From the first start on.
    health: WorkerHealth | None = None
    cluster_id: str | None = None
    _status: asyncio.Task[None] | None = None

    def _new_transport(self) -> WorkerTransport:
        return WorkerTransport(self.conf.broker_consumer, self)

    async def on_first_start(self) -> None:
        """Refuse to start on a broker whose topics are not as declared; then let the app begin."""
        try:
            await self._wait_for_broker()
            await self.prepare()
        except ConfigurationError as error:
            _log.error("not started", problem=str(error))
            self.failed_with = error
            key, told = self._process_id(), str(self._failed_by())
            await StatusPublisher(self.nexus, key, failed_status(self.role, key, told)).say_once()
            # Nothing is open yet, and Faust would wrap the message in two tracebacks.
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
                # On the embedded broker one record a batch, or a table recovered from its changelog misses the last
                # ones: see is_embedded.
                await self.broker.start(max_batch_bytes=1 if is_embedded(cluster_id) else _MAX_BATCH_BYTES)
                return

    async def require_same_cluster(self) -> None:
        """Stop when another cluster answers at the broker's address: a memory-only broker that was started again.

        Offsets, groups and the table's changelog began anew there, and a reader whose position lies beyond the new end
        would wait for ever. The next start discards the local tables and reads from the beginning.
        """
        while True:
            try:
                cluster_id = await _cluster_id(self.nexus)
            except BrokerUnavailableError:
                await asyncio.sleep(1.0)
                continue
            if cluster_id != self.cluster_id:
                self.fail(NexusError("another cluster answers at NEXUS_KAFKA_BOOTSTRAP_SERVERS now: start again"))
            return

    async def _stay_in_group(self) -> None:
        """Tell aiokafka that this worker lives, also while it reads nothing.

        A pause (Claude or Supabase away, a bound reached) may last for hours. After ``kafka_max_poll_interval_seconds``
        without a poll aiokafka would leave the group, and join again only when it is polled (``ensure_active_group``,
        aiokafka/consumer/group_coordinator.py); Faust polls only once it has joined: so never.
        A loop that hangs does not come by here, and its partitions go to others as they should.
        """
        pause_seconds = min(_STAY_INTERVAL_SECONDS, self.nexus.kafka_max_poll_interval_seconds / 4)
        while True:
            consumer: Any = self.consumer
            client = consumer._thread._consumer
            if client is not None:
                client._subscription._last_fetch_ended = time.monotonic()
            await asyncio.sleep(pause_seconds)

    async def _publish_status(self, health: WorkerHealth) -> None:
        """Tell the console how this worker is doing. No task of the stage's: its failure stops nothing."""
        role: ProcessRole = self.role
        key = self._process_id()
        report = stage_status(
            self.nexus, role, key, self.stage, health.not_processing_because, health.lag, self.budgets
        )
        await StatusPublisher(self.nexus, key, report, failed_by=self._failed_by).run()

    def _process_id(self) -> str:
        return process_id(self.role, str(self.directory.path.resolve()))

    def _failed_by(self) -> str | None:
        """What the worker ends by, if it does: what it cannot do without, or the kind of error."""
        error = self.failed_with or self.crash_reason
        if error is None:
            return None
        waits = self.stage.waiting_for
        return type(error).__name__ if waits is None else waits[0]

    async def on_stop(self) -> None:
        """Finish what is running within the bound, commit, then let Faust take its parts down."""
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
        """Stop when an agent's loop raised: Faust would restart it behind the record, and the record would be lost."""
        if not isinstance(exc, asyncio.CancelledError):
            self.fail(exc)

    def fail(self, error: BaseException) -> None:
        """Stop the worker with a message: no record is at fault, and going on could only lose some."""
        if self.failed_with is None:
            self.failed_with = error
            # What is configured wrong stands in the message; of the rest the place matters.
            trace = None if isinstance(error, ConfigurationError) else error
            _log.critical("worker stops", error=type(error).__name__, problem=safe_message(error), exc_info=trace)
            # As from a supervisor, so that it stops in order; the exit code says why.
            os.kill(os.getpid(), signal.SIGTERM)

    def on_rebalance_start(self) -> None:
        """Faust's word that its group rebalances."""
        self.rebalances.began()
        super().on_rebalance_start()

    def on_rebalance_end(self) -> None:
        """Faust's word that records flow again."""
        super().on_rebalance_end()
        self.rebalances.ended()

    async def give_up_partitions(self) -> None:
        """Let the stage finish what runs, within a third of what the group waits for, and drop the rest.

        The other two thirds are Faust's and the network's.
        """
        await self.stage.revoked(drain_seconds=self.nexus.kafka_rebalance_timeout_seconds / 3)

    def _not_reading_because(self) -> str | None:
        if self.should_stop or self.failed_with is not None:
            return "stopping"
        # Before the other: to Faust a rebalance ends with the recovery.
        if self.in_recovery:
            return "recovering the table"
        if self.rebalancing:
            return "rebalancing"
        if not self.stage.assignment.partitions:
            return None if self._assignment is not None else "no partitions assigned yet"
        return None


def created_or_exit(create: Callable[[], WorkerApp]) -> WorkerApp:
    """Create the app that ``faust -A`` imports; end with the message alone when the configuration is wrong."""
    try:
        return create()
    except ConfigurationError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(_EX_CONFIG) from None


def create_app(settings: Settings, app_id: str) -> WorkerApp:
    """A Faust app as this software runs it; the caller sets ``stage`` and declares its agent."""
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
    # Half the time after which the group gives a silent member's partitions away: the rest is for what was begun.
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
    """Use uvloop where there is one: a worker spends much of its time in the event loop."""
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
        # Sent when tables are as their changelogs, and before anything is read.
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
