"""Sending letters back to the topic they came from, and setting them aside for good.

From: log.py, letters and marks. To: ``nexus-prospect-ingestion`` or ``prospects-enriched``, and marks to
``nexus-prospect-dlq``. Both are idempotent: what is marked is not acted on again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from nexus_stream.contracts.headers import COMMAND_HEADER, REDRIVE_HEADER, REDRIVE_ID_HEADER, Headers
from nexus_stream.dead_letters.filters import Filter
from nexus_stream.dead_letters.letter import Action, Letter, mark_headers
from nexus_stream.dead_letters.log import DeadLetterLog
from nexus_stream.dead_letters.marks import Histories, History, State
from nexus_stream.errors import BrokerUnavailableError, PermanentError
from nexus_stream.kafka.reading import Ends
from nexus_stream.kafka.sender import SenderPort
from nexus_stream.settings import Settings

__all__ = [
    "Report",
    "Selection",
    "discard",
    "letters",
    "read_histories",
    "redrive",
    "redriven_headers",
    "redriven_timestamp_ms",
    "survey",
]

_HOUR_MS = 3_600_000
# Every header of ours starts so: those of the failure, the hop home, an earlier redrive. All go but the one that makes
# a record a command: without it a redriven command would be read as a conversation.
_OWN_PREFIX = "nexus-"


@dataclass(frozen=True, slots=True)
class Selection:
    """What an operator asks to act on.

    Attributes:
        filter: Which letters.
        again: Also those acted on before. Discarded ones only when the filter names them by id: "all of that
            reason, again" is not meant to undo a decision about one of them.
        limit: At most so many, the oldest first. None: all.
    """

    filter: Filter
    again: bool = False
    limit: int | None = None

    def takes(self, history: History) -> bool:
        """Whether a letter that the filter matches is to be acted on."""
        match history.state:
            case State.OPEN:
                return True
            case State.REDRIVEN:
                return self.again
            case State.DISCARDED:
                return self.again and bool(self.filter.ids)


@dataclass(slots=True)
class Report:
    """Counts of letters; filled while they are gone through, so that an interrupted run can tell, too.

    Attributes:
        chosen: By reason: acted on, or (`survey`) to be acted on.
        topics: By the topic they go to.
        states: What the filter matches, by state before.
        not_ours: Chosen, but from a topic that is none of the configured ones: left open.
        refused: Chosen, but over the broker's limit for a record: left open.
        foreign: Records that are neither letters nor marks.
    """

    chosen: Counter[str] = field(default_factory=Counter)
    topics: Counter[str] = field(default_factory=Counter)
    states: Counter[State] = field(default_factory=Counter)
    not_ours: int = 0
    refused: int = 0
    foreign: int = 0

    @property
    def total(self) -> int:
        """How many letters were chosen."""
        return self.chosen.total()


async def read_histories(log: DeadLetterLog, ends: Ends) -> Histories:
    """Fold the topic up to ``ends``."""
    histories = Histories()
    async for entry in log.entries(ends):
        histories.add(entry)
    return histories


async def letters(log: DeadLetterLog, ends: Ends, wanted: Filter) -> AsyncIterator[Letter]:
    """The letters that match, each once however often it was written, in the order of the topic."""
    seen: set[bytes] = set()
    async for entry in log.entries(ends):
        if isinstance(entry, Letter) and wanted.matches(entry) and entry.identity not in seen:
            seen.add(entry.identity)
            yield entry


async def _chosen(
    log: DeadLetterLog, ends: Ends, selection: Selection, report: Report, topics: frozenset[str] | None
) -> AsyncIterator[tuple[Letter, History]]:
    # As it is now, not as it was at `ends`: another operator may have acted meanwhile.
    histories = await read_histories(log, await log.ends())
    report.foreign = histories.foreign
    left = selection.limit
    async for letter in letters(log, ends, selection.filter):
        history = histories.of(letter)
        report.states[history.state] += 1
        if not selection.takes(history) or left == 0:
            continue
        if topics is not None and letter.origin_topic not in topics:
            report.not_ours += 1
            continue
        left = None if left is None else left - 1
        yield letter, history


async def survey(log: DeadLetterLog, settings: Settings, ends: Ends, selection: Selection, action: Action) -> Report:
    """Count what `redrive` or `discard` would act on; sends nothing."""
    report = Report()
    topics = _origins(settings) if action is Action.REDRIVEN else None
    async for letter, _ in _chosen(log, ends, selection, report, topics):
        report.chosen[letter.reason] += 1
        report.topics[letter.origin_topic] += 1
    return report


async def redrive(
    log: DeadLetterLog,
    sender: SenderPort,
    settings: Settings,
    ends: Ends,
    selection: Selection,
    report: Report,
    *,
    by: str,
    now: Callable[[], datetime],
) -> None:
    """Send the chosen letters back, one after the other, so in their order.

    1. Send key and value as they were received to the topic they came from, and await the broker. Crash before: the
       letter is open and goes with the next redrive.
    2. Mark the letter as redriven and await the broker. Crash before: it is open although it was sent, and goes again.
       The second record has the same content: the enricher recognises the snapshot (at most it is extracted once more,
       if it failed again meanwhile), the sink's upsert leaves the row as it is. Marked first, a crash would lose it.

    Args:
        log: Where letters are read.
        sender: Where records go.
        settings: Topics.
        ends: Letters after these are left alone: nobody was asked about them.
        selection: Which letters.
        report: Filled as the letters are gone through.
        by: Who redrives.
        now: The time.

    Raises:
        BrokerUnavailableError: nothing was lost; what is done is marked, the rest is open.
    """
    async for letter, history in _chosen(log, ends, selection, report, _origins(settings)):
        # Step 1.
        attempt = letter.redrives_before + history.redriven + 1
        try:
            await sender.send(
                letter.origin_topic,
                letter.key,
                letter.value,
                timestamp_ms=redriven_timestamp_ms(letter, settings, now()),
                headers=redriven_headers(letter, attempt),
            )
        except PermanentError:
            report.refused += 1
            continue
        # Step 2.
        try:
            await _mark(sender, settings, letter, Action.REDRIVEN, by, now())
        except BrokerUnavailableError as error:
            raise BrokerUnavailableError(
                f"{letter.id} was sent, but the mark that says so was not acknowledged: the next redrive may send it "
                f"again, which changes nothing. {error}"
            ) from error
        report.chosen[letter.reason] += 1
        report.topics[letter.origin_topic] += 1


async def discard(
    log: DeadLetterLog,
    sender: SenderPort,
    settings: Settings,
    ends: Ends,
    selection: Selection,
    report: Report,
    *,
    by: str,
    now: Callable[[], datetime],
) -> None:
    """Mark the chosen letters as discarded. They stay in the topic until its retention removes them.

    Args and Raises: as `redrive`.
    """
    async for letter, _ in _chosen(log, ends, selection, report, None):
        await _mark(sender, settings, letter, Action.DISCARDED, by, now())
        report.chosen[letter.reason] += 1


async def _mark(sender: SenderPort, settings: Settings, letter: Letter, action: Action, by: str, at: datetime) -> None:
    await sender.send(
        settings.dead_letter_topic,
        letter.id.encode(),
        None,
        # Beside its letter: there it outlives it.
        partition=letter.partition,
        headers=mark_headers(letter, action, by=by, at=at),
    )


def redriven_headers(letter: Letter, attempt: int) -> Headers:
    """The headers the record had when it was received, and which letter it is, for which time.

    Args:
        letter: What is sent back.
        attempt: Of this content, over all letters it became.
    """
    kept = tuple(
        header for header in letter.headers if header[0] == COMMAND_HEADER or not header[0].startswith(_OWN_PREFIX)
    )
    return (*kept, (REDRIVE_HEADER, str(attempt).encode()), (REDRIVE_ID_HEADER, letter.id.encode()))


def _origins(settings: Settings) -> frozenset[str]:
    # A header names the topic, and anyone who may write to the dead-letter topic writes headers.
    return frozenset({settings.ingestion_topic, settings.enriched_topic})


def redriven_timestamp_ms(letter: Letter, settings: Settings, now: datetime) -> int | None:
    """The record's time, so that a snapshot that says no time is not taken for newer than those that came after it.

    Not older than a third of the topic's retention: Kafka removes a segment by its newest time, also the one written
    to; and at half of it the gateway takes what waits for endangered.
    """
    if letter.origin_topic != settings.ingestion_topic:
        return None
    now_ms = round(now.astimezone(UTC).timestamp() * 1000)
    oldest_ms = now_ms - settings.ingestion_retention_hours * _HOUR_MS // 3
    return min(now_ms, max(oldest_ms, letter.origin_timestamp_ms))
