"""Which conversations go into the next batch: as many as fit into it and under the budget's caps.

From: the pending items of store.py. To: run.py, with what they can cost at most reserved.
"""

from __future__ import annotations

from collections.abc import Callable

import orjson

from nexus_stream.backfill.asking import Asking
from nexus_stream.backfill.estimate import Estimate, Estimator
from nexus_stream.backfill.records import Item
from nexus_stream.backfill.store import Store
from nexus_stream.errors import BudgetExhaustedError, OverBudgetError
from nexus_stream.extraction.claude.budget import Budget

__all__ = ["Fitting"]


class Fitting:
    """Chooses items, in their order.

    Args:
        store: The run.
        asking: Their requests.
        estimator: With the price in a batch.
        budget: Where they are reserved.
        batch_requests: Of one batch.
        batch_bytes: Of all its requests.
        too_dear: Told of an item that alone could cost more than a whole cap: no batch will ever hold it. In a
            transaction.
    """

    def __init__(
        self,
        *,
        store: Store,
        asking: Asking,
        estimator: Estimator,
        budget: Budget,
        batch_requests: int,
        batch_bytes: int,
        too_dear: Callable[[Item, OverBudgetError], None],
    ) -> None:
        self._store = store
        self._asking = asking
        self._estimator = estimator
        self._budget = budget
        self._batch_requests = batch_requests
        self._batch_bytes = batch_bytes
        self._too_dear = too_dear

    def reserve(self) -> tuple[list[Item], Estimate]:
        """The next items and what is reserved for them; none if nothing is pending.

        Raises:
            BudgetExhaustedError: not even the first one fits now.
        """
        items, estimates = self._next()
        while items:
            estimate = sum(estimates, Estimate())
            try:
                self._budget.reserve(estimate.at_most_usd)
            except OverBudgetError as error:
                if len(items) == 1:
                    with self._store.transaction():
                        self._too_dear(items[0], error)
                    items, estimates = self._next()
                    continue
            except BudgetExhaustedError:
                if len(items) == 1:
                    raise
            else:
                return items, estimate
            del items[len(items) // 2 :], estimates[len(estimates) // 2 :]
        return [], Estimate()

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
