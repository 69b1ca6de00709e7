"""Metrics of calls to Claude: requests by outcome, their time, tokens and cost; the cache; the budget.

Prometheus reads the metrics. The worker's status also shows the budget.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final, get_args

from prometheus_client import Counter, Gauge, Histogram

from nexus_stream.contracts.status import BudgetStanding
from nexus_stream.extraction.observer import CacheResult, CallOutcome, ModelCall, untraced

__all__ = ["ExtractionMetrics"]

_REQUESTS = Counter("nexus_claude_requests_total", "Requests to Claude by how they ended", ["outcome"])
_SECONDS = Histogram(
    "nexus_claude_request_seconds",
    "From sending a request to Claude to its end; waiting for the allowance is not in it",
    buckets=(0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0),
)
_TOKENS = Counter("nexus_claude_tokens_total", "Tokens as the API counted them", ["kind"])
_COST = Counter("nexus_claude_cost_usd_total", "What Claude's answers cost at list price, in USD")
_LOOKUPS = Counter("nexus_cache_lookups_total", "Questions to the cache of answers by what came of them", ["result"])
_CAP = Gauge("nexus_budget_usd", "This worker's cap on spending, in USD", ["period"])
_SPENT = Gauge("nexus_budget_spent_usd", "Spent in the last hour or day, in USD", ["period"])

_KINDS: Final = ("input", "output", "cache_read")


class ExtractionMetrics:
    """The `ExtractionObserver` of an enricher that calls Claude.

    Args:
        model_call: Makes the span of a request. The process's tracing, if traces are exported.
    """

    def __init__(self, model_call: Callable[[str, int], AbstractContextManager[ModelCall]] = untraced) -> None:
        self.model_call = model_call
        # Create all series at the start, so that the first event of a kind counts as an increase.
        self._requests = {outcome: _REQUESTS.labels(outcome) for outcome in get_args(CallOutcome)}
        self._lookups = {result: _LOOKUPS.labels(result) for result in get_args(CacheResult)}
        self._budgets: dict[str, tuple[float, Callable[[], float]]] = {}
        self._tokens = [_TOKENS.labels(kind) for kind in _KINDS]

    def request_ended(self, outcome: CallOutcome, seconds: float) -> None:
        """See `ExtractionObserver`."""
        self._requests[outcome].inc()
        _SECONDS.observe(seconds)

    def paid(self, *, input_tokens: int, output_tokens: int, cache_read_tokens: int, cost_usd: float) -> None:
        """See `ExtractionObserver`."""
        for counter, tokens in zip(self._tokens, (input_tokens, output_tokens, cache_read_tokens), strict=True):
            counter.inc(tokens)
        _COST.inc(cost_usd)

    def looked_up(self, result: CacheResult) -> None:
        """See `ExtractionObserver`."""
        self._lookups[result].inc()

    def has_budget(self, period: str, cap_usd: float, spent_usd: Callable[[], float]) -> None:
        """See `ExtractionObserver`. The spent amount is read at each scrape, because it also falls with time."""
        _CAP.labels(period).set(cap_usd)
        _SPENT.labels(period).set_function(spent_usd)
        self._budgets[period] = (cap_usd, spent_usd)

    def budgets(self) -> list[BudgetStanding]:
        """The caps of this worker and the money spent of each, for its status."""
        return [
            BudgetStanding(period="hour" if period == "hour" else "day", cap_usd=cap_usd, spent_usd=spent_usd())
            for period, (cap_usd, spent_usd) in self._budgets.items()
        ]
