"""The redriven records, and their processing by the enricher."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta

import orjson
import pytest

from nexus_stream.contracts.headers import Headers
from nexus_stream.dead_letters.filters import Filter
from nexus_stream.dead_letters.letter import Letter, read_record
from nexus_stream.dead_letters.marks import History, State
from nexus_stream.dead_letters.redriving import Selection, redriven_headers, redriven_timestamp_ms
from nexus_stream.delivery.outcomes import Outcome
from nexus_stream.delivery.received import Assignment, Received
from nexus_stream.delivery.stage import StageParts
from nexus_stream.enrichment.stage import Enrichment
from nexus_stream.errors import ModelRefusedError, Reason
from nexus_stream.extraction.extractor import Turn
from nexus_stream.settings import load_settings
from nexus_stream.testing.broker import InMemoryBroker
from nexus_stream.testing.clock import FakeClock
from nexus_stream.testing.extractor import ScriptedExtractor
from nexus_stream.testing.sessions import InMemorySessionTable

MakeLetter = Callable[..., Letter]
INGESTION, ENRICHED, DEAD = "nexus-prospect-ingestion", "prospects-enriched", "nexus-prospect-dlq"
SETTINGS = load_settings(environ={}, topic_partitions=1, settle_seconds=10, max_wait_seconds=60)


def test_a_redriven_record_has_its_original_headers_and_its_letter_id(make_letter: MakeLetter):
    received: Headers = (
        ("correlation-id", b"c-1"),
        ("x-repeated", b"1"),
        ("x-repeated", b"2"),
        ("nexus-hop", b"k-0-1"),
        ("nexus-redrive", b"2"),
        ("nexus-redrive-id", b"older"),
    )
    letter = make_letter(headers=received, timestamp_ms=1_796_000_000_000)
    assert letter.redrives_before == 2
    assert redriven_headers(letter, 3) == (
        ("correlation-id", b"c-1"),
        ("x-repeated", b"1"),
        ("x-repeated", b"2"),
        ("nexus-redrive", b"3"),
        ("nexus-redrive-id", b"nexus-prospect-ingestion-3-41"),
        ("nexus-origin-timestamp", b"1796000000000"),
    )


def test_a_redriven_conversation_keeps_its_time(make_letter: MakeLetter):
    now = datetime(2026, 1, 31, 12, tzinfo=UTC)
    now_ms = round(now.timestamp() * 1000)
    hour_ago = now_ms - 3_600_000
    assert redriven_timestamp_ms(make_letter(timestamp_ms=hour_ago), SETTINGS, now) == hour_ago
    # Retention is 72 h: a record written with a time of last week could be removed before it is read.
    last_week = make_letter(timestamp_ms=now_ms - 7 * 24 * 3_600_000)
    assert redriven_timestamp_ms(last_week, SETTINGS, now) == now_ms - 24 * 3_600_000
    assert redriven_timestamp_ms(make_letter(timestamp_ms=now_ms + 60_000), SETTINGS, now) == now_ms
    assert redriven_timestamp_ms(make_letter(topic=ENRICHED), SETTINGS, now) is None


def test_a_letter_without_its_records_time_has_that_of_the_failure(make_letter: MakeLetter):
    now = datetime(2026, 1, 31, 13, tzinfo=UTC)
    failed_at = now - timedelta(hours=1)
    letter = make_letter(timestamp_ms=0, failed_at=failed_at)
    assert redriven_timestamp_ms(letter, SETTINGS, now) == round(failed_at.timestamp() * 1000)


@pytest.mark.parametrize(
    ("again", "ids", "taken"),
    [
        (False, frozenset(), {State.OPEN}),
        (True, frozenset(), {State.OPEN, State.REDRIVEN}),
        (False, frozenset({"a"}), {State.OPEN}),
        (True, frozenset({"a"}), {State.OPEN, State.REDRIVEN, State.DISCARDED}),
    ],
)
def test_marked_letters_are_selected_only_on_request(again: bool, ids: frozenset[str], taken: set[State]):
    selection = Selection(Filter(ids=ids), again=again)
    assert {state for state in State if selection.takes(History(state))} == taken


class _Unwatched:
    def outcome(self, record: Received, outcome: Outcome) -> None:
        pass

    def waiting(self, what: str, since_ms: int | None) -> None:
        pass


class Worker:
    """An enricher with in-memory parts. Its extractor refuses on request."""

    def __init__(self) -> None:
        self.broker = InMemoryBroker(1)
        self.clock = FakeClock()
        self.assignment = Assignment()
        self.refusing = True
        self.extractor = ScriptedExtractor(self._refuse)
        self.table = InMemorySessionTable(self.broker, self.assignment)
        self.fatal: list[BaseException] = []
        self.offset = 0
        self.stage = Enrichment(
            StageParts(
                broker=self.broker,
                assignment=self.assignment,
                clock=self.clock,
                observer=_Unwatched(),
                on_fatal=self.fatal.append,
            ),
            settings=SETTINGS,
            table=self.table,
            extractor=self.extractor,
            source="/test",
        )

    def _refuse(self, turns: Sequence[Turn]) -> None:
        if self.refusing:
            raise ModelRefusedError("declined", reason=Reason.MODEL_REFUSED)

    async def receive(self, value: bytes | None, headers: Headers = (), timestamp_ms: int | None = None) -> None:
        offset, self.offset = self.offset, self.offset + 1
        when = timestamp_ms or self.clock.time_ms()
        await self.stage.submit(self.stage.read(INGESTION, 0, offset, when, b"k", value, headers))
        await self.clock.advance(30)

    def letters(self) -> list[Letter]:
        read = [read_record(r.partition, r.offset, 0, r.key, r.value, r.headers) for r in self.broker.records(DEAD)]
        return [letter for letter in read if isinstance(letter, Letter)]

    async def redrive(self, letter: Letter) -> None:
        now = datetime.fromtimestamp(self.clock.time_ms() / 1000, UTC)
        headers = redriven_headers(letter, letter.redrives_before + 1)
        await self.receive(letter.value, headers, redriven_timestamp_ms(letter, SETTINGS, now))

    def names(self) -> list[str]:
        return [orjson.loads(record.value or b"")["prospect"]["nombre"] for record in self.broker.records(ENRICHED)]


@pytest.fixture
async def worker() -> AsyncIterator[Worker]:
    one = Worker()
    one.stage.start()
    await one.stage.assigned([(INGESTION, 0)])
    yield one
    assert one.fatal == []
    await one.stage.stop(drain_seconds=1.0)


def conversation(name: str) -> bytes:
    return orjson.dumps({"messages": [{"role": "user", "content": f"me llamo {name}"}], "sessionId": "s-1"})


async def test_the_enricher_extracts_a_redriven_letter(worker: Worker):
    await worker.receive(conversation("Carlos"), (("correlation-id", b"c-1"),))
    worker.refusing = False
    # A record that the website repeats is a duplicate of a letter. Only a redrive is tried again.
    await worker.receive(conversation("Carlos"))
    assert worker.names() == []
    (letter,) = worker.letters()
    await worker.redrive(letter)
    assert worker.names() == ["Carlos"]
    (emitted,) = worker.broker.records(ENRICHED)
    assert dict(emitted.headers)["correlation-id"] == b"c-1"


async def test_a_letter_sent_twice_is_extracted_once(worker: Worker):
    """A crash between sending a letter and marking it."""
    await worker.receive(conversation("Carlos"))
    worker.refusing = False
    (letter,) = worker.letters()
    await worker.redrive(letter)
    calls = len(worker.extractor.calls)
    await worker.redrive(letter)
    assert worker.names() == ["Carlos"]
    assert len(worker.extractor.calls) == calls


async def test_a_letter_that_fails_again_is_a_new_letter_with_a_higher_count(worker: Worker):
    await worker.receive(conversation("Carlos"))
    await worker.redrive(worker.letters()[0])
    first, second = worker.letters()
    assert first.id != second.id
    assert (first.redrives_before, second.redrives_before) == (0, 1)
    assert dict(second.headers)["nexus-redrive-id"].decode() == first.id
    await worker.redrive(second)
    assert worker.letters()[-1].redrives_before == 2


async def test_a_redriven_snapshot_does_not_replace_a_newer_one(worker: Worker):
    """Unrelated snapshots without a time: only Kafka's time orders them, and the redrive restores it."""
    await worker.receive(conversation("Carlos"))
    worker.refusing = False
    await worker.receive(conversation("Carolina"))
    assert worker.names() == ["Carolina"]
    (letter,) = worker.letters()
    await worker.redrive(letter)
    assert worker.names() == ["Carolina"]
