"""Answers of ``nexus backfill --again``: another model's or prompt's answer replaces the reading of the same words."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import orjson
import pytest

from nexus_stream.contracts.conversation import Limits, decode
from nexus_stream.contracts.headers import (
    AGAIN_HEADER,
    AGAIN_OF_HEADER,
    ANSWER_HEADER,
    ORIGIN_TIMESTAMP_HEADER,
    REDRIVE_HEADER,
    Headers,
)
from nexus_stream.contracts.prospect import Signal, SignalName
from nexus_stream.contracts.session_command import CommandKind
from nexus_stream.delivery.received import Received
from nexus_stream.delivery.settling import Snapshot
from nexus_stream.errors import ModelRefusedError, Reason
from nexus_stream.extraction.answered import encode_answer
from nexus_stream.extraction.extractor import Findings, MadeBy, Usage
from tests.unit.enrichment.test_commit_groups import command
from tests.unit.enrichment.test_read_instead import RulesBench
from tests.unit.enrichment.test_stage import CHANGELOG, ENRICHED, INGESTION

NEWER = MadeBy("claude", "claude-newer", "prospect-v2-0")
CHAT = ("me llamo Carlos Ruiz, mi correo es carlos@example.com",)


@pytest.fixture
async def bench() -> AsyncIterator[AgainBench]:
    one = AgainBench()
    await one.start()
    yield one
    assert one.fatal == []
    await one.crash()


class AgainBench(RulesBench):
    """The live model reads name and e-mail. An answer that is read again has only the name."""

    async def again(
        self,
        texts: Sequence[str],
        name: str | None = "Carlos Ruiz",
        made_by: MadeBy = NEWER,
        replaced: MadeBy | None = None,
        headers: Headers = (),
        **metadata: Any,
    ) -> None:
        messages = [{"role": ("user", "assistant")[index % 2], "content": text} for index, text in enumerate(texts)]
        value = orjson.dumps({"messages": messages, "sessionId": "s-1", "metadata": metadata})
        digest = _digest_of(self, value)
        signals: tuple[Signal, ...] = ()
        if name is not None:
            turn = next(index for index, text in enumerate(texts) if name in text)
            start = texts[turn].index(name)
            signals = (Signal(name=SignalName.NOMBRE, turn=turn, start=start, end=start + len(name)),)
        findings = Findings(nombre=name, signals=signals, usage=Usage(cost_usd=0.002), made_by=made_by)
        stamp = str(self.clock.time_ms() - 60_000).encode()
        sent: Headers = (
            (ORIGIN_TIMESTAMP_HEADER, stamp),
            (ANSWER_HEADER, encode_answer(digest, findings)),
            (AGAIN_HEADER, made_by.label.encode()),
            (AGAIN_OF_HEADER, (replaced or self.table.state(b"s-1").made_by or NEWER).label.encode()),
        )
        await self.post_bytes(value, headers=(*sent, *headers))
        await self.clock.advance(5)


def _digest_of(bench: AgainBench, value: bytes) -> str:
    record = Received(INGESTION, 0, 99, bench.clock.time_ms(), b"k", value, (), epoch=0)
    return Snapshot.of(record, decode(value, Limits())).digest


async def test_the_answer_replaces_the_record_also_where_it_is_empty(bench: AgainBench):
    await bench.say(CHAT, fingerprint="fp-1")
    assert bench.values() == ("Carlos Ruiz", "carlos@example.com", None)
    before = bench.enriched()[-1]
    await bench.again(CHAT)
    assert bench.values() == ("Carlos Ruiz", None, None)
    after = bench.enriched()[-1]
    assert (after["extraction"]["model"], after["extraction"]["prompt_version"]) == ("claude-newer", "prospect-v2-0")
    assert after["conversation"]["digest"] == before["conversation"]["digest"]
    assert after["fingerprint"] == "fp-1"
    assert after["snapshot_at_ms"] > before["snapshot_at_ms"]
    assert len(bench.model.calls) == 1
    assert bench.table.state(b"s-1").counters.cost_usd == pytest.approx(0.003)


async def test_an_answer_of_the_same_model_and_prompt_changes_nothing_however_often_it_comes(bench: AgainBench):
    await bench.say(CHAT)
    await bench.again(CHAT, None, made_by=bench.model.labels)
    assert bench.values() == ("Carlos Ruiz", "carlos@example.com", None)
    await bench.again(CHAT)
    emitted = len(bench.enriched())
    await bench.again(CHAT)
    assert len(bench.enriched()) == emitted
    bench.broker.committed.clear()
    await bench.restart()
    await bench.clock.advance(60)
    assert bench.values() == ("Carlos Ruiz", None, None)
    assert len(bench.model.calls) == 1


async def test_an_answer_replaces_no_other_reading_than_the_one_it_was_asked_for(bench: AgainBench):
    await bench.say(CHAT)
    asked_for = bench.model.labels
    await bench.again(CHAT)
    older = MadeBy("claude", "claude-newer", "prospect-v1-0")
    await bench.again(CHAT, None, made_by=older, replaced=asked_for)
    assert bench.values() == ("Carlos Ruiz", None, None)
    assert bench.enriched()[-1]["extraction"]["prompt_version"] == "prospect-v2-0"


@pytest.mark.parametrize("failing", [ENRICHED, CHANGELOG])
async def test_a_crash_loses_no_answer(bench: AgainBench, failing: str):
    await bench.say(CHAT)
    bench.broker.failing.add(failing)
    await bench.again(CHAT)
    bench.broker.failing.clear()
    await bench.restart()
    await bench.clock.advance(60)
    assert bench.values() == ("Carlos Ruiz", None, None)
    assert bench.broker.committed[INGESTION, 0] == 2


async def test_values_of_words_that_the_snapshot_lacks_stay(bench: AgainBench):
    told = ("mi correo es carlos@example.com", "Claro", "hola", "sí", "me llamo Carlos Ruiz")
    await bench.say(told)
    # The site sent only its newest turns since; on the topic is nothing else.
    await bench.say((*told[2:], "Bien", "quiero empezar"))
    await bench.again((*told[2:], "Bien", "quiero empezar"))
    assert bench.values() == ("Carlos Ruiz", "carlos@example.com", None)
    assert bench.enriched()[-1]["extraction"]["model"] == "claude-newer"


async def test_values_of_a_history_that_the_site_restarted_stay(bench: AgainBench):
    await bench.say(("mi correo es carlos@example.com",))
    await bench.say(("me llamo Carlos Ruiz",))
    await bench.again(("me llamo Carlos Ruiz",))
    assert bench.values() == ("Carlos Ruiz", "carlos@example.com", None)


async def test_newer_words_win_over_an_answer_to_older_ones(bench: AgainBench):
    await bench.say(CHAT)
    await bench.say((*CHAT, "Claro", "quiero empezar"))
    await bench.again(CHAT)
    assert bench.values() == ("Carlos Ruiz", "carlos@example.com", None)
    assert bench.enriched()[-1]["extraction"]["model"] == "scripted"


async def test_another_telling_of_the_same_words_is_replaced_too_and_current_facts_stay(bench: AgainBench):
    await bench.say(CHAT, fingerprint="fp-old")
    await bench.say((*CHAT, "Claro, un momento"), fingerprint="fp-new")
    await bench.again(CHAT)
    assert bench.values() == ("Carlos Ruiz", None, None)
    assert bench.enriched()[-1]["fingerprint"] == "fp-new"


@pytest.mark.parametrize("is_letter", [False, True])
async def test_an_old_telling_that_is_read_again_turns_no_current_fact_back(bench: AgainBench, is_letter: bool):
    async def say(texts: Sequence[str], number: int, headers: Headers = ()) -> None:
        messages = [{"role": ("user", "assistant")[index % 2], "content": text} for index, text in enumerate(texts)]
        metadata = {"identity": f"user-{number}", "url": f"https://example.com/{number}"}
        body = {"messages": messages, "sessionId": "s-1", "fingerprint": f"fp-{number}", "metadata": metadata}
        await bench.post_bytes(orjson.dumps(body), headers=headers)
        await bench.clock.advance(5)

    if is_letter:
        bench.model.error = ModelRefusedError("declined", reason=Reason.MODEL_REFUSED)
    sent_at = str(bench.clock.time_ms()).encode()
    await say(CHAT, 1)
    bench.model.error = None
    await say((*CHAT, "Claro, un momento"), 2)
    known = bench.table.state(b"s-1")
    assert (known.fingerprints, known.turns) == (("fp-1", "fp-2"), 2)
    if is_letter:
        await say(CHAT, 1, ((REDRIVE_HEADER, b"1"), (ORIGIN_TIMESTAMP_HEADER, sent_at)))
        assert bench.made() == ("claude", None)
    else:
        await bench.again(CHAT)
    assert bench.values()[0] == "Carlos Ruiz"
    state = bench.table.state(b"s-1")
    assert state.extraction != known.extraction
    kept = {"fingerprints", "identity", "turns", "digest", "first_url", "cut", "left_out", "enqueued_at", "consent"}
    assert state.model_dump(include=kept) == known.model_dump(include=kept)
    # Read again, nothing is paid or changes.
    bench.broker.committed.clear()
    calls = len(bench.model.calls)
    await bench.restart()
    await bench.clock.advance(60)
    assert len(bench.model.calls) == calls
    assert bench.table.state(b"s-1").model_dump(include={*kept, "prospect"}) == state.model_dump(
        include={*kept, "prospect"}
    )


async def test_nobody_who_was_erased_or_did_not_consent_is_read_again(bench: AgainBench):
    await bench.say(CHAT)
    await command(bench, CommandKind.ERASE)
    await bench.clock.advance(5)
    await bench.again(CHAT)
    assert bench.table.state(b"s-1").status == "erased"
    assert bench.enriched()[-1].get("prospect") is None


async def test_without_consent_no_answer_is_taken(bench: AgainBench):
    await bench.say(CHAT)
    await bench.again(CHAT, consent=False)
    assert bench.values() == ("Carlos Ruiz", "carlos@example.com", None)
    assert "claude-newer" not in str(bench.enriched())


async def test_what_a_model_refused_is_replaced_by_another_ones_answer_only(bench: AgainBench):
    bench.model.error = ModelRefusedError("declined", reason=Reason.MODEL_REFUSED)
    await bench.say(CHAT)
    await bench.again(CHAT, made_by=bench.model.labels)
    assert bench.made() == ("offline-rules-v1", "model_refused")
    await bench.again(CHAT)
    assert bench.made() == ("claude", None)
    assert bench.values() == ("Carlos Ruiz", None, None)
    assert bench.table.state(b"s-1").dead is None


@pytest.mark.parametrize("comes_first", [True, False])
async def test_a_retelling_that_settles_beside_it_costs_neither_the_answer_nor_a_call(
    bench: AgainBench, comes_first: bool
):
    await bench.say(CHAT)
    bench.stage._settling._settle_seconds = 20.0
    if comes_first:
        await bench.post((*CHAT, "Claro, un momento"), fingerprint="fp-1")
    await bench.again(CHAT)
    if not comes_first:
        await bench.post((*CHAT, "Claro, un momento"), fingerprint="fp-1")
    await bench.clock.advance(90)
    assert bench.values() == ("Carlos Ruiz", None, None)
    assert bench.enriched()[-1]["fingerprint"] == "fp-1"
    assert len(bench.model.calls) == 1
    assert bench.broker.committed[INGESTION, 0] == 3
