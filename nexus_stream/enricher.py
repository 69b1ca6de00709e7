"""The enricher: ``faust -A nexus_stream.enricher worker``. Owns the session table.

One agent (agents/enrichment.py) over ``nexus-prospect-ingestion``; one table (tables/sessions.py).
"""

from __future__ import annotations

from agents import enrichment
from nexus_stream.delivery.clock import SystemClock
from nexus_stream.delivery.received import Assignment
from nexus_stream.extraction.factory import create_extractor
from nexus_stream.observability.outcomes import OutcomeObserver
from nexus_stream.settings import load_settings
from nexus_stream.worker import WorkerApp, create_app, created_or_exit, no_ack_topic
from tables.sessions import SessionTable

__all__ = ["app"]


def _create() -> WorkerApp:
    settings = load_settings("enricher")
    worker = create_app(settings, settings.enricher_app_id)
    broker, assignment = worker.broker, Assignment()
    # Beside the slot, not in it: what is in it goes when the broker is another, and money spent stays spent.
    budget_file = worker.directory.path.with_suffix(".budget.json")
    extractor = create_extractor(settings, budget_file=budget_file)
    table = worker.Table("sessions", key_type=bytes, value_type=bytes, partitions=settings.topic_partitions)
    stage = enrichment.Enrichment(
        settings=settings,
        table=SessionTable(table, broker, assignment, settings.sessions_changelog_topic, worker.fail),
        extractor=extractor,
        source=f"/nexus-stream/{settings.enricher_app_id}",
        broker=broker,
        assignment=assignment,
        clock=SystemClock(),
        observer=OutcomeObserver("enricher"),
        on_fatal=worker.fail,
    )
    worker.stage = stage
    worker.on_stage_stopped = extractor.close
    enrichment.declare(worker, no_ack_topic(worker, settings.ingestion_topic), stage)
    return worker


app = created_or_exit(_create)
