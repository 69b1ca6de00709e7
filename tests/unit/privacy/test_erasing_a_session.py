"""An erasure in the enricher: pending work is cancelled, state is deleted, later records are suppressed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson
from aiokafka.partitioner import murmur2

from nexus_stream.contracts.session_command import CommandKind, SessionCommand
from nexus_stream.contracts.subject import subject_hash
from nexus_stream.errors import BrokerUnavailableError, ModelRefusedError, ModelUnavailableError, Reason
from nexus_stream.extraction.extractor import Findings, Turn
from nexus_stream.settings import load_settings
from nexus_stream.testing.extractor import ScriptedExtractor

if TYPE_CHECKING:
    from tests.unit.privacy.conftest import Bench

NAME = ("me llamo Carlos Ruiz",)
LONGER = (*NAME, "hola", "quiero empezar")
ERASED, ENRICHED = "nexus.prospect.erased.v1", "nexus.prospect.enriched.v1"
FP_HASH = subject_hash("", "fingerprint", "fp-1")


async def test_an_erased_session_leaves_a_marker_without_personal_data(bench: Bench):
    await bench.say(NAME)
    await bench.clock.advance(30)
    assert b"Carlos" in bench.everything_written()
    await bench.command("erase", request="request-1")
    await bench.clock.advance(10)

    state = bench.table.state(b"s-1")
    assert state.status == "erased"
    assert state.erasure is not None
    assert state.erasure.fingerprint_hashes == (FP_HASH,)
    written = bench.everything_written()
    for personal in (b"Carlos", b"fp-1", b"example.com"):
        assert personal not in written
    assert b"s-1" in bench.table.purged
    (_, enriched), (kind, event) = bench.emitted()
    assert enriched["prospect"]["nombre"] == "Carlos Ruiz"
    assert kind == ERASED
    assert event["session_id"] == "s-1"
    assert event["request_id"] == "request-1"
    assert event["fingerprint_hashes"] == [FP_HASH]
    assert bench.kinds() == ["Enriched", "Erased"]
    assert bench.broker.committed["nexus-prospect-ingestion", 0] == 2


async def test_the_visitors_identity_is_erased_too(bench: Bench):
    messages = [{"role": "user", "content": NAME[0]}]
    metadata = {"identity": "customer-17", "identityProven": True}
    await bench.send(orjson.dumps({"messages": messages, "sessionId": "s-1", "metadata": metadata}))
    await bench.clock.advance(30)
    ((_, enriched),) = bench.emitted()
    assert enriched["conversation"]["identity"] == {"value": "customer-17", "proven": True}
    assert b"customer-17" in bench.everything_written()
    await bench.command("erase")
    await bench.clock.advance(10)
    assert b"customer-17" not in bench.everything_written()
    assert "customer-17" not in str(bench.emitted()[-1])


async def test_later_messages_are_suppressed_without_a_call(bench: Bench):
    await bench.say(NAME)
    await bench.clock.advance(30)
    await bench.command("erase")
    await bench.say(LONGER)
    await bench.clock.advance(30)
    await bench.say(["otra historia"], fingerprint="fp-2")
    await bench.clock.advance(30)
    assert len(bench.extractor.calls) == 1
    assert sorted(bench.kinds()) == ["Enriched", "Erased", "Suppressed", "Suppressed"]
    assert [kind for kind, _ in bench.emitted()] == [ENRICHED, ERASED]


async def test_waiting_work_is_cancelled_with_its_offset_and_its_fingerprints(bench: Bench):
    await bench.say(NAME, fingerprint="fp-1")
    await bench.say(LONGER, fingerprint="fp-2")
    await bench.command("erase")
    await bench.clock.advance(60)
    assert bench.extractor.calls == []
    ((kind, event),) = bench.emitted()
    assert kind == ERASED
    assert set(event["fingerprint_hashes"]) == {FP_HASH, subject_hash("", "fingerprint", "fp-2")}
    assert bench.broker.committed["nexus-prospect-ingestion", 0] == 3
    assert bench.stage.pending_sessions == 0


async def test_other_sessions_go_on(bench: Bench):
    await bench.say(NAME, session="s-2", fingerprint="fp-2")
    await bench.say(NAME, session="s-1")
    await bench.command("erase")
    await bench.clock.advance(30)
    assert [(kind, event["session_id"]) for kind, event in bench.emitted()] == [(ERASED, "s-1"), (ENRICHED, "s-2")]


async def test_an_answer_after_the_erasure_is_discarded(bench: Bench):
    bench.extractor.gate.clear()
    await bench.say(NAME)
    await bench.clock.advance(15)
    assert len(bench.extractor.calls) == 1
    await bench.command("erase")
    await bench.clock.advance(5)
    assert bench.table.state(b"s-1").status == "erased"
    assert bench.broker.committed.get(("nexus-prospect-ingestion", 0), 0) == 0, "the call still runs"
    bench.extractor.gate.set()
    await bench.clock.advance(30)
    assert [kind for kind, _ in bench.emitted()] == [ERASED]
    assert sorted(bench.kinds()) == ["Erased", "Suppressed"]
    assert bench.broker.committed["nexus-prospect-ingestion", 0] == 2


async def test_a_refused_snapshot_becomes_no_dead_letter_and_its_predecessor_is_not_tried(bench: Bench):
    def refuse(_turns: object) -> None:
        raise ModelRefusedError("no", reason=Reason.MODEL_REFUSED)

    bench.extractor._script = refuse
    bench.extractor.gate.clear()
    await bench.say(NAME)
    await bench.say(LONGER)
    await bench.clock.advance(15)
    await bench.command("erase")
    bench.extractor.gate.set()
    await bench.clock.advance(60)
    assert len(bench.extractor.calls) == 1
    assert bench.broker.records("nexus-prospect-dlq") == []
    assert bench.broker.committed["nexus-prospect-ingestion", 0] == 3


class RememberingExtractor(ScriptedExtractor):
    """An extractor with cached answers. An answer may arrive after the command to delete it."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[str] = []

    async def extract(self, turns: Sequence[Turn], region: str | None = None) -> Findings:
        findings = await super().extract(turns)
        self.kept.append(turns[0].content)
        return findings

    async def forget(self) -> None:
        self.kept.clear()


