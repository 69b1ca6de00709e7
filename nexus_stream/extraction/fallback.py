"""At the budget's cap, let the offline rules answer instead of waiting, labelled as theirs.

Between the enricher and Claude, with ``NEXUS_BUDGET_FALLBACK=offline``. Other failures pass: they end by themselves,
also a cap that is not spent but set aside for calls under way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nexus_stream.errors import BudgetExhaustedError, BudgetReservedError, OverBudgetError
from nexus_stream.extraction.extractor import Extractor, Findings, MadeBy, Remembers, Turn

__all__ = ["BudgetFallback"]


class BudgetFallback:
    """An `Extractor` that asks another one when the first may not spend.

    Args:
        first: Asked while there is budget.
        instead: Asked otherwise; its name, model and prompt version are in ``made_by``.
    """

    def __init__(self, first: Extractor, instead: Extractor) -> None:
        self._first = first
        self._instead = instead

    @property
    def name(self) -> str:
        """Of the first extractor."""
        return self._first.name

    @property
    def model(self) -> str | None:
        """Of the first extractor."""
        return self._first.model

    @property
    def prompt_version(self) -> str | None:
        """Of the first extractor."""
        return self._first.prompt_version

    async def extract(self, turns: Sequence[Turn]) -> Findings:
        """Read the turns with whichever may.

        Raises:
            BudgetReservedError: there is budget, and calls under way could need it: try again when one has ended.
        """
        try:
            return await self._first.extract(turns)
        except BudgetReservedError:
            raise
        except (BudgetExhaustedError, OverBudgetError):
            pass
        return replace(await self._instead.extract(turns), made_by=MadeBy.of(self._instead))

    async def forget(self) -> None:
        """See `Remembers.forget`; the rules keep nothing."""
        if isinstance(self._first, Remembers):
            await self._first.forget()

    async def close(self) -> None:
        """Close both."""
        await self._first.close()
        await self._instead.close()
