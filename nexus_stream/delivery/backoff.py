"""How long to wait before the same conversation is tried again.

From: a `RetryableError`'s ``retry_after_seconds`` and the number of failures so far. To: the one retry loop, in the
enricher. Pure: no clock, no sleep, the randomness is passed in. Extractors never wait by themselves and the SDK's own
retries are off, because nested loops multiply.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["BASE_SECONDS", "CAP_SECONDS", "backoff_seconds"]

BASE_SECONDS = 0.5
# A model that is limited or overloaded recovers within seconds; a longer wait would only add to the lag.
CAP_SECONDS = 30.0

_MAX_DOUBLINGS = 16


def backoff_seconds(attempt: int, retry_after_seconds: float | None, *, random: Callable[[], float]) -> float:
    """Exponential backoff with full jitter, never shorter than what the other side asked for.

    Args:
        attempt: How often it failed so far, from 1.
        retry_after_seconds: What the other side asked for, already capped by who raised the error; None for nothing.
        random: A number in [0, 1), for example ``random.random``.

    Returns:
        Seconds: uniform in [0, min(30, 0.5 * 2^(attempt-1))), added to ``retry_after_seconds`` when that is given.
        Added, not the larger of the two: many sessions are told the same time and must not come back at once.
    """
    doublings = min(max(attempt, 1) - 1, _MAX_DOUBLINGS)
    jitter = random() * min(CAP_SECONDS, BASE_SECONDS * float(2**doublings))
    return max(0.0, retry_after_seconds or 0.0) + jitter
