"""Conversations in, one enriched prospect per settled snapshot out.

From: topic ``nexus-prospect-ingestion`` (JSON, key = session key; foreign keys are sent home).
To: table ``sessions``; topic ``prospects-enriched`` (key = session key). Dead letters: ``nexus-prospect-dlq``.
Delivery: at least once; a replay emits the stored result again, with the same id, and asks no model.

The way of a record: ``submit`` decodes it, sends it home or compares it with what is known, and lets it wait; when its
session is quiet ``_dispatch`` hands it to the extractor; ``commit`` makes the result durable, in numbered steps.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import structlog
from aiokafka.partitioner import murmur2

from nexus_stream.contracts.conversation import Limits, decode
from nexus_stream.contracts.prospect import ExtractionFacts
from nexus_stream.delivery.bounds import PendingBound
from nexus_stream.delivery.dead_letters import HOP_HEADER, REDRIVE_HEADER, letter_headers, letter_id
from nexus_stream.delivery.outcomes import (
    DeadLettered,
    Dropped,
    Duplicate,
    Enriched,
    Outcome,
    ReemitCause,
    Reemitted,
    SentHome,
    Stale,
    Superseded,
)
from nexus_stream.delivery.received import Headers, Received
from nexus_stream.delivery.settling import Joined, Settling, Snapshot, Work
from nexus_stream.delivery.stage import Stage
from nexus_stream.errors import (
    ConfigurationError,
    DecodeError,
    PartitionLostError,
    PermanentError,
    Reason,
    RetryableError,
    TopicMismatchError,
)
from nexus_stream.extraction.extractor import Extractor, Findings, Turn
from nexus_stream.extraction.grounding import Checked, check
from nexus_stream.extraction.merging import merge
from nexus_stream.extraction.retry import backoff_seconds
from nexus_stream.settings import Settings
from tables.sessions import (
    SessionState,
    SessionTablePort,
    Verdict,
    after_dead_letter,
    after_extraction,
    after_fingerprint,
)

if TYPE_CHECKING:
    from faust.types import AppT, StreamT, TopicT

__all__ = ["Enrichment", "declare"]

_log = structlog.get_logger(__name__)

# One group of effects is three round trips to the broker, whatever its size.
_MAX_GROUP = 500


def declare(app: AppT, topic: TopicT, enrichment: Enrichment) -> None:
    """Declare the agent: it only submits. The topic has ``acks=False``, so offsets are the stage's."""

    async def enrich(stream: StreamT[Any]) -> None:
        # Faust's StreamT lacks noack(), which every stream has.
        async for event in cast(Any, stream).noack().events():
            message = event.message
            await enrichment.submit(
                enrichment.read(
                    message.topic,
                    message.partition,
                    message.offset,
                    round((message.timestamp or 0) * 1000),
                    message.key,
                    message.value,
                    message.headers or (),
                )
            )

    app.agent(topic, name="enrich", concurrency=1)(enrich)


@dataclass(slots=True)
class _Effect:
    """What one record or one work is to cause: a table write, a send, or both; filled in by `commit`."""

    record: Received
    key: bytes
    outcome: Outcome
    work: Work | None = None
    snapshot: Snapshot | None = None
    checked: Checked | None = None
    findings: Findings | None = None
    error: PermanentError | None = None
    attempts: int = 1
    home_partition: int = -1
    # Of a work, one that joined it too late for its own record.
    fingerprint: str | None = None
    state: SessionState | None = None
    send: tuple[str, bytes | None, bytes | None, Headers] | None = None
    size_bytes: int = field(default=0)


