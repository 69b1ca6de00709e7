"""The enricher without metrics, timings and logs of outcomes: ``faust -A benchmarks.overhead_off worker``.

Only benchmarks/overhead.py starts it. The product has no such switch: this module replaces the parts before it creates
the app.
"""

from __future__ import annotations

from nexus_stream.delivery.outcomes import Outcome
from nexus_stream.delivery.received import Received
from nexus_stream.delivery.timings import Untimed
from nexus_stream.observability import metrics_stage, outcomes

__all__ = ["app"]


def _ignore_outcome(self: outcomes.OutcomeObserver, record: Received, outcome: Outcome) -> None:
    return None


def _untimed(stage: str) -> Untimed:
    return Untimed()


outcomes.OutcomeObserver.outcome = _ignore_outcome  # type: ignore[method-assign]
metrics_stage.StageTimings = _untimed  # type: ignore[misc,assignment]

from nexus_stream.enricher import app  # noqa: E402 - after the parts are replaced
