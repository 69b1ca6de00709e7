"""Who is told what asking Claude takes; counting lives behind it (observability/metrics_extraction.py).

From: claude.py, cached.py and factory.py. No text of a conversation passes here.
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
    """Told of requests, of what was paid, of the cache and of the budget."""

    def request_ended(self, outcome: CallOutcome, seconds: float) -> None:
        """One request ended; seconds since it was sent."""
        ...

    def paid(self, *, input_tokens: int, output_tokens: int, cache_read_tokens: int, cost_usd: float) -> None:
        """An answer came, whether it could be used or not."""
        ...

    def looked_up(self, result: CacheResult) -> None:
        """The cache was asked; ``error``: it does not answer."""
        ...

    def has_budget(self, period: str, cap_usd: float, spent_usd: Callable[[], float]) -> None:
        """There is a cap for ``hour`` or ``day``; ``spent_usd`` tells what of it is used."""
        ...


class Unobserved:
    """Nobody is told: commands and tests."""

    def request_ended(self, outcome: CallOutcome, seconds: float) -> None:
        """Nothing."""

    def paid(self, *, input_tokens: int, output_tokens: int, cache_read_tokens: int, cost_usd: float) -> None:
        """Nothing."""

    def looked_up(self, result: CacheResult) -> None:
        """Nothing."""

    def has_budget(self, period: str, cap_usd: float, spent_usd: Callable[[], float]) -> None:
        """Nothing."""
