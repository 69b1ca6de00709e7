"""The sink's writer: connects when it is first needed, counts its batches, and asks whether the database answers.

From: nexus_stream/sink.py. To: writer.py; metrics_sink.py; what the stage waits for, and so whether it is ready.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from nexus_stream.contracts.erased import ErasedSession
from nexus_stream.contracts.prospect import EnrichedProspect
from nexus_stream.errors import ConfigurationError, DatabaseUnavailableError
from nexus_stream.observability.metrics_sink import BatchMetrics, BatchOutcome
from nexus_stream.settings import Settings
from nexus_stream.supabase.writer import EraseResult, ProspectWriter, WriteResult

if TYPE_CHECKING:
    from nexus_stream.supabase.stage import Sink

__all__ = ["DATABASE", "ConnectingWriter", "watch_database"]

# What the stage waits for, as nexus_stream/supabase/stage.py names it.
DATABASE: Final = "Supabase"
_PING_SECONDS: Final = 5.0


@dataclass(slots=True)
class _Batch:
    outcome: BatchOutcome = "committed"


class ConnectingWriter:
    """Connects when it is first needed, so that a database that is down delays nobody's start; counts what it does."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._writer: ProspectWriter | None = None
        self._connecting = asyncio.Lock()
        self._metrics = BatchMetrics()

    async def write(self, records: Sequence[EnrichedProspect]) -> WriteResult:
        """See `ProspectWriter.write`."""
        with self._counted() as batch:
            result = await (await self.connected()).write(records)
            batch.outcome = "bisected" if result.bisected else "committed"
        self._metrics.wrote(result.inserted + result.updated)
        return result

    async def erase(self, events: Sequence[ErasedSession]) -> EraseResult:
        """See `ProspectWriter.erase`."""
        with self._counted():
            return await (await self.connected()).erase(events)

    async def suppressed(self, records: Sequence[EnrichedProspect]) -> list[int]:
        """See `ProspectWriter.suppressed`; the batch it belongs to was counted when it was written."""
        try:
            return await (await self.connected()).suppressed(records)
        except DatabaseUnavailableError as error:
            self._metrics.will_retry(error.sqlstate_class)
            raise

    @contextmanager
    def _counted(self) -> Iterator[_Batch]:
        batch, began = _Batch(), time.monotonic()
        try:
            yield batch
        except DatabaseUnavailableError as error:
            batch.outcome = "retried"
            self._metrics.will_retry(error.sqlstate_class)
            raise
        except Exception:
            batch.outcome = "failed"
            raise
        finally:
            self._metrics.ended(batch.outcome, time.monotonic() - began)

    async def ping(self) -> None:
        """See `ProspectWriter.ping`."""
        await (await self.connected()).ping()

    async def connected(self) -> ProspectWriter:
        """The writer, connected. Raises as `ProspectWriter.connect`."""
        # One pool, also when a batch and a ping want it at the same moment.
        async with self._connecting:
            if self._writer is None:
                self._writer = await ProspectWriter.connect(self._settings)
            return self._writer

    async def close(self) -> None:
        """Close the connections."""
        if self._writer is not None:
            await self._writer.close()


async def watch_database(stage: Sink, ping: Callable[[], Awaitable[None]]) -> None:
    """Ask every few seconds whether the database answers, so that an idle sink knows too.

    A refused login is no answer; it stops the worker when there is something to write, with its message.
    """
    while True:
        await stage.clock.sleep(_PING_SECONDS)
        try:
            await ping()
        except (DatabaseUnavailableError, ConfigurationError):
            stage.waits_for(DATABASE)
        else:
            # It may answer and take nothing, as a standby does: then the batch that is kept has the last word.
            if not stage.keeps_a_batch:
                stage.waits_no_longer(DATABASE)
