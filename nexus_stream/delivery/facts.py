"""Numbers a stage keeps of its own work, for status and metrics: how long things took, what Claude used.

From: the stages. To: observability/status.py. Pure; bounded memory.
"""

from __future__ import annotations

import math
from collections import deque

from nexus_stream.delivery.timings import Timings, Untimed

__all__ = ["Facts"]

# Of each stage the newest so many; at 100 records/s the percentiles then stand on the last 40 s.
_MAX_LATENCIES = 4096


class Facts:
    """Counters and recent latencies of one stage.

    Args:
        timings: Told of every latency too.

    Attributes:
        input_tokens: Since the process started; so are the next two.
        output_tokens: As the model counted them.
        cost_usd: At list price.
        newest_due_done: Of what was finished the latest time it was due; seconds, monotonic.
    """

    def __init__(self, timings: Timings | None = None) -> None:
        self._timings = timings or Untimed()
        self.newest_due_done = float("-inf")
        self.input_tokens = 0
        self.output_tokens = 0
        self.cost_usd = 0.0
        self._latencies: deque[tuple[float, float]] = deque(maxlen=_MAX_LATENCIES)

    def took(self, seconds: float, now: float) -> None:
        """Note that something was finished.

        Args:
            seconds: From when it was due.
            now: Seconds, monotonic.
        """
        seconds = max(0.0, seconds)
        self._latencies.append((now, seconds))
        self.newest_due_done = max(self.newest_due_done, now - seconds)
        self._timings.done(seconds)

    def spent(self, input_tokens: int, output_tokens: int, cost_usd: float) -> None:
        """Note what one answer used."""
        self.input_tokens += input_tokens
        self.output_tokens += output_tokens
        self.cost_usd += cost_usd

    def percentiles(self, shares: tuple[float, ...], since: float) -> tuple[float | None, ...]:
        """Latencies in seconds at those shares (0.95, say), of what was finished since; None without any."""
        recent = sorted(seconds for at, seconds in self._latencies if at >= since)
        if not recent:
            return (None,) * len(shares)
        # Nearest rank: the smallest value that at least that share of all is not above.
        return tuple(recent[max(0, math.ceil(share * len(recent)) - 1)] for share in shares)
