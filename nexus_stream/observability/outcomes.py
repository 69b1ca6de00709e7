"""Count and log the outcome of each record: Prometheus counters, and one log event per record (outcome_log.py)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, get_args

from prometheus_client import Counter, Gauge

from nexus_stream.delivery.outcomes import DeadLettered, Dropped, Enriched, Erased, Outcome, Stored, Suppressed
from nexus_stream.delivery.received import Received
from nexus_stream.errors import Reason
from nexus_stream.host.log import get_logger
from nexus_stream.observability.metrics_grounding import DroppedFields
from nexus_stream.observability.outcome_log import OutcomeLog

__all__ = ["OutcomeObserver", "counted_dead_letters", "counted_outcomes"]

_log = get_logger(__name__)

_OUTCOMES = Counter("nexus_records_total", "Records by how they ended", ["stage", "outcome"])
_DEAD_LETTERS = Counter("nexus_dead_letters_total", "Dead letters by reason", ["stage", "reason"])
_WAITING = Gauge("nexus_waiting_since_seconds", "Unix time since when a stage waits; 0 if not", ["stage", "what"])

_SINK_KINDS: Final[tuple[type[Outcome], ...]] = (Stored, Suppressed, Erased, DeadLettered, Dropped)
_SINK_REASONS: Final = (Reason.EMPTY, Reason.WRONG_SHAPE, Reason.ROW_REJECTED)
_ENRICHER_KINDS: Final[tuple[type[Outcome], ...]] = tuple(kind for kind in get_args(Outcome) if kind is not Stored)
_ENRICHER_REASONS: Final = tuple(reason for reason in Reason if reason is not Reason.ROW_REJECTED)


def counted_outcomes(stage: str) -> dict[str, int]:
    """Records of this process by outcome."""
    return _by_label(_OUTCOMES, stage, "outcome")


def counted_dead_letters(stage: str) -> dict[str, int]:
    """Dead letters of this process by reason."""
    return _by_label(_DEAD_LETTERS, stage, "reason")


def _by_label(counter: Counter, stage: str, label: str) -> dict[str, int]:
    return {
        sample.labels[label]: int(sample.value)
        for metric in counter.collect()
        for sample in metric.samples
        if sample.name.endswith("_total") and sample.labels["stage"] == stage and sample.value
    }


class OutcomeObserver:
    """The `Observer` of a worker process.

    Args:
        stage: The label on every metric.
    """

    def __init__(self, stage: str) -> None:
        self._stage = stage
        # A label lookup per record would cost more than the count. All possible series exist from the start, so that
        # the first record of a kind counts as an increase.
        self._counters: dict[type[Outcome], Counter] = {}
        self._letters: dict[Reason, Counter] = {}
        kinds, reasons = (_SINK_KINDS, _SINK_REASONS) if stage == "sink" else (_ENRICHER_KINDS, _ENRICHER_REASONS)
        for kind in kinds:
            self._counter_of(kind)
        for reason in reasons:
            self._letter_counter_of(reason)
        self._dropped = DroppedFields() if stage != "sink" else None
        self._log = OutcomeLog(stage)

    def outcome(self, record: Received, outcome: Outcome) -> None:
        """Count and log an outcome."""
        kind = type(outcome)
        (self._counters.get(kind) or self._counter_of(kind)).inc()
        if isinstance(outcome, DeadLettered):
            reason = outcome.reason
            (self._letters.get(reason) or self._letter_counter_of(reason)).inc()
        elif isinstance(outcome, Enriched) and self._dropped is not None:
            self._dropped.count(outcome.dropped_fields)
        self._log.write(record, outcome)

    def _counter_of(self, kind: type[Outcome]) -> Counter:
        counter = self._counters[kind] = _OUTCOMES.labels(self._stage, kind.__name__.lower())
        return counter

    def _letter_counter_of(self, reason: Reason) -> Counter:
        counter = self._letters[reason] = _DEAD_LETTERS.labels(self._stage, reason.value)
        return counter

    def waiting(self, what: str, since_ms: int | None) -> None:
        """Log the start and the end of a wait."""
        _WAITING.labels(self._stage, what).set(0 if since_ms is None else since_ms / 1000)
        if since_ms is None:
            _log.info("no longer waiting", stage=self._stage, what=what)
        else:
            since = datetime.fromtimestamp(since_ms / 1000, UTC).isoformat(timespec="seconds")
            _log.warning("waiting, consumption pauses", stage=self._stage, what=what, since=since)
