"""The enricher: reads conversations and emits one enriched prospect per settled snapshot.

From: topic ``nexus-prospect-ingestion`` (JSON, key = session key; records with another key are rerouted).
To: table ``sessions``; topic ``prospects-enriched`` (key = session key). Dead letters: ``nexus-prospect-dlq``.
Delivery: at least once. A replay emits the stored result again, with the same id, and calls no model.

The path of a record, from top to bottom: `submit` decodes it, reroutes it or compares it with the stored state, and
lets it settle. `_dispatch` passes a quiet session to the extractor. `commit_group` makes results durable, in numbered
steps.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable

from aiokafka.partitioner import murmur2

from nexus_stream.contracts.conversation import read
from nexus_stream.contracts.headers import COMMAND_HEADER, HOP_HEADER
from nexus_stream.contracts.limits import enricher_limits
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
    Outcome,
    ReemitCause,
    Reemitted,
    Stale,
    Superseded,
    Suppressed,
)
from nexus_stream.delivery.received import Received, TopicPartition
from nexus_stream.delivery.settling import Joined, Settling, Snapshot, Work
from nexus_stream.delivery.stage import Stage, StageParts
from nexus_stream.enrichment.decisions import Decision, Rules, Send, decide_group, group_size
from nexus_stream.enrichment.extracting import Extracting
from nexus_stream.enrichment.intents import (
    Abandon,
    DeadLetter,
    GiveUp,
    Intent,
    Obey,
    Reemit,
    Reroute,
    Retell,
    Store,
    WorkIntent,
)
from nexus_stream.enrichment.judging import judge
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
from nexus_stream.host.log import get_logger
from nexus_stream.privacy.retention import RetentionSweep
from nexus_stream.settings import Settings
from tables.session_state import SessionState, Verdict
from tables.sessions import SessionTablePort

__all__ = ["Enrichment"]

_log = get_logger(__name__)

# The state has all of the user's words.
_KNOWN = frozenset({Verdict.REDELIVERED, Verdict.FINGERPRINT, Verdict.RETOLD, Verdict.DUPLICATE, Verdict.STALE})
# A group costs three round trips to the broker, whatever its size.
_MAX_GROUP = 500


class Enrichment(Stage):
    """The enricher's stage. It gets all dependencies as arguments, so it also runs without Faust.

    Args:
        parts: The worker's services.
        settings: Topics, settling, bounds and limits.
        table: The session table.
        extractor: Reads conversations.
        source: The CloudEvents source of emitted records.
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
        self._limits = enricher_limits(settings)
        self._settling = Settling(settle_seconds=settings.settle_seconds, max_wait_seconds=settings.max_wait_seconds)
        self._bound = PendingBound(max_items=settings.pending_max_sessions, max_bytes=settings.pending_max_bytes)
        self._partition_count = settings.topic_partitions
        self._intents: list[Intent] = []
        self._intents_queued = asyncio.Event()
        self._work_offered = asyncio.Event()
        self._committing = 0
        self._extracting = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._commands = PendingCommands()
        self._asking = Extracting(self, settings=settings, extractor=extractor)
        self._rules = Rules(settings, extractor.labels, source)
        self._purging = Purging(table=table, extractor=extractor, clock=self.clock)

    def start(self) -> None:
        """Start dispatching and committing."""
        super().start()
        self.spawn(self._dispatch())
        self.spawn(self._commit_intents())
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
        """Sessions that settle or are extracted."""
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

    # Reading: decode, reroute, compare

    async def submit(self, record: Received) -> None:
        """Accept one record. Waits while a bound on pending work is reached. Raises nothing into the agent's loop."""
        try:
            try:
                await self._submit(record)
            except PermanentError as error:
                if isinstance(error, DecodeError):
                    self.facts.refused(error.code)
                await self._queue(DeadLetter(record, error))
            except (PartitionLostError, ConfigurationError):
                raise
            except Exception as error:
                _log.exception("submit failed, record dead-lettered", record=letter_id(record))
                internal = PermanentError(type(error).__name__, reason=Reason.INTERNAL_ERROR)
                await self._queue(DeadLetter(record, internal))
        except PartitionLostError:
            self.observer.outcome(record, Dropped())
        except ConfigurationError as error:
            self.fatal(error)

    async def _submit(self, record: Received) -> None:
        record.require_readable()
        header = record.header(COMMAND_HEADER)
        if header is not None:
            command = decode_command(record.value, header)
            if not await self._is_rerouted(record, command.key):
                await self._submit_command(record, command)
            return
        conversation, noticed = read(record.value, self._limits)
        if noticed is not None:
            self.facts.noticed(noticed)
        if not await self._is_rerouted(record, conversation.key):
            await self._submit_snapshot(Snapshot.of(record, conversation))

    async def _submit_snapshot(self, snapshot: Snapshot) -> None:
        """Let a snapshot settle, unless the table or the work of its session already holds it."""
        record, key = snapshot.record, snapshot.conversation.key
        await self._wait_for_room(record, snapshot.size_bytes)
        state = self._table.get(record, key)
        verdict = judge(state, self._commands.of(key), snapshot)
        if verdict is Verdict.DEAD and state is not None and state.dead is not None:
            # A pending snapshot must not be replaced by this one: it would fail again, and be billed again.
            error = PermanentError("dead-lettered before a restart", reason=state.dead.reason)
            letter = DeadLetter(record, error, state.dead.attempts)
            is_read = state.dead.is_read
            await self._queue(Reemit(record, snapshot, ReemitCause.REDELIVERED, letter=letter) if is_read else letter)
            return
        if verdict is Verdict.GIVEN_UP:
            self.finish(record, Duplicate())
            return
        if verdict is Verdict.SUPPRESSED:
            # It must not replace a pending snapshot from after an unblock.
            self.finish(record, Suppressed())
            return
        now = self.clock.monotonic()
        match self._settling.offer(snapshot, now, is_known=verdict in _KNOWN):
            case Joined.Added():
                self._bound.add(snapshot.size_bytes)
            case Joined.Replaced(work=work, superseded=superseded, dropped=dropped):
                self._bound.add(work.snapshot.size_bytes, items=0)
                if dropped is not None:
                    self._bound.release(dropped.size_bytes, items=0)
                # The work's first record is still unfinished and covers this record: see settling.py.
                self.ledger.done(record.tp, record.offset)
                self.observer.outcome(superseded.record, Superseded(record))
            case Joined.Duplicate():
                self.finish(record, Duplicate())
            case Joined.Stale():
                self.finish(record, Stale())
            case Joined.Unknown():
                await self._follow(verdict, snapshot, now)
        self._work_offered.set()

    async def _follow(self, verdict: Verdict, snapshot: Snapshot, now: float) -> None:
        """Act on the table's verdict: extract the snapshot, emit the stored result again, or finish the record."""
        record, fingerprint = snapshot.record, snapshot.conversation.fingerprint
        match verdict:
            case Verdict.RETOLD if self._settling.has(snapshot.conversation.key):
                # Its history ends with the work that waits.
                self.finish(record, Stale())
            case Verdict.NEW | Verdict.RETOLD:
                self._settling.add(snapshot, now, is_retold=verdict is Verdict.RETOLD)
                self._bound.add(snapshot.size_bytes)
            case Verdict.REDELIVERED:
                await self._queue(Reemit(record, snapshot, ReemitCause.REDELIVERED))
            case Verdict.FINGERPRINT:
                seen = () if fingerprint is None else (fingerprint,)
                await self._queue(Reemit(record, snapshot, ReemitCause.FINGERPRINT, seen))
            case Verdict.STALE:
                self.finish(record, Stale())
            case Verdict.SUPPRESSED:
                self.finish(record, Suppressed())
            case Verdict.DUPLICATE | Verdict.GIVEN_UP | Verdict.DEAD:
                self.finish(record, Duplicate())

    async def _submit_command(self, record: Received, command: SessionCommand) -> None:
        """Queue a command for the next group. An erasure cancels its session's work at once."""
        # A revocation forgets the noted commands, so a command is noted only while the partition is assigned.
        self.assignment.require(record)
        key = command.key
        if command.command is CommandKind.EXPIRE and self._settling.has(key):
            self.finish(record, Stale())
            return
        fingerprints: list[str] = []
        # A second delivery of a command changes nothing. At most its event is sent again.
        is_noted = self._commands.note(command, self._table.get(record, key), (record.partition, record.offset))
        if command.command is CommandKind.ERASE and is_noted:
            for work in self._settling.cancel(key):
                fingerprints.extend(work.fingerprints)
                if not work.in_flight:
                    # The command is unfinished and has a higher offset: see Settling.cancel.
                    self._release_work(work)
                    self.finish(work.hold, Suppressed(), about=work.snapshot.record)
        await self._queue(Obey(record, command, is_noted, tuple(fingerprints)))

    async def _is_rerouted(self, record: Received, key: bytes) -> bool:
        """Whether the record is on another partition than Kafka's default partitioner gives the key; then reroute it.

        Raises:
            TopicMismatchError: the topic's partition count changed while this worker ran.
            DecodeError: the record was rerouted before and is still on a wrong partition.
        """
        # Right after a start the count is not known yet: the start has checked it.
        count = self.broker.partition_count(record.topic) or self._partition_count
        if count != self._partition_count:
            raise TopicMismatchError(
                f"{record.topic} had {self._partition_count} partitions and now has {count}: sessions would split "
                "between workers. See docs/reference/topics.md, Changing the partition count."
            )
        partition: int = (murmur2(key) & 0x7FFFFFFF) % count
        if partition == record.partition:
            return False
        if record.header(HOP_HEADER) is not None:
            raise DecodeError(
                f"rerouted once and still not on its session's partition {partition}; its sender sets {HOP_HEADER}?",
                reason=Reason.NOT_HOME,
            )
        await self._queue(Reroute(record, key, partition))
        return True

    # Bounds

    async def _wait_for_room(self, record: Received, size_bytes: int) -> None:
        while self._bound.is_full_for(size_bytes):
            await self._bound.wait_for_room(size_bytes)
            self.assignment.require(record)
        self.assignment.require(record)

    async def _queue(self, intent: Reroute | DeadLetter | Reemit | Obey) -> None:
        """Queue an intent that needs no extraction for the next group, within the bound."""
        await self._wait_for_room(intent.record, intent.size_bytes)
        self._bound.add(intent.size_bytes)
        self._append(intent)

    def _append(self, intent: Intent) -> None:
        self._intents.append(intent)
        self._intents_queued.set()

    # Extracting

    async def _dispatch(self) -> None:
        """Start the extraction of settled sessions, in batches: all that are due, after a short wait for more."""
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
                # The extractor waits for nothing, so a task for each session would only cost time.
                self.spawn(self._extract_in_turn(batch))
                await asyncio.sleep(0)
            else:
                for work in batch:
                    self.spawn(self._extract(work))

    async def _extract_in_turn(self, batch: list[Work]) -> None:
        for work in batch:
            await self._extract(work)

    async def _extract(self, work: Work) -> None:
        """Extract, and queue the intent. If the partition is revoked meanwhile, there is no intent."""
        intent: WorkIntent | None = None
        try:
            intent = Retell(work, work.snapshot) if self._is_read(work) else await self._asking.until_decided(work)
        except ConfigurationError as error:
            self.fatal(error)
        finally:
            if intent is not None:
                self._append(intent)
            self._extracting -= 1
            self._note_idle()

    def _is_read(self, work: Work) -> bool:
        """Whether the user's words were read, or given up, meanwhile."""
        if not work.may_be_read or work.cancelled or not self.assignment.owns(work.hold):
            return False
        state = self._table.get(work.hold, work.key)
        return judge(state, self._commands.of(work.key), work.snapshot) is not Verdict.NEW

    # Committing

    async def _commit_intents(self) -> None:
        """Commit queued intents, group after group. A group's size follows the load."""
        while True:
            if not self._intents:
                self._intents_queued.clear()
                await self._intents_queued.wait()
                continue
            size = group_size(self._intents, _MAX_GROUP)
            group, self._intents = self._intents[:size], self._intents[size:]
            self._committing = len(group)
            self._idle.clear()
            try:
                await self.commit_group(group)
            finally:
                self._committing = 0
                self._note_idle()

    async def commit_group(self, group: list[Intent]) -> None:
        """Make a group of results durable.

        0. Decide each intent's write and send, by the current table. Nothing is durable yet: a crash here repeats only
           the calls of this group.
        1. Send the table's changelog records, wait for the broker, then write the local table. After a crash before the
           broker has a record, its call is paid again. After a later crash, the redelivered record finds its own offset
           in the table, and the stored result is emitted without a call.
        2. Send to ``prospects-enriched``, the dead-letter topic or the session's partition, and wait for the broker.
           After a crash here they are sent twice with the same id. Readers and the sink drop the second one. A decision
           may have two sends: the offline rules' record, and the dead letter of the snapshot that no model read.
        3. Mark the offsets done. The ledger commits contiguous offsets. Before step 1 or 2, a crash would lose the
           record.
        """
        # Step 0.
        decisions = self._decide(group)
        # Step 1. Send only the last write of each session: a retry could put an older state after a newer one.
        last_writes = {decision.intent.key: decision for decision in decisions if decision.write is not None}
        written = await self.until_acknowledged(list(last_writes.values()), _record_of, self._write_state)
        written_keys = {decision.intent.key for decision in written}
        decisions = [one for one in decisions if one.write is None or one.intent.key in written_keys]
        # Step 2.
        sends = [(decision, send) for decision in decisions for send in decision.sends]
        sent = Counter(id(one) for one, _ in await self.until_acknowledged(sends, _record_of_send, self._send))
        # Step 3.
        for decision in decisions:
            if sent[id(decision)] == len(decision.sends):
                self._finish_decision(decision)

    def _decide(self, group: list[Intent]) -> list[Decision]:
        """Decide the group's intents; those of a revoked partition are dropped."""
        assigned: list[Intent] = []
        for intent in group:
            if self.assignment.owns(intent.record):
                assigned.append(intent)
            else:
                self.observer.outcome(intent.record, Dropped())
        decisions = decide_group(assigned, self._state_of, self._rules, now_ms=self.clock.time_ms())
        for decision in decisions:
            intent = decision.intent
            if isinstance(intent, Store) and isinstance(decision.outcome, Enriched) and not intent.findings.cached:
                usage = intent.findings.usage
                self.facts.spent(usage.input_tokens, usage.output_tokens, usage.cost_usd)
        return decisions

    def _state_of(self, intent: Intent) -> SessionState | None:
        if isinstance(intent, Reroute | DeadLetter):
            # They belong to another worker's session, or to none.
            return None
        return self._table.get(intent.record, intent.key)

    async def _write_state(self, decision: Decision) -> Awaitable[object]:
        assert decision.write is not None  # noqa: S101 - filtered in commit_group
        return await self._table.put(decision.intent.record, decision.intent.key, decision.write.state)

    async def _send(self, one: tuple[Decision, Send]) -> Awaitable[object]:
        decision, send = one
        headers = send.headers
        if self.tracing is not None:
            headers = self.tracing.outgoing(decision.intent.about, send.topic, headers)
        return await self.broker.send(
            send.topic, send.key, send.value, partition=send.partition, timestamp_ms=send.timestamp_ms, headers=headers
        )

    def _finish_decision(self, decision: Decision) -> None:
        intent, outcome = decision.intent, decision.outcome
        if not self.assignment.owns(intent.record):
            self.observer.outcome(intent.about, Dropped())
            return
        match intent:
            case Store() | Retell() | GiveUp() | Abandon():
                self._finish_work(decision, intent)
            case Reroute() | DeadLetter() | Reemit() | Obey():
                if isinstance(intent, Obey):
                    self._finish_command(intent, outcome)
                self._bound.release(intent.size_bytes)
                self.finish(intent.record, outcome)

    def _finish_work(self, decision: Decision, intent: WorkIntent) -> None:
        work, about, outcome = intent.work, intent.about, decision.outcome
        is_unread = isinstance(outcome, DeadLettered) and not outcome.read_by
        if is_unread and self._settling.fall_back(work) is not None:
            # Nobody read the newest snapshot, but the previous one may succeed. Its offset stays open.
            self._bound.release(intent.snapshot.size_bytes, items=0)
            self.observer.outcome(about, outcome)
            self._work_offered.set()
            return
        self._release_work(work)
        if work.cancelled:
            # The extractor may have cached its answer after the erasure.
            self._purging.want_cache_emptied()
        self._settling.finish(work)
        now = self.clock.monotonic()
        self.facts.took(now - work.due_at, now)
        late = _late_fingerprints(decision, work)
        if late:
            # The record with these fingerprints is done already. So this work's record must cover them.
            again = Reemit(intent.record, intent.snapshot, ReemitCause.FINGERPRINT, late)
            self._bound.add(again.size_bytes)
            self._append(again)
            self.observer.outcome(about, outcome)
        else:
            self.finish(intent.record, outcome, about=about)
        self._work_offered.set()

    def _release_work(self, work: Work) -> None:
        self._bound.release(work.snapshot.size_bytes)
        if work.replaced is not None:
            self._bound.release(work.replaced.size_bytes, items=0)

    def _finish_command(self, intent: Obey, outcome: Outcome) -> None:
        if intent.is_noted:
            self._commands.obeyed(intent.command)
        if isinstance(outcome, Erased | Expired):
            # Also if the command was obeyed before: a crash may have come before the files were rewritten.
            self._purging.want(intent.key, intent.record)
        if isinstance(outcome, Erased):
            self._purging.want_cache_emptied()

    # Stopping

    def _note_idle(self) -> None:
        if not self._extracting and not self._committing and not self._intents:
            self._idle.set()

    async def drained(self) -> None:
        """Return once no extraction runs and no intent is queued."""
        while self._extracting or self._committing or self._intents:
            self._idle.clear()
            await self._idle.wait()

    def drop_all(self) -> None:
        """Forget pending work. Work that still runs finds its partition revoked."""
        self._settling.clear()
        self._intents.clear()
        self._commands.clear()
        self._purging.clear()
        self._bound.reset()
        self._work_offered.set()


def _record_of(decision: Decision) -> Received:
    return decision.intent.record


def _record_of_send(one: tuple[Decision, Send]) -> Received:
    return _record_of(one[0])


def _late_fingerprints(decision: Decision, work: Work) -> tuple[str, ...]:
    """Fingerprints of duplicates that arrived after the work's state was decided."""
    outcome = decision.outcome
    is_emitted = isinstance(outcome, Enriched | Reemitted) or (isinstance(outcome, DeadLettered) and outcome.read_by)
    if not is_emitted or decision.write is None or decision.write.state is None:
        return ()
    known = decision.write.state.fingerprints
    return tuple(fingerprint for fingerprint in work.fingerprints if fingerprint not in known)
