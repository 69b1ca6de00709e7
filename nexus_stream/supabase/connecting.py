"""The sink's writer: connect on first use, count batches, and check regularly that the database answers."""

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

# The name of this dependency in the stage's readiness.
DATABASE: Final = "Supabase"
_PING_SECONDS: Final = 5.0


@dataclass(slots=True)
class _Batch:
    outcome: BatchOutcome = "committed"


class ConnectingWriter:
    """Connect on first use, so that the worker starts while the database is down. Count the batches."""

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
        """See `ProspectWriter.suppressed`. `write` already counted this batch."""
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
        """Return the connected writer. Raises the same errors as `ProspectWriter.connect`."""
        # The lock ensures one pool, even if a batch and a ping arrive at the same moment.
        async with self._connecting:
            if self._writer is None:
                self._writer = await ProspectWriter.connect(self._settings)
            return self._writer

    async def close(self) -> None:
        """Close the connections."""
        if self._writer is not None:
            await self._writer.close()


async def watch_database(stage: Sink, ping: Callable[[], Awaitable[None]]) -> None:
    """Ping the database every few seconds, so that an idle sink also notices an outage.

    A refused login counts as an outage here. The next write then stops the worker with the error's message.
    """
    while True:
        await stage.clock.sleep(_PING_SECONDS)
        try:
            await ping()
        except (DatabaseUnavailableError, ConfigurationError):
            stage.waits_for(DATABASE)
        else:
            # A database may answer and still refuse writes, as a standby does. A batch that waits for a retry decides.
            if not stage.keeps_a_batch:
                stage.waits_no_longer(DATABASE)
