"""A clock that stands still until a test advances it."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from typing import Any

__all__ = ["FakeClock"]

# Enough iterations of the event loop for a chain of tasks to finish between two points in time.
_SETTLE_TURNS = 50


class FakeClock:
    """A `Clock` that `advance` moves. Sleepers wake in order, each at its own time."""

    def __init__(self, *, time_ms: int = 1_750_000_000_000) -> None:
        self._monotonic = 1000.0
        self._time_ms = float(time_ms)
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._sequence = itertools.count()

    def monotonic(self) -> float:
        """Seconds since an arbitrary start."""
        return self._monotonic

    def time_ms(self) -> int:
        """Unix milliseconds."""
        return round(self._time_ms)

    async def sleep(self, seconds: float) -> None:
        """Sleep until the clock was advanced by that time."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        await self._timer(seconds)

    async def wait(self, event: asyncio.Event, timeout_seconds: float | None) -> bool:
        """Wait for the event or for the clock, whichever comes first."""
        if event.is_set():
            return True
        waiter = asyncio.ensure_future(event.wait())
        timer = None if timeout_seconds is None else self._timer(max(0.0, timeout_seconds))
        try:
            futures: set[asyncio.Future[Any]] = {waiter} if timer is None else {waiter, timer}
            await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiter.cancel()
            if timer is not None:
                timer.cancel()
        return event.is_set()

    async def advance(self, seconds: float) -> None:
        """Advance the clock. Each sleeper wakes at its time and acts before the next one wakes."""
        target = self._monotonic + seconds
        await self.settle()
        while self._sleepers and self._sleepers[0][0] <= target:
            wake_at, _, future = heapq.heappop(self._sleepers)
            if future.done():
                continue
            self._turn_to(wake_at)
            future.set_result(None)
            await self.settle()
        self._turn_to(target)
        await self.settle()

    async def settle(self) -> None:
        """Run all tasks that can run."""
        for _ in range(_SETTLE_TURNS):
            await asyncio.sleep(0)

    def _turn_to(self, monotonic: float) -> None:
        self._time_ms += (monotonic - self._monotonic) * 1000
        self._monotonic = monotonic

    def _timer(self, seconds: float) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._monotonic + seconds, next(self._sequence), future))
        return future
