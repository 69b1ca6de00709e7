"""Several results of one session in one group, and what each step of a commit reports, counts and releases."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from aiokafka.partitioner import murmur2

from nexus_stream.contracts.session_command import CommandKind, SessionCommand
from nexus_stream.delivery.outcomes import (
    DeadLettered,
    Duplicate,
    Enriched,
    Erased,
    ReemitCause,
    Reemitted,
    Superseded,
    Suppressed,
)
from nexus_stream.delivery.received import Headers, Received
from nexus_stream.errors import BrokerUnavailableError, ModelRefusedError, ModelUnavailableError, Reason
from nexus_stream.extraction.extractor import Findings, Turn
from nexus_stream.settings import load_settings
from nexus_stream.testing.extractor import ScriptedExtractor
from tests.unit.enrichment.test_stage import CHANGELOG, DEAD, ENRICHED, INGESTION, NAME, Bench, header

LONGER = (*NAME, "hola", "quiero empezar")


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    one = Bench(load_settings(environ={}, topic_partitions=1, settle_seconds=10, max_wait_seconds=60))
    await one.start()
    yield one
    assert one.fatal == []
    assert (one.stage._bound.items, one.stage._bound.bytes) == (0, 0), "what was added to the bound was released"
    await one.crash()


@asynccontextmanager
async def one_group(bench: Bench) -> AsyncIterator[None]:
    """What is submitted inside is committed as one group: another session's result holds up the group before."""
    bench.broker.failing.add(ENRICHED)
    await bench.post(NAME, session="other")
    await bench.clock.advance(15)
    yield
    await bench.clock.settle()
    bench.broker.failing.clear()
    await bench.clock.advance(60)


async def command(bench: Bench, kind: CommandKind, request_id: str = "request-1", **fields: Any) -> None:
    moment = datetime.fromtimestamp(bench.clock.time_ms() / 1000, UTC)
    one = SessionCommand(command=kind, session_id="s-1", request_id=request_id, requested_at=moment, **fields)
    await bench.post_bytes(one.value, headers=one.headers)


def changelog(bench: Bench, key: bytes = b"s-1") -> list[bytes]:
    return [record.value or b"" for record in bench.broker.records(CHANGELOG) if record.key == key]


async def test_of_two_writes_of_a_session_only_the_last_is_sent_and_both_are_emitted(bench: Bench):
    await bench.post(NAME)
    await bench.clock.advance(30)
    async with one_group(bench):
        await bench.post(NAME, fingerprint="fp-1")
        await bench.post(NAME, fingerprint="fp-2")
    assert len(changelog(bench)) == 2
    assert bench.table.state(b"s-1").fingerprints == ("fp-1", "fp-2")
    emitted = [record["fingerprint"] for record in bench.enriched() if record["session_id"] == "s-1"]
    assert emitted == [None, "fp-1", "fp-2"]


async def test_a_refused_write_that_is_sent_again_does_not_replace_a_newer_one(bench: Bench):
    await bench.post(NAME)
    await bench.clock.advance(30)
    refused: list[bytes | None] = []
    send = bench.broker.send

    async def refuse_once(topic: str, key: bytes | None, value: bytes | None, **options: Any) -> Any:
        if topic == CHANGELOG and key == b"s-1" and not refused:
            refused.append(value)
            raise BrokerUnavailableError("not now")
        return await send(topic, key, value, **options)

    bench.broker.send = refuse_once  # type: ignore[method-assign]
    async with one_group(bench):
        await bench.post(NAME, fingerprint="fp-1")
        await bench.post(NAME, fingerprint="fp-2")
    assert refused
    assert b"fp-2" in changelog(bench)[-1]
    assert bench.table.state(b"s-1").fingerprints == ("fp-1", "fp-2")


async def test_the_newest_snapshot_is_reported_and_the_first_offset_is_done(bench: Bench):
    for texts in (NAME, LONGER, (*LONGER, "bien", "adiós")):
        await bench.post(texts)
    await bench.clock.advance(30)
    reported = [(offset, type(outcome)) for offset, outcome in bench.seen.outcomes]
    assert reported == [(0, Superseded), (1, Superseded), (2, Enriched)]
    assert bench.broker.committed[INGESTION, 0] == 3


async def test_a_late_fingerprint_survives_a_crash_after_the_record_that_it_missed(bench: Bench):
    bench.broker.failing.add(ENRICHED)
    await bench.post(NAME)
    await bench.clock.advance(15)
    await bench.post(NAME, fingerprint="fp-late")
    bench.broker.failing = {CHANGELOG}
    await bench.clock.advance(60)
    assert len(bench.enriched()) == 1
    assert bench.broker.committed.get((INGESTION, 0), 0) == 0, "the fingerprint is not in the table yet"
    bench.broker.failing.clear()
    await bench.restart()
    await bench.clock.advance(60)
    assert bench.enriched()[-1]["fingerprint"] == "fp-late"
    assert bench.broker.committed[INGESTION, 0] == 2


