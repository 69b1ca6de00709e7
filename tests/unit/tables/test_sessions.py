"""The session state: what it says of a snapshot, how it moves on, and how it is written and read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_stream.contracts.conversation import Limits, decode
from nexus_stream.contracts.cutting import Cut
from nexus_stream.contracts.headers import ORIGIN_TIMESTAMP_HEADER, REDRIVE_HEADER, Headers
from nexus_stream.contracts.prospect import EnrichedProspect, ExtractionFacts, Prospect, VisitorIdentity
from nexus_stream.delivery.received import Received
from nexus_stream.delivery.settling import Snapshot, Work
from nexus_stream.errors import Reason, StateVersionError
from tables.session_changes import after_dead_letter, after_extraction, after_fingerprints, joined_fingerprints
from tables.session_state import STATE_VERSION, Erasure, SessionState, Verdict, decode_state, encode_state

NOW_MS = 1_768_478_400_000


def snapshot(
    *texts: str,
    offset: int = 0,
    partition: int = 0,
    at_ms: int = NOW_MS,
    fingerprint: str | None = None,
    consent: bool | None = None,
    headers: Headers = (),
) -> Snapshot:
    turns = [{"role": "user" if n % 2 == 0 else "assistant", "content": text} for n, text in enumerate(texts)]
    metadata: dict[str, Any] = {"consent": consent, "url": f"https://example.com/{len(texts)}"}
    value = orjson.dumps({"messages": turns, "sessionId": "s-1", "fingerprint": fingerprint, "metadata": metadata})
    record = Received("ingestion", partition, offset, at_ms, b"s-1", value, headers, epoch=1)
    return Snapshot.of(record, decode(value, Limits()))


def work(newest: Snapshot, *fingerprints: str, snapshots: int = 1) -> Work:
    made = Work(newest.conversation.key, newest, newest.record, first_at=0.0, due_at=0.0, snapshots=snapshots)
    for fingerprint in (newest.conversation.fingerprint, *fingerprints):
        made.note_fingerprint(fingerprint)
    return made


def extracted(previous: SessionState | None, newest: Work, *, now_ms: int = NOW_MS, **facts: Any) -> SessionState:
    extraction = ExtractionFacts(extractor="claude", input_tokens=100, output_tokens=10, cost_usd=0.5, **facts)
    return after_extraction(previous, newest, Prospect(nombre="Ana"), extraction, called=True, now_ms=now_ms)


@pytest.fixture
def known() -> SessionState:
    """A session of three turns, extracted from offset 5 of partition 0."""
    return extracted(None, work(snapshot("hola", "sí", "soy Ana", offset=5, fingerprint="fp-1")))


# Judging


@pytest.mark.parametrize(
    ("newest", "verdict"),
    [
        (snapshot("hola", "sí", "soy Ana", offset=5), Verdict.REDELIVERED),
        (snapshot("hola", "sí", "soy Ana", offset=6), Verdict.DUPLICATE),
        (snapshot("hola", "sí", "soy Ana", offset=5, partition=1), Verdict.DUPLICATE),
        (snapshot("hola", "sí", "soy Ana", offset=6, fingerprint="fp-1"), Verdict.DUPLICATE),
        (snapshot("hola", "sí", "soy Ana", offset=6, fingerprint="fp-2"), Verdict.FINGERPRINT),
        (snapshot("hola", "sí", "soy Ana", "bien", "gracias", offset=6), Verdict.NEW),
        (snapshot("hola", "sí", "soy Ana", "bien", "gracias", offset=6, at_ms=1), Verdict.NEW),
        (snapshot("hola", "sí", "soy Ana", "bien", offset=6, at_ms=1), Verdict.RETOLD),
        (snapshot(" hola\n", "sí", "soy  Ana", offset=6, at_ms=1), Verdict.RETOLD),
        (snapshot("soy Ana", "bien", offset=6), Verdict.RETOLD),
        (snapshot("soy Ana", "bien", "gracias", offset=6, at_ms=1), Verdict.NEW),
        (snapshot("soy Ana", "bien", offset=4), Verdict.DUPLICATE),
        (snapshot("soy Ana", "bien", offset=4, fingerprint="fp-2"), Verdict.FINGERPRINT),
        (snapshot("hola", "¿sí?", "soy Ana", offset=6), Verdict.NEW),
        (snapshot("hola", offset=6), Verdict.STALE),
        (snapshot("hola", offset=6, at_ms=NOW_MS + 60_000), Verdict.STALE),
        (snapshot("otra", "cosa", offset=6, at_ms=NOW_MS + 1), Verdict.NEW),
        (snapshot("otra", "cosa", offset=6, at_ms=NOW_MS - 1), Verdict.NEW),
        (snapshot("otra", "cosa", offset=4, at_ms=NOW_MS + 1), Verdict.STALE),
        (snapshot("otra", offset=6, at_ms=NOW_MS, headers=((ORIGIN_TIMESTAMP_HEADER, b"1"),)), Verdict.STALE),
        (snapshot("otra", offset=6, at_ms=NOW_MS + 1, headers=((REDRIVE_HEADER, b"1"),)), Verdict.NEW),
        (snapshot("hola", "sí", "soy Ana", offset=6, consent=False), Verdict.NEW),
        (snapshot("hola", "sí", "soy Ana", offset=4, at_ms=NOW_MS - 1, consent=False), Verdict.STALE),
    ],
    ids=[
        "the very record",
        "the same again",
        "the same offset elsewhere",
        "the same with the known fingerprint",
        "the same with a new fingerprint",
        "longer",
        "longer by an early clock",
        "the assistant answered, by an early clock",
        "white space",
        "cut at the beginning",
        "cut at the beginning, and longer",
        "cut at the beginning, and read again",
        "the same with a new fingerprint, and read again",
        "another answer before the user's turn",
        "shorter",
        "shorter by a late clock",
        "unrelated and later",
        "unrelated and later, by an early clock",
        "unrelated and before it on the topic, by a late clock",
        "unrelated, and back on the topic",
        "unrelated, back on the topic, and later",
        "another consent, later",
        "another consent, earlier",
    ],
)
def test_content_decides_before_clocks(known: SessionState, newest: Snapshot, verdict: Verdict) -> None:
    assert known.judge(newest) is verdict


def test_a_late_snapshot_may_be_the_first_to_say_who_the_browser_is() -> None:
    known = extracted(None, work(snapshot("hola", "sí", "soy Ana")))
    assert known.judge(snapshot("hola", offset=1, fingerprint="fp-1")) is Verdict.FINGERPRINT


def test_a_dead_letter_is_sent_again_for_its_own_record_only(known: SessionState) -> None:
    failed = snapshot("hola", "sí", "soy Ana", "¿?", "gracias", offset=9)
    dead = after_dead_letter(known, failed, Reason.MODEL_REFUSED, 1, now_ms=NOW_MS)
    assert dead.judge(failed) is Verdict.DEAD
    again = snapshot("hola", "sí", "soy Ana", "¿?", "gracias", offset=10)
    assert dead.judge(again) is Verdict.GIVEN_UP
    retold = snapshot("hola", "sí", "soy Ana", "¿?", "gracias", "a ti", offset=11)
    assert dead.judge(retold) is Verdict.GIVEN_UP
    assert dead.judge(replace(again, record=replace(again.record, headers=((REDRIVE_HEADER, b"1"),)))) is Verdict.NEW


def test_a_session_of_which_everything_failed_takes_the_next_snapshot() -> None:
    dead = after_dead_letter(None, snapshot("¿?"), Reason.MODEL_REFUSED, 1, now_ms=NOW_MS)
    assert dead.judge(snapshot("¿?", "sí", "soy Ana", offset=1)) is Verdict.NEW


def test_an_erased_session_takes_nothing_until_it_is_let_in_again() -> None:
    moment = "2026-01-15T12:00:00.000+00:00"
    erasure = Erasure(request_id="r-1", requested_at=moment, erased_at=moment)
    erased = SessionState(session_id="s-1", status="erased", erasure=erasure)
    assert erased.judge(snapshot("hola", at_ms=NOW_MS + 1, headers=((REDRIVE_HEADER, b"1"),))) is Verdict.SUPPRESSED
    lifted = SessionState(session_id="s-1", status="unblocked", lifted_at_ms=NOW_MS)
    assert lifted.judge(snapshot("hola", at_ms=NOW_MS)) is Verdict.SUPPRESSED
    assert lifted.judge(snapshot("hola", at_ms=NOW_MS + 1)) is Verdict.NEW


# Moving on


def test_the_first_extraction(known: SessionState) -> None:
    assert known.status == "enriched"
    assert (known.turns, known.source_partition, known.source_offset) == (3, 0, 5)
    assert (known.fingerprint, known.first_seen_ms, known.last_seen_ms) == ("fp-1", NOW_MS, NOW_MS)
    assert known.counters.model_dump() == {
        "snapshots": 1,
        "calls": 1,
        "input_tokens": 100,
        "output_tokens": 10,
        "cost_usd": 0.5,
    }


def test_times_only_grow_whatever_clocks_say(known: SessionState) -> None:
    """Readers keep the record with the later pair of times."""
    early = work(snapshot("hola", "sí", "soy Ana", "bien", offset=6, at_ms=1))
    after = extracted(known, early, now_ms=NOW_MS - 60_000)
    assert after.snapshot_at_ms == known.snapshot_at_ms + 1
    assert (after.enriched_at or "") > (known.enriched_at or "")


def test_counters_add_up_and_what_was_first_stays(known: SessionState) -> None:
    longer = work(snapshot("hola", "sí", "soy Ana", "bien", offset=8), snapshots=3)
    after = extracted(known, longer, now_ms=NOW_MS + 5)
    assert (after.counters.snapshots, after.counters.calls, after.counters.cost_usd) == (4, 2, 1.0)
    assert (after.first_url, after.first_seen_ms, after.last_seen_ms) == (known.first_url, NOW_MS, NOW_MS + 5)


def test_a_cached_answer_is_no_call(known: SessionState) -> None:
    facts = ExtractionFacts(extractor="claude", cached=True)
    longer = work(snapshot("hola", "sí", "soy Ana", "bien", offset=8))
    after = after_extraction(known, longer, Prospect(), facts, called=False, now_ms=NOW_MS)
    assert after.counters.calls == known.counters.calls


def test_a_missing_fingerprint_inherits_and_a_new_one_becomes_the_current(known: SessionState) -> None:
    without = extracted(known, work(snapshot("hola", "sí", "soy Ana", "bien", offset=6)))
    assert without.fingerprint == "fp-1"
    other = extracted(without, work(snapshot("hola", "sí", "soy Ana", "bien", "!", offset=7, fingerprint="fp-2")))
    assert other.fingerprints == ("fp-1", "fp-2")
    again = snapshot("hola", "sí", offset=8, fingerprint="fp-1")
    linked = after_fingerprints(other, ["fp-1"], again.record, now_ms=NOW_MS)
    assert linked.fingerprints == ("fp-2", "fp-1")
    # Read again after a crash, what brought it is emitted again, although it says nothing new any more.
    assert linked.judge(again) is Verdict.REDELIVERED
    assert other.judge(again) is Verdict.STALE


@given(st.lists(st.sampled_from([f"fp-{n}" for n in range(12)]), max_size=30))
def test_fingerprints_are_a_bounded_set_with_the_current_one_last(seen: list[str]) -> None:
    known: tuple[str, ...] = ()
    for fingerprint in seen:
        known = joined_fingerprints(known, [fingerprint])
        assert known[-1] == fingerprint
    assert len(known) == len(set(known)) <= 8


def test_a_dead_letter_leaves_what_was_known(known: SessionState) -> None:
    failed = snapshot("hola", "sí", "soy Ana", "¿?", offset=9)
    dead = after_dead_letter(known, failed, Reason.MODEL_TRUNCATED, 2, now_ms=NOW_MS + 1)
    assert (dead.status, dead.prospect, dead.said) == ("dead", known.prospect, known.said)
    assert dead.dead is not None
    assert (dead.dead.offset, dead.dead.reason, dead.dead.attempts) == (9, Reason.MODEL_TRUNCATED, 2)


def test_a_dead_letter_is_remembered_until_that_snapshot_is_extracted(known: SessionState) -> None:
    failed = snapshot("hola", "sí", "soy Ana", "¿?", offset=9)
    dead = after_dead_letter(known, failed, Reason.MODEL_REFUSED, 1, now_ms=NOW_MS)
    longer = extracted(dead, work(snapshot("hola", "sí", "soy Ana", "¿?", "x", offset=10)))
    assert (longer.status, longer.dead) == ("enriched", dead.dead)
    redriven = extracted(dead, work(snapshot("hola", "sí", "soy Ana", "¿?", offset=11)))
    assert redriven.dead is None


# Emitting


def test_a_re_emission_has_the_same_bytes_and_the_same_id(known: SessionState) -> None:
    again = decode_state(encode_state(known))
    assert again.to_enriched("ingestion").model_dump_json() == known.to_enriched("ingestion").model_dump_json()
    assert again.emission_headers("/x") == known.emission_headers("/x")


def test_what_is_emitted_is_an_enriched_prospect(known: SessionState) -> None:
    emitted = known.to_enriched("ingestion")
    assert EnrichedProspect.model_validate_json(emitted.model_dump_json()) == emitted
    assert (emitted.source.topic, emitted.source.offset) == ("ingestion", 5)


def ids(state: SessionState) -> str:
    return dict(state.emission_headers("/x"))["ce_id"].decode()


def test_another_fact_has_another_id(known: SessionState) -> None:
    states = [
        known,
        known.model_copy(update={"tenant_id": "acme"}),
        known.model_copy(update={"session_id": "s-2"}),
        known.model_copy(update={"snapshot_at_ms": NOW_MS + 1}),
        known.model_copy(update={"digest": "other"}),
        known.model_copy(update={"fingerprints": ("fp-2",)}),
    ]
    assert len({ids(state) for state in states}) == len(states)


def test_the_correlation_id_travels_on() -> None:
    state = extracted(None, work(snapshot("hola", headers=(("correlation-id", b"V1StGXR8_Z5jdHi6B-myT"),))))
    assert dict(state.emission_headers("/x"))["correlation-id"] == b"V1StGXR8_Z5jdHi6B-myT"
    assert "correlation-id" not in dict(extracted(None, work(snapshot("hola"))).emission_headers("/x"))


def test_nothing_is_emitted_before_anything_was_extracted() -> None:
    dead = after_dead_letter(None, snapshot("¿?"), Reason.MODEL_REFUSED, 1, now_ms=NOW_MS)
    with pytest.raises(ValueError, match="nothing was extracted"):
        dead.to_enriched("ingestion")


# Writing and reading


def test_it_is_read_as_it_was_written(known: SessionState) -> None:
    assert decode_state(encode_state(known)) == known


def test_it_holds_no_text_of_the_conversation() -> None:
    state = extracted(None, work(snapshot("mi clave es zanahoria", "entendido")))
    assert b"zanahoria" not in encode_state(state)


def test_fields_of_a_later_version_1_are_ignored(known: SessionState) -> None:
    value = orjson.loads(encode_state(known)) | {"added_later": 1}
    assert decode_state(orjson.dumps(value)) == known


def test_a_newer_version_is_refused_with_what_to_do(known: SessionState) -> None:
    value = orjson.loads(encode_state(known)) | {"state_version": STATE_VERSION + 1}
    with pytest.raises(StateVersionError, match=r"docs/howto/upgrade\.md"):
        decode_state(orjson.dumps(value))


@pytest.mark.parametrize("raw", [b"", b"null", b"[1]", b"\xff", b'{"session_id": 7}', b'{"state_version": 0}'])
def test_what_is_no_state_is_another_applications(raw: bytes) -> None:
    with pytest.raises(StateVersionError, match="NEXUS_ENRICHER_APP_ID"):
        decode_state(raw)


def test_a_state_of_a_long_chat_stays_small() -> None:
    """docs/reference/capacity.md counts with about 2 KB a session."""
    six_turns = extracted(None, work(snapshot(*["hola"] * 12, fingerprint="f" * 64)))
    assert len(encode_state(six_turns)) < 2000
    longest = extracted(None, work(snapshot(*["hola"] * 200, fingerprint="f" * 64)))
    assert len(encode_state(longest)) < 5000


def _after(previous: SessionState | None, **metadata: Any) -> SessionState:
    messages = [{"role": "system", "content": "x"}, {"role": "user", "content": "hola"}]
    value = orjson.dumps({"messages": messages, "sessionId": "s-1", "metadata": metadata})
    record = Received("t", 0, 0, 0, b"s-1", value, (), epoch=1)
    snapshot = Snapshot.of(record, decode(value, Limits()))
    work = Work(b"s-1", snapshot, record, 0.0, 0.0)
    return after_extraction(previous, work, Prospect(), ExtractionFacts(extractor="none"), called=False, now_ms=1)


def test_the_record_says_what_was_cut_and_left_out() -> None:
    facts = _after(None, cut={"turns": 3, "characters": 0, "until": 2}).to_enriched("t").conversation
    assert facts.cut == Cut(turns=3, until=2)
    assert facts.left_out == {"system": 1}
    assert _after(None).to_enriched("t").conversation.cut is None


def test_a_claim_without_proof_replaces_no_proven_identity() -> None:
    claimed = _after(None, identity="u-1")
    assert claimed.identity == VisitorIdentity(value="u-1", proven=False)
    proven = _after(claimed, identity="u-2", identityProven=True)
    assert proven.identity == VisitorIdentity(value="u-2", proven=True)
    assert _after(proven, identity="u-3").identity == proven.identity
    assert _after(proven).identity == proven.identity
    assert _after(proven, identity="u-4", identityProven=True).identity == VisitorIdentity(value="u-4", proven=True)
    assert decode_state(encode_state(proven)).identity == proven.identity
