"""What each record or result is to cause, decided against the table as it is now: no I/O beyond reading it.

The stage gathers effects and makes them durable in numbered steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from nexus_stream.contracts.headers import HOP_HEADER
from nexus_stream.contracts.prospect import ExtractionFacts
from nexus_stream.contracts.session_command import SessionCommand
from nexus_stream.delivery.dead_letters import letter_headers, letter_id
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
    Rerouted,
    Stale,
    Suppressed,
    Unblocked,
)
from nexus_stream.delivery.received import Headers, Received
from nexus_stream.delivery.settling import Snapshot, Work
from nexus_stream.delivery.stage import Stage
from nexus_stream.errors import PartitionLostError, PermanentError
from nexus_stream.extraction.extractor import Extractor, Findings, MadeBy
from nexus_stream.extraction.grounding import Checked
from nexus_stream.extraction.merging import merge
from nexus_stream.settings import Settings
from tables.session_commands import obey
from tables.session_state import (
    SessionState,
    Verdict,
    after_dead_letter,
    after_extraction,
    after_fingerprints,
    correlation_id_of,
)
from tables.sessions import SessionTablePort

__all__ = ["Decider", "Effect", "group_size"]


@dataclass(slots=True)
class Effect:
    """What one record or one work is to cause: a table write, a send, or both; filled in by `Decider`."""

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
    command: SessionCommand | None = None
    # Of an erased session's cancelled work: known nowhere else.
    fingerprints: tuple[str, ...] = ()
    # Whether the command is among those that what arrives meanwhile is judged by.
    is_noted: bool = False
    # Of a work, those that joined it too late for its own record.
    late_fingerprints: tuple[str, ...] = ()
    state: SessionState | None = None
    # Write ``state``, or delete the session if it is None.
    writes: bool = False
    send: tuple[str, bytes | None, bytes | None, Headers] | None = None
    size_bytes: int = field(default=0)

    @property
    def about(self) -> Received:
        """The record that ends so: the newest snapshot's, where ``record`` is the first one of its work."""
        return self.record if self.snapshot is None else self.snapshot.record


def group_size(effects: Sequence[Effect], limit: int) -> int:
    """How many effects from the first are committed together: of each session one command at most.

    Once a lift is in the table nothing says any more that the erasure before it has still to be told.
    """
    commanded: set[bytes] = set()
    for size, effect in enumerate(effects[:limit]):
        if effect.command is not None:
            if effect.key in commanded:
                return size
            commanded.add(effect.key)
    return min(len(effects), limit)


