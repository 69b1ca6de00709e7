"""A token bucket per client address, in bounded memory.

Each client may send the requests of one minute in a burst; its bucket refills evenly. The limiter stores one number per
client: the moment when the bucket is full again (the generic cell rate algorithm, ATM Forum TM 4.0). No timer refills
buckets. Each process counts separately: N gateways behind one address allow N times the rate.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

__all__ = ["MAX_CLIENTS", "RateLimiter"]

_BURST_SECONDS = 60.0
# About 100 bytes each. Above this number the limiter forgets the client seen longest ago, which then has a full bucket.
MAX_CLIENTS = 50_000


class RateLimiter:
    """Computes how long a client must wait.

    Args:
        requests_per_minute: Limit per client, in a burst or evenly.
        max_clients: Clients remembered at the same time.
        clock: Monotonic seconds.
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
            0.0 if a token was taken; otherwise the seconds until the next token, and none was taken.
        """
        now = self._clock()
        self._forget_idle(now)
        full_at = max(self._full_again_at.get(client, now), now) + self._seconds_per_request
        # A rounding error must not refuse the last request of a burst.
        wait = full_at - now - _BURST_SECONDS
        if wait > 1e-6:
            return wait
        self._full_again_at[client] = full_at
        self._full_again_at.move_to_end(client)
        if len(self._full_again_at) > self._max_clients:
            self._full_again_at.popitem(last=False)
        return 0.0

    def _forget_idle(self, now: float) -> None:
        # Remove two clients per call. A call adds at most one, so the table shrinks, and no call does a large sweep.
        for _ in range(2):
            oldest = next(iter(self._full_again_at), None)
            if oldest is None or self._full_again_at[oldest] > now:
                return
            del self._full_again_at[oldest]

    def __len__(self) -> int:
        """Clients remembered now."""
        return len(self._full_again_at)