async def test_cached_answers_are_deleted_also_late_ones(bench: Bench):
    await bench.crash()
    bench.extractor = extractor = RememberingExtractor()
    await bench.start()
    await bench.say(NAME)
    await bench.clock.advance(30)
    assert extractor.kept
    extractor.gate.clear()
    await bench.say(LONGER)
    await bench.clock.advance(15)
    await bench.command("erase")
    await bench.clock.advance(5)
    assert extractor.kept == []
    extractor.gate.set()
    await bench.clock.advance(1)
    assert extractor.kept, "the call that ran when it was erased"
    await bench.clock.advance(5)
    assert extractor.kept == []


async def test_a_session_that_waits_for_claude_is_not_sent_again(bench: Bench):
    def unavailable(_turns: object) -> None:
        raise ModelUnavailableError("busy", retry_after_seconds=5)

    bench.extractor._script = unavailable
    await bench.say(NAME)
    await bench.clock.advance(11)
    calls = len(bench.extractor.calls)
    assert calls >= 1
    await bench.command("erase")
    await bench.clock.advance(300)
    assert len(bench.extractor.calls) == calls
    assert bench.broker.committed["nexus-prospect-ingestion", 0] == 2


async def test_a_result_that_is_being_written_when_the_erasure_arrives_does_not_outlive_it(bench: Bench):
    bench.broker.failing.add("log")
    await bench.say(NAME)
    await bench.clock.advance(15)
    await bench.command("erase")
    await bench.say(LONGER)
    bench.broker.failing.clear()
    await bench.clock.advance(120)
    assert bench.table.state(b"s-1").status == "erased"
    assert b"Carlos" not in bench.everything_written()
    assert bench.emitted()[-1][0] == ERASED
    assert bench.broker.committed["nexus-prospect-ingestion", 0] == 3


async def test_crash_after_the_marker_and_before_the_event_sends_the_event(bench: Bench):
    await bench.say(NAME)
    await bench.clock.advance(30)
    bench.broker.failing.add("prospects-enriched")
    await bench.command("erase", request="request-1")
    await bench.clock.advance(10)
    assert bench.table.state(b"s-1").status == "erased"
    bench.broker.failing.clear()
    await bench.restart()
    await bench.clock.advance(30)
    assert bench.emitted()[-1][1]["request_id"] == "request-1"
    assert bench.broker.committed["nexus-prospect-ingestion", 0] == 2


