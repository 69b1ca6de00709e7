"""The clock, injected wherever time decides something, so that a test can turn it by hand."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

__all__ = ["Clock", "SystemClock"]


class Clock(Protocol):
    """Monotonic time for waiting, wall-clock time for records."""

    def monotonic(self) -> float:
        """Seconds that only grow."""
        ...

    def time_ms(self) -> int:
        """Unix time in milliseconds."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Sleep that long on this clock."""
        ...

    async def wait(self, event: asyncio.Event, timeout_seconds: float | None) -> bool:
        """Wait for the event, at most that long on this clock; whether it is set."""
        ...


class SystemClock:
    """The machine's clock."""

    def monotonic(self) -> float:
        """Seconds that only grow."""
        return time.monotonic()

    def time_ms(self) -> int:
        """Unix time in milliseconds."""
        return time.time_ns() // 1_000_000

    async def sleep(self, seconds: float) -> None:
        """Sleep that long."""
        await asyncio.sleep(seconds)

    async def wait(self, event: asyncio.Event, timeout_seconds: float | None) -> bool:
        """Wait for the event, at most that long; whether it is set."""
        if event.is_set():
            return True
        try:
            async with asyncio.timeout(timeout_seconds):
                await event.wait()
        except TimeoutError:
            return False
        return True
