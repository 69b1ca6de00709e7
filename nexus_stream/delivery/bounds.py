"""The bound on pending work: at it, the agent's loop waits, Faust's buffer fills and the consumer pauses.

Backpressure in one place. The right size is (sessions per second) x (settle seconds + call seconds), see
docs/reference/capacity.md; the defaults are meant for one worker of a small site.
"""

from __future__ import annotations

import asyncio

__all__ = ["PendingBound"]


class PendingBound:
    """Counts pending items and their bytes; who adds one waits while either is at its bound.

    One item larger than the bound on bytes is let in alone, so that it cannot stop the stream for ever.
    """

    def __init__(self, *, max_items: int, max_bytes: int) -> None:
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._items = 0
        self._bytes = 0
        self._freed = asyncio.Event()
        self._waiting = 0

    @property
    def is_waited_for(self) -> bool:
        """Whether somebody waits for room."""
        return self._waiting > 0

    @property
    def items(self) -> int:
        """Pending items."""
        return self._items

    @property
    def bytes(self) -> int:
        """Bytes of the pending items' values."""
        return self._bytes

    def is_full_for(self, size_bytes: int) -> bool:
        """Whether an item of that size has to wait."""
        return self._items > 0 and (self._items >= self._max_items or self._bytes + size_bytes > self._max_bytes)

    async def wait_for_room(self, size_bytes: int) -> None:
        """Return once an item of that size may come in, or something was freed: ask again."""
        if self.is_full_for(size_bytes):
            self._freed.clear()
            self._waiting += 1
            try:
                await self._freed.wait()
            finally:
                self._waiting -= 1

    def add(self, size_bytes: int, items: int = 1) -> None:
        """Count bytes in, and an item unless they join one (``items=0``)."""
        self._items += items
        self._bytes += size_bytes

    def release(self, size_bytes: int, items: int = 1) -> None:
        """Count out what `add` counted in."""
        self._items -= items
        self._bytes -= size_bytes
        self._freed.set()

    def reset(self) -> None:
        """Count nothing: all pending work was dropped."""
        self._items = 0
        self._bytes = 0
        self._freed.set()
