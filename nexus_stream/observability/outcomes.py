"""Counts and logs how each record ended.

From: the stages. To: Prometheus counters and one log event for what an operator should see.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import structlog
from prometheus_client import Counter, Gauge

from nexus_stream.delivery.dead_letters import letter_id
from nexus_stream.delivery.outcomes import DeadLettered, Erased, Expired, Lifted, Outcome, Reemitted
from nexus_stream.delivery.received import Received

__all__ = ["OutcomeObserver", "counted_dead_letters", "counted_outcomes"]

_log = structlog.get_logger(__name__)

_OUTCOMES = Counter("nexus_records_total", "Records by how they ended", ["stage", "outcome"])
_DEAD_LETTERS = Counter("nexus_dead_letters_total", "Dead letters by reason", ["stage", "reason"])
_WAITING = Gauge("nexus_waiting_since_seconds", "Unix time since when a stage waits; 0 if not", ["stage", "what"])


def counted_outcomes(stage: str) -> dict[str, int]:
    """Records of this process by how they ended."""
    return _by_label(_OUTCOMES, stage, "outcome")


def counted_dead_letters(stage: str) -> dict[str, int]:
    """Dead letters of this process by reason."""
    return _by_label(_DEAD_LETTERS, stage, "reason")


def _by_label(counter: Counter, stage: str, label: str) -> dict[str, int]:
    return {
        sample.labels[label]: int(sample.value)
        for metric in counter.collect()
        for sample in metric.samples
        if sample.name.endswith("_total") and sample.labels["stage"] == stage
    }


class OutcomeObserver:
    """The `Observer` of a worker process.

    Args:
        stage: The label on every metric.
    """

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._counters: dict[type[Outcome], Counter] = {}
        self._debug = logging.getLogger(__name__).isEnabledFor(logging.DEBUG)

    def outcome(self, record: Received, outcome: Outcome) -> None:
        """Count it; log what is out of the ordinary."""
        kind = type(outcome)
        counter = self._counters.get(kind)
        if counter is None:
            # Looking a label up for every record would cost more than counting it.
            counter = self._counters[kind] = _OUTCOMES.labels(self._stage, kind.__name__.lower())
        counter.inc()
        if isinstance(outcome, DeadLettered):
            _DEAD_LETTERS.labels(self._stage, outcome.reason.value).inc()
            _log.warning("record dead-lettered", stage=self._stage, record=letter_id(record), reason=outcome.reason)
        elif isinstance(outcome, Erased | Lifted | Expired):
            _log.info("session command obeyed", stage=self._stage, record=letter_id(record), command=kind)
        elif isinstance(outcome, Reemitted):
            _log.info("stored result emitted again", stage=self._stage, record=letter_id(record), cause=outcome.cause)
        elif self._debug:
            _log.debug("record done", stage=self._stage, record=letter_id(record), outcome=kind.__name__)

    def waiting(self, what: str, since_ms: int | None) -> None:
        """Log the begin and the end of a wait."""
        _WAITING.labels(self._stage, what).set(0 if since_ms is None else since_ms / 1000)
        if since_ms is None:
            _log.info("no longer waiting", stage=self._stage, what=what)
        else:
            since = datetime.fromtimestamp(since_ms / 1000, UTC).isoformat(timespec="seconds")
            _log.warning("waiting, consumption pauses", stage=self._stage, what=what, since=since)
