"""Report the status of a process to the console: one record every two seconds on ``nexus-status``.

From: a stage or the gateway. To: ``nexus-status`` (key = process id), with its own producer. A failure here cannot stop
or slow the process: if the broker is down, the topic is missing or the report fails, only a status record is lost.

A process that was told to stop ends with a null value. A process that fails ends with a record ``failed``, and the
console continues to miss it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from nexus_stream import __version__
from nexus_stream.contracts.status import ProcessRole, ProcessState, ProcessStatus
from nexus_stream.errors import BrokerUnavailableError
from nexus_stream.host.log import get_logger
from nexus_stream.kafka.clients import client_options
from nexus_stream.observability.logs import hashed
from nexus_stream.settings import Settings

if TYPE_CHECKING:
    pass

__all__ = [
    "StateClock",
    "StatusPublisher",
    "failed_status",
    "process_id",
    "status_topic_exists",
]

_log = get_logger(__name__)

INTERVAL_SECONDS = 2.0
_SEND_SECONDS = 5.0
_GOODBYE_SECONDS = 1.0
# Bound for the only report of a process that refuses to start; includes the connection.
_LAST_SECONDS = 3.0
# Below the time after which the console calls a process silent, plus the alert's own delay.
_RETRY_SECONDS = 5.0

StatusReport = Callable[[], Awaitable[ProcessStatus]]


def process_id(role: str, place: str) -> str:
    """The process id: the same after a restart in the same place, so the compacted topic holds one record per process.

    Args:
        role: The process type.
        place: Distinguishes two processes of one type on one host: a port, a data directory.
    """
    return f"{role}-{host_name()}-{hashed(place)[:6]}"


def host_name() -> str:
    """A hash of this host's name."""
    return hashed(socket.gethostname())[:8]


@dataclass(slots=True)
class StateClock:
    """Remembers since when a process is in its state."""

    state: ProcessState = "starting"
    detail: str | None = None
    since_ms: int = field(default_factory=lambda: time.time_ns() // 1_000_000)

    def note(self, state: ProcessState, detail: str | None, now_ms: int, since_ms: int | None = None) -> None:
        """Note the current state; ``since_ms`` is its start, if known."""
        if (state, detail) != (self.state, self.detail):
            self.state, self.detail = state, detail
            self.since_ms = now_ms if since_ms is None else since_ms


class StatusPublisher:
    """Sends the records of ``report`` while `run` runs.

    Args:
        settings: Broker and topic.
        key: The process id.
        report: Makes the record; may raise.
        failed_by: Returns the cause of a failure in one word; None at an ordinary stop.
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
        """Send until cancelled. Then send the last record within a second: null, or ``failed`` with the cause."""
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
                        await self._send(await self._last_value())
            await self._close()

    async def say_once(self) -> None:
        """Send one record; ignore every failure."""
        with contextlib.suppress(Exception):
            async with asyncio.timeout(_LAST_SECONDS):
                await self._send((await self._report()).model_dump_json(exclude_none=True).encode())
        await self._close()

    async def _last_value(self) -> bytes | None:
        """Null, or a record ``failed``. If this raises, nothing is sent, and the console still misses the process."""
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
        # Log once per outage, and only the type: a traceback every few seconds would be too much.
        problem = str(error) if isinstance(error, LookupError) else type(error).__name__
        if problem != self._problem:
            is_temporary = isinstance(error, BrokerUnavailableError | KafkaError | TimeoutError | OSError)
            level = logging.INFO if is_temporary else logging.WARNING
            _log.log(level, "status not published", extra={"event": "status_not_published", "problem": problem})
        self._problem = problem


async def status_topic_exists(settings: Settings) -> bool:
    """Whether the status topic exists.

    Uses the admin client: a producer's metadata request may create a missing topic, with the broker's defaults.

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


def failed_status(role: ProcessRole, key: str, failed_by: str) -> StatusReport:
    """The only report of a process that refuses to start.

    Args:
        role: The process type.
        key: The process id.
        failed_by: The cause, in one word.
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


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
