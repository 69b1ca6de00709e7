"""The sink: ``faust -A nexus_stream.sink worker``. Has no table; its state is Supabase.

One agent (agents/sink.py) over ``prospects-enriched``.
"""

from __future__ import annotations

from collections.abc import Sequence

from agents import sink
from nexus_stream.contracts.erased import ErasedSession
from nexus_stream.contracts.prospect import EnrichedProspect
from nexus_stream.delivery.clock import SystemClock
from nexus_stream.delivery.received import Assignment
from nexus_stream.errors import DatabaseUnavailableError
from nexus_stream.observability.outcomes import OutcomeObserver
from nexus_stream.settings import Settings, load_settings
from nexus_stream.supabase.writer import ProspectWriter, WriteResult
from nexus_stream.worker import WorkerApp, create_app, created_or_exit, no_ack_topic

__all__ = ["app"]


class _ConnectingWriter:
    """Connects when it is first needed, so that a database that is down delays nobody's start."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._writer: ProspectWriter | None = None

    async def write(self, records: Sequence[EnrichedProspect]) -> WriteResult:
        return await (await self.connected()).write(records)

    async def erase(self, events: Sequence[ErasedSession]) -> int:
        return await (await self.connected()).erase(events)

    async def kept_away(self, records: Sequence[EnrichedProspect]) -> list[int]:
        return await (await self.connected()).kept_away(records)

    async def connected(self) -> ProspectWriter:
        if self._writer is None:
            self._writer = await ProspectWriter.connect(self._settings)
        return self._writer

    async def close(self) -> None:
        if self._writer is not None:
            await self._writer.close()


def _create() -> WorkerApp:
    settings = load_settings("sink")
    worker = create_app(settings, settings.sink_app_id)
    writer = _ConnectingWriter(settings)
    stage = sink.Sink(
        settings=settings,
        writer=writer,
        broker=worker.broker,
        assignment=Assignment(),
        clock=SystemClock(),
        observer=OutcomeObserver("sink"),
        on_fatal=worker.fail,
    )
    worker.stage = stage

    async def prepare() -> None:
        # A wrong password or a missing table stops the start with its message; a database that is away does not.
        try:
            await writer.connected()
        except DatabaseUnavailableError:
            stage.waits_for("Supabase")

    worker.prepare = prepare
    worker.on_stage_stopped = writer.close
    sink.declare(worker, no_ack_topic(worker, settings.enriched_topic), stage)
    return worker


app = created_or_exit(_create)
