"""A token bucket per client address, in bounded memory.

Each client may send a minute's worth at once and is refilled evenly. Kept as one number a client, the moment at which
its bucket is full again (the generic cell rate algorithm, ATM Forum TM 4.0), so there is nothing to refill by timer.
Each process counts for itself: N gateways behind one address allow N times the rate.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

__all__ = ["MAX_CLIENTS", "RateLimiter"]

_BURST_SECONDS = 60.0
# About 100 bytes each. When all are busy the one seen longest ago is forgotten, which gives it a full bucket.
MAX_CLIENTS = 50_000


class RateLimiter:
    """Says how long a client has to wait.

    Args:
        requests_per_minute: What one client may send, in a burst or evenly.
        max_clients: Clients remembered at the same time.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        requests_per_minute: int,
        *,
        max_clients: int = MAX_CLIENTS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds_per_request = _BURST_SECONDS / requests_per_minute
        self._max_clients = max_clients
        self._clock = clock
        self._full_again_at: OrderedDict[bytes, float] = OrderedDict()

    def take(self, client: bytes) -> float:
        """Take one token.

        Returns:
            0.0 when there was one; else the seconds until there is, and nothing was taken.
        """
        now = self._clock()
        self._forget_idle(now)
        full_at = max(self._full_again_at.get(client, now), now) + self._seconds_per_request
        # A rounding error must not cost the last request of a burst.
        wait = full_at - now - _BURST_SECONDS
        if wait > 1e-6:
            return wait
        self._full_again_at[client] = full_at
        self._full_again_at.move_to_end(client)
        if len(self._full_again_at) > self._max_clients:
            self._full_again_at.popitem(last=False)
        return 0.0

    def _forget_idle(self, now: float) -> None:
        # Two a call: more than one call can add, so the table shrinks, and no call pays for a large sweep.
        for _ in range(2):
            oldest = next(iter(self._full_again_at), None)
            if oldest is None or self._full_again_at[oldest] > now:
                return
            del self._full_again_at[oldest]

    def __len__(self) -> int:
        """Clients remembered now."""
        return len(self._full_again_at)
