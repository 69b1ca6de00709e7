"""The sink: writes enriched prospects to Supabase, and deletes erased ones.

From: topic ``prospects-enriched`` (JSON v1, key = session key). To: ``prospect_sessions`` and ``prospect_tracking``; an
erase command to ``nexus-prospect-ingestion`` for a new session of an erased person. Dead letters:
``nexus-prospect-dlq``. Delivery: at least once, into an upsert that is guarded per session. So a replay changes no row.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pydantic import ValidationError

from nexus_stream.contracts.erased import ErasedSession, decode_erased
from nexus_stream.contracts.headers import ERASED_TYPE, EVENT_TYPE_HEADER
from nexus_stream.contracts.moments import iso_ms
from nexus_stream.contracts.prospect import EnrichedProspect
from nexus_stream.contracts.session_command import SessionCommand
from nexus_stream.delivery.backoff import backoff_seconds
from nexus_stream.delivery.bounds import PendingBound
from nexus_stream.delivery.dead_letters import letter_headers, letter_id
from nexus_stream.delivery.outcomes import DeadLettered, Dropped, Erased, Stored, Suppressed
from nexus_stream.delivery.received import Received
from nexus_stream.delivery.stage import Stage, StageParts
from nexus_stream.errors import (
    ConfigurationError,
    DecodeError,
    PartitionLostError,
    PermanentError,
    Reason,
    RetryableError,
    RowRejectedError,
)
from nexus_stream.host.log import get_logger
from nexus_stream.settings import Settings
from nexus_stream.supabase.erasure import erase_again

if TYPE_CHECKING:
    from nexus_stream.supabase.writer import EraseResult, RejectedRow, WriteResult

__all__ = ["Sink", "WriterPort"]

_log = get_logger(__name__)


class WriterPort(Protocol):
    """Port for writing batches; writer.py implements it with asyncpg."""

    async def write(self, records: Sequence[EnrichedProspect]) -> WriteResult:
        """Write a batch in one transaction. Bad rows are reported, the others are written.

        Raises:
            DatabaseUnavailableError: nothing was decided. Write the batch again.
            ConfigurationError: no row is at fault.
        """
        ...

    async def erase(self, events: Sequence[ErasedSession]) -> EraseResult:
        """Delete sessions and suppress them. The same event again changes nothing. A bad event is reported.

        Raises as `write` does.
        """
        ...

    async def suppressed(self, records: Sequence[EnrichedProspect]) -> list[int]:
        """Positions of the records that were not stored although their session was not erased: their person was.

        Raises as `write` does.
        """
        ...


@dataclass(frozen=True, slots=True)
class _Letter:
    record: Received
    error: PermanentError


_Row = tuple[Received, EnrichedProspect | ErasedSession]


@dataclass(frozen=True, slots=True)
class _Written:
    """What became of a batch: the rows that PostgreSQL refuses, and the erasures that the enricher must learn of.

    A command is None if no command can name the record's session. The database suppresses that session all the same.
    """

    rejected: dict[int, RejectedRow]
    again: dict[int, SessionCommand | None]


class Sink(Stage):
    """The sink's stage: batches by count or age, one transaction each. Offsets are done after the transaction.

    Args:
        parts: The worker's services.
        settings: Batch sizes and topics.
        writer: Where batches go.
    """

    def __init__(self, parts: StageParts, *, settings: Settings, writer: WriterPort) -> None:
        super().__init__(
            parts,
            name="sink",
            topic=settings.enriched_topic,
            commit_interval_seconds=settings.commit_interval_seconds,
        )
        self._settings = settings
        self._writer = writer
        self._bound = PendingBound(max_items=settings.sink_pending_max_rows, max_bytes=settings.pending_max_bytes)
        self._rows: list[_Row] = []
        self._letters: list[_Letter] = []
        self._offered = asyncio.Event()
        self._batch_full = asyncio.Event()
        self._writing = False
        self._idle = asyncio.Event()
        # Whether a batch is kept because the database refused it.
        self.keeps_a_batch = False

    @property
    def is_full(self) -> bool:
        """See `Stage.is_full`."""
        return self._bound.is_waited_for

    def start(self) -> None:
        """Start writing."""
        super().start()
        self.spawn(self._write_batches())

    async def submit(self, record: Received) -> None:
        """Take one record in. Waits while the bound on rows is reached. Raises nothing into the agent's loop."""
        size_bytes = len(record.value or b"")
        try:
            while self._bound.is_full_for(size_bytes):
                await self._bound.wait_for_room(size_bytes)
            self.assignment.require(record)
        except PartitionLostError:
            self.observer.outcome(record, Dropped())
            return
        self._bound.add(size_bytes)
        try:
            self._rows.append((record, _decode(record)))
        except DecodeError as error:
            self._letters.append(_Letter(record, error))
        except Exception as error:
            _log.exception("submit failed, record dead-lettered", record=letter_id(record))
            internal = PermanentError(type(error).__name__, reason=Reason.INTERNAL_ERROR)
            self._letters.append(_Letter(record, internal))
        self._offered.set()
        if len(self._rows) >= self._settings.sink_batch_max_rows:
            self._batch_full.set()

    async def _write_batches(self) -> None:
        while True:
            if not self._rows and not self._letters:
                self._writing = False
                self._idle.set()
                self._offered.clear()
                await self._offered.wait()
                continue
            self._writing = True
            self._batch_full.clear()
            size = self._settings.sink_batch_max_rows
            if len(self._rows) < size and not self.draining.is_set():
                await self.clock.wait(self._batch_full, self._settings.sink_batch_max_wait_seconds)
            size = _same_kind(self._rows, size)
            batch, self._rows = self._rows[:size], self._rows[size:]
            letters, self._letters = self._letters, []
            await self._write_batch(batch, letters)

    async def _write_batch(self, batch: list[_Row], letters: list[_Letter]) -> None:
        """Write one batch, then mark its offsets done.

        1. Write the rows in one transaction. After a crash, the rows are written again. If the transaction had
           committed, the guard per session changes no row.
        2. Send letters for rows that cannot be stored, and commands for sessions that must be erased again. Wait for
           the broker. After a crash here they are sent twice with the same id.
        3. Mark the offsets done. Before step 1 or 2, a crash would lose the rows.
        """
        # Step 1.
        batch = [entry for entry in batch if self.assignment.owns(entry[0])]
        began_ns = time.time_ns()
        written = await self._until_written(batch) if batch else _Written({}, {})
        if written is None:
            return
        rejected = written.rejected
        if self.tracing is not None:
            stored = [record for index, (record, _) in enumerate(batch) if index not in rejected]
            self.tracing.wrote(stored, began_ns, "prospect_sessions")
        letters = letters + [
            _Letter(
                batch[index][0],
                RowRejectedError(f"SQLSTATE {bad.sqlstate}: {bad.message}", reason=Reason.ROW_REJECTED),
            )
            for index, bad in rejected.items()
        ]
        # Step 2.
        sent = await self.until_acknowledged(letters, lambda letter: letter.record, self._send_letter)
        commands = [(batch[index][0], command) for index, command in written.again.items() if command is not None]
        await self.until_acknowledged(commands, lambda command: command[0], self._send_command)
        # Step 3.
        now_ms, now = self.clock.time_ms(), self.clock.monotonic()
        for index, (record, item) in enumerate(batch):
            if index not in rejected:
                self._release(record)
                self.finish(record, _outcome(item, suppressed=index in written.again))
                self.facts.took((now_ms - record.timestamp_ms) / 1000, now)
                if isinstance(item, EnrichedProspect) and (taken_ms := iso_ms(item.enqueued_at)) is not None:
                    self.timings.arrived(max(0.0, (now_ms - taken_ms) / 1000))
        for letter in sent:
            self._release(letter.record)
            self.finish(letter.record, DeadLettered(letter.error.reason))

    async def _until_written(self, batch: list[_Row]) -> _Written | None:
        """Write until the database accepts the batch. None if the partitions are revoked or the worker must stop."""
        attempt = 0
        while await self._owns_any(batch):
            attempt += 1
            try:
                written = await self._written([item for _, item in batch])
            except RetryableError as error:
                if not await self._owns_any(batch):
                    # The partitions were revoked while the statement was open. Their next owner writes the rows.
                    return None
                self.keeps_a_batch = True
                self.waits_for("Supabase")
                _log.warning("database unavailable, batch kept", rows=len(batch), attempt=attempt, error=str(error))
                pause = backoff_seconds(attempt, error.retry_after_seconds, random=random.random)
                if await self.clock.wait(self.draining, pause):
                    return None
            except ConfigurationError as error:
                # Noted, so that the worker's last status names the cause.
                self.waits_for("Supabase")
                self.fatal(error)
                return None
            else:
                self.keeps_a_batch = False
                self.waits_no_longer("Supabase")
                return written
        return None

    async def _owns_any(self, batch: list[_Row]) -> bool:
        await self.confirmed()
        return any(self.assignment.owns(record) for record, _ in batch)

    async def _written(self, items: Sequence[EnrichedProspect | ErasedSession]) -> _Written:
        prospects = [item for item in items if isinstance(item, EnrichedProspect)]
        if not prospects:
            erasures = await self._writer.erase([item for item in items if isinstance(item, ErasedSession)])
            return _Written({bad.index: bad for bad in erasures.rejected}, {})
        result = await self._writer.write(prospects)
        # A suppressed record counts as unchanged. If no record is unchanged, none is suppressed.
        suppressed = await self._writer.suppressed(prospects) if result.unchanged else []
        return _Written(
            {bad.index: bad for bad in result.rejected},
            {index: _erase_again(prospects[index]) for index in suppressed},
        )

    async def _send_command(self, command: tuple[Received, SessionCommand]) -> Awaitable[object]:
        _, erase = command
        topic = self._settings.ingestion_topic
        return await self.broker.send(topic, erase.key, erase.value, headers=erase.headers)

    async def _send_letter(self, letter: _Letter) -> Awaitable[object]:
        record = letter.record
        headers = letter_headers(record, letter.error, attempts=1, failed_at=self.dead_letter_time())
        if self.tracing is not None:
            headers = self.tracing.outgoing(record, self._settings.dead_letter_topic, headers)
        return await self.broker.send(self._settings.dead_letter_topic, record.key, record.value, headers=headers)

    def _release(self, record: Received) -> None:
        if self.assignment.owns(record):
            self._bound.release(len(record.value or b""))

    async def drained(self) -> None:
        """Return once every row that was read is written."""
        self._batch_full.set()
        while self._rows or self._letters or self._writing:
            self._idle.clear()
            await self._idle.wait()

    def drop_all(self) -> None:
        """Forget pending rows: the next owner reads them again."""
        self._rows.clear()
        self._letters.clear()
        self.keeps_a_batch = False
        self._bound.reset()


