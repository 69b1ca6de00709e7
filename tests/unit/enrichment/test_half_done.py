"""What a crash, a second delivery or a replay finds half done: nothing is lost by it, told twice or paid again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

import pytest

from nexus_stream.contracts.session_command import CommandKind, SessionCommand
from nexus_stream.errors import ModelRefusedError, ModelUnavailableError, Reason
from nexus_stream.extraction.extractor import Turn
from nexus_stream.settings import load_settings
from nexus_stream.testing.extractor import ScriptedExtractor
from tests.unit.enrichment.test_stage import CHANGELOG, ENRICHED, INGESTION, NAME, Bench


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    one = Bench(load_settings(environ={}, topic_partitions=1, settle_seconds=10, max_wait_seconds=60))
    await one.start()
    yield one
    await one.crash()


def command(bench: Bench, kind: CommandKind, request_id: str) -> SessionCommand:
    moment = datetime.fromtimestamp(bench.clock.time_ms() / 1000, UTC)
    idle = bench.clock.time_ms() - 1 if kind is CommandKind.EXPIRE else None
    return SessionCommand(
        command=kind, session_id="s-1", request_id=request_id, requested_at=moment, idle_since_ms=idle
    )


async def send(bench: Bench, one: SessionCommand) -> None:
    await bench.post_bytes(one.value, headers=one.headers)
    await bench.clock.advance(0.01)


async def test_fingerprint_link_survives_a_crash_between_changelog_and_emission(bench: Bench) -> None:
    await bench.post(NAME)
    await bench.clock.advance(30)
    bench.broker.failing.add(ENRICHED)
    await bench.post(NAME, fingerprint="fp-late")
    await bench.clock.advance(5)
    bench.broker.failing.clear()
    await bench.restart()
    await bench.clock.advance(30)
    assert bench.broker.committed[INGESTION, 0] == 2
    assert bench.enriched()[-1]["fingerprint"] == "fp-late"


async def test_erased_event_survives_a_crash_when_the_lift_was_in_the_same_group(bench: Bench) -> None:
    await bench.post(NAME)
    await bench.clock.advance(30)
    bench.broker.failing.add(ENRICHED)
    # The committing of effects is busy with something else, so both commands meet in one group.
    await bench.post([*NAME, "a", "b"], session="other")
    await bench.clock.advance(11)
    await send(bench, command(bench, CommandKind.ERASE, "request-1"))
    await send(bench, command(bench, CommandKind.UNBLOCK, "request-2"))
    bench.broker.failing.clear()
    bench.broker.failing.add(CHANGELOG)
    await bench.clock.advance(40)
    bench.broker.failing.clear()
    bench.broker.failing.add(ENRICHED)
    await bench.clock.advance(40)
    await bench.crash()
    bench.broker.failing.clear()
    await bench.restart()
    await bench.clock.advance(60)
    assert bench.broker.committed[INGESTION, 0] == 4
    kinds = [dict(r.headers)["ce_type"] for r in bench.broker.records(ENRICHED) if r.key == b"s-1"]
    assert b"nexus.prospect.erased.v1" in kinds


async def test_a_lift_that_came_before_an_erasure_does_not_undo_it_when_read_again(bench: Bench) -> None:
    await send(bench, command(bench, CommandKind.UNBLOCK, "request-1"))
    await bench.clock.advance(1)
    await send(bench, command(bench, CommandKind.ERASE, "request-2"))
    assert bench.table.state(b"s-1").status == "erased"
    bench.broker.committed.clear()
    await bench.restart()
    await bench.clock.advance(30)
    assert bench.table.state(b"s-1").status == "erased"


async def test_what_a_lift_without_effect_came_before_is_not_read_for_it_after_an_erasure(bench: Bench) -> None:
    await send(bench, command(bench, CommandKind.UNBLOCK, "request-1"))
    await bench.clock.advance(1)
    await bench.post(NAME)
    await bench.clock.advance(1)
    await send(bench, command(bench, CommandKind.ERASE, "request-2"))
    await bench.clock.advance(1)
    bench.broker.committed.clear()
    await bench.restart()
    await bench.clock.advance(60)
    assert bench.table.state(b"s-1").status == "erased"
    assert bench.extractor.calls == []
    assert bench.broker.committed[INGESTION, 0] == 3


async def test_an_erasure_delivered_twice_does_nothing_the_second_time(bench: Bench) -> None:
    erase = command(bench, CommandKind.ERASE, "request-1")
    await send(bench, erase)
    await bench.clock.advance(1)
    await send(bench, command(bench, CommandKind.UNBLOCK, "request-2"))
    await bench.clock.advance(1)
    await bench.post(NAME)
    await send(bench, erase)
    await bench.clock.advance(60)
    assert bench.table.state(b"s-1").status == "enriched"


async def test_an_expired_event_emitted_twice_is_the_same(bench: Bench) -> None:
    await bench.post(NAME)
    await bench.clock.advance(30)
    await send(bench, command(bench, CommandKind.EXPIRE, "request-1"))
    await bench.clock.advance(0.5)
    await bench.crash()
    await bench.start()
    bench.table.values.clear()
    for offset, key, value, headers in bench.sent[1:]:
        await bench._submit(offset, key, value, headers, 0)
    await bench.clock.advance(30)
    records = bench.broker.records(ENRICHED)
    first, second = [one for one in records if dict(one.headers)["ce_type"] == b"nexus.prospect.erased.v1"]
    assert dict(first.headers)["ce_id"] == dict(second.headers)["ce_id"]
    assert first.value == second.value


async def test_of_two_fingerprints_that_arrive_while_the_record_is_written_both_are_linked(bench: Bench) -> None:
    bench.broker.failing.add(ENRICHED)
    await bench.post(NAME)
    await bench.clock.advance(15)
    await bench.post(NAME, fingerprint="fp-1")
    await bench.post(NAME, fingerprint="fp-2")
    bench.broker.failing.clear()
    await bench.clock.advance(60)
    assert set(bench.table.state(b"s-1").fingerprints) == {"fp-1", "fp-2"}


async def test_a_refusal_that_is_in_the_changelog_is_not_paid_again(bench: Bench) -> None:
    def refuse_long(turns: Sequence[Turn]) -> None:
        if len(turns) > 1:
            raise ModelRefusedError("declined", reason=Reason.MODEL_REFUSED)
        raise ModelUnavailableError("529", retry_after_seconds=60)

    bench.extractor = ScriptedExtractor(refuse_long)
    await bench.restart()
    await bench.post(NAME)
    await bench.post([*NAME, "hola", "algo"])
    await bench.clock.advance(30)
    assert len(bench.letters()) == 1
    await bench.restart()
    await bench.clock.advance(30)
    assert sum(len(turns) > 1 for turns in bench.extractor.calls) == 1


async def test_what_is_said_again_while_a_session_expires_brings_it_back(bench: Bench) -> None:
    await bench.post(NAME)
    await bench.clock.advance(30)
    bench.broker.failing.add(CHANGELOG)
    await send(bench, command(bench, CommandKind.EXPIRE, "request-1"))
    await bench.post(NAME, fingerprint="fp-late")
    bench.broker.failing.clear()
    await bench.clock.advance(60)
    assert bench.table.state(b"s-1").fingerprints == ("fp-late",)
    assert bench.enriched()[-1]["fingerprint"] == "fp-late"


async def test_a_refused_snapshot_that_comes_again_takes_the_place_of_none_that_waits(bench: Bench) -> None:
    is_away = True

    def refuse_long(turns: Sequence[Turn]) -> None:
        if len(turns) > 1:
            raise ModelRefusedError("declined", reason=Reason.MODEL_REFUSED)
        if is_away:
            raise ModelUnavailableError("529", retry_after_seconds=5)

    bench.extractor = ScriptedExtractor(refuse_long)
    await bench.restart()
    await bench.post(NAME)
    await bench.post([*NAME, "hola", "algo"])
    await bench.clock.advance(20)
    # The page is loaded again.
    await bench.post([*NAME, "hola", "algo"], fingerprint="fp-1")
    await bench.clock.advance(20)
    is_away = False
    await bench.clock.advance(90)
    assert [record["conversation"]["turns"] for record in bench.enriched()] == [1]
    assert len(bench.letters()) == 1
    assert sum(len(turns) > 1 for turns in bench.extractor.calls) == 1
    assert bench.broker.committed[INGESTION, 0] == 3


async def test_what_is_said_after_a_lift_is_read_although_the_erasure_before_it_still_waits(bench: Bench) -> None:
    await bench.post(NAME)
    await bench.clock.advance(30)
    bench.broker.failing.add(CHANGELOG)
    await send(bench, command(bench, CommandKind.ERASE, "request-1"))
    await bench.clock.advance(1)
    await send(bench, command(bench, CommandKind.UNBLOCK, "request-2"))
    await bench.clock.advance(1)
    # The turns that the table still knows.
    await bench.post(NAME)
    bench.broker.failing.clear()
    await bench.clock.advance(90)
    assert bench.table.state(b"s-1").status == "enriched"
