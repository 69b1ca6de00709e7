"""Port for metrics and spans of calls to Claude. No text of a conversation passes here.

extraction/metrics.py implements the port for the enricher.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, Protocol

__all__ = ["CacheResult", "CallOutcome", "ExtractionObserver", "ModelCall", "Unobserved", "untraced"]

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


class ModelCall(Protocol):
    """A request to a model, while it runs."""

    def answered(
        self, *, input_tokens: int, output_tokens: int, cache_read_tokens: int, cost_usd: float, stop_reason: str
    ) -> None:
        """The request was answered."""
        ...

    def failed(self, kind: str) -> None:
        """The request failed; ``kind`` is an error class or an HTTP status."""
        ...


class _Untraced:
    def answered(self, **_: object) -> None:
        pass

    def failed(self, kind: str) -> None:
        pass


def untraced(model: str, max_tokens: int) -> AbstractContextManager[ModelCall]:
    """A `ModelCall` without a span."""
    return nullcontext(_Untraced())


class ExtractionObserver(Protocol):
    """Told of requests, of what was paid, of the cache and of the budget."""

    def model_call(self, model: str, max_tokens: int) -> AbstractContextManager[ModelCall]:
        """The span of one request, to be held open while the request runs."""
        ...

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

    def model_call(self, model: str, max_tokens: int) -> AbstractContextManager[ModelCall]:
        """No span."""
        return untraced(model, max_tokens)

    def request_ended(self, outcome: CallOutcome, seconds: float) -> None:
        """Nothing."""

    def paid(self, *, input_tokens: int, output_tokens: int, cache_read_tokens: int, cost_usd: float) -> None:
        """Nothing."""

    def looked_up(self, result: CacheResult) -> None:
        """Nothing."""

    def has_budget(self, period: str, cap_usd: float, spent_usd: Callable[[], float]) -> None:
        """Nothing."""
