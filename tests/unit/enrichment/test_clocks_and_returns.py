"""Which snapshot counts: not what a producer's clock says, and not an old record that came back to the topic."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from nexus_stream.contracts.headers import HOP_HEADER, ORIGIN_TIMESTAMP_HEADER, Headers
from nexus_stream.contracts.session_command import CommandKind
from nexus_stream.settings import load_settings
from tests.unit.enrichment.test_half_done import command, send
from tests.unit.enrichment.test_stage import NAME, Bench

OTHER = ("Buenas, mi celular es 300 555 0102",)


def iso(now_ms: int) -> str:
    return datetime.fromtimestamp(now_ms / 1000, UTC).isoformat(timespec="milliseconds")


def origin(now_ms: int) -> Headers:
    return ((ORIGIN_TIMESTAMP_HEADER, str(now_ms).encode()),)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    one = Bench(load_settings(environ={}, topic_partitions=1, settle_seconds=10, max_wait_seconds=60))
    await one.start()
    yield one
    await one.crash()


async def read_words(bench: Bench) -> list[str]:
    await bench.clock.advance(100)
    return [turn.content for call in bench.extractor.calls for turn in call if turn.role == "user"]


@pytest.mark.parametrize("behind_seconds", [30, 600, 365 * 86_400])
@pytest.mark.parametrize("first", ["live", "backfilled"])
async def test_a_chat_that_begins_anew_is_read_whatever_its_clock_says(bench: Bench, first: str, behind_seconds: int):
    headers = origin(bench.clock.time_ms()) if first == "backfilled" else ()
    await bench.post(NAME, headers=headers)
    await bench.clock.advance(30)
    await bench.post(OTHER, enqueued_at=iso(bench.clock.time_ms() - behind_seconds * 1000))
    assert await read_words(bench) == [*NAME, *OTHER]
    assert len(bench.enriched()) == 2


async def test_a_rerouted_record_counts_by_the_brokers_first_receipt(bench: Bench):
    await bench.post(NAME)
    await bench.clock.advance(30)
    now_ms = bench.clock.time_ms()
    headers = ((HOP_HEADER, b"ingestion-1-7"), *origin(now_ms))
    await bench.post(OTHER, headers=headers, enqueued_at=iso(now_ms - 600_000))
    assert await read_words(bench) == [*NAME, *OTHER]


async def test_an_old_record_that_comes_back_does_not_replace_what_was_said_since(bench: Bench):
    await bench.post(OTHER)
    await bench.clock.advance(30)
    await bench.post(NAME, headers=origin(bench.clock.time_ms() - 3_600_000))
    assert await read_words(bench) == [*OTHER]
    assert bench.seen.kinds()[-1] == "Stale"


async def test_words_from_before_an_unblock_do_not_replace_those_since(bench: Bench):
    before_ms = bench.clock.time_ms() - 10_000
    await send(bench, command(bench, CommandKind.ERASE, "request-1"))
    await bench.clock.advance(40)
    await send(bench, command(bench, CommandKind.UNBLOCK, "request-2"))
    await bench.clock.advance(1)
    await bench.post(NAME)
    # It has all that is pending and more, but it is from before.
    await bench.post([*NAME, "x", "mi viejo celular es 300 555 0199"], headers=origin(before_ms))
    assert await read_words(bench) == [*NAME]
    assert bench.enriched()[-1]["prospect"]["nombre"] == "Carlos Ruiz"


async def test_after_an_unblock_a_clock_hides_a_minute_at_most(bench: Bench):
    await send(bench, command(bench, CommandKind.ERASE, "request-1"))
    await bench.clock.advance(40)
    await send(bench, command(bench, CommandKind.UNBLOCK, "request-2"))
    await bench.clock.advance(61)
    await bench.post(NAME, enqueued_at="2020-01-01T00:00:00Z")
    assert await read_words(bench) == [*NAME]


async def test_a_fingerprint_is_linked_while_another_history_is_being_read(bench: Bench):
    await bench.post(NAME, fingerprint="fp-1")
    await bench.clock.advance(40)
    bench.extractor.gate.clear()
    await bench.post(OTHER, fingerprint="fp-1")
    await bench.clock.advance(20)
    await bench.post(NAME, fingerprint="fp-2")
    bench.extractor.gate.set()
    await bench.clock.advance(60)
    assert set(bench.table.state(b"s-1").fingerprints) == {"fp-1", "fp-2"}


async def test_a_window_that_comes_late_fills_what_the_record_lacks(bench: Bench):
    """The site sends its newest turns. The window with the name was rerouted, and arrives behind the next one."""
    chat = [*NAME, "¿y su celular?", "300 555 0102", "gracias", "quiero empezar"]
    await bench.post(chat[2:])
    await bench.clock.advance(30)
    offset = await bench.post(chat[:3])
    await bench.clock.advance(30)
    record = bench.enriched()[-1]
    assert record["prospect"]["nombre"] == "Carlos Ruiz"
    # The newest snapshot is still the other one.
    assert record["conversation"]["turns"] == 3
    assert record["source"]["offset"] == offset - 1
    # Read again after a crash, it is told again without a call.
    calls, records = len(bench.extractor.calls), len(bench.enriched())
    bench.broker.committed.clear()
    await bench.restart()
    await bench.clock.advance(60)
    assert len(bench.extractor.calls) == calls
    assert bench.enriched()[records:]
    assert all(one["prospect"] == record["prospect"] for one in bench.enriched()[records:])


async def test_older_words_that_come_late_replace_no_newer_value(bench: Bench):
    chat = [*NAME, "¿seguro?", "quiero empezar", "¿su nombre?", "perdón, me llamo Ana Torres"]
    await bench.post(chat[2:])
    await bench.clock.advance(30)
    await bench.post(chat[:3])
    await bench.clock.advance(30)
    assert len(bench.extractor.calls) == 2
    assert [one["prospect"]["nombre"] for one in bench.enriched()] == ["Ana Torres", "Ana Torres"]
