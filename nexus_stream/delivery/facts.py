"""Numbers of a stage's work for status and metrics: latencies, Claude's tokens and cost, and what was not read.

Pure; bounded memory.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from typing import Final

from nexus_stream.contracts.plain_form import Noticed
from nexus_stream.contracts.refusal_codes import RefusalCode
from nexus_stream.delivery.timings import Timings, Untimed

__all__ = ["CUT_PARTS", "Facts"]

CUT_PARTS: Final = ("turns", "characters")

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
        ignored: Fields that were no id or no object, by name and why.
        left_out: Turns and parts that were not read, by kind.
        cut: Conversations that lost turns, or characters of a turn.
    """

    def __init__(self, timings: Timings | None = None) -> None:
        self._timings = timings or Untimed()
        self.newest_due_done = float("-inf")
        self.input_tokens = 0
        self.output_tokens = 0
        self.cost_usd = 0.0
        self.ignored: Counter[tuple[str, str]] = Counter()
        self.left_out: Counter[str] = Counter()
        self.cut: Counter[str] = Counter()
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

    def noticed(self, noticed: Noticed) -> None:
        """Note what the reading of one conversation left out, ignored and cut."""
        self.ignored.update(noticed.ignored.items())
        self.left_out.update(noticed.left_out)
        self.cut.update(what for what in CUT_PARTS if getattr(noticed.cut, what))

    def refused(self, code: str | None) -> None:
        """Note a refused conversation, if its session id was a placeholder."""
        if code == RefusalCode.SESSION_ID_PLACEHOLDER:
            self.ignored["session_id", "placeholder"] += 1

    def percentiles(self, shares: tuple[float, ...], since: float) -> tuple[float | None, ...]:
        """Latencies in seconds at those shares (for example 0.95) of the work finished since then; None if none was."""
        recent = sorted(seconds for at, seconds in self._latencies if at >= since)
        if not recent:
            return (None,) * len(shares)
        # Nearest rank: the smallest latency such that at least this share of all latencies is not above it.
        return tuple(recent[max(0, math.ceil(share * len(recent)) - 1)] for share in shares)