async def test_a_replay_from_the_start_brings_nothing_back_and_repeats_the_event_with_its_id(bench: Bench):
    await bench.say(NAME)
    await bench.clock.advance(30)
    await bench.command("erase")
    await bench.clock.advance(10)
    await bench.restart(from_start=True)
    await bench.say(LONGER)
    await bench.clock.advance(60)
    assert len(bench.extractor.calls) == 1
    assert bench.kinds() == ["Suppressed", "Suppressed", "Erased"]
    first, second = bench.broker.records("prospects-enriched")[1:]
    assert (first.value, first.headers) == (second.value, second.headers)


async def test_unblock_accepts_later_messages(bench: Bench):
    await bench.say(NAME)
    await bench.clock.advance(30)
    await bench.command("erase")
    await bench.clock.advance(10)
    await bench.command("lift")
    await bench.clock.advance(10)
    assert bench.table.state(b"s-1").status == "unblocked"
    await bench.say(["me llamo Carlos Vega"])
    await bench.clock.advance(30)
    assert bench.emitted()[-1][1]["prospect"]["nombre"] == "Carlos Vega"

    # A replay runs neither command again, and erased data stays erased.
    await bench.restart(from_start=True)
    await bench.clock.advance(60)
    assert sorted(bench.kinds()) == ["Duplicate", "Duplicate", "Reemitted", "Suppressed"]
    assert bench.table.state(b"s-1").prospect.nombre == "Carlos Vega"
    assert len(bench.extractor.calls) == 2
    assert bench.table.state(b"s-1").status == "enriched"


async def test_a_message_right_after_unblock_is_accepted(bench: Bench):
    await bench.command("erase")
    await bench.command("lift")
    await bench.clock.advance(0.01)
    await bench.say(NAME)
    await bench.clock.advance(30)
    assert bench.kinds() == ["Erased", "Unblocked", "Enriched"]


async def test_erasing_again_is_an_event_of_its_own_request(bench: Bench):
    await bench.say(NAME)
    await bench.command("erase", request="request-1")
    await bench.clock.advance(10)
    await bench.command("erase", request="request-2", fingerprint_hashes=("f" * 64,))
    await bench.command("erase", request="request-1")
    await bench.clock.advance(10)
    assert [event["request_id"] for _, event in bench.emitted()] == ["request-1", "request-2"]
    assert set(bench.emitted()[-1][1]["fingerprint_hashes"]) == {FP_HASH, "f" * 64}
    assert bench.kinds()[-1] == "Duplicate"


async def test_an_idle_session_expires_and_later_messages_are_stored(bench: Bench):
    await bench.say(NAME)
    await bench.clock.advance(30)
    seen_at = bench.table.state(b"s-1").last_seen_ms
    await bench.command("expire", idle_since_ms=seen_at - 1)
    await bench.clock.advance(10)
    assert bench.table.state(b"s-1").status == "enriched", "it was not idle for long enough"
    await bench.command("expire", idle_since_ms=seen_at)
    await bench.clock.advance(10)
    assert bench.table.values == {}
    assert bench.broker.records("log")[-1].value is None
    event = bench.emitted()[-1][1]
    assert (event["reason"], event["fingerprint_hashes"]) == ("retention", [])
    assert event["through_ms"] >= seen_at
    await bench.say(LONGER)
    await bench.clock.advance(30)
    assert bench.table.state(b"s-1").prospect.nombre == "Carlos Ruiz"


async def test_an_active_session_does_not_expire(bench: Bench):
    await bench.say(NAME)
    await bench.command("expire", idle_since_ms=bench.clock.time_ms() + 10_000)
    await bench.clock.advance(30)
    assert bench.kinds() == ["Stale", "Enriched"]


async def test_a_malformed_command_is_a_dead_letter_and_not_a_conversation(bench: Bench):
    await bench.send(b"{}", (("nexus-command", b"erase"),))
    await bench.say(NAME)
    conversation = bench.sent[-1][2]
    await bench.send(conversation, (("nexus-command", b"erase"),))
    await bench.clock.advance(30)
    assert sorted(bench.kinds()) == ["DeadLettered", "DeadLettered", "Enriched"]


