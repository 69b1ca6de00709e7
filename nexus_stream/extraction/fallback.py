"""At the budget's cap, use the offline rules instead of waiting. The record then has the rules' labels.

Active with ``NEXUS_BUDGET_FALLBACK=offline``. Other failures are raised, because they end by themselves. That includes
a cap whose rest is only reserved by calls under way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nexus_stream.errors import BudgetExhaustedError, BudgetReservedError, OverBudgetError
from nexus_stream.extraction.extractor import Extractor, Findings, Remembers, Turn

__all__ = ["BudgetFallback"]


class BudgetFallback:
    """An `Extractor` that uses a second extractor when the first has no budget.

    Args:
        first: Used while there is budget.
        instead: Used otherwise. Its labels are in ``made_by``.
    """

    def __init__(self, first: Extractor, instead: Extractor) -> None:
        self.labels = first.labels
        self._first = first
        self._instead = instead

    async def extract(self, turns: Sequence[Turn]) -> Findings:
        """Read the turns with the first extractor, or with the second if the budget is spent.

        Raises:
            BudgetReservedError: the budget's rest is reserved by calls under way: try again when a call has ended.
        """
        try:
            return await self._first.extract(turns)
        except BudgetReservedError:
            raise
        except (BudgetExhaustedError, OverBudgetError):
            pass
        return replace(await self._instead.extract(turns), made_by=self._instead.labels)

    async def forget(self) -> None:
        """See `Remembers.forget`; the rules store nothing."""
        if isinstance(self._first, Remembers):
            await self._first.forget()

    async def close(self) -> None:
        """Close both extractors."""
        await self._first.close()
        await self._instead.close()
