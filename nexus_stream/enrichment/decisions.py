"""Decide for each intent: the state to write, the records to send, and the outcome. Pure.

`decide` reads no table and sends nothing. The stage makes the decisions durable in numbered steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from nexus_stream.contracts.headers import HOP_HEADER, ORIGIN_TIMESTAMP_HEADER, Headers
from nexus_stream.contracts.prospect import ExtractionFacts
from nexus_stream.contracts.session_command import CommandKind
from nexus_stream.delivery.dead_letters import letter_headers, letter_id
from nexus_stream.delivery.outcomes import (
    DeadLettered,
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
from nexus_stream.delivery.received import Received
from nexus_stream.enrichment.intents import Abandon, DeadLetter, GiveUp, Intent, Obey, Reemit, Reroute, Retell, Store
from nexus_stream.enrichment.readings import read_into
from nexus_stream.errors import PermanentError
from nexus_stream.extraction.extractor import MadeBy
from nexus_stream.settings import Settings
from tables.session_changes import (
    after_dead_letter,
    after_extraction,
    after_fingerprints,
    after_retelling,
    correlation_id_of,
)
from tables.session_commands import obey
from tables.session_state import SessionState, Verdict

__all__ = [
    "Decision",
    "Rules",
    "Send",
    "Write",
    "decide",
    "decide_group",
    "group_size",
]

_COMMAND_OUTCOMES: dict[CommandKind, Erased | Unblocked | Expired] = {
    CommandKind.ERASE: Erased(),
    CommandKind.UNBLOCK: Unblocked(),
    CommandKind.EXPIRE: Expired(),
}


@dataclass(frozen=True, slots=True)
class Write:
    """The session's next state. None deletes the session."""

    state: SessionState | None


@dataclass(frozen=True, slots=True)
class Send:
    """One record to send. ``partition`` and ``timestamp_ms``: None lets the producer choose."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    partition: int | None = None
    timestamp_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """The state to write, the records to send, and the outcome of an intent's record."""

    intent: Intent
    outcome: Outcome
    write: Write | None = None
    sends: tuple[Send, ...] = ()


@dataclass(frozen=True, slots=True)
class Rules:
    """The inputs of a decision besides the state.

    Attributes:
        settings: Names of the topics.
        labels: Labels of the configured extractor. Findings of another extractor have their own labels.
        source: The CloudEvents source of emitted records.
    """

    settings: Settings
    labels: MadeBy
    source: str


def group_size(intents: Sequence[Intent], limit: int) -> int:
    """Number of first intents to commit together: at most one command per session.

    A command after an erasure replaces the erasure in the state. If both were written at once and the worker crashed,
    the state would no longer show that the erased event must still be sent.
    """
    commanded: set[bytes] = set()
    for size, intent in enumerate(intents[:limit]):
        if isinstance(intent, Obey):
            if intent.key in commanded:
                return size
            commanded.add(intent.key)
    return min(len(intents), limit)


def decide_group(
    intents: Sequence[Intent], state_of: Callable[[Intent], SessionState | None], rules: Rules, *, now_ms: int
) -> list[Decision]:
    """Decide intents one after the other. Each one sees the states that earlier intents of its session will write.

    Args:
        intents: Their partitions are assigned to this worker.
        state_of: Reads the table.
        rules: The inputs besides the state.
        now_ms: Unix milliseconds.
    """
    written: dict[bytes, SessionState | None] = {}
    decisions: list[Decision] = []
    for intent in intents:
        known = written[intent.key] if intent.key in written else state_of(intent)
        decision = decide(intent, known, rules, now_ms=now_ms)
        if decision.write is not None:
            written[intent.key] = decision.write.state
            if isinstance(decision.outcome, Erased | Expired):
                # Emit nothing of the session before its erasure.
                decisions = [
                    Decision(one.intent, Suppressed())
                    if one.write is not None and one.intent.key == intent.key
                    else one
                    for one in decisions
                ]
        decisions.append(decision)
    return decisions