async def test_a_dead_letter_is_reported_also_if_the_work_goes_on_with_an_older_snapshot(bench: Bench):
    def refuse_long(turns: Sequence[Turn]) -> None:
        if len(turns) > 1:
            raise ModelRefusedError("declined", reason=Reason.MODEL_REFUSED)

    bench.extractor = ScriptedExtractor(refuse_long)
    await bench.restart()
    await bench.post(NAME)
    await bench.post(LONGER)
    await bench.clock.advance(30)
    (_, superseded), (dead_at, dead), (enriched_at, enriched) = bench.seen.outcomes
    assert isinstance(superseded, Superseded)
    assert (dead_at, dead) == (1, DeadLettered(Reason.MODEL_REFUSED))
    assert (enriched_at, type(enriched)) == (0, Enriched)


async def test_an_erasure_silences_every_earlier_write_of_its_session_and_group(bench: Bench):
    await bench.post(NAME)
    await bench.post(NAME, session="s-2")
    await bench.clock.advance(30)
    async with one_group(bench):
        await bench.post(NAME, session="s-2", fingerprint="fp-1")
        await bench.post(NAME, fingerprint="fp-1")
        await bench.post(NAME, fingerprint="fp-2")
        await command(bench, CommandKind.ERASE)
    outcomes = dict(bench.seen.outcomes)
    told = Reemitted(ReemitCause.FINGERPRINT)
    assert [outcomes[offset] for offset in (3, 4, 5, 6)] == [told, Suppressed(), Suppressed(), Erased()]
    assert bench.table.state(b"s-2").fingerprints == ("fp-1",)
    assert len(changelog(bench)) == 2
    assert len([record for record in bench.broker.records(ENRICHED) if record.key == b"s-1"]) == 2


class SentFor:
    """A `TracePort` that remembers for which record something was sent."""

    def __init__(self) -> None:
        self.offsets: list[int] = []

    def begin(self, record: Received) -> None:
        """See `TracePort`."""

    def extracting(self, record: Received) -> AbstractContextManager[None]:
        """See `TracePort`."""
        return nullcontext()

    def outgoing(self, record: Received, topic: str, headers: Headers) -> Headers:
        """See `TracePort`."""
        self.offsets.append(record.offset)
        return headers

    def wrote(self, records: Sequence[Received], began_ns: int, table: str) -> None:
        """See `TracePort`."""

    def drop_all(self) -> None:
        """See `TracePort`."""


async def test_a_trace_follows_what_is_sent_to_the_record_that_is_reported(bench: Bench):
    """A send for a record that is never reported afterwards would keep its span open."""
    bench.stage.tracing = traced = SentFor()
    send = bench.broker.send
    late = [False]

    async def post_meanwhile(topic: str, *arguments: Any, **options: Any) -> Any:
        if topic == ENRICHED and not late[0]:
            late[0] = True
            await bench.post(LONGER, fingerprint="fp-late")
        return await send(topic, *arguments, **options)

    bench.broker.send = post_meanwhile  # type: ignore[method-assign]
    await bench.post(NAME)
    await bench.post(LONGER)
    await bench.clock.advance(30)
    reported = [(offset, type(outcome)) for offset, outcome in bench.seen.outcomes]
    assert reported == [(0, Superseded), (2, Duplicate), (1, Enriched), (0, Reemitted)]
    assert traced.offsets == [1, 0]


async def test_a_queued_erasure_suppresses_also_a_session_without_a_state(bench: Bench):
    bench.broker.failing.add(CHANGELOG)
    await command(bench, CommandKind.ERASE)
    await bench.post(NAME)
    assert bench.seen.kinds() == ["Suppressed"], "before it is extracted, and before the erasure is in the table"
    bench.broker.failing.clear()
    await bench.clock.advance(60)
    assert bench.seen.kinds() == ["Suppressed", "Erased"]
    assert bench.extractor.calls == []


async def test_an_obeyed_command_no_longer_counts_for_later_snapshots(bench: Bench):
    await command(bench, CommandKind.ERASE, "request-1")
    await command(bench, CommandKind.UNBLOCK, "request-2")
    await bench.clock.advance(1)
    await bench.post(NAME)
    await bench.clock.advance(30)
    await bench.post(NAME)
    await bench.clock.advance(30)
    assert bench.seen.kinds() == ["Erased", "Unblocked", "Enriched", "Duplicate"]
    assert len(bench.extractor.calls) == 1


async def test_a_command_that_is_delivered_again_does_not_end_the_wait_for_another(bench: Bench):
    await command(bench, CommandKind.ERASE, "request-1")
    await bench.clock.advance(1)
    bench.broker.failing.add(CHANGELOG)
    await command(bench, CommandKind.ERASE, "request-1")
    await command(bench, CommandKind.UNBLOCK, "request-2")
    await bench.clock.advance(1)
    assert bench.seen.kinds() == ["Erased", "Erased"], "the unblocking is not in the table yet"
    await bench.post(NAME)
    bench.broker.failing.clear()
    await bench.clock.advance(60)
    assert bench.table.state(b"s-1").status == "enriched"


