"""Tells the console how a process is doing: one record every two seconds on ``nexus-status``.

From: a stage or the gateway. To: ``nexus-status`` (key = process id), through a producer of its own. Nothing here can
stop or slow the process: a broker that is away, a missing topic or an error of ours costs a status record, no more.

Who was told to stop says goodbye with a null value. Who ends by an error leaves a last record that says so, and the
console goes on asking where it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from nexus_stream import __version__
from nexus_stream.contracts.status import BudgetStanding, Latency, ProcessState, ProcessStatus
from nexus_stream.errors import BrokerUnavailableError
from nexus_stream.kafka.clients import client_options
from nexus_stream.observability.lag import StageLag
from nexus_stream.observability.logs import hashed
from nexus_stream.observability.outcomes import counted_dead_letters, counted_outcomes
from nexus_stream.settings import Settings

if TYPE_CHECKING:
    from nexus_stream.delivery.stage import Stage

__all__ = [
    "StateClock",
    "StatusPublisher",
    "failed_status",
    "process_id",
    "stage_status",
    "state_of",
    "status_topic_exists",
]

_log = logging.getLogger(__name__)

INTERVAL_SECONDS = 2.0
_SEND_SECONDS = 5.0
_GOODBYE_SECONDS = 1.0
# Of a process that refuses to start: connecting is in it.
_LAST_SECONDS = 3.0
# Below the time after which the console takes a process for silent, with an alert's own time on top.
_RETRY_SECONDS = 5.0

Role = Literal["gateway", "enricher", "sink"]
StatusReport = Callable[[], Awaitable[ProcessStatus]]


def process_id(role: str, place: str) -> str:
    """The same after a restart in the same place, so that the compacted topic holds one record a process.

    Args:
        role: The process type.
        place: What tells two of one type on one host apart: a port, a data directory.
    """
    return f"{role}-{host_name()}-{hashed(place)[:6]}"


def host_name() -> str:
    """This host without its name."""
    return hashed(socket.gethostname())[:8]


@dataclass(slots=True)
class StateClock:
    """Remembers since when a process is in its state."""

    state: ProcessState = "starting"
    detail: str | None = None
    since_ms: int = field(default_factory=lambda: time.time_ns() // 1_000_000)

    def note(self, state: ProcessState, detail: str | None, now_ms: int, since_ms: int | None = None) -> None:
        """Take in what it is now; ``since_ms`` where the state itself knows."""
        if (state, detail) != (self.state, self.detail):
            self.state, self.detail = state, detail
            self.since_ms = now_ms if since_ms is None else since_ms


class StatusPublisher:
    """Sends what ``report`` returns, for as long as it runs.

    Args:
        settings: Broker and topic.
        key: The process id.
        report: Makes the record; may raise.
        failed_by: What the process ends by, told in a word; None while it only stops because it was told to.
    """

    def __init__(
        self, settings: Settings, key: str, report: StatusReport, *, failed_by: Callable[[], str | None] = lambda: None
    ) -> None:
        self._settings = settings
        self._key = key.encode()
        self._report = report
        self._failed_by = failed_by
        self._producer: AIOKafkaProducer | None = None
        self._problem = ""

    async def run(self) -> None:
        """Send until cancelled; then say goodbye with a null value, or what the process failed by, within a second."""
        try:
            while True:
                began = time.monotonic()
                pause = INTERVAL_SECONDS
                try:
                    async with asyncio.timeout(_SEND_SECONDS):
                        await self._send((await self._report()).model_dump_json(exclude_none=True).encode())
                    self._problem = ""
                except Exception as error:
                    self._note(error)
                    await self._close()
                    pause = _RETRY_SECONDS
                await asyncio.sleep(max(0.1, pause - (time.monotonic() - began)))
        finally:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(_GOODBYE_SECONDS):
                    if self._producer is not None:
                        await self._send(await self._last_words())
            await self._close()

    async def say_once(self) -> None:
        """Send one record and be done; whatever keeps it from arriving is nobody's concern."""
        with contextlib.suppress(Exception):
            async with asyncio.timeout(_LAST_SECONDS):
                await self._send((await self._report()).model_dump_json(exclude_none=True).encode())
        await self._close()

    async def _last_words(self) -> bytes | None:
        """Null, or a record ``failed``. If that cannot be made nothing is sent, and the process is missed anyway."""
        failed_by = self._failed_by()
        if failed_by is None:
            return None
        status = await self._report()
        update = {"state": "failed", "detail": failed_by, "since_ms": status.updated_at_ms}
        return status.model_copy(update=update).model_dump_json(exclude_none=True).encode()

    async def _send(self, value: bytes | None) -> None:
        if self._producer is None:
            if not await status_topic_exists(self._settings):
                raise LookupError(f"{self._settings.status_topic} is missing: run `nexus topics apply`")
            producer = AIOKafkaProducer(
                **client_options(self._settings) | {"request_timeout_ms": int(_SEND_SECONDS * 1000)},
                client_id="nexus-status",
                acks=1,
            )
            self._producer = producer
            await producer.start()
        await self._producer.send_and_wait(self._settings.status_topic, value, key=self._key)

    async def _close(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(_GOODBYE_SECONDS):
                    await producer.stop()

    def _note(self, error: Exception) -> None:
        # Once per outage. The type alone: nothing here is worth a traceback every few seconds.
        problem = str(error) if isinstance(error, LookupError) else type(error).__name__
        if problem != self._problem:
            passes = isinstance(error, BrokerUnavailableError | KafkaError | TimeoutError | OSError)
            level = logging.INFO if passes else logging.WARNING
            _log.log(level, "status not published", extra={"event": "status_not_published", "problem": problem})
        self._problem = problem


async def status_topic_exists(settings: Settings) -> bool:
    """Whether there is a topic to report to.

    Asked through the admin client: a producer's question for a missing topic may create it, with the broker's defaults.

    Raises:
        BrokerUnavailableError: the broker does not answer.
    """
    admin = AIOKafkaAdminClient(**client_options(settings))
    try:
        await admin.start()
        return settings.status_topic in await admin.list_topics()
    except KafkaError as error:
        raise BrokerUnavailableError(f"{settings.status_topic}: {type(error).__name__}") from error
    finally:
        await admin.close()


def stage_status(
    settings: Settings,
    role: Role,
    key: str,
    stage: Stage,
    not_running_because: Callable[[], str | None],
    lag: StageLag,
    budgets: Callable[[], Iterable[BudgetStanding]] = tuple,
) -> StatusReport:
    """The report of a worker process.

    Args:
        settings: Broker, budget.
        role: Which worker.
        key: The process id.
        stage: What it runs.
        not_running_because: Why the worker does not process now; None if it does.
        lag: Of the stage.
        budgets: What this worker may spend on Claude, and has spent.
    """
    started_at_ms = stage.clock.time_ms()
    state = StateClock()

    async def report() -> ProcessStatus:
        now_ms, now = stage.clock.time_ms(), stage.clock.monotonic()
        found = state_of(stage, not_running_because())
        state.note(found.state, found.detail, now_ms, found.since_ms)
        p50, p95 = stage.facts.percentiles((0.5, 0.95), since=now - settings.alert_window_seconds)
        reads = settings.use_claude and role == "enricher"
        return ProcessStatus(
            process_id=key,
            role=role,
            version=__version__,
            host=host_name(),
            pid=os.getpid(),
            state=state.state,
            detail=state.detail,
            since_ms=state.since_ms,
            started_at_ms=started_at_ms,
            updated_at_ms=now_ms,
            partitions=lag.partitions(),
            lag_known=lag.is_known,
            outcomes=counted_outcomes(role),
            dead_letters=counted_dead_letters(role),
            latency=Latency.of_seconds(p50, p95),
            input_tokens=stage.facts.input_tokens,
            output_tokens=stage.facts.output_tokens,
            cost_usd=stage.facts.cost_usd,
            budget_usd_per_day=settings.budget_usd_per_day if reads else None,
            budgets=tuple(budgets()),
        )

    return report


def failed_status(role: Role, key: str, failed_by: str) -> StatusReport:
    """The one report of a process that refuses to start.

    Args:
        role: What it would have been.
        key: The process id.
        failed_by: Why, in a word.
    """

    async def report() -> ProcessStatus:
        now_ms = _now_ms()
        return ProcessStatus(
            process_id=key,
            role=role,
            version=__version__,
            host=host_name(),
            pid=os.getpid(),
            state="failed",
            detail=failed_by,
            since_ms=now_ms,
            started_at_ms=now_ms,
            updated_at_ms=now_ms,
        )

    return report


class FoundState(NamedTuple):
    """A state, what explains it, and since when (Unix milliseconds) if it says so itself."""

    state: ProcessState
    detail: str | None = None
    since_ms: int | None = None


def state_of(stage: Stage, reason: str | None) -> FoundState:
    """The state of a worker.

    Args:
        stage: What it runs.
        reason: Why it does not process now; None if it does, or waits.
    """
    waiting_for = stage.waiting_for
    if reason is None and waiting_for is not None:
        return FoundState("waiting", *waiting_for)
    if reason is None:
        return FoundState("running")
    if reason.startswith("no progress"):
        # Without the seconds in it, which would begin a new state each time.
        return FoundState("stalled", "no progress although there is something to read")
    if reason in {"stopping", "rebalancing"}:
        return FoundState("stopping" if reason == "stopping" else "rebalancing")
    if reason.startswith("recovering"):
        return FoundState("recovering")
    return FoundState("starting", reason)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