class Enrichment(Stage):
    """The enricher's stage. Everything it needs from outside is passed in, so it runs without Faust too.

    Args:
        settings: Topics, settling, bounds and limits.
        table: The session table.
        extractor: Reads conversations.
        stage: What `Stage` takes.
    """

    def __init__(
        self, *, settings: Settings, table: SessionTablePort, extractor: Extractor, source: str, **stage: Any
    ) -> None:
        super().__init__(
            name="enrich",
            topic=settings.ingestion_topic,
            commit_interval_seconds=settings.commit_interval_seconds,
            **stage,
        )
        self._settings = settings
        self._table = table
        self._extractor = extractor
        self._source = source
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
        self._effects: list[_Effect] = []
        self._effects_queued = asyncio.Event()
        self._work_offered = asyncio.Event()
        self._committing = 0
        self._extracting = 0
        self._idle = asyncio.Event()
        self._idle.set()
        # Successes so far: a session that keeps failing while this grows is itself at fault.
        self._successes = 0

    def start(self) -> None:
        """Start dispatching and committing."""
        super().start()
        self.spawn(self._dispatch())
        self.spawn(self._commit_effects())

    @property
    def pending_sessions(self) -> int:
        """Sessions that wait or run."""
        return len(self._settling)

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
        await self._queue(
            _Effect(record, record.key or b"", DeadLettered(error.reason), error=error, attempts=attempts)
        )

    async def _submit(self, record: Received) -> None:
        conversation = decode(record.value, self._limits)
        key = conversation.key
        home = self._home_partition(record, key)
        if home != record.partition:
            await self._queue(_Effect(record, key, SentHome(), home_partition=home))
            return
        snapshot = Snapshot.of(record, conversation)
        await self._wait_for_room(record, snapshot.size_bytes)
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
                self.observer.outcome(superseded.record, Superseded())
            case Joined.Duplicate():
                self.finish(record, Duplicate())
            case Joined.Stale():
                self.finish(record, Stale())
            case Joined.Unknown():
                await self._judge(snapshot, now)
        self._work_offered.set()

    async def _judge(self, snapshot: Snapshot, now: float) -> None:
        """Compare with the table: extract, emit again, or leave it."""
        record, key = snapshot.record, snapshot.conversation.key
        state = self._table.get(record, key)
        redriven = record.header(REDRIVE_HEADER) is not None
        verdict = Verdict.NEW if state is None else state.judge(snapshot, redriven=redriven)
        match verdict:
            case Verdict.NEW:
                self._settling.add(snapshot, now)
                self._bound.add(snapshot.size_bytes)
            case Verdict.REDELIVERED:
                await self._queue(_Effect(record, key, Reemitted(ReemitCause.REDELIVERED), snapshot=snapshot))
            case Verdict.FINGERPRINT:
                await self._queue(_Effect(record, key, Reemitted(ReemitCause.FINGERPRINT), snapshot=snapshot))
            case Verdict.DEAD:
                assert state is not None and state.dead is not None  # noqa: S101, PT018 - the verdict came from it
                error = PermanentError("dead-lettered before a restart", reason=state.dead.reason)
                await self._queue_letter(record, error, state.dead.attempts)
            case Verdict.DUPLICATE:
                self.finish(record, Duplicate())
            case Verdict.STALE:
                self.finish(record, Stale())

    def _home_partition(self, record: Received, key: bytes) -> int:
        """The partition that Kafka's default partitioner gives the session key.

        Raises:
            TopicMismatchError: the topic's partition count changed while this worker ran.
            DecodeError: the record was sent on before and is still not at home.
        """
        count = self.broker.partition_count(record.topic)
        if count is None:
            return record.partition
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
            for work in self._settling.take(self.clock.monotonic(), self._settings.batch_max_sessions):
                self._extracting += 1
                self._idle.clear()
                self.spawn(self._extract(work))

    async def _extract(self, work: Work) -> None:
        """Ask the extractor until it answers, the snapshot is at fault, or the partition is gone."""
        snapshot = work.snapshot
        turns = [Turn(message.role, message.content) for message in snapshot.conversation.messages]
        effect: _Effect | None = None
        try:
            effect = await self._extract_until_decided(work, snapshot, turns)
        except ConfigurationError as error:
            self.fatal(error)
        finally:
            if effect is not None:
                self._effects.append(effect)
                self._effects_queued.set()
            self._extracting -= 1
            self._note_idle()

    async def _extract_until_decided(self, work: Work, snapshot: Snapshot, turns: list[Turn]) -> _Effect | None:
        successes_at_first_failure: int | None = None
        while self.assignment.owns(work.hold):
            work.attempts += 1
            try:
                findings = await self._extractor.extract(turns)
                checked = check(findings, turns, default_region=self._settings.default_region)
            except RetryableError as error:
                self.waits_for(self._extractor.name)
                if successes_at_first_failure is None:
                    successes_at_first_failure = self._successes
                others_succeed = self._successes > successes_at_first_failure
                if others_succeed and work.attempts >= self._settings.claude_max_attempts:
                    exhausted = PermanentError(
                        f"failed {work.attempts} times while others succeeded; last: {error}",
                        reason=Reason.ATTEMPTS_EXHAUSTED,
                    )
                    return self._failed(work, snapshot, exhausted)
                pause = backoff_seconds(work.attempts, error.retry_after_seconds, random=random.random)
                if await self.clock.wait(self.draining, pause):
                    return None
            except PermanentError as error:
                return self._failed(work, snapshot, error)
            except ConfigurationError:
                raise
            except Exception as error:
                _log.exception("extraction failed, record dead-lettered", record=letter_id(snapshot.record))
                return self._failed(work, snapshot, PermanentError(type(error).__name__, reason=Reason.INTERNAL_ERROR))
            else:
                self._successes += 1
                self.waits_no_longer(self._extractor.name)
                return _Effect(
                    work.hold,
                    work.key,
                    Enriched(),
                    work=work,
                    snapshot=snapshot,
                    checked=checked,
                    findings=findings,
                )
        return None

    def _failed(self, work: Work, snapshot: Snapshot, error: PermanentError) -> _Effect:
        return _Effect(
            work.hold,
            work.key,
            DeadLettered(error.reason),
            work=work,
            snapshot=snapshot,
            error=error,
            attempts=work.attempts,
        )

    # Effects

    async def _queue(self, effect: _Effect) -> None:
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
            group, self._effects = self._effects[:_MAX_GROUP], self._effects[_MAX_GROUP:]
            self._committing = len(group)
            self._idle.clear()
            try:
                await self.commit_group(group)
            finally:
                self._committing = 0
                self._note_idle()

    async def commit_group(self, group: list[_Effect]) -> None:
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
        decided = self._decide(group)
        # Step 1.
        writes = [effect for effect in decided if effect.state is not None]
        written = set(map(id, await self.until_acknowledged(writes, lambda effect: effect.record, self._write_state)))
        decided = [effect for effect in decided if effect.state is None or id(effect) in written]
        # Step 2.
        sends = [effect for effect in decided if effect.send is not None]
        sent = set(map(id, await self.until_acknowledged(sends, lambda effect: effect.record, self._send)))
        # Step 3.
        for effect in decided:
            if effect.send is None or id(effect) in sent:
                self._finish_effect(effect)

    def _decide(self, group: list[_Effect]) -> list[_Effect]:
        # What this group writes is not in the table yet, and a session may occur twice in it.
        pending: dict[bytes, SessionState] = {}
        decided = []
        for effect in group:
            try:
                state = pending.get(effect.key) or self._read_state(effect)
            except PartitionLostError:
                self.observer.outcome(effect.record, Dropped())
                continue
            self._decide_one(effect, state)
            if effect.state is not None:
                pending[effect.key] = effect.state
            decided.append(effect)
        return decided

    def _read_state(self, effect: _Effect) -> SessionState | None:
        if effect.snapshot is None:
            # Sent home, or not a conversation at all: no session of ours is touched.
            self.assignment.require(effect.record)
            return None
        return self._table.get(effect.record, effect.key)

    def _decide_one(self, effect: _Effect, known: SessionState | None) -> None:
        now_ms = self.clock.time_ms()
        match effect.outcome:
            case SentHome():
                record = effect.record
                headers = (*record.headers, (HOP_HEADER, letter_id(record).encode()))
                effect.send = (record.topic, effect.key, record.value, headers)
            case DeadLettered():
                self._decide_letter(effect, known, now_ms)
            case Reemitted(cause=cause):
                snapshot = effect.snapshot
                assert known is not None and snapshot is not None  # noqa: S101, PT018 - judged from the table
                fingerprint = effect.fingerprint or snapshot.conversation.fingerprint
                if cause is ReemitCause.FINGERPRINT and fingerprint is not None:
                    if fingerprint in known.fingerprints:
                        effect.outcome = Duplicate()
                        return
                    effect.state = known = after_fingerprint(known, fingerprint, now_ms=now_ms)
                self._emit(effect, known)
            case _:
                self._decide_enriched(effect, known, now_ms)

    def _decide_enriched(self, effect: _Effect, known: SessionState | None, now_ms: int) -> None:
        work, snapshot, checked, findings = effect.work, effect.snapshot, effect.checked, effect.findings
        assert work and snapshot and checked and findings  # noqa: S101, PT018 - set together in _extract
        if known is not None:
            redriven = snapshot.record.header(REDRIVE_HEADER) is not None
            verdict = known.judge(snapshot, redriven=redriven)
            if verdict in {Verdict.STALE, Verdict.DUPLICATE}:
                effect.outcome = Stale() if verdict is Verdict.STALE else Duplicate()
                return
        known_signals = known.extraction.signals if known is not None and known.extraction is not None else ()
        prospect, signals = merge(known.prospect if known is not None else None, known_signals, checked)
        usage = findings.usage
        extraction = ExtractionFacts(
            extractor=self._extractor.name,
            model=self._extractor.model,
            prompt_version=self._extractor.prompt_version,
            dropped_fields=checked.dropped_fields,
            signals=signals,
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cache_read_tokens=usage.cache_read_tokens,
            cost_usd=usage.cost_usd,
            latency_ms=usage.latency_ms,
        )
        effect.state = after_extraction(
            known, work, prospect, extraction, called=self._extractor.model is not None, now_ms=now_ms
        )
        self._emit(effect, effect.state)

    def _decide_letter(self, effect: _Effect, known: SessionState | None, now_ms: int) -> None:
        error, snapshot = effect.error, effect.snapshot
        assert error is not None  # noqa: S101 - every dead letter has one
        record = effect.record if snapshot is None else snapshot.record
        if snapshot is not None:
            effect.state = after_dead_letter(known, snapshot, error.reason, effect.attempts, now_ms=now_ms)
        headers = letter_headers(record, error, attempts=effect.attempts, failed_at=self.dead_letter_time())
        effect.send = (self._settings.dead_letter_topic, record.key, record.value, headers)

    def _emit(self, effect: _Effect, state: SessionState) -> None:
        value = state.to_enriched(self._settings.ingestion_topic).model_dump_json().encode()
        effect.send = (self._settings.enriched_topic, effect.key, value, state.emission_headers(self._source))

    async def _write_state(self, effect: _Effect) -> Awaitable[object]:
        assert effect.state is not None  # noqa: S101 - filtered in commit_group
        return await self._table.put(effect.record, effect.key, effect.state)

    async def _send(self, effect: _Effect) -> Awaitable[object]:
        assert effect.send is not None  # noqa: S101 - filtered in commit_group
        topic, key, value, headers = effect.send
        if isinstance(effect.outcome, SentHome):
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

    def _finish_effect(self, effect: _Effect) -> None:
        if not self.assignment.owns(effect.record):
            self.observer.outcome(effect.record, Dropped())
            return
        work = effect.work
        if work is None:
            self._bound.release(effect.size_bytes)
            self.finish(effect.record, effect.outcome)
            return
        failed = work.snapshot
        if isinstance(effect.outcome, DeadLettered) and self._settling.fall_back(work) is not None:
            self._bound.release(failed.size_bytes, items=0)
            # The newest snapshot failed, the one it replaced may not: the work goes on, its offset stays unfinished.
            self.observer.outcome(effect.record, effect.outcome)
            self._work_offered.set()
            return
        self._bound.release(work.snapshot.size_bytes)
        if work.replaced is not None:
            self._bound.release(work.replaced.size_bytes, items=0)
        self._settling.finish(work)
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
                _Effect(effect.record, effect.key, again, snapshot=effect.snapshot, fingerprint=late[-1])
            )
            self._effects_queued.set()
            self.observer.outcome(effect.record, effect.outcome)
        else:
            self.finish(effect.record, effect.outcome)
        self._work_offered.set()

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
        self._bound.reset()
        self._work_offered.set()
