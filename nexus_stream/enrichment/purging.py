"""Cleaning up after erasures: an erased session's old values may still be in local files and in the answer cache.

Once an erasure is durable, the table's local files are rewritten and the cache is emptied. After a crash, the store's
compaction and the cache's expiry do it later.
"""

from __future__ import annotations

import asyncio

from nexus_stream.delivery.clock import Clock
from nexus_stream.delivery.received import Received
from nexus_stream.errors import PartitionLostError
from nexus_stream.extraction.extractor import Extractor, Remembers
from nexus_stream.host.log import get_logger
from tables.sessions import SessionTablePort

__all__ = ["Purging"]

_log = get_logger(__name__)

# The pause before each purge, so that one purge serves several erasures.
_PURGE_SECONDS = 2.0


class Purging:
    """Collects sessions to purge, and purges several at a time."""

    def __init__(self, *, table: SessionTablePort, extractor: Extractor, clock: Clock) -> None:
        self._table = table
        self._extractor = extractor
        self._clock = clock
        self._to_purge: dict[bytes, Received] = {}
        self._wanted = asyncio.Event()
        self._cache_to_empty = False

    def want(self, key: bytes, record: Received) -> None:
        """Request that a session's old values are removed from the local files."""
        self._to_purge[key] = record
        self._wanted.set()

    def want_cache_emptied(self) -> None:
        """Request that the answer cache is emptied."""
        self._cache_to_empty = True
        self._wanted.set()

    def clear(self) -> None:
        """Forget the sessions: their partitions were revoked."""
        self._to_purge.clear()

    async def run(self) -> None:
        """Purge on request, as long as the stage runs."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            await self._clock.sleep(_PURGE_SECONDS)
            by_partition: dict[int, list[tuple[bytes, Received]]] = {}
            for key, record in self._to_purge.items():
                by_partition.setdefault(record.partition, []).append((key, record))
            self._to_purge.clear()
            if self._cache_to_empty and isinstance(self._extractor, Remembers):
                self._cache_to_empty = False
                try:
                    await self._extractor.forget()
                except Exception:
                    _log.exception("cache not emptied, its entries expire by themselves")
            for entries in by_partition.values():
                try:
                    await self._table.purge(entries[-1][1], [key for key, _ in entries])
                except PartitionLostError:
                    continue
                except Exception:
                    _log.exception("local files not purged, the store's own compaction will", sessions=len(entries))