def decide(intent: Intent, known: SessionState | None, rules: Rules, *, now_ms: int) -> Decision:
    """Decide one intent, given the session's state."""
    match intent:
        case Reroute():
            return _decide_reroute(intent)
        case DeadLetter():
            return _decide_dead_letter(intent, rules, now_ms)
        case Obey():
            return _decide_command(intent, known, rules, now_ms)
        case Abandon():
            return Decision(intent, Suppressed())
        case Reemit() | Store() | Retell() | GiveUp() if known is not None and known.suppresses(intent.snapshot):
            return Decision(intent, Suppressed())
        case Reemit():
            return _decide_reemission(intent, known, rules, now_ms)
        case Store() | Retell() | GiveUp() if intent.work.cancelled:
            return Decision(intent, Suppressed())
        case Retell():
            return _decide_retelling(intent, known, rules, now_ms)
        case Store():
            return _decide_stored(intent, known, rules, now_ms)
        case GiveUp():
            return _decide_given_up(intent, known, rules, now_ms)


def _decide_reroute(intent: Reroute) -> Decision:
    record = intent.record
    headers = (*record.headers, (HOP_HEADER, letter_id(record).encode()))
    if record.is_brokers_time and record.origin_ms is None:
        # The broker's first receipt orders the record. A producer's own time must not.
        headers = (*headers, (ORIGIN_TIMESTAMP_HEADER, str(record.timestamp_ms).encode()))
    timestamp_ms = record.timestamp_ms or None
    send = Send(record.topic, intent.key, record.value, headers, intent.partition, timestamp_ms)
    return Decision(intent, Rerouted(), sends=(send,))


def _decide_dead_letter(intent: DeadLetter, rules: Rules, now_ms: int) -> Decision:
    send = _letter(intent.record, intent.error, intent.attempts, rules, now_ms)
    return Decision(intent, DeadLettered(intent.error.reason), sends=(send,))


def _decide_given_up(intent: GiveUp, known: SessionState | None, rules: Rules, now_ms: int) -> Decision:
    error, snapshot = intent.error, intent.snapshot
    letter = _letter(snapshot.record, error, intent.attempts, rules, now_ms)
    stored = None if intent.instead is None else _decide_stored(intent.instead, known, rules, now_ms)
    if stored is None or stored.write is None:
        state = after_dead_letter(
            known, snapshot, error.reason, intent.attempts, asked=rules.labels.label, now_ms=now_ms
        )
        return Decision(intent, DeadLettered(error.reason), Write(state), (letter,))
    state = after_dead_letter(
        stored.write.state,
        snapshot,
        error.reason,
        intent.attempts,
        asked=rules.labels.label,
        is_read=True,
        now_ms=now_ms,
    )
    read_by = stored.outcome.extractor if isinstance(stored.outcome, Enriched) else ""
    return Decision(intent, DeadLettered(error.reason, read_by), Write(state), (*stored.sends, letter))


def _decide_command(intent: Obey, known: SessionState | None, rules: Rules, now_ms: int) -> Decision:
    outcome = _COMMAND_OUTCOMES[intent.command.command]
    place = (intent.record.partition, intent.record.offset)
    obeyed = obey(intent.command, known, intent.fingerprints, now_ms=now_ms, place=place)
    write = Write(obeyed.state) if obeyed.changes else None
    if obeyed.event is None:
        return Decision(intent, outcome if obeyed.changes else Duplicate(), write)
    headers = obeyed.event.headers(rules.source)
    event = Send(rules.settings.enriched_topic, intent.key, obeyed.event.value, headers)
    return Decision(intent, outcome, write, (event,))


