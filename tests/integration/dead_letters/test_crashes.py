"""A redrive that is killed between sending a letter and marking it: the letter is neither lost nor hidden."""

from __future__ import annotations

import asyncio
import signal
import sys
from datetime import UTC, datetime
from typing import Any

import pytest

from nexus_stream.contracts.headers import Headers
from nexus_stream.dead_letters.filters import Filter
from nexus_stream.dead_letters.log import DeadLetterLog
from nexus_stream.dead_letters.marks import State
from nexus_stream.dead_letters.redriving import RedriveReport, Selection, discard, letters, read_histories, redrive
from nexus_stream.embedded.broker import EmbeddedBroker
from nexus_stream.errors import BrokerUnavailableError, PermanentError, Reason
from nexus_stream.kafka.sender import Sender, SenderPort
from nexus_stream.kafka.topics import apply_topics
from nexus_stream.settings import load_settings

Desk = Any
ALL = Selection(Filter())

# A real redrive by a process that kills itself when the second letter is acknowledged and its mark is due.
_KILLED = """
import asyncio, os, signal
from datetime import UTC, datetime
from nexus_stream.dead_letters.filters import Filter
from nexus_stream.dead_letters.log import DeadLetterLog
from nexus_stream.dead_letters.redriving import RedriveReport, Selection, redrive
from nexus_stream.kafka.sender import Sender
from nexus_stream.settings import load_settings

settings = load_settings()

class Dying(Sender):
    marks = 0

    async def send(self, topic, key, value, **options):
        if topic == settings.dead_letter_topic:
            self.marks += 1
            if self.marks == 2:
                os.kill(os.getpid(), signal.SIGKILL)
        await super().send(topic, key, value, **options)

async def main():
    async with DeadLetterLog(settings) as log, Dying(settings) as sender:
        await redrive(
            log, sender, settings, await log.ends(), Selection(Filter()), RedriveReport(),
            by="test", now=lambda: datetime.now(UTC),
        )

asyncio.run(main())
"""


class MarksFail:
    """The broker goes away after the letter and before its mark."""

    def __init__(self, sender: SenderPort, dead_letter_topic: str) -> None:
        self._sender = sender
        self._dead_letter_topic = dead_letter_topic

    async def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        *,
        partition: int | None = None,
        timestamp_ms: int | None = None,
        headers: Headers = (),
    ) -> None:
        if topic == self._dead_letter_topic:
            raise BrokerUnavailableError(f"{topic}: not acknowledged")
        await self._sender.send(topic, key, value, partition=partition, timestamp_ms=timestamp_ms, headers=headers)


class RefusesOne:
    """A topic whose limit on a record's size is below that of one letter."""

    def __init__(self, sender: SenderPort, key: bytes) -> None:
        self._sender = sender
        self._key = key

    async def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        *,
        partition: int | None = None,
        timestamp_ms: int | None = None,
        headers: Headers = (),
    ) -> None:
        if key == self._key:
            raise PermanentError(f"{topic} accepts no record of this size", reason=Reason.TOO_LARGE)
        await self._sender.send(topic, key, value, partition=partition, timestamp_ms=timestamp_ms, headers=headers)


def now() -> datetime:
    return datetime.now(UTC)


async def states(desk: Desk) -> list[State]:
    async with DeadLetterLog(desk.settings) as log:
        ends = await log.ends()
        histories = await read_histories(log, ends)
        return [histories.of(letter).state async for letter in letters(log, ends, Filter())]


async def test_killed_between_send_and_mark(desk: Desk):
    for offset in range(3):
        await desk.write_letter(offset, key=b"one")
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", _KILLED, env=desk.environ)
    async with asyncio.timeout(60):
        assert await process.wait() == -signal.SIGKILL
    # The second letter was sent and is still open: nothing is lost.
    assert await states(desk) == [State.REDRIVEN, State.OPEN, State.OPEN]
    assert len(await desk.ingested()) == 2
    ended = await desk.nexus("redrive", "--yes")
    assert "redriven 2 letters" in ended.output
    assert await states(desk) == [State.REDRIVEN] * 3
    # The letter was sent twice, with the same content and count. The enricher recognises the duplicate.
    ids = [dict(record.headers)["nexus-redrive-id"].decode()[-1] for record in await desk.ingested()]
    assert ids == ["0", "1", "1", "2"]
    _, first, second, _ = await desk.ingested()
    assert (first.key, first.value, first.headers) == (second.key, second.value, second.headers)


async def test_an_unacknowledged_mark_is_reported(desk: Desk):
    letter = await desk.write_letter(1)
    await desk.write_letter(2)
    report = RedriveReport()
    async with DeadLetterLog(desk.settings) as log:
        failing = MarksFail(desk.sender, desk.settings.dead_letter_topic)
        with pytest.raises(BrokerUnavailableError, match=f"{letter} was sent, but the mark"):
            await redrive(log, failing, desk.settings, await log.ends(), ALL, report, by="ana", now=now)
    assert report.total == 0
    assert len(await desk.ingested()) == 1
    assert await states(desk) == [State.OPEN, State.OPEN]


async def test_a_letter_over_the_limit_stays_open_and_holds_up_no_other(desk: Desk):
    await desk.write_letter(1)
    await desk.write_letter(2)
    report = RedriveReport()
    async with DeadLetterLog(desk.settings) as log:
        refusing = RefusesOne(desk.sender, b"s-1")
        await redrive(log, refusing, desk.settings, await log.ends(), ALL, report, by="ana", now=now)
    assert (report.total, report.refused) == (1, 1)
    assert await states(desk) == [State.OPEN, State.REDRIVEN]


async def test_a_record_that_is_too_large_is_a_permanent_error(desk: Desk):
    with pytest.raises(PermanentError, match="no record of this size"):
        await desk.sender.send(desk.settings.ingestion_topic, b"k", b"x" * 1_200_000)


async def test_letters_after_the_confirmation_are_not_processed(desk: Desk):
    await desk.write_letter(1)
    async with DeadLetterLog(desk.settings) as log:
        asked_at = await log.ends()
        await desk.write_letter(2)
        report = RedriveReport()
        await redrive(log, desk.sender, desk.settings, asked_at, ALL, report, by="ana", now=now)
    assert report.total == 1
    assert await states(desk) == [State.REDRIVEN, State.OPEN]


async def test_marks_after_the_confirmation_count(desk: Desk):
    await desk.write_letter(1)
    async with DeadLetterLog(desk.settings) as log:
        asked_at = await log.ends()
        await discard(log, desk.sender, desk.settings, asked_at, ALL, RedriveReport(), by="eva", now=now)
        report = RedriveReport()
        await redrive(log, desk.sender, desk.settings, asked_at, ALL, report, by="ana", now=now)
    assert report.total == 0
    assert await desk.ingested() == []


async def test_a_broker_that_dies_is_an_error_and_not_a_hang():
    with EmbeddedBroker.start() as broker:
        settings = load_settings(
            environ={}, kafka_bootstrap_servers=broker.bootstrap_servers, kafka_request_timeout_seconds=1
        )
        await apply_topics(settings)
        async with DeadLetterLog(settings) as log, Sender(settings) as sender:
            await sender.send(settings.dead_letter_topic, b"k", b"v")
            ends = await log.ends()
            broker.kill()
            async with asyncio.timeout(30):
                with pytest.raises(BrokerUnavailableError):
                    await read_histories(log, ends)
                with pytest.raises(BrokerUnavailableError):
                    await sender.send(settings.dead_letter_topic, b"k", b"v")