async def test_former_values_of_an_expired_session_are_purged(bench: Bench):
    await bench.post(NAME)
    await bench.clock.advance(30)
    await command(bench, CommandKind.EXPIRE, idle_since_ms=bench.clock.time_ms())
    await bench.clock.advance(30)
    assert bench.table.purged == {b"s-1"}


async def test_a_letter_that_is_sent_again_says_the_same(bench: Bench):
    errors = [ModelUnavailableError("timeout"), ModelRefusedError("declined", reason=Reason.MODEL_REFUSED)]

    def fail(turns: Sequence[Turn]) -> None:
        raise errors.pop(0)

    bench.extractor = ScriptedExtractor(fail)
    await bench.restart()
    await bench.post(NAME)
    await bench.clock.advance(60)
    bench.broker.committed.clear()
    await bench.restart()
    await bench.clock.advance(30)
    first, second = bench.letters()
    for name in ("nexus-id", "nexus-reason", "nexus-attempts"):
        assert header(first, name) == header(second, name)
    assert header(second, "nexus-attempts") == "2"
    assert errors == []


async def test_a_broken_record_is_set_aside_whatever_the_table_holds_under_its_key(bench: Bench):
    bench.table.values[b"k"] = b'{"state_version":99,"session_id":"s-1"}'
    await bench.post_bytes(b"{}")
    await bench.clock.advance(1)
    assert len(bench.letters()) == 1


async def test_a_rerouted_record_names_its_partition(bench: Bench):
    """The producer's own choice could differ while its metadata is old."""
    bench.settings = load_settings(environ={}, topic_partitions=4)
    bench.broker.partitions = 4
    await bench.restart()
    named: list[int | None] = []
    send = bench.broker.send

    async def note(topic: str, *arguments: Any, partition: int | None = None, **options: Any) -> Any:
        named.append(partition)
        return await send(topic, *arguments, partition=partition, **options)

    bench.broker.send = note  # type: ignore[method-assign]
    home = (murmur2(b"s-1") & 0x7FFFFFFF) % 4
    await bench.post(NAME, partition=(home + 1) % 4)
    await bench.clock.advance(1)
    assert named == [home]


async def test_tokens_and_latency_are_noted_once_for_each_answer_that_was_paid(bench: Bench):
    await bench.post(NAME)
    await bench.clock.advance(30)
    facts = bench.stage.facts
    assert (facts.input_tokens, facts.output_tokens, facts.cost_usd) == (100, 10, 0.001)
    assert facts.percentiles((0.5,), since=0.0) != (None,)

    class Cache(ScriptedExtractor):
        async def extract(self, turns: Sequence[Turn], region: str | None = None) -> Findings:
            return replace(await super().extract(turns), cached=True)

    bench.extractor = Cache()
    await bench.restart()
    await bench.post(LONGER)
    await bench.clock.advance(30)
    assert bench.seen.kinds() == ["Enriched"]
    assert bench.stage.facts.input_tokens == 0


async def test_broken_records_wait_for_room_too(bench: Bench):
    bench.settings = load_settings(environ={}, topic_partitions=1, pending_max_sessions=2)
    await bench.restart()
    bench.broker.failing.add(DEAD)
    await bench.post_bytes(b"1")
    await bench.post_bytes(b"2")
    third = asyncio.create_task(bench.post_bytes(b"3"))
    await bench.clock.settle()
    assert not third.done()
    bench.broker.failing.clear()
    await bench.clock.advance(60)
    assert third.done()
    assert len(bench.letters()) == 3


# A revocation


async def test_an_answer_that_comes_after_a_revocation_is_dropped(bench: Bench):
    bench.extractor.gate.clear()
    await bench.post(NAME)
    await bench.clock.advance(15)
    await bench.stage.revoked(drain_seconds=0.01)
    await bench.stage.assigned([(INGESTION, 0)])
    bench.extractor.gate.set()
    await bench.clock.advance(60)
    assert bench.seen.kinds() == ["Dropped"]
    assert changelog(bench) == []


async def test_what_a_revoked_group_had_nothing_to_send_for_is_dropped_too(bench: Bench):
    bench.broker.failing.add(DEAD)
    await bench.post_bytes(b"broken")
    await command(bench, CommandKind.UNBLOCK)
    await bench.clock.advance(1)
    await bench.stage.revoked(drain_seconds=0.01)
    bench.broker.failing.clear()
    await bench.clock.advance(60)
    assert bench.seen.kinds() == ["Dropped"]
    assert bench.letters() == []


async def test_a_command_counts_no_longer_once_its_partition_was_revoked(bench: Bench):
    bench.broker.failing.add(CHANGELOG)
    await command(bench, CommandKind.ERASE)
    await bench.clock.advance(1)
    await bench.stage.revoked(drain_seconds=0.01)
    bench.broker.failing.clear()
    await bench.clock.advance(60)
    await bench.stage.assigned([(INGESTION, 0)])
    # The next owner obeyed the command, and another one that unblocks the session.
    await bench.post(NAME)
    await bench.clock.advance(30)
    assert bench.seen.kinds() == ["Enriched"]