def _same_kind(rows: Sequence[_Row], limit: int) -> int:
    """Number of first rows of one kind. So a session's records and its erasure keep their order."""
    erases = isinstance(rows[0][1], ErasedSession) if rows else False
    for index, (_, item) in enumerate(rows[:limit]):
        if isinstance(item, ErasedSession) is not erases:
            return index
    return limit


def _erase_again(prospect: EnrichedProspect) -> SessionCommand | None:
    try:
        return erase_again(prospect)
    except ValidationError:
        # No gateway sends such a tenant or session, so no enricher has a state under that name.
        return None


def _outcome(item: EnrichedProspect | ErasedSession, *, suppressed: bool) -> Stored | Erased | Suppressed:
    if isinstance(item, ErasedSession):
        return Erased()
    return Suppressed() if suppressed else Stored()


def _decode(record: Received) -> EnrichedProspect | ErasedSession:
    record.require_readable()
    if record.header(EVENT_TYPE_HEADER) == ERASED_TYPE.encode():
        return decode_erased(record.value)
    if not record.value:
        raise DecodeError("the record has no value", reason=Reason.EMPTY)
    try:
        return EnrichedProspect.model_validate_json(record.value)
    except ValidationError as error:
        fields = ", ".join(".".join(map(str, problem["loc"])) for problem in error.errors(include_input=False)[:10])
        raise DecodeError(
            f"{letter_id(record)} is no enriched prospect v1: {fields or 'not JSON'}", reason=Reason.WRONG_SHAPE
        ) from None
