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
    """Receives the outcomes of requests, the payments, the cache results and the budget."""

    def model_call(self, model: str, max_tokens: int) -> AbstractContextManager[ModelCall]:
        """The span of one request, to be held open while the request runs."""
        ...

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

    def model_call(self, model: str, max_tokens: int) -> AbstractContextManager[ModelCall]:
        """No span."""
        return untraced(model, max_tokens)

    def request_ended(self, outcome: CallOutcome, seconds: float) -> None:
        """Do nothing."""

    def paid(self, *, input_tokens: int, output_tokens: int, cache_read_tokens: int, cost_usd: float) -> None:
        """Do nothing."""

    def looked_up(self, result: CacheResult) -> None:
        """Do nothing."""

    def has_budget(self, period: str, cap_usd: float, spent_usd: Callable[[], float]) -> None:
        """Do nothing."""