async def test_a_rerouted_command_stays_a_command(bench: Bench):
    await bench.crash()
    bench.settings = load_settings(environ={}, topic_partitions=4)
    bench.broker.partitions = 4
    await bench.start()
    home = (murmur2(b"s-1") & 0x7FFFFFFF) % 4
    bench.partition = (home + 1) % 4
    await bench.command("erase")
    await bench.clock.advance(5)
    (sent,) = bench.broker.records("nexus-prospect-ingestion")
    assert (sent.partition, sent.key, dict(sent.headers)["nexus-command"]) == (home, b"s-1", b"erase")
    assert bench.kinds() == ["Rerouted"]


async def test_a_command_that_was_read_before_a_revocation_leaves_no_trace(bench: Bench):
    command = SessionCommand(
        command=CommandKind.ERASE,
        session_id="s-1",
        request_id="request-1",
        requested_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    topic = "nexus-prospect-ingestion"
    read = bench.stage.read(topic, 0, 0, bench.clock.time_ms(), b"k", command.value, command.headers)
    await bench.stage.revoked(drain_seconds=0.01)
    await bench.stage.assigned([(topic, 0)])
    await bench.stage.submit(read)
    assert bench.kinds() == ["Dropped"]
    await bench.say(NAME)
    await bench.clock.advance(30)
    assert bench.kinds() == ["Dropped", "Enriched"]


async def test_an_answer_that_outlasts_erasure_and_unblock_is_discarded_whatever_the_clocks_are(bench: Bench):
    bench.extractor.gate.clear()
    bench.stage._settling._settle_seconds = 0
    await bench.say(NAME, session="s-1")
    await bench.say(NAME, session="s-2", ahead_ms=4_000)
    await bench.clock.advance(1)
    assert len(bench.extractor.calls) == 2
    await bench.command("erase", session="s-2")
    await bench.command("lift", session="s-2")
    await bench.clock.advance(1)
    assert bench.table.state(b"s-2").status == "unblocked"
    bench.extractor.gate.set()
    await bench.clock.advance(30)
    assert bench.table.state(b"s-2").status == "unblocked"
    assert [event["session_id"] for _, event in bench.emitted()] == ["s-2", "s-1"]


async def test_a_letter_that_is_being_sent_when_the_erasure_arrives_is_the_last_of_its_session(bench: Bench):
    def refuse(_turns: object) -> None:
        raise ModelRefusedError("no", reason=Reason.MODEL_REFUSED)

    bench.extractor._script = refuse
    bench.broker.failing.add("nexus-prospect-dlq")
    await bench.say(NAME)
    await bench.say(LONGER)
    await bench.clock.advance(15)
    await bench.command("erase")
    bench.broker.failing.clear()
    await bench.clock.advance(120)
    assert len(bench.extractor.calls) == 1, "the snapshot that the refused one had replaced is not tried"
    assert bench.table.state(b"s-1").status == "erased"
    assert bench.broker.committed["nexus-prospect-ingestion", 0] == 3


async def test_an_older_state_that_the_broker_stored_late_does_not_win(bench: Bench):
    """Two writes of a session in one group. The broker refuses the first one once."""
    await bench.say(NAME)
    await bench.clock.advance(30)
    refused: list[str] = []
    send = bench.broker.send

    async def refuse_once(topic: str, key: bytes | None, value: bytes | None, **options: Any) -> Any:
        if topic == "log" and key == b"s-1" and not refused:
            refused.append(topic)
            raise BrokerUnavailableError("not now")
        return await send(topic, key, value, **options)

    bench.broker.send = refuse_once  # type: ignore[method-assign]
    # Something else holds up the group before.
    bench.broker.failing.add("prospects-enriched")
    await bench.say(NAME, session="s-2")
    await bench.clock.advance(15)
    await bench.say(NAME, fingerprint="fp-late")
    await bench.command("erase")
    bench.broker.failing.clear()
    await bench.clock.advance(120)
    assert bench.table.state(b"s-1").status == "erased"
    newest = [record for record in bench.broker.records("log") if record.key == b"s-1"][-1]
    assert b"fp-late" not in (newest.value or b"")
    assert [kind for kind, event in bench.emitted() if event["session_id"] == "s-1"] == [ENRICHED, ERASED]
