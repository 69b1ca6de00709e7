"""Redrive dead letters to their origin topic, and discard dead letters.

From: ``nexus-prospect-dlq``. To: ``nexus-prospect-ingestion`` or ``prospects-enriched``, and marks to
``nexus-prospect-dlq``. Both actions are idempotent: they skip letters that already have a mark.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from nexus_stream.contracts.headers import (
    COMMAND_HEADER,
    ORIGIN_TIMESTAMP_HEADER,
    REDRIVE_HEADER,
    REDRIVE_ID_HEADER,
    Headers,
)
from nexus_stream.dead_letters.filters import Filter
from nexus_stream.dead_letters.letter import Action, Letter, mark_headers
from nexus_stream.dead_letters.log import DeadLetterLog
from nexus_stream.dead_letters.marks import Histories, History, State
from nexus_stream.errors import BrokerUnavailableError, PermanentError
from nexus_stream.kafka.reading import Ends
from nexus_stream.kafka.sender import SenderPort
from nexus_stream.settings import Settings

__all__ = [
    "RedriveReport",
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
# The prefix of all headers of nexus-stream: of the failure, of rerouting, of an earlier redrive. A redrive removes them
# all except the command header. Without that header, the enricher would read a command as a conversation.
_OWN_PREFIX = "nexus-"


@dataclass(frozen=True, slots=True)
class Selection:
    """The letters that an operator selects.

    Attributes:
        filter: The filter for letters.
        again: Include redriven letters. Discarded letters are included only if the filter names them by id: a redrive
            of a whole reason must not undo the decision about one letter.
        limit: The maximum number of letters, oldest first. None: no limit.
    """

    filter: Filter
    again: bool = False
    limit: int | None = None

    def takes(self, history: History) -> bool:
        """Whether a letter that matches the filter is selected."""
        match history.state:
            case State.OPEN:
                return True
            case State.REDRIVEN:
                return self.again
            case State.DISCARDED:
                return self.again and bool(self.filter.ids)


@dataclass(slots=True)
class RedriveReport:
    """Counts of letters. They are updated for each letter, so that an interrupted run can report too.

    Attributes:
        chosen: Letters that were processed, by reason. For `survey`: letters that would be processed.
        topics: The same letters by destination topic.
        states: Letters that match the filter, by their state before the run.
        not_ours: Selected letters whose origin is not a configured topic. They stay open.
        refused: Selected letters over the broker's size limit. They stay open.
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
        """The number of chosen letters."""
        return self.chosen.total()


async def read_histories(log: DeadLetterLog, ends: Ends) -> Histories:
    """Compute the state of every letter up to ``ends``."""
    histories = Histories()
    async for entry in log.entries(ends):
        histories.add(entry)
    return histories


async def letters(log: DeadLetterLog, ends: Ends, wanted: Filter) -> AsyncIterator[Letter]:
    """Yield the matching letters in the order of the topic. Copies of a letter are yielded once."""
    seen: set[bytes] = set()
    async for entry in log.entries(ends):
        if isinstance(entry, Letter) and wanted.matches(entry) and entry.identity not in seen:
            seen.add(entry.identity)
            yield entry


async def _chosen(
    log: DeadLetterLog, ends: Ends, selection: Selection, report: RedriveReport, topics: frozenset[str] | None
) -> AsyncIterator[tuple[Letter, History]]:
    # Read the newest marks, also those after `ends`: another operator may have acted in the meantime.
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


async def survey(
    log: DeadLetterLog, settings: Settings, ends: Ends, selection: Selection, action: Action
) -> RedriveReport:
    """Count the letters that `redrive` or `discard` would process. Send nothing."""
    report = RedriveReport()
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
    report: RedriveReport,
    *,
    by: str,
    now: Callable[[], datetime],
) -> None:
    """Send the chosen letters back, one at a time and in order.

    1. Send the original key and value to the origin topic, and await the broker. Crash before this step: the letter is
       open, and the next redrive sends it.
    2. Mark the letter as redriven, and await the broker. Crash before this step: the letter is sent but still open, so
       the next redrive sends it again. The second record has the same content. The enricher recognises the snapshot; if
       it failed again in the meantime, it is extracted once more. The sink's upsert leaves the row unchanged. If the
       mark came first, a crash would lose the letter.

    Args:
        log: The log to read letters from.
        sender: The sender for records and marks.
        settings: The settings with the topics.
        ends: The end offsets. Later letters stay as they are: the operator has not confirmed them.
        selection: The selected letters.
        report: The counts to update.
        by: The operator's name.
        now: Returns the time.

    Raises:
        BrokerUnavailableError: nothing is lost. Finished letters are marked, the others are open.
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
                f"{letter.id} was sent, but the mark for it was not acknowledged. The next redrive may send the letter "
                f"again. A second copy changes nothing. {error}"
            ) from error
        report.chosen[letter.reason] += 1
        report.topics[letter.origin_topic] += 1


async def discard(
    log: DeadLetterLog,
    sender: SenderPort,
    settings: Settings,
    ends: Ends,
    selection: Selection,
    report: RedriveReport,
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
        # In the letter's partition: there retention removes the letter first, then the mark.
        partition=letter.partition,
        headers=mark_headers(letter, action, by=by, at=at),
    )


def redriven_headers(letter: Letter, attempt: int) -> Headers:
    """Return the record's original headers, plus the letter id, the redrive count and the original time.

    Args:
        letter: The letter to redrive.
        attempt: The number of redrives of this content, counted over all its letters.
    """
    kept = tuple(
        header for header in letter.headers if header[0] == COMMAND_HEADER or not header[0].startswith(_OWN_PREFIX)
    )
    ours = {
        REDRIVE_HEADER: str(attempt),
        REDRIVE_ID_HEADER: letter.id,
        # A topic with LogAppendTime replaces the record's own time.
        ORIGIN_TIMESTAMP_HEADER: str(letter.origin_timestamp_ms),
    }
    return kept + tuple((name, value.encode()) for name, value in ours.items())


def _origins(settings: Settings) -> frozenset[str]:
    # Allow only these topics. A header names the origin, and any writer to the dead-letter topic can forge it.
    return frozenset({settings.ingestion_topic, settings.enriched_topic})


def redriven_timestamp_ms(letter: Letter, settings: Settings, now: datetime) -> int | None:
    """Return the record's original time. A snapshot without a time of its own then does not look newer than later ones.

    The time is at most a third of the topic's retention ago. Kafka removes a segment by its newest time, even the
    active segment. At half the retention, the gateway treats unread records as endangered.
    """
    if letter.origin_topic != settings.ingestion_topic:
        return None
    now_ms = round(now.astimezone(UTC).timestamp() * 1000)
    oldest_ms = now_ms - settings.ingestion_retention_hours * _HOUR_MS // 3
    return min(now_ms, max(oldest_ms, letter.origin_timestamp_ms))
