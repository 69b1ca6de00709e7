"""The clock, a parameter of all code that depends on time, so that tests can control time."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

__all__ = ["Clock", "SystemClock"]


class Clock(Protocol):
    """Monotonic time for waiting, wall-clock time for records."""

    def monotonic(self) -> float:
        """Monotonic seconds."""
        ...

    def time_ms(self) -> int:
        """Unix time in milliseconds."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Sleep for that time on this clock."""
        ...

    async def wait(self, event: asyncio.Event, timeout_seconds: float | None) -> bool:
        """Wait for the event, at most that time on this clock; return whether it is set."""
        ...


class SystemClock:
    """The machine's clock."""

    def monotonic(self) -> float:
        """Monotonic seconds."""
        return time.monotonic()

    def time_ms(self) -> int:
        """Unix time in milliseconds."""
        return time.time_ns() // 1_000_000

    async def sleep(self, seconds: float) -> None:
        """Sleep for that time."""
        await asyncio.sleep(seconds)

    async def wait(self, event: asyncio.Event, timeout_seconds: float | None) -> bool:
        """Wait for the event, at most that time; return whether it is set."""
        if event.is_set():
            return True
        try:
            async with asyncio.timeout(timeout_seconds):
                await event.wait()
        except TimeoutError:
            return False
        return True
