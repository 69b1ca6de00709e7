"""Use the offline rules where the model does not read. The record then has the rules' labels, and the reason.

- A conversation that the model cannot read (a refusal, an unreadable answer): the enricher stores the rules' reading,
  and sends the dead letter too (`Fallback.read_instead`).
- The budget's cap, with ``NEXUS_BUDGET_FALLBACK=offline``: the rules read, and there is no dead letter.

Other failures are raised, because they end by themselves. That includes a cap whose rest is only reserved by calls
under way.
"""

from __future__ import annotations

from collections.abc import Sequence

from nexus_stream.errors import BudgetExhaustedError, BudgetReservedError, OverBudgetError, Reason
from nexus_stream.extraction.extractor import Extractor, Findings, HasSubstitute, Remembers, Turn

__all__ = ["Fallback"]


class Fallback:
    """An `Extractor` with a substitute for conversations that it cannot read.

    Args:
        first: The extractor that is used.
        instead: The substitute: the offline rules.
        at_cap: Whether the substitute also reads when the first extractor has no budget.
    """

    def __init__(self, first: Extractor, instead: HasSubstitute, *, at_cap: bool) -> None:
        self.labels = first.labels
        self._first = first
        self._instead = instead
        self._at_cap = at_cap

    async def extract(self, turns: Sequence[Turn], region: str | None = None) -> Findings:
        """Read the turns with the first extractor, or with the substitute if the budget is spent.

        Raises:
            BudgetReservedError: the budget's rest is reserved by calls under way: try again when a call has ended.
        """
        reason: Reason | None = None
        try:
            return await self._first.extract(turns, region)
        except BudgetReservedError:
            raise
        except BudgetExhaustedError:
            if not self._at_cap:
                raise
        except OverBudgetError as error:
            if not self._at_cap:
                raise
            reason = error.reason
        return await self.read_instead(turns, reason, region)

    async def read_instead(self, turns: Sequence[Turn], reason: Reason | None, region: str | None = None) -> Findings:
        """See `HasSubstitute`."""
        return await self._instead.read_instead(turns, reason, region)

    async def forget(self) -> None:
        """See `Remembers.forget`; the rules store nothing."""
        if isinstance(self._first, Remembers):
            await self._first.forget()

    async def close(self) -> None:
        """Close the first extractor; the rules hold nothing."""
        await self._first.close()
