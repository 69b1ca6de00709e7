"""The bound on pending work, for backpressure. When it is reached, the agent's loop waits and the consumer pauses.

The right size is (sessions per second) x (settle seconds + call seconds), see docs/reference/capacity.md. The defaults
fit one worker of a small site.
"""

from __future__ import annotations

import asyncio

__all__ = ["PendingBound"]


class PendingBound:
    """Counts pending items and their bytes. A new item must wait while either number is at its bound.

    If nothing is pending, an item of any size may enter: otherwise an item over the bound would block the stream.
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
        """Whether a caller waits for room."""
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
        """Whether an item of that size must wait."""
        return self._items > 0 and (self._items >= self._max_items or self._bytes + size_bytes > self._max_bytes)

    async def wait_for_room(self, size_bytes: int) -> None:
        """Return at once if an item of that size may enter, otherwise after the next release: check again then."""
        if self.is_full_for(size_bytes):
            self._freed.clear()
            self._waiting += 1
            try:
                await self._freed.wait()
            finally:
                self._waiting -= 1

    def add(self, size_bytes: int, items: int = 1) -> None:
        """Count bytes and an item; ``items=0`` if the bytes join a pending item."""
        self._items += items
        self._bytes += size_bytes

    def release(self, size_bytes: int, items: int = 1) -> None:
        """Undo an `add`."""
        self._items -= items
        self._bytes -= size_bytes
        self._freed.set()

    def reset(self) -> None:
        """Set both counts to 0, because all pending work was dropped."""
        self._items = 0
        self._bytes = 0
        self._freed.set()