class Decider:
    """Decides groups of effects, one after the other; the table's only writer asks it.

    Args:
        stage: Whose clock, assignment and observer it uses.
        settings: Topics.
        table: The session table, read only.
        extractor: Named in the records it made.
        source: The CloudEvents source of what is emitted.
    """

    def __init__(
        self, stage: Stage, *, settings: Settings, table: SessionTablePort, extractor: Extractor, source: str
    ) -> None:
        self._stage = stage
        self._settings = settings
        self._table = table
        self._extractor = extractor
        self._source = source

    def decide(self, group: list[Effect]) -> list[Effect]:
        """Fill in what each effect writes and sends; those whose partition is gone are left out."""
        # What this group writes is not in the table yet, and a session may occur twice in it.
        pending: dict[bytes, SessionState | None] = {}
        decided: list[Effect] = []
        for effect in group:
            try:
                state = pending[effect.key] if effect.key in pending else self._read_state(effect)
            except PartitionLostError:
                self._stage.observer.outcome(effect.record, Dropped())
                continue
            self._decide_one(effect, state)
            if effect.writes:
                pending[effect.key] = effect.state
                self._supersede(effect, decided)
            decided.append(effect)
        return decided

    @staticmethod
    def _supersede(effect: Effect, earlier: list[Effect]) -> None:
        """Of several writes of one session in a group only the last is sent.

        What the broker refuses is sent again after the others: an older state would come out on top of a newer one. And
        what a session is erased with is not told to anybody first.
        """
        for other in earlier:
            if other.key == effect.key and other.writes:
                other.writes = False
                if isinstance(effect.outcome, Erased | Expired):
                    other.outcome, other.send, other.state = Suppressed(), None, None

    def _read_state(self, effect: Effect) -> SessionState | None:
        if effect.snapshot is None and effect.command is None:
            # Sent home, or not a conversation at all: no session of ours is touched.
            self._stage.assignment.require(effect.record)
            return None
        return self._table.get(effect.record, effect.key)

    def _decide_one(self, effect: Effect, known: SessionState | None) -> None:
        now_ms = self._stage.clock.time_ms()
        if self._is_suppressed(effect, known):
            effect.outcome = Suppressed()
            return
        match effect.outcome:
            case Erased() | Unblocked() | Expired():
                self._decide_command(effect, known, now_ms)
            case Rerouted():
                record = effect.record
                headers = (*record.headers, (HOP_HEADER, letter_id(record).encode()))
                effect.send = (record.topic, effect.key, record.value, headers)
            case DeadLettered():
                self._decide_letter(effect, known, now_ms)
            case Reemitted(cause=cause):
                snapshot = effect.snapshot
                assert snapshot is not None  # noqa: S101 - judged from the table
                if known is None or known.prospect is None:
                    # It expired in between, or was erased and let in again; the next turn brings it back whole.
                    effect.outcome = Stale()
                    return
                own = snapshot.conversation.fingerprint
                seen = effect.late_fingerprints or ((own,) if own is not None else ())
                if cause is ReemitCause.FINGERPRINT and seen:
                    if set(seen) <= set(known.fingerprints):
                        effect.outcome = Duplicate()
                        return
                    known = after_fingerprints(
                        known,
                        [one for one in seen if one not in known.fingerprints],
                        effect.record,
                        now_ms=now_ms,
                        correlation_id=correlation_id_of(effect.about),
                    )
                    effect.writes, effect.state = True, known
                self._emit(effect, known)
            case _:
                self._decide_enriched(effect, known, now_ms)

    def _is_suppressed(self, effect: Effect, known: SessionState | None) -> bool:
        if effect.work is not None and effect.work.cancelled:
            return True
        return effect.snapshot is not None and known is not None and known.suppresses(effect.snapshot)

    def _decide_command(self, effect: Effect, known: SessionState | None, now_ms: int) -> None:
        assert effect.command is not None  # noqa: S101 - every command has one
        place = (effect.record.partition, effect.record.offset)
        obeyed = obey(effect.command, known, effect.fingerprints, now_ms=now_ms, place=place)
        effect.writes, effect.state = obeyed.changes, obeyed.state
        if obeyed.event is not None:
            headers = obeyed.event.headers(self._source)
            effect.send = (self._settings.enriched_topic, effect.key, obeyed.event.value, headers)
        elif not obeyed.changes:
            effect.outcome = Duplicate()

    def _decide_enriched(self, effect: Effect, known: SessionState | None, now_ms: int) -> None:
        work, snapshot, checked, findings = effect.work, effect.snapshot, effect.checked, effect.findings
        assert work and snapshot and checked and findings  # noqa: S101, PT018 - set together in _extract
        if known is not None:
            verdict = known.judge(snapshot)
            if verdict in {Verdict.STALE, Verdict.DUPLICATE}:
                effect.outcome = Stale() if verdict is Verdict.STALE else Duplicate()
                return
        known_signals = known.extraction.signals if known is not None and known.extraction is not None else ()
        prospect, signals = merge(known.prospect if known is not None else None, known_signals, checked)
        usage = findings.usage
        if not findings.cached:
            self._stage.facts.spent(usage.input_tokens, usage.output_tokens, usage.cost_usd)
        made_by = findings.made_by or MadeBy.of(self._extractor)
        extraction = ExtractionFacts(
            extractor=made_by.extractor,
            model=made_by.model,
            prompt_version=made_by.prompt_version,
            dropped_fields=checked.dropped_fields,
            signals=signals,
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cache_read_tokens=usage.cache_read_tokens,
            cost_usd=usage.cost_usd,
            latency_ms=usage.latency_ms,
            cached=findings.cached,
        )
        called = made_by.model is not None and not findings.cached
        state = after_extraction(known, work, prospect, extraction, called=called, now_ms=now_ms)
        effect.writes, effect.state = True, state
        effect.outcome = Enriched(
            made_by.extractor, findings.cached, work.attempts, work.snapshots, checked.dropped_fields
        )
        self._emit(effect, state)

    def _decide_letter(self, effect: Effect, known: SessionState | None, now_ms: int) -> None:
        error, snapshot = effect.error, effect.snapshot
        assert error is not None  # noqa: S101 - every dead letter has one
        record = effect.record if snapshot is None else snapshot.record
        if snapshot is not None:
            effect.state = after_dead_letter(known, snapshot, error.reason, effect.attempts, now_ms=now_ms)
            effect.writes = True
        headers = letter_headers(record, error, attempts=effect.attempts, failed_at=self._stage.dead_letter_time())
        effect.send = (self._settings.dead_letter_topic, record.key, record.value, headers)

    def _emit(self, effect: Effect, state: SessionState) -> None:
        value = state.to_enriched(self._settings.ingestion_topic).model_dump_json().encode()
        effect.send = (self._settings.enriched_topic, effect.key, value, state.emission_headers(self._source))
