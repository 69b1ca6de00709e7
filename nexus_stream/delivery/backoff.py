"""The wait before a retry of the same conversation: exponential backoff with jitter.

Pure: no clock, no sleep; the caller passes the randomness. Only the enricher has a retry loop. Extractors never wait by
themselves, and the SDK's own retries are off, because nested loops multiply the attempts.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["BASE_SECONDS", "CAP_SECONDS", "backoff_seconds"]

BASE_SECONDS = 0.5
# A limited or overloaded model recovers within seconds. A longer wait would only increase the lag.
CAP_SECONDS = 30.0

_MAX_DOUBLINGS = 16


def backoff_seconds(attempt: int, retry_after_seconds: float | None, *, random: Callable[[], float]) -> float:
    """Exponential backoff with full jitter, never shorter than the server's Retry-After.

    Args:
        attempt: Number of failures so far, from 1.
        retry_after_seconds: The server's Retry-After, already capped; None if there is none.
        random: Returns a number in [0, 1), for example ``random.random``.

    Returns:
        Seconds: uniform in [0, min(30, 0.5 * 2^(attempt-1))), plus ``retry_after_seconds``. The sum, not the larger of
        the two: many sessions get the same Retry-After and must not retry at the same moment.
    """
    doublings = min(max(attempt, 1) - 1, _MAX_DOUBLINGS)
    jitter = random() * min(CAP_SECONDS, BASE_SECONDS * float(2**doublings))
    return max(0.0, retry_after_seconds or 0.0) + jitter
