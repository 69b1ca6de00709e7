"""Conversations in, one enriched prospect per settled snapshot out.

From: topic ``nexus-prospect-ingestion`` (JSON, key = session key; foreign keys are sent home).
To: table ``sessions``; topic ``prospects-enriched`` (key = session key). Dead letters: ``nexus-prospect-dlq``.
Delivery: at least once; a replay emits the stored result again, with the same id, and asks no model.

The way of a record: ``submit`` decodes it, sends it home or compares it with what is known, and lets it wait; when its
session is quiet ``_dispatch`` hands it to the extractor; ``commit`` makes the result durable, in numbered steps.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TYPE_CHECKING

import structlog
from aiokafka.partitioner import murmur2

from nexus_stream.contracts.conversation import Limits, decode
from nexus_stream.contracts.headers import COMMAND_HEADER, HOP_HEADER
from nexus_stream.contracts.session_command import CommandKind, SessionCommand, decode_command
from nexus_stream.delivery.bounds import PendingBound
from nexus_stream.delivery.dead_letters import letter_id
from nexus_stream.delivery.outcomes import (
    DeadLettered,
    Dropped,
    Duplicate,
    Enriched,
    Erased,
    Expired,
    ReemitCause,
    Reemitted,
    Rerouted,
    Stale,
    Superseded,
    Suppressed,
    Unblocked,
)
from nexus_stream.delivery.received import Received, TopicPartition
from nexus_stream.delivery.settling import Joined, Settling, Snapshot, Work
from nexus_stream.delivery.stage import Stage, StageParts
from nexus_stream.enrichment.effects import Decider, Effect, group_size
from nexus_stream.enrichment.extracting import Extracting
from nexus_stream.enrichment.pending_commands import PendingCommands
from nexus_stream.enrichment.purging import Purging
from nexus_stream.errors import (
    ConfigurationError,
    DecodeError,
    PartitionLostError,
    PermanentError,
    Reason,
    TopicMismatchError,
)
from nexus_stream.extraction.extractor import Extractor
from nexus_stream.privacy.retention import RetentionSweep
from nexus_stream.settings import Settings
from tables.session_state import Dead, SessionState, Verdict
from tables.sessions import SessionTablePort

if TYPE_CHECKING:
    pass

__all__ = ["Enrichment"]

_log = structlog.get_logger(__name__)

# One group of effects is three round trips to the broker, whatever its size.
_MAX_GROUP = 500

_COMMAND_OUTCOMES: dict[CommandKind, Erased | Unblocked | Expired] = {
    CommandKind.ERASE: Erased(),
    CommandKind.UNBLOCK: Unblocked(),
    CommandKind.EXPIRE: Expired(),
}


class Enrichment(Stage):
    """The enricher's stage. Everything it needs from outside is passed in, so it runs without Faust too.

    Args:
        parts: What the worker provides.
        settings: Topics, settling, bounds and limits.
        table: The session table.
        extractor: Reads conversations.
        source: The CloudEvents source of what is emitted.
    """

    def __init__(
        self, parts: StageParts, *, settings: Settings, table: SessionTablePort, extractor: Extractor, source: str
    ) -> None:
        super().__init__(
            parts,
            name="enrich",
            topic=settings.ingestion_topic,
            commit_interval_seconds=settings.commit_interval_seconds,
        )
        self._settings = settings
        self._table = table
        self._extractor_is_immediate = getattr(extractor, "is_immediate", False)
        self._limits = Limits(
            # What the gateway adds to a body's metadata is not the sender's fault.
            body_bytes=settings.max_body_bytes + 16_384,
            turns=settings.max_turns,
            turn_chars=settings.max_turn_chars,
            id_chars=settings.max_id_chars,
        )
        self._settling = Settling(settle_seconds=settings.settle_seconds, max_wait_seconds=settings.max_wait_seconds)
        self._bound = PendingBound(max_items=settings.pending_max_sessions, max_bytes=settings.pending_max_bytes)
        self._partition_count = settings.topic_partitions
        self._effects: list[Effect] = []
        self._effects_queued = asyncio.Event()
        self._work_offered = asyncio.Event()
        self._committing = 0
        self._extracting = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._commands = PendingCommands()
        self._asking = Extracting(self, settings=settings, extractor=extractor)
        self._decider = Decider(self, settings=settings, table=table, extractor=extractor, source=source)
        self._purging = Purging(table=table, extractor=extractor, clock=self.clock)

    def start(self) -> None:
        """Start dispatching and committing."""
        super().start()
        self.spawn(self._dispatch())
        self.spawn(self._commit_effects())
        self.spawn(self._purging.run())
        if self._settings.retention_days is not None:
            sweep = RetentionSweep(
                table=self._table,
                assignment=self.assignment,
                broker=self.broker,
                clock=self.clock,
                topic=self.topic,
                retention_days=self._settings.retention_days,
            )
            self.spawn(sweep.run())

    @property
    def pending_sessions(self) -> int:
        """Sessions that wait or run."""
        return len(self._settling)

    def settling_offsets(self) -> frozenset[tuple[TopicPartition, int]]:
        """See `Stage.settling_offsets`."""
        now = self.clock.monotonic()
        return frozenset(
            (work.hold.tp, work.hold.offset)
            for work in self._settling.works()
            if not work.is_due and not work.in_flight and work.due_at > now
        )

    @property
    def is_full(self) -> bool:
        """See `Stage.is_full`."""
        return self._bound.is_waited_for

    def tried_again(self) -> frozenset[TopicPartition]:
        """See `Stage.tried_again`."""
        return frozenset(work.hold.tp for work in self._settling.works() if work.is_tried_again)

    # Reading: decode, home, compare

    async def submit(self, record: Received) -> None:
        """Take one record in. Waits while a bound on pending work is reached; raises nothing into the agent's loop."""
        try:
            try:
                await self._submit(record)
            except PermanentError as error:
                await self._queue_letter(record, error)
            except (PartitionLostError, ConfigurationError):
                raise
            except Exception as error:
                _log.exception("submit failed, record dead-lettered", record=letter_id(record))
                await self._queue_letter(record, PermanentError(type(error).__name__, reason=Reason.INTERNAL_ERROR))
        except PartitionLostError:
            self.observer.outcome(record, Dropped())
        except ConfigurationError as error:
            self.fatal(error)

    async def _queue_letter(self, record: Received, error: PermanentError, attempts: int = 1) -> None:
        await self._queue(Effect(record, record.key or b"", DeadLettered(error.reason), error=error, attempts=attempts))

    async def _submit(self, record: Received) -> None:
        command = record.header(COMMAND_HEADER)
        if command is not None:
            await self._submit_command(record, decode_command(record.value, command))
            return
        conversation = decode(record.value, self._limits)
        key = conversation.key
        home = self._home_partition(record, key)
        if home != record.partition:
            await self._queue(Effect(record, key, Rerouted(), home_partition=home))
            return
        snapshot = Snapshot.of(record, conversation)
        await self._wait_for_room(record, snapshot.size_bytes)
        if self._settling.has(key) and await self._is_given_up(snapshot):
            return
        now = self.clock.monotonic()
        joined = self._settling.offer(snapshot, now)
        match joined:
            case Joined.Added():
                self._bound.add(snapshot.size_bytes)
            case Joined.Replaced(superseded=superseded, let_go=let_go):
                self._bound.add(snapshot.size_bytes, items=0)
                if let_go is not None:
                    self._bound.release(let_go.size_bytes, items=0)
                # The work's first record is still unfinished, and stands for this one: see settling.py.
                self.ledger.done(record.tp, record.offset)
                self.observer.outcome(superseded.record, Superseded(record))
            case Joined.Duplicate():
                self.finish(record, Duplicate())
            case Joined.Stale():
                self.finish(record, Stale())
            case Joined.Unknown():
                await self._judge(snapshot, now)
        self._work_offered.set()

    async def _submit_command(self, record: Received, command: SessionCommand) -> None:
        """Let a command wait for the next group. An erasure cancels what waits or runs, at once."""
        # Noted below only while the partition is ours: a revocation forgets what was noted before it.
        self.assignment.require(record)
        key = command.key
        home = self._home_partition(record, key)
        if home != record.partition:
            await self._queue(Effect(record, key, Rerouted(), home_partition=home))
            return
        if command.command is CommandKind.EXPIRE and self._settling.has(key):
            self.finish(record, Stale())
            return
        fingerprints: list[str] = []
        # A second delivery obeys nothing: what was said since a lift stays. At most its event is sent again.
        is_noted = self._commands.note(command, self._table.get(record, key), (record.partition, record.offset))
        if command.command is CommandKind.ERASE and is_noted:
            for work in self._settling.cancel(key):
                fingerprints.extend(work.fingerprints)
                if not work.in_flight:
                    # The command is unfinished and comes after it: see Settling.cancel.
                    self._release_work(work)
                    self.finish(work.hold, Suppressed(), about=work.snapshot.record)
        outcome = _COMMAND_OUTCOMES[command.command]
        seen = tuple(fingerprints)
        await self._queue(Effect(record, key, outcome, command=command, is_noted=is_noted, fingerprints=seen))

    async def _is_given_up(self, snapshot: Snapshot) -> bool:
        """Whether a dead letter holds what it says, so that it ends here.

        It must not join what waits: it would take the place of what it was refused for once, and be paid again.
        """
        record = snapshot.record
        state, verdict = self._verdict(snapshot)
        if state is None or state.dead is None or state.dead.digest != snapshot.digest:
            return False
        match verdict:
            case Verdict.DEAD:
                await self._queue_dead_again(record, state.dead)
            case Verdict.DUPLICATE:
                self.finish(record, Duplicate())
            case _:
                return False
        return True

    def _verdict(self, snapshot: Snapshot) -> tuple[SessionState | None, Verdict]:
        """What the table knows of the session, and how the snapshot stands to it once pending commands are obeyed."""
        state = self._table.get(snapshot.record, snapshot.conversation.key)
        verdict = Verdict.NEW if state is None else state.judge(snapshot)
        return state, self._commands.judge(snapshot, verdict)

    async def _queue_dead_again(self, record: Received, dead: Dead) -> None:
        error = PermanentError("dead-lettered before a restart", reason=dead.reason)
        await self._queue_letter(record, error, dead.attempts)

    async def _judge(self, snapshot: Snapshot, now: float) -> None:
        """Compare with the table: extract, emit again, or leave it."""
        record, key = snapshot.record, snapshot.conversation.key
        state, verdict = self._verdict(snapshot)
        match verdict:
            case Verdict.NEW:
                self._settling.add(snapshot, now)
                self._bound.add(snapshot.size_bytes)
            case Verdict.REDELIVERED:
                await self._queue(Effect(record, key, Reemitted(ReemitCause.REDELIVERED), snapshot=snapshot))
            case Verdict.FINGERPRINT:
                await self._queue(Effect(record, key, Reemitted(ReemitCause.FINGERPRINT), snapshot=snapshot))
            case Verdict.DEAD:
                assert state is not None and state.dead is not None  # noqa: S101, PT018 - the verdict came from it
                await self._queue_dead_again(record, state.dead)
            case Verdict.DUPLICATE:
                self.finish(record, Duplicate())
            case Verdict.STALE:
                self.finish(record, Stale())
            case Verdict.SUPPRESSED:
                self.finish(record, Suppressed())

    def _home_partition(self, record: Received, key: bytes) -> int:
        """The partition that Kafka's default partitioner gives the session key.

        Raises:
            TopicMismatchError: the topic's partition count changed while this worker ran.
            DecodeError: the record was sent on before and is still not at home.
        """
        # Not known yet right after a start: then as it was checked before the start.
        count = self.broker.partition_count(record.topic) or self._partition_count
        if count != self._partition_count:
            raise TopicMismatchError(
                f"{record.topic} had {self._partition_count} partitions and now has {count}: sessions would split "
                "between workers. See docs/reference/topics.md, Changing the partition count."
            )
        home: int = (murmur2(key) & 0x7FFFFFFF) % count
        if home != record.partition and record.header(HOP_HEADER) is not None:
            raise DecodeError(
                f"sent on once and still not on its session's partition {home}; its sender sets {HOP_HEADER}?",
                reason=Reason.NOT_HOME,
            )
        return home

    # Bounds

    async def _wait_for_room(self, record: Received, size_bytes: int) -> None:
        while self._bound.is_full_for(size_bytes):
            await self._bound.wait_for_room(size_bytes)
            self.assignment.require(record)
        self.assignment.require(record)

    # Extracting

    async def _dispatch(self) -> None:
        """Let settled sessions leave, in batches: as many as are due, after a short wait for company."""
        while True:
            now = self.clock.monotonic()
            due = None if self.draining.is_set() else self._settling.next_due()
            if due is None or due > now:
                self._work_offered.clear()
                await self.clock.wait(self._work_offered, None if due is None else due - now)
                continue
            if self._settling.ready(now) < self._settings.batch_max_sessions:
                await self.clock.sleep(self._settings.batch_max_wait_seconds)
            if self.draining.is_set():
                continue
            batch = self._settling.take(self.clock.monotonic(), self._settings.batch_max_sessions)
            for work in batch:
                self.timings.settled(work.due_at - work.first_at)
            self._extracting += len(batch)
            self._idle.clear()
            if self._extractor_is_immediate:
                # Nothing to wait for, so nothing runs beside it: a task a session would only cost.
                self.spawn(self._extract_in_turn(batch))
                await asyncio.sleep(0)
            else:
                for work in batch:
                    self.spawn(self._extract(work))

    async def _extract_in_turn(self, batch: list[Work]) -> None:
        for work in batch:
            await self._extract(work)

    async def _extract(self, work: Work) -> None:
        """Ask the extractor until it answers, the snapshot is at fault, or the partition is gone."""
        effect: Effect | None = None
        try:
            effect = await self._asking.until_decided(work)
        except ConfigurationError as error:
            self.fatal(error)
        finally:
            if effect is not None:
                self._effects.append(effect)
                self._effects_queued.set()
            self._extracting -= 1
            self._note_idle()

    # Effects

    async def _queue(self, effect: Effect) -> None:
        """Let an effect that needs no extraction wait for the next group, within the bound."""
        effect.size_bytes = len(effect.record.value or b"")
        await self._wait_for_room(effect.record, effect.size_bytes)
        self._bound.add(effect.size_bytes)
        self._effects.append(effect)
        self._effects_queued.set()

    async def _commit_effects(self) -> None:
        """Commit whatever is ready, as one group after the other: a group's size follows the load."""
        while True:
            if not self._effects:
                self._effects_queued.clear()
                await self._effects_queued.wait()
                continue
            size = group_size(self._effects, _MAX_GROUP)
            group, self._effects = self._effects[:size], self._effects[size:]
            self._committing = len(group)
            self._idle.clear()
            try:
                await self.commit_group(group)
            finally:
                self._committing = 0
                self._note_idle()

    async def commit_group(self, group: list[Effect]) -> None:
        """Make a group of results durable.

        0. Decide, against the table as it is now, what each effect writes and sends. Nothing has happened yet: a crash
           here repeats the calls of this group and no other.
        1. Send the table's changelog records and await the broker, then write the local table. Crash before the broker
           has one: its call is paid again. Crash after: the redelivered record finds its own offset in the table and
           emits the stored result without a call.
        2. Send to ``prospects-enriched``, the dead-letter topic or home, and await the broker. Crash after it stored
           them: they are sent twice with the same id; readers and sink absorb it.
        3. Mark the offsets done; the ledger commits what is contiguous. Moved above 1 or 2, a crash loses the record.
        """
        # Step 0.
        decided = self._decider.decide(group)
        # Step 1.
        writes = [effect for effect in decided if effect.writes]
        written = set(map(id, await self.until_acknowledged(writes, lambda effect: effect.record, self._write_state)))
        decided = [effect for effect in decided if not effect.writes or id(effect) in written]
        # Step 2.
        sends = [effect for effect in decided if effect.send is not None]
        sent = set(map(id, await self.until_acknowledged(sends, lambda effect: effect.record, self._send)))
        # Step 3.
        for effect in decided:
            if effect.send is None or id(effect) in sent:
                self._finish_effect(effect)

    async def _write_state(self, effect: Effect) -> Awaitable[object]:
        return await self._table.put(effect.record, effect.key, effect.state)

    async def _send(self, effect: Effect) -> Awaitable[object]:
        assert effect.send is not None  # noqa: S101 - filtered in commit_group
        topic, key, value, headers = effect.send
        if self.tracing is not None:
            headers = self.tracing.outgoing(effect.about, topic, headers)
        if isinstance(effect.outcome, Rerouted):
            # The broker's time of receipt bounds what a producer's clock may claim: it travels along.
            return await self.broker.send(
                topic,
                key,
                value,
                partition=effect.home_partition,
                timestamp_ms=effect.record.timestamp_ms or None,
                headers=headers,
            )
        return await self.broker.send(topic, key, value, headers=headers)

    def _finish_effect(self, effect: Effect) -> None:
        if not self.assignment.owns(effect.record):
            self.observer.outcome(effect.about, Dropped())
            return
        work = effect.work
        if effect.command is not None:
            self._finish_command(effect)
        if work is None:
            self._bound.release(effect.size_bytes)
            self.finish(effect.record, effect.outcome)
            return
        failed = work.snapshot
        if isinstance(effect.outcome, DeadLettered) and self._settling.fall_back(work) is not None:
            self._bound.release(failed.size_bytes, items=0)
            # The newest snapshot failed, the one it replaced may not: the work goes on, its offset stays unfinished.
            self.observer.outcome(effect.about, effect.outcome)
            self._work_offered.set()
            return
        self._release_work(work)
        if work.cancelled:
            # Its answer came after the erasure, and may have been kept.
            self._purging.want_cache_emptied()
        self._settling.finish(work)
        now = self.clock.monotonic()
        self.facts.took(now - work.due_at, now)
        late = [
            fingerprint
            for fingerprint in work.fingerprints
            if effect.state is not None and fingerprint not in effect.state.fingerprints
        ]
        if late and isinstance(effect.outcome, Enriched):
            # A duplicate brought it after the record was decided, and its own offset is done: this one stands for it.
            self._bound.add(0)
            again = Reemitted(ReemitCause.FINGERPRINT)
            self._effects.append(
                Effect(effect.record, effect.key, again, snapshot=effect.snapshot, late_fingerprints=tuple(late))
            )
            self._effects_queued.set()
            self.observer.outcome(effect.about, effect.outcome)
        else:
            self.finish(effect.record, effect.outcome, about=effect.about)
        self._work_offered.set()

    def _release_work(self, work: Work) -> None:
        self._bound.release(work.snapshot.size_bytes)
        if work.replaced is not None:
            self._bound.release(work.replaced.size_bytes, items=0)

    def _finish_command(self, effect: Effect) -> None:
        if effect.is_noted and effect.command is not None:
            self._commands.obeyed(effect.command)
        if isinstance(effect.outcome, Erased | Expired):
            # Also when it was obeyed before: a crash may have come before the files were rewritten.
            self._purging.want(effect.key, effect.record)
        if isinstance(effect.outcome, Erased):
            self._purging.want_cache_emptied()

    # Stopping

    def _note_idle(self) -> None:
        if not self._extracting and not self._committing and not self._effects:
            self._idle.set()

    async def drained(self) -> None:
        """Return once no extraction and no effect is under way."""
        while self._extracting or self._committing or self._effects:
            self._idle.clear()
            await self._idle.wait()

    def drop_all(self) -> None:
        """Forget what waits; what still runs finds its partition gone."""
        self._settling.clear()
        self._effects.clear()
        self._commands.clear()
        self._purging.clear()
        self._bound.reset()
        self._work_offered.set()
