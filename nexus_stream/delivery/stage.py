"""The base of both stages: it reads records, commits their offsets by timer, and stops within a time bound.

A stage keeps its offsets in its own ledger. It never raises into the agent's loop. If no record caused an error,
``on_fatal`` stops the worker.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

from aiokafka.errors import KafkaError, MessageSizeTooLargeError, RecordListTooLargeError

from nexus_stream.delivery.backoff import backoff_seconds
from nexus_stream.delivery.clock import Clock
from nexus_stream.delivery.facts import Facts
from nexus_stream.delivery.ledger import OffsetLedger
from nexus_stream.delivery.outcomes import Outcome
from nexus_stream.delivery.ports import BrokerPort, TracePort
from nexus_stream.delivery.received import Assignment, Received, TopicPartition, Unreadable
from nexus_stream.delivery.timings import Timings, Untimed
from nexus_stream.errors import ConfigurationError, PartitionLostError, RetryableError
from nexus_stream.host.log import get_logger

__all__ = ["AgentMessage", "Observer", "Stage", "StageParts"]

_log = get_logger(__name__)

_T = TypeVar("_T")

# A send that fails with one of these is tried again.
_SEND_ERRORS = (RetryableError, KafkaError)

# Kafka's timestamp type of a topic whose broker sets the times of records.
_LOG_APPEND_TIME = 1

# How often an unconfirmed worker checks whether the group has confirmed it.
_CONFIRM_SECONDS = 0.05

# A commit inside a rebalance must not hold up the group.
_REVOKE_COMMIT_SECONDS = 5.0


def _raise_if_too_large(error: BaseException) -> None:
    # The broker would refuse the same record for ever. Its limit is wrong, not the record.
    if isinstance(error, MessageSizeTooLargeError | RecordListTooLargeError):
        raise ConfigurationError(
            "The broker refuses a record as too large: a topic's max.message.bytes is below what NEXUS_MAX_BODY_BYTES "
            "admits. `nexus topics plan` shows what each topic needs."
        ) from error


def _offsets_held(record: Received) -> tuple[int, ...]:
    """The unfinished offsets of a record. A range that cannot be read also holds its first offset until its end."""
    if isinstance(record.value, Unreadable) and record.value.first_offset < record.offset:
        return record.value.first_offset, record.offset
    return (record.offset,)


class Observer(Protocol):
    """Port for outcomes of records, and for the services that a stage waits for. Metrics and logs implement it."""

    def outcome(self, record: Received, outcome: Outcome) -> None:
        """Note how a record ended."""
        ...

    def waiting(self, what: str, since_ms: int | None) -> None:
        """Note that the stage waits for ``what`` since then. ``since_ms`` None: it waits no longer."""
        ...


class AgentMessage(Protocol):
    """A message in the form that Faust passes to an agent; ``timestamp`` in seconds."""

    topic: str
    partition: int
    offset: int
    timestamp: float | None
    timestamp_type: int | None
    key: bytes | None
    value: bytes | None
    headers: Iterable[tuple[str, bytes]] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StageParts:
    """The services of the worker that a stage needs.

    Attributes:
        broker: Sends records and commits offsets.
        assignment: The assigned partitions.
        clock: Time.
        observer: Notes how records end.
        on_fatal: Stops the worker because of an error that no record caused.
        tracing: Follows records. None: tracing is off.
        timings: Notes how long work took.
    """

    broker: BrokerPort
    assignment: Assignment
    clock: Clock
    observer: Observer
    on_fatal: Callable[[BaseException], None]
    tracing: TracePort | None = None
    timings: Timings = field(default_factory=Untimed)


class Stage:
    """Reads one topic and owns its offsets.

    Args:
        parts: The worker's services.
        name: The name for logs.
        topic: The topic that the stage reads.
        commit_interval_seconds: How often finished offsets are committed.
    """

    def __init__(self, parts: StageParts, *, name: str, topic: str, commit_interval_seconds: float) -> None:
        self.name = name
        self.topic = topic
        self.broker = parts.broker
        self.assignment = parts.assignment
        self.clock = parts.clock
        self.observer = parts.observer
        self.tracing = parts.tracing
        self.ledger = OffsetLedger()
        self.timings = parts.timings
        self.facts = Facts(self.timings)
        # Set by a revocation or a stop, until partitions are assigned again.
        self.draining = asyncio.Event()
        self._commit_interval_seconds = commit_interval_seconds
        self._on_fatal = parts.on_fatal
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting_for: dict[str, int] = {}

    # Reading

    async def take(self, message: AgentMessage) -> None:
        """Accept one message of the agent's loop: read the record and submit it. Raises nothing into the loop."""
        record = self.read(
            message.topic,
            message.partition,
            message.offset,
            round((message.timestamp or 0) * 1000),
            message.key,
            message.value,
            message.headers or (),
            is_brokers_time=message.timestamp_type == _LOG_APPEND_TIME,
        )
        if record is not None:
            await self.submit(record)

    async def submit(self, record: Received) -> None:
        """Begin work on a record. Waits while a bound on pending work is reached; raises nothing."""
        raise NotImplementedError

    def read(
        self,
        topic: str,
        partition: int,
        offset: int,
        timestamp_ms: int,
        key: bytes | None,
        value: bytes | None,
        headers: Iterable[tuple[str, bytes]],
        *,
        is_brokers_time: bool = True,
    ) -> Received | None:
        """Note that a record was read. It is unfinished from now on.

        Returns:
            None if the record was read before and is not finished. At every assignment Faust continues reading before
            it seeks back to the committed offsets (``_resume_streams``, faust/tables/recovery.py). If a record were
            accepted twice, the second copy would be its duplicate, and would finish the same offset.
        """
        record = Received(
            topic,
            partition,
            offset,
            timestamp_ms,
            key,
            value,
            tuple(headers),
            epoch=self.assignment.epoch,
            is_brokers_time=is_brokers_time,
        )
        if self.assignment.owns(record):
            if self.ledger.is_unfinished(record.tp, record.offset):
                return None
            for one in _offsets_held(record):
                self.ledger.begin(record.tp, one, record.timestamp_ms)
        if self.tracing is not None:
            self.tracing.begin(record)
        return record

    def finish(self, record: Received, outcome: Outcome, about: Received | None = None) -> None:
        """Note that a record's effects are durable: its offset may be committed.

        Args:
            record: The record whose offset is done.
            outcome: How it ended.
            about: The record of the reported outcome, if it is another one (a work's newest snapshot).
        """
        if self.assignment.owns(record):
            for one in _offsets_held(record):
                self.ledger.done(record.tp, one)
        self.observer.outcome(record if about is None else about, outcome)

    # Sending

    async def until_acknowledged(
        self,
        items: Sequence[_T],
        record_of: Callable[[_T], Received],
        send: Callable[[_T], Awaitable[Awaitable[object]]],
    ) -> list[_T]:
        """Send each item in order, and await the broker's acknowledgement of all.

        A refused item is sent again, with growing pauses, until the broker accepts it. An item of a revoked partition
        is left out. So an unreachable broker pauses the stage, and no record is lost.

        Returns:
            The acknowledged items whose partitions are still assigned, in order.
        """
        acknowledged: list[_T] = []
        remaining = list(items)
        attempt = 1
        while remaining:
            await self.confirmed()
            begun: list[tuple[_T, Awaitable[object]]] = []
            failed: list[_T] = []
            for item in remaining:
                if not self.assignment.owns(record_of(item)):
                    continue
                try:
                    begun.append((item, await send(item)))
                except PartitionLostError:
                    continue
                except _SEND_ERRORS as error:
                    _raise_if_too_large(error)
                    failed.append(item)
            results = await asyncio.gather(*(future for _, future in begun), return_exceptions=True)
            for (item, _), result in zip(begun, results, strict=True):
                if isinstance(result, _SEND_ERRORS):
                    _raise_if_too_large(result)
                    failed.append(item)
                elif isinstance(result, BaseException) and not isinstance(result, PartitionLostError):
                    raise result
                elif self.assignment.owns(record_of(item)):
                    acknowledged.append(item)
            remaining = failed
            if remaining:
                self.waits_for("broker")
                await self.clock.sleep(backoff_seconds(attempt, None, random=random.random))
                attempt += 1
        self.waits_no_longer("broker")
        return acknowledged

    async def confirmed(self) -> None:
        """Return once the group has confirmed this worker, or once the partitions were revoked: see lease.py."""
        if self.assignment.is_confirmed:
            return
        epoch = self.assignment.epoch
        self.waits_for("broker")
        while not self.assignment.is_confirmed and self.assignment.partitions and self.assignment.epoch == epoch:
            await self.clock.sleep(_CONFIRM_SECONDS)
        self.waits_no_longer("broker")

    async def still_owns(self, record: Received) -> bool:
        """Whether the record may have effects. Waits until the group confirms or revokes this worker's partitions."""
        await self.confirmed()
        return self.assignment.owns(record)

    def waits_for(self, what: str) -> None:
        """Note that the stage waits for ``what``. The first note sets the time."""
        if what not in self._waiting_for:
            self._waiting_for[what] = self.clock.time_ms()
            self.observer.waiting(what, self._waiting_for[what])

    @property
    def waiting_for(self) -> tuple[str, int] | None:
        """The service of the longest wait, and its start (Unix milliseconds). None while the stage runs."""
        return min(self._waiting_for.items(), key=lambda entry: entry[1]) if self._waiting_for else None

    def is_waiting_for(self, what: str) -> bool:
        """Whether the stage waits for ``what``, perhaps among other things."""
        return what in self._waiting_for

    @property
    def is_full(self) -> bool:
        """Whether the stage stopped reading because a bound on pending work is reached."""
        return False

    def tried_again(self) -> frozenset[TopicPartition]:
        """Partitions with a record that failed and is tried again. That may take long."""
        return frozenset()

    def settling_offsets(self) -> frozenset[tuple[TopicPartition, int]]:
        """Unfinished offsets of chats that are not quiet yet. They are no delay."""
        return frozenset()

    def waits_no_longer(self, what: str) -> None:
        """Note that ``what`` answers again."""
        if self._waiting_for.pop(what, None) is not None:
            self.observer.waiting(what, None)

    @property
    def state(self) -> str:
        """``running``, or ``waiting for Claude since 2026-01-01T12:00:00+00:00``."""
        if not self._waiting_for:
            return "running"
        what, since_ms = min(self._waiting_for.items(), key=lambda entry: entry[1])
        since = datetime.fromtimestamp(since_ms / 1000, UTC).isoformat(timespec="seconds")
        return f"waiting for {what} since {since}"

    # Committing

    async def commit(self) -> None:
        """Commit the finished offsets."""
        offsets = self.ledger.committable()
        if offsets and await self.broker.commit(offsets):
            self.ledger.committed(offsets)

    async def _commit_by_timer(self) -> None:
        while True:
            await self.clock.sleep(self._commit_interval_seconds)
            await self.commit()

    # Living

    def start(self) -> None:
        """Start the stage's own tasks."""
        self.spawn(self._commit_by_timer())

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a task of the stage. An exception that leaves the task stops the worker, so no failure is silent."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_fatal(error)

    def fatal(self, error: BaseException) -> None:
        """Stop the worker because of an error that no record caused."""
        self._on_fatal(error)

    async def assigned(self, partitions: Iterable[TopicPartition]) -> None:
        """Take over these partitions. Reading begins at their committed offsets."""
        self.ledger.forget()
        self.assignment.assign(partitions)
        self.draining.clear()

    async def revoked(self, *, drain_seconds: float) -> None:
        """Give up the partitions: finish running work within the bound, commit, and drop the rest."""
        await self._finish_up(drain_seconds)
        self._drop_partitions()
        for what in list(self._waiting_for):
            # The next owner waits from now on.
            self.waits_no_longer(what)

    async def stop(self, *, drain_seconds: float) -> None:
        """Finish running work within the bound, commit, and end the stage's tasks."""
        await self._finish_up(drain_seconds)
        self._drop_partitions()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _finish_up(self, drain_seconds: float) -> None:
        self.draining.set()
        if not self.assignment.is_confirmed:
            # Another worker may have these partitions by now, and running work would wait for a confirmation in vain.
            drain_seconds = 0.0
        try:
            async with asyncio.timeout(drain_seconds):
                await self.drained()
        except TimeoutError:
            _log.info("running work abandoned, its next owner does it again", stage=self.name)
        try:
            async with asyncio.timeout(_REVOKE_COMMIT_SECONDS):
                await self.commit()
        except TimeoutError:
            _log.warning("last commit not finished in time, its records are read again", stage=self.name)

    def _drop_partitions(self) -> None:
        """Revoke all partitions, and drop all work on them."""
        self.assignment.revoke()
        self.broker.drop_unsent()
        self.ledger.forget()
        self.drop_all()
        if self.tracing is not None:
            self.tracing.drop_all()

    async def drained(self) -> None:
        """Return once nothing runs. Pending work does not count: the next owner reads it again."""

    def drop_all(self) -> None:
        """Forget all work, after a revocation."""

    def dead_letter_time(self) -> str:
        """Now, in the form of a dead letter's header."""
        return datetime.fromtimestamp(self.clock.time_ms() / 1000, UTC).isoformat(timespec="milliseconds")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {self.state}>"