def _decide_reemission(intent: Reemit, known: SessionState | None, rules: Rules, now_ms: int) -> Decision:
    if intent.letter is not None:
        again = _decide_dead_letter(intent.letter, rules, now_ms)
        emission = () if known is None or known.prospect is None else (_emission(intent.key, known, rules),)
        return Decision(intent, again.outcome, sends=(*emission, *again.sends))
    if known is None or known.prospect is None:
        # The session expired in between, or was erased and unblocked. The next turn sends the whole conversation again.
        return Decision(intent, Stale())
    outcome = Reemitted(intent.cause)
    if intent.cause is ReemitCause.REDELIVERED or not intent.fingerprints:
        return Decision(intent, outcome, sends=(_emission(intent.key, known, rules),))
    new = [fingerprint for fingerprint in intent.fingerprints if fingerprint not in known.fingerprints]
    if not new:
        return Decision(intent, Duplicate())
    correlation_id = correlation_id_of(intent.snapshot.record)
    state = after_fingerprints(known, new, intent.record, now_ms=now_ms, correlation_id=correlation_id)
    return Decision(intent, outcome, Write(state), (_emission(intent.key, state, rules),))


def _decide_retelling(intent: Retell, known: SessionState | None, rules: Rules, now_ms: int) -> Decision:
    if known is None or known.prospect is None:
        return Decision(intent, Stale())
    verdict = known.judge(intent.snapshot)
    # The newest telling may be the one that is stored, but one in between had a fingerprint.
    brings = verdict in {Verdict.FINGERPRINT, Verdict.DUPLICATE} and set(intent.work.fingerprints) - set(
        known.fingerprints
    )
    if verdict is not Verdict.RETOLD and not brings:
        return Decision(intent, Duplicate())
    state = after_retelling(known, intent.work, now_ms=now_ms)
    return Decision(intent, Reemitted(ReemitCause.RETOLD), Write(state), (_emission(intent.key, state, rules),))


def _decide_stored(intent: Store, known: SessionState | None, rules: Rules, now_ms: int) -> Decision:
    if known is not None:
        verdict = known.judge(intent.snapshot)
        if verdict is Verdict.STALE:
            return Decision(intent, Stale())
        if verdict in {Verdict.DUPLICATE, Verdict.GIVEN_UP}:
            return Decision(intent, Duplicate())
    work, findings, checked = intent.work, intent.findings, intent.checked
    made_by = findings.made_by or rules.labels
    is_instead = findings.instead_of is not None or (made_by.is_rules and not rules.labels.is_rules)
    reading, base = read_into(known, intent.snapshot, checked, made_by, is_instead=is_instead)
    usage = findings.usage
    extraction = ExtractionFacts(
        extractor=made_by.extractor,
        model=made_by.model,
        prompt_version=made_by.prompt_version,
        instead_of=None if findings.instead_of is None else findings.instead_of.value,
        dropped_fields=checked.dropped_fields,
        doubtful_fields=checked.doubtful_fields,
        signals=reading.signals,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cost_usd=usage.cost_usd,
        latency_ms=usage.latency_ms,
        cached=findings.cached,
    )
    called = made_by.model is not None and not findings.cached
    state = after_extraction(known, work, reading.prospect, extraction, base=base, called=called, now_ms=now_ms)
    outcome = Enriched(made_by.extractor, findings.cached, work.attempts, work.snapshots, checked.dropped_fields)
    return Decision(intent, outcome, Write(state), (_emission(intent.key, state, rules),))


def _emission(key: bytes, state: SessionState, rules: Rules) -> Send:
    value = state.to_enriched(rules.settings.ingestion_topic).model_dump_json().encode()
    return Send(rules.settings.enriched_topic, key, value, state.emission_headers(rules.source))


def _letter(record: Received, error: PermanentError, attempts: int, rules: Rules, now_ms: int) -> Send:
    failed_at = datetime.fromtimestamp(now_ms / 1000, UTC).isoformat(timespec="milliseconds")
    headers = letter_headers(record, error, attempts=attempts, failed_at=failed_at)
    return Send(rules.settings.dead_letter_topic, record.key, record.value, headers)
