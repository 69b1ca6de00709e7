"""The sink: ``faust -A nexus_stream.sink worker``. Has no table; its state is Supabase.

One agent (agents/sink.py) over ``prospects-enriched``.
"""

from __future__ import annotations

from agents import sink
from nexus_stream.delivery.clock import SystemClock
from nexus_stream.delivery.received import Assignment
from nexus_stream.delivery.stage import StageParts
from nexus_stream.errors import ConfigurationError, DatabaseUnavailableError
from nexus_stream.observability.metrics_stage import StageTimings
from nexus_stream.observability.outcomes import OutcomeObserver
from nexus_stream.observability.tracing import start_tracing, traced
from nexus_stream.settings import load_settings
from nexus_stream.supabase.connecting import DATABASE, ConnectingWriter, watch_database
from nexus_stream.supabase.stage import Sink
from nexus_stream.worker.app import WorkerApp, create_app, created_or_exit
from nexus_stream.worker.options import no_ack_topic

__all__ = ["app"]


def _create() -> WorkerApp:
    settings = load_settings("sink")
    worker = create_app(settings, settings.sink_app_id)
    writer = ConnectingWriter(settings)
    tracing = start_tracing("sink")
    stage_tracing = None if tracing is None else tracing.stage(settings.sink_app_id)
    stage = Sink(
        StageParts(
            broker=worker.broker,
            assignment=Assignment(),
            clock=SystemClock(),
            observer=traced(OutcomeObserver("sink"), stage_tracing),
            on_fatal=worker.fail,
            tracing=stage_tracing,
            timings=StageTimings("sink"),
        ),
        settings=settings,
        writer=writer,
    )
    worker.stage = stage

    async def prepare() -> None:
        # A wrong password or a missing table stops the start with its message. An unavailable database does not.
        try:
            await writer.connected()
        except DatabaseUnavailableError:
            stage.waits_for(DATABASE)
        except ConfigurationError:
            # Note the wait, so that the worker's last report names the database as the cause.
            stage.waits_for(DATABASE)
            raise
        stage.spawn(watch_database(stage, writer.ping))

    async def close() -> None:
        await writer.close()
        if tracing is not None:
            await tracing.close()

    worker.prepare = prepare
    worker.needs = ("broker", DATABASE)
    worker.on_stage_stopped = close
    sink.declare(worker, no_ack_topic(worker, settings.enriched_topic), stage)
    return worker


app = created_or_exit(_create)
