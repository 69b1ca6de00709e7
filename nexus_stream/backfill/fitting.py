"""Choose the conversations of the next batch: as many as fit into the batch and under the budget's caps.

Their maximum cost is reserved in the budget.
"""

from __future__ import annotations

from collections.abc import Callable

import orjson

from nexus_stream.backfill.asking import Asking
from nexus_stream.backfill.estimate import Estimate, Estimator
from nexus_stream.backfill.records import Item
from nexus_stream.backfill.store import RunStore
from nexus_stream.errors import BudgetExhaustedError, OverBudgetError
from nexus_stream.extraction.claude.budget import Budget

__all__ = ["LIMIT", "Fitting"]

# Outcome of an item that was not asked because of the run's limit.
LIMIT = "limit"


class Fitting:
    """Chooses pending items, in order.

    Args:
        store: The state of the run.
        asking: Builds their requests.
        estimator: Estimates at the price in a batch.
        budget: Reserves their maximum cost.
        batch_requests: Maximum number of requests in a batch.
        batch_bytes: Maximum size of a batch.
        at_most_usd: Limit on the cost of the run, with all that is asked now; None for no limit.
        over_cap: Called, in a transaction, with an item that alone could cost more than a whole cap: no batch can
            have it.
    """

    def __init__(
        self,
        *,
        store: RunStore,
        asking: Asking,
        estimator: Estimator,
        budget: Budget,
        batch_requests: int,
        batch_bytes: int,
        at_most_usd: float | None,
        over_cap: Callable[[Item, OverBudgetError], None],
    ) -> None:
        self._store = store
        self._asking = asking
        self._estimator = estimator
        self._budget = budget
        self._batch_requests = batch_requests
        self._batch_bytes = batch_bytes
        self._at_most_usd = at_most_usd
        self._over_cap = over_cap

    def reserve(self) -> tuple[list[Item], Estimate]:
        """Choose the next items and reserve their cost; no items if nothing is pending.

        Raises:
            BudgetExhaustedError: not even the first item fits now.
        """
        items, estimates = self._next()
        if items and self._at_most_usd is not None:
            items, estimates = self._within(self._at_most_usd, items, estimates)
        while items:
            estimate = sum(estimates, Estimate())
            try:
                self._budget.reserve(estimate.at_most_usd)
            except OverBudgetError as error:
                if len(items) == 1:
                    with self._store.transaction():
                        self._over_cap(items[0], error)
                    items, estimates = self._next()
                    continue
            except BudgetExhaustedError:
                if len(items) == 1:
                    raise
            else:
                return items, estimate
            del items[len(items) // 2 :], estimates[len(estimates) // 2 :]
        return [], Estimate()

    def _within(
        self, at_most_usd: float, items: list[Item], estimates: list[Estimate]
    ) -> tuple[list[Item], list[Estimate]]:
        """Those of the items that cannot exceed the limit. If none can be asked any more, all that wait are skipped."""
        left_usd = at_most_usd - self._store.committed_usd()
        fitting = 0
        while fitting < len(items) and (left_usd := left_usd - estimates[fitting].at_most_usd) >= 0:
            fitting += 1
        if not fitting and not self._store.counts().open_batches:
            with self._store.transaction():
                for item in self._store.all_items("pending"):
                    self._store.skip(item, LIMIT)
        return items[:fitting], estimates[:fitting]

    def _next(self) -> tuple[list[Item], list[Estimate]]:
        items: list[Item] = []
        estimates: list[Estimate] = []
        size_bytes = 0
        for item in self._store.all_items("pending"):
            size_bytes += len(orjson.dumps(self._asking.request(item, 0)))
            if items and size_bytes > self._batch_bytes:
                break
            items.append(item)
            estimates.append(self._estimator.of("".join(self._asking.texts(item))))
            if len(items) >= self._batch_requests:
                break
        return items, estimates
