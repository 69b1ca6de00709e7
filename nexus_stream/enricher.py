"""The enricher: ``faust -A nexus_stream.enricher worker``. Owns the session table.

One agent (agents/enrichment.py) over ``nexus-prospect-ingestion``; one table (tables/sessions.py).
"""

from __future__ import annotations

from agents import enrichment
from nexus_stream.delivery.clock import SystemClock
from nexus_stream.delivery.received import Assignment
from nexus_stream.delivery.stage import StageParts
from nexus_stream.enrichment.stage import Enrichment
from nexus_stream.extraction.factory import create_extractor
from nexus_stream.extraction.metrics import ExtractionMetrics
from nexus_stream.extraction.observer import untraced
from nexus_stream.observability.metrics_stage import StageTimings
from nexus_stream.observability.outcomes import OutcomeObserver
from nexus_stream.observability.tracing import start_tracing, traced
from nexus_stream.settings import load_settings
from nexus_stream.worker.app import WorkerApp, create_app, created_or_exit
from nexus_stream.worker.options import no_ack_topic
from tables.sessions import STORE_OPTIONS, SessionTable

__all__ = ["app"]


def _create() -> WorkerApp:
    settings = load_settings("enricher")
    worker = create_app(settings, settings.enricher_app_id)
    broker, assignment = worker.broker, Assignment()
    # Beside the slot, not in it: the slot is emptied for a new broker, but spent money stays spent.
    budget_file = worker.directory.path.with_suffix(".budget.json")
    tracing = start_tracing("enricher")
    metrics = ExtractionMetrics(untraced if tracing is None else tracing.model_call)
    extractor = create_extractor(settings, budget_file=budget_file, observer=metrics)
    worker.budgets = metrics.budgets
    table = worker.Table(
        "sessions",
        key_type=bytes,
        value_type=bytes,
        partitions=settings.topic_partitions,
        # A copy, because Faust's store removes entries from the options.
        options=dict(STORE_OPTIONS) if settings.table_store == "rocksdb" else None,
    )
    stage_tracing = None if tracing is None else tracing.stage(settings.enricher_app_id)
    stage = Enrichment(
        StageParts(
            broker=broker,
            assignment=assignment,
            clock=SystemClock(),
            observer=traced(OutcomeObserver("enricher"), stage_tracing),
            on_fatal=worker.fail,
            tracing=stage_tracing,
            timings=StageTimings("enricher"),
        ),
        settings=settings,
        table=SessionTable(table, broker, assignment, settings.sessions_changelog_topic, worker.fail),
        extractor=extractor,
        source=f"/nexus-stream/{settings.enricher_app_id}",
    )
    worker.stage = stage

    async def close() -> None:
        await extractor.close()
        if tracing is not None:
            await tracing.close()

    worker.on_stage_stopped = close
    enrichment.declare(worker, no_ack_topic(worker, settings.ingestion_topic), stage)
    return worker


app = created_or_exit(_create)
