"""The enricher without counting, timing and logging how records end: ``faust -A benchmarks.overhead_off worker``.

Only benchmarks/overhead.py starts it. The product has no such switch: here the parts are taken out before the app is
made.
"""

from __future__ import annotations

from nexus_stream.delivery.outcomes import Outcome
from nexus_stream.delivery.received import Received
from nexus_stream.delivery.timings import Untimed
from nexus_stream.observability import metrics_stage, outcomes

__all__ = ["app"]


def _untold(self: outcomes.OutcomeObserver, record: Received, outcome: Outcome) -> None:
    return None


def _untimed(stage: str) -> Untimed:
    return Untimed()


outcomes.OutcomeObserver.outcome = _untold  # type: ignore[method-assign]
metrics_stage.StageTimings = _untimed  # type: ignore[misc,assignment]

from nexus_stream.enricher import app  # noqa: E402 - after the parts are out
