"""Numbers of a stage's work for status and metrics: latencies, and Claude's tokens and cost.

Pure; bounded memory.
"""

from __future__ import annotations

import math
from collections import deque

from nexus_stream.delivery.timings import Timings, Untimed

__all__ = ["Facts"]

# The newest latencies of a stage. At 100 records/s the percentiles cover the last 40 s.
_MAX_LATENCIES = 4096


class Facts:
    """Counters and recent latencies of one stage.

    Args:
        timings: Receives every latency too.

    Attributes:
        input_tokens: Since the process started, as the model counted them.
        output_tokens: Likewise.
        cost_usd: Since the process started, at list price.
        newest_due_done: The latest due time among the finished work; monotonic seconds.
    """

    def __init__(self, timings: Timings | None = None) -> None:
        self._timings = timings or Untimed()
        self.newest_due_done = float("-inf")
        self.input_tokens = 0
        self.output_tokens = 0
        self.cost_usd = 0.0
        self._latencies: deque[tuple[float, float]] = deque(maxlen=_MAX_LATENCIES)

    def took(self, seconds: float, now: float) -> None:
        """Note finished work.

        Args:
            seconds: Time since the work was due.
            now: Monotonic seconds.
        """
        seconds = max(0.0, seconds)
        self._latencies.append((now, seconds))
        self.newest_due_done = max(self.newest_due_done, now - seconds)
        self._timings.done(seconds)

    def spent(self, input_tokens: int, output_tokens: int, cost_usd: float) -> None:
        """Note the tokens and cost of one answer."""
        self.input_tokens += input_tokens
        self.output_tokens += output_tokens
        self.cost_usd += cost_usd

    def percentiles(self, shares: tuple[float, ...], since: float) -> tuple[float | None, ...]:
        """Latencies in seconds at those shares (for example 0.95) of the work finished since then; None if none was."""
        recent = sorted(seconds for at, seconds in self._latencies if at >= since)
        if not recent:
            return (None,) * len(shares)
        # Nearest rank: the smallest latency such that at least this share of all latencies is not above it.
        return tuple(recent[max(0, math.ceil(share * len(recent)) - 1)] for share in shares)
