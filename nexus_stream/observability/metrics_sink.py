"""Metrics of writes to Supabase: batches by outcome, their time, rows, and the causes of retries."""

from __future__ import annotations

from typing import Final, Literal, get_args

from prometheus_client import Counter, Histogram

from nexus_stream.observability.metrics import LATENCY_BUCKETS

__all__ = ["BatchMetrics", "BatchOutcome"]

BatchOutcome = Literal["committed", "bisected", "retried", "failed"]

_ROWS = Counter("nexus_sink_rows_total", "Rows of prospect_sessions that were inserted or replaced")
_BATCHES = Counter("nexus_sink_batches_total", "Attempts to write a batch by how they ended", ["outcome"])
_SECONDS = Histogram(
    "nexus_sink_batch_seconds",
    "From handing a batch to the writer to its commit or failure",
    buckets=LATENCY_BUCKETS,
)
_RETRIES = Counter(
    "nexus_sink_retries_total", "Batches to be written again, by the class of the SQLSTATE", ["sqlstate"]
)

# The usual causes of an outage: no server, connections, locks, resources, shutdown.
_USUAL_CLASSES: Final = ("os", "08", "40", "53", "57")


class BatchMetrics:
    """Counts batches."""

    def __init__(self) -> None:
        self._batches = {outcome: _BATCHES.labels(outcome) for outcome in get_args(BatchOutcome)}
        for sqlstate in _USUAL_CLASSES:
            _RETRIES.labels(sqlstate)

    def ended(self, outcome: BatchOutcome, seconds: float) -> None:
        """An attempt to write a batch ended."""
        self._batches[outcome].inc()
        _SECONDS.observe(seconds)

    def wrote(self, rows: int) -> None:
        """Count changed rows."""
        _ROWS.inc(rows)

    def will_retry(self, sqlstate_class: str) -> None:
        """Count a retry after a database error; ``os`` if no server answered."""
        _RETRIES.labels(sqlstate_class).inc()
