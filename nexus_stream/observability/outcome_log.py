"""One log event per finished record: its message id, topic, partition and offset, its outcome, and ids as hashes.

Ordinary outcomes are lines of event_lines.py (``NEXUS_LOG_OUTCOMES``). Dead letters are warnings. Commands and stored
results that were emitted again are always logged.
"""

from __future__ import annotations

import time
from typing import Any

from nexus_stream.contracts.headers import CORRELATION_ID_HEADER, REDRIVE_HEADER
from nexus_stream.delivery.outcomes import (
    DeadLettered,
    Enriched,
    Erased,
    Expired,
    Outcome,
    Reemitted,
    Superseded,
    Unblocked,
)
from nexus_stream.delivery.received import Received
from nexus_stream.host.log import get_logger
from nexus_stream.observability.event_lines import EventLines, hashed, shown_id

__all__ = ["OutcomeLog"]

_log = get_logger(__name__)

_ALWAYS_LOGGED = (Erased, Unblocked, Expired, Reemitted)


class OutcomeLog:
    """The log of one stage.

    Args:
        stage: The field ``stage`` of every event.
    """

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._lines = EventLines(__name__)
        self._kinds: dict[type[Outcome], str] = {}

    def write(self, record: Received, outcome: Outcome) -> None:
        """Log the outcome of a record."""
        if isinstance(outcome, DeadLettered):
            fields = self._fields(record, outcome)
            fields["reason"] = outcome.reason.value
            if outcome.read_by:
                fields["extractor"] = outcome.read_by
            _log.warning("record dead-lettered", **fields)
        elif self._lines.is_on:
            self._lines.write("record done", self._fields(record, outcome))
        elif isinstance(outcome, _ALWAYS_LOGGED):
            _log.info("record done", **self._fields(record, outcome))

    def _fields(self, record: Received, outcome: Outcome) -> dict[str, Any]:
        kind = self._kinds.get(type(outcome))
        if kind is None:
            kind = self._kinds[type(outcome)] = type(outcome).__name__.lower()
        fields: dict[str, Any] = {
            "stage": self._stage,
            "outcome": kind,
            "topic": record.topic,
            "partition": record.partition,
            "offset": record.offset,
        }
        for name, value in record.headers:
            if name == CORRELATION_ID_HEADER:
                fields["message_id"] = shown_id(value)
            elif name == REDRIVE_HEADER:
                fields["redrive"] = int(value) if value.isdigit() and len(value) < 7 else 0
        if record.key:
            fields["session"] = hashed(record.key)
        if record.timestamp_ms > 0:
            fields["age_ms"] = round(time.time() * 1000) - record.timestamp_ms
        if isinstance(outcome, Enriched):
            fields["extractor"] = outcome.extractor
            fields["cached"] = outcome.is_cached
            fields["attempts"] = outcome.attempts
            fields["snapshots"] = outcome.snapshots
        elif isinstance(outcome, Superseded) and outcome.by is not None:
            by = outcome.by.header(CORRELATION_ID_HEADER)
            fields["by"] = outcome.by.offset if by is None else shown_id(by)
        elif isinstance(outcome, Reemitted):
            fields["cause"] = outcome.cause.value
        return fields
