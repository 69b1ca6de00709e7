"""What the enricher and the sink share: reading under our own ledger, committing by timer, stopping within a bound.

From: an agent's loop calls ``read`` for each event and hands the record on. To: the broker's committed offsets.
A stage never raises into the agent's loop: what cannot go on is handed to ``on_fatal``, which stops the worker.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

import structlog
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, RecordListTooLargeError

from nexus_stream.delivery.backoff import backoff_seconds
from nexus_stream.delivery.clock import Clock
from nexus_stream.delivery.facts import Facts
from nexus_stream.delivery.ledger import OffsetLedger
from nexus_stream.delivery.outcomes import Outcome
from nexus_stream.delivery.ports import BrokerPort, TracePort
from nexus_stream.delivery.received import Assignment, Received, TopicPartition
from nexus_stream.delivery.timings import Timings, Untimed
from nexus_stream.errors import ConfigurationError, PartitionLostError, RetryableError

__all__ = ["Message", "Observer", "Stage", "StageParts"]

_log = structlog.get_logger(__name__)

_T = TypeVar("_T")

# What a send may fail with and be tried again.
_SEND_ERRORS = (RetryableError, KafkaError)

# How often an unconfirmed worker looks whether it is confirmed.
_CONFIRM_SECONDS = 0.05

# A commit inside a rebalance must not hold up the group.
_REVOKE_COMMIT_SECONDS = 5.0


def _raise_if_too_large(error: BaseException) -> None:
    # The same record would be refused for ever; the broker's limit is what is wrong.
    if isinstance(error, MessageSizeTooLargeError | RecordListTooLargeError):
        raise ConfigurationError(
            "The broker refuses a record as too large: a topic's max.message.bytes is below what NEXUS_MAX_BODY_BYTES "
            "admits. `nexus topics plan` shows what each topic needs."
        ) from error


class Observer(Protocol):
    """Told how each record ended and what a stage waits for; counts and logs live behind it."""

    def outcome(self, record: Received, outcome: Outcome) -> None:
        """A record ended."""
        ...

    def waiting(self, what: str, since_ms: int | None) -> None:
        """The stage waits for ``what`` since then, or (None) no longer does."""
        ...


class Message(Protocol):
    """A message as Faust hands it to an agent; ``timestamp`` in seconds."""

    topic: str
    partition: int
    offset: int
    timestamp: float | None
    key: bytes | None
    value: bytes | None
    headers: Iterable[tuple[str, bytes]] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StageParts:
    """What a stage needs from its worker.

    Attributes:
        broker: Sends and commits.
        assignment: Which partitions are ours.
        clock: Time.
        observer: Told of outcomes.
        on_fatal: Called with an error that no record is at fault for; stops the worker.
        tracing: Follows records; None: nobody does.
        timings: Told how long work took.
    """

    broker: BrokerPort
    assignment: Assignment
    clock: Clock
    observer: Observer
    on_fatal: Callable[[BaseException], None]
    tracing: TracePort | None = None
    timings: Timings = field(default_factory=Untimed)


class Stage:
    """A reader of one topic that owns its offsets.

    Args:
        parts: What the worker provides.
        name: For logs.
        topic: What it reads.
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
        # Set from a revocation or stop until partitions are assigned again.
        self.draining = asyncio.Event()
        self._commit_interval_seconds = commit_interval_seconds
        self._on_fatal = parts.on_fatal
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting_for: dict[str, int] = {}

    # Reading

    async def take(self, message: Message) -> None:
        """Take in one message of the agent's loop: read the record and submit it. Raises nothing into the loop."""
        record = self.read(
            message.topic,
            message.partition,
            message.offset,
            round((message.timestamp or 0) * 1000),
            message.key,
            message.value,
            message.headers or (),
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
    ) -> Received | None:
        """Note that a record was read; it is unfinished from here on.

        Returns:
            None if it was read before and is not finished: its first reading stands for it. Faust reads on at every
            assignment before it seeks back to the committed offsets (``_resume_streams``, faust/tables/recovery.py).
            Taken in twice, such a record would be a duplicate of itself, and finish its own offset.
        """
        record = Received(
            topic, partition, offset, timestamp_ms, key, value, tuple(headers), epoch=self.assignment.epoch
        )
        if self.assignment.owns(record):
            if self.ledger.is_unfinished(record.tp, record.offset):
                return None
            self.ledger.begin(record.tp, record.offset, record.timestamp_ms)
        if self.tracing is not None:
            self.tracing.begin(record)
        return record

    def finish(self, record: Received, outcome: Outcome, about: Received | None = None) -> None:
        """The record's effects are durable: its offset may be committed.

        Args:
            record: Whose offset is done.
            outcome: How it ended.
            about: Which record ended so, if that is another one: the newest snapshot of a work.
        """
        if self.assignment.owns(record):
            self.ledger.done(record.tp, record.offset)
        self.observer.outcome(record if about is None else about, outcome)

    # Sending

    async def until_acknowledged(
        self,
        items: Sequence[_T],
        record_of: Callable[[_T], Received],
        send: Callable[[_T], Awaitable[Awaitable[object]]],
    ) -> list[_T]:
        """Send for each item, in order, and await the broker's acknowledgement of all.

        What the broker does not take is sent again with growing pauses until it does; what is not ours any more is left
        out. So the broker being away pauses the stage and loses nothing.

        Returns:
            The items that were acknowledged and are still ours, in order.
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
        """Return once the group is known to hold this worker still, or our partitions were revoked: see lease.py."""
        if self.assignment.is_confirmed:
            return
        epoch = self.assignment.epoch
        self.waits_for("broker")
        while not self.assignment.is_confirmed and self.assignment.partitions and self.assignment.epoch == epoch:
            await self.clock.sleep(_CONFIRM_SECONDS)
        self.waits_no_longer("broker")

    async def still_owns(self, record: Received) -> bool:
        """Whether the record may have effects, asked of the group where that is in doubt."""
        await self.confirmed()
        return self.assignment.owns(record)

    def waits_for(self, what: str) -> None:
        """Note that the stage waits for ``what``; the first note sets since when."""
        if what not in self._waiting_for:
            self._waiting_for[what] = self.clock.time_ms()
            self.observer.waiting(what, self._waiting_for[what])

    @property
    def waiting_for(self) -> tuple[str, int] | None:
        """What the stage has waited for longest, and since when (Unix milliseconds); None while it runs."""
        return min(self._waiting_for.items(), key=lambda entry: entry[1]) if self._waiting_for else None

    def is_waiting_for(self, what: str) -> bool:
        """Whether it waits for ``what``, among others."""
        return what in self._waiting_for

    @property
    def is_full(self) -> bool:
        """Whether a bound on pending work keeps it from reading."""
        return False

    def tried_again(self) -> frozenset[TopicPartition]:
        """Partitions with a record that failed and is tried again, which may take long."""
        return frozenset()

    def settling_offsets(self) -> frozenset[tuple[TopicPartition, int]]:
        """Unfinished offsets that wait because their time has not come, which is no delay."""
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
        """Commit what is finished."""
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
        """Run a task of the stage. An exception that leaves it stops the worker: nothing is lost silently."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_fatal(error)

    def fatal(self, error: BaseException) -> None:
        """Stop the worker: no record is at fault."""
        self._on_fatal(error)

    async def assigned(self, partitions: Iterable[TopicPartition]) -> None:
        """The group gave us these partitions; reading begins at their committed offsets."""
        self.ledger.forget()
        self.assignment.assign(partitions)
        self.draining.clear()

    async def revoked(self, *, drain_seconds: float) -> None:
        """The group takes our partitions: finish what is running within the bound, commit, drop the rest."""
        await self._finish_up(drain_seconds)
        self._let_go()
        for what in list(self._waiting_for):
            # What waited is the next owner's.
            self.waits_no_longer(what)

    async def stop(self, *, drain_seconds: float) -> None:
        """Finish what is running within the bound, commit, and end the stage's tasks."""
        await self._finish_up(drain_seconds)
        self._let_go()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _finish_up(self, drain_seconds: float) -> None:
        self.draining.set()
        if not self.assignment.is_confirmed:
            # Another may have these partitions by now: what runs waits for a word that will not come.
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

    def _let_go(self) -> None:
        """Own nothing, and leave nothing behind that acts on what is another's now."""
        self.assignment.revoke()
        self.broker.drop_unsent()
        self.ledger.forget()
        self.drop_all()
        if self.tracing is not None:
            self.tracing.drop_all()

    async def drained(self) -> None:
        """Return once nothing is running. Waiting work does not count: it is read again."""

    def drop_all(self) -> None:
        """Forget all work; called after a revocation."""

    def dead_letter_time(self) -> str:
        """Now, as the dead letters' header has it."""
        return datetime.fromtimestamp(self.clock.time_ms() / 1000, UTC).isoformat(timespec="milliseconds")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {self.state}>"
