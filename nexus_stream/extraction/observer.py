"""Port for metrics of calls to Claude; observability/metrics_extraction.py implements it.

No text of a conversation passes here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

__all__ = ["CacheResult", "CallOutcome", "ExtractionObserver", "Unobserved"]

CallOutcome = Literal[
    "ok",
    "refused",
    "truncated",
    "bad_answer",
    "rate_limited",
    "overloaded",
    "spend_limit",
    "timeout",
    "connection",
    "rejected",
    "error",
]
CacheResult = Literal["hit", "miss", "error"]


class ExtractionObserver(Protocol):
    """Receives the outcomes of requests, the payments, the cache results and the budget."""

    def request_ended(self, outcome: CallOutcome, seconds: float) -> None:
        """One request ended, ``seconds`` after it was sent."""
        ...

    def paid(self, *, input_tokens: int, output_tokens: int, cache_read_tokens: int, cost_usd: float) -> None:
        """An answer came and was billed, usable or not."""
        ...

    def looked_up(self, result: CacheResult) -> None:
        """The cache was read; ``error`` means that it does not answer."""
        ...

    def has_budget(self, period: str, cap_usd: float, spent_usd: Callable[[], float]) -> None:
        """There is a cap for ``hour`` or ``day``; ``spent_usd`` returns how much of it is spent."""
        ...


class Unobserved:
    """An observer that ignores everything, for commands and tests."""

    def request_ended(self, outcome: CallOutcome, seconds: float) -> None:
        """Do nothing."""

    def paid(self, *, input_tokens: int, output_tokens: int, cache_read_tokens: int, cost_usd: float) -> None:
        """Do nothing."""

    def looked_up(self, result: CacheResult) -> None:
        """Do nothing."""

    def has_budget(self, period: str, cap_usd: float, spent_usd: Callable[[], float]) -> None:
        """Do nothing."""
