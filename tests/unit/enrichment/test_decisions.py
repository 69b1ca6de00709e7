"""What each intent writes and sends: the pure function behind the enricher's commit steps."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import orjson
import pytest

from nexus_stream.contracts.headers import (
    ATTEMPTS_HEADER,
    CORRELATION_ID_HEADER,
    ERASED_TYPE,
    EVENT_ID_HEADER,
    EVENT_TYPE_HEADER,
    HOP_HEADER,
    ORIGIN_TIMESTAMP_HEADER,
)
from nexus_stream.contracts.prospect import Signal, SignalName
from nexus_stream.contracts.session_command import CommandKind, SessionCommand
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
)
from nexus_stream.delivery.received import Headers, Received
from nexus_stream.enrichment.decisions import Decision, Rules, Send, Write, decide, decide_group
from nexus_stream.enrichment.intents import Abandon, DeadLetter, GiveUp, Intent, Obey, Reemit, Reroute, Store
from nexus_stream.errors import DecodeError, PermanentError, Reason
from nexus_stream.extraction.extractor import Findings, MadeBy
from nexus_stream.extraction.grounding import Checked
from nexus_stream.settings import load_settings
from tables.session_state import SessionState
from tests.unit.tables.test_sessions import NOW_MS, snapshot, work

SETTINGS = load_settings(environ={})
RULES = Rules(SETTINGS, MadeBy("offline-rules-v1"), "/test")


def store(*texts: str, offset: int, fingerprint: str | None = None, nombre: str = "Ana") -> Store:
    newest = work(snapshot(*texts, offset=offset, fingerprint=fingerprint))
    return Store(newest, newest.snapshot, Findings(), Checked(nombre=nombre))


def give_up(*texts: str, offset: int, attempts: int = 1, headers: Headers = ()) -> GiveUp:
    newest = work(snapshot(*texts, offset=offset, headers=headers))
    return GiveUp(newest, newest.snapshot, PermanentError("refused", reason=Reason.MODEL_REFUSED), attempts)


def command(kind: CommandKind, *, offset: int, request_id: str = "request-1", idle_since_ms: int | None = None) -> Obey:
    asked = SessionCommand(
        command=kind,
        session_id="s-1",
        request_id=request_id,
        requested_at=datetime.fromtimestamp(NOW_MS / 1000, UTC),
        idle_since_ms=idle_since_ms,
    )
    record = Received("ingestion", 0, offset, NOW_MS, b"s-1", asked.model_dump_json().encode(), (), epoch=1)
    return Obey(record, asked, is_noted=True)


def decided(intent: Intent, known: SessionState | None = None) -> Decision:
    return decide(intent, known, RULES, now_ms=NOW_MS)


def group(*intents: Intent, known: SessionState | None = None) -> list[Decision]:
    return decide_group(intents, lambda _: known, RULES, now_ms=NOW_MS)


def state_after(intent: Intent, known: SessionState | None = None) -> SessionState:
    write = decided(intent, known).write
    assert write is not None
    assert write.state is not None
    return write.state


def sent(decision: Decision) -> Send:
    (send,) = decision.sends
    return send


def header(send: Send, name: str) -> str:
    return dict(send.headers)[name].decode()


def test_a_rerouted_record_keeps_its_bytes_its_time_and_its_headers():
    record = Received("ingestion", 0, 7, NOW_MS, b"random", b"{}", (("a", b"1"),), epoch=1)
    decision = decided(Reroute(record, b"s-1", 2))
    hop = (HOP_HEADER, b"ingestion-0-7")
    origin = (ORIGIN_TIMESTAMP_HEADER, str(NOW_MS).encode())
    headers = (("a", b"1"), hop, origin)
    assert sent(decision) == Send("ingestion", b"s-1", b"{}", headers, partition=2, timestamp_ms=NOW_MS)
    assert (decision.outcome, decision.write) == (Rerouted(), None)
    # A second reroute keeps the first time. A producer's own time is not said.
    again = sent(decided(Reroute(replace(record, headers=(origin,), timestamp_ms=NOW_MS + 9), b"s-1", 2)))
    assert again.headers == (origin, hop)
    unsaid = sent(decided(Reroute(replace(record, is_brokers_time=False), b"s-1", 2)))
    assert unsaid.headers == (("a", b"1"), hop)


def test_a_record_without_a_time_is_rerouted_without_one():
    record = Received("ingestion", 0, 7, 0, b"random", b"{}", (), epoch=1)
    assert sent(decided(Reroute(record, b"s-1", 2))).timestamp_ms is None


def test_an_unreadable_record_touches_no_session():
    record = Received("ingestion", 0, 7, NOW_MS, b"s-1", b"no json", (), epoch=1)
    decision = decided(DeadLetter(record, DecodeError("not JSON", reason=Reason.NOT_JSON), attempts=4))
    assert (decision.outcome, decision.write) == (DeadLettered(Reason.NOT_JSON), None)
    assert header(sent(decision), ATTEMPTS_HEADER) == "4"
    assert (sent(decision).topic, sent(decision).value) == (SETTINGS.dead_letter_topic, b"no json")


def test_a_snapshot_that_is_given_up_is_remembered_and_what_was_known_stays():
    known = state_after(store("hola", offset=1))
    decision = decided(give_up("hola", "sí", "¿?", offset=2, attempts=3), known)
    assert decision.outcome == DeadLettered(Reason.MODEL_REFUSED)
    assert decision.write is not None
    state = decision.write.state
    assert state is not None
    assert state.dead is not None
    assert (state.status, state.dead.offset, state.dead.attempts, state.prospect) == ("dead", 2, 3, known.prospect)
    assert header(sent(decision), ATTEMPTS_HEADER) == "3"


def test_a_redelivered_record_emits_the_stored_result_with_its_id_and_writes_nothing():
    intent = store("hola", offset=1)
    first = decided(intent)
    again = decided(Reemit(intent.record, intent.snapshot, ReemitCause.REDELIVERED), state_after(intent))
    assert (again.outcome, again.write) == (Reemitted(ReemitCause.REDELIVERED), None)
    assert again.sends == first.sends


@pytest.mark.parametrize(
    ("fingerprints", "outcome"),
    [(("fp-2",), Reemitted(ReemitCause.FINGERPRINT)), (("fp-1",), Duplicate())],
)
def test_a_fingerprint_is_told_once(fingerprints: tuple[str, ...], outcome: Outcome):
    intent = store("hola", offset=1, fingerprint="fp-1")
    again = Reemit(intent.record, intent.snapshot, ReemitCause.FINGERPRINT, fingerprints)
    decision = decided(again, state_after(intent))
    assert decision.outcome == outcome
    assert (decision.write is None) == (decision.sends == ()) == (outcome == Duplicate())


def test_new_fingerprints_follow_the_known_ones_in_their_order():
    known = state_after(store("hola", offset=1)).model_copy(update={"fingerprints": ("fp-1", "fp-2")})
    newest = snapshot("hola", offset=2)
    state = state_after(Reemit(newest.record, newest, ReemitCause.FINGERPRINT, ("fp-1", "fp-3")), known)
    assert state.fingerprints == ("fp-1", "fp-2", "fp-3")


def test_a_late_fingerprint_is_linked_at_the_first_record_under_the_id_of_the_newest():
    first = snapshot("hola", offset=1, headers=((CORRELATION_ID_HEADER, b"c-1"),))
    newest = snapshot("hola", "sí", "adiós", offset=2, headers=((CORRELATION_ID_HEADER, b"c-2"),))
    known = state_after(store("hola", "sí", "adiós", offset=2))
    state = state_after(Reemit(first.record, newest, ReemitCause.FINGERPRINT, ("fp-late",)), known)
    assert (state.linked_at, state.correlation_id) == ((0, 1), "c-2")


@pytest.mark.parametrize("cause", ReemitCause)
def test_nothing_is_emitted_again_for_a_session_that_is_gone_or_was_never_extracted(cause: ReemitCause):
    newest = snapshot("hola", offset=1)
    again = Reemit(newest.record, newest, cause, ("fp-1",) if cause is ReemitCause.FINGERPRINT else ())
    assert decided(again).outcome == Stale()
    assert decided(again, state_after(give_up("hola", "sí", "¿?", offset=2))) == Decision(again, Stale())


def test_work_of_an_erased_session_ends_without_an_effect():
    erased = state_after(command(CommandKind.ERASE, offset=2))
    intent = store("hola", offset=1)
    for decision in (
        decided(intent, erased),
        decided(Reemit(intent.record, intent.snapshot, ReemitCause.REDELIVERED), erased),
        decided(Abandon(intent.work, intent.snapshot)),
        decided(give_up("hola", offset=1), erased),
    ):
        assert (decision.outcome, decision.write, decision.sends) == (Suppressed(), None, ())


def test_a_cancelled_work_ends_without_an_effect_although_the_table_says_nothing():
    for intent in (store("hola", offset=1), give_up("hola", offset=1)):
        intent.work.cancelled = True
        assert decided(intent) == Decision(intent, Suppressed())


def test_an_answer_that_the_table_has_outgrown_changes_nothing():
    known = state_after(store("hola", "sí", "adiós", offset=2))
    assert decided(store("hola", offset=1), known).outcome == Stale()
    assert decided(store("hola", "sí", "adiós", offset=3), known).outcome == Duplicate()
    refused = state_after(give_up("hola", "sí", "adiós", "no", offset=4), known)
    assert decided(store("hola", "sí", "adiós", "no", offset=5), refused).outcome == Duplicate()


def test_each_intent_of_a_group_sees_the_earlier_ones_of_its_session():
    first, second = group(store("hola", offset=1), store("hola", "sí", "adiós", offset=2, nombre="Ana María"))
    assert first.write is not None
    assert second.write is not None
    assert second.write.state is not None
    assert second.write.state.counters.snapshots == 2
    assert header(sent(first), EVENT_ID_HEADER) != header(sent(second), EVENT_ID_HEADER)


def test_nobody_is_told_what_is_erased_in_the_same_group_however_often_it_was_written():
    decisions = group(
        store("hola", offset=1),
        store("hola", "sí", "adiós", offset=2),
        command(CommandKind.ERASE, offset=3),
    )
    assert [decision.outcome for decision in decisions] == [Suppressed(), Suppressed(), Erased()]
    assert [decision.write is not None for decision in decisions] == [False, False, True]
    assert [decision.sends != () for decision in decisions] == [False, False, True]
    assert header(sent(decisions[-1]), EVENT_TYPE_HEADER) == ERASED_TYPE


def test_nobody_is_told_what_expires_in_the_same_group():
    expire = command(CommandKind.EXPIRE, offset=2, idle_since_ms=NOW_MS)
    stored, expired = group(store("hola", offset=1), expire)
    assert (stored.outcome, stored.write, stored.sends) == (Suppressed(), None, ())
    assert (expired.outcome, expired.write) == (Expired(), Write(None))


def test_signals_of_earlier_turns_stay():
    signal = Signal(name=SignalName.NOMBRE, turn=0, start=0, end=3)
    first = work(snapshot("Ana", offset=1))
    known = state_after(Store(first, first.snapshot, Findings(), Checked(nombre="Ana", signals=(signal,))))
    state = state_after(store("Ana", "sí", "adiós", offset=2), known)
    assert state.extraction is not None
    assert signal in state.extraction.signals


def test_an_outcome_counts_the_attempts_and_the_snapshots_of_its_work():
    newest = work(snapshot("hola", offset=1), snapshots=3)
    newest.attempts = 2
    stored = Store(newest, newest.snapshot, Findings(cached=True), Checked(dropped_fields=("email",)))
    assert decided(stored).outcome == Enriched("offline-rules-v1", True, 2, 3, ("email",))


def test_an_extraction_emits_what_it_stores():
    decision = decided(store("hola", offset=1, fingerprint="fp-1"))
    assert isinstance(decision.outcome, Enriched)
    emitted = orjson.loads(sent(decision).value or b"")
    assert (emitted["prospect"]["nombre"], emitted["fingerprint"]) == ("Ana", "fp-1")
    assert emitted["extraction"]["extractor"] == "offline-rules-v1"
