"""Extract equal turns once: reuse stored answers, and let concurrent callers share one call.

On a miss the wrapped extractor is called. Reused findings have ``cached`` set and cost nothing, so that no cost is
counted twice.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from nexus_stream.extraction.cache import FindingsCache, cache_key, decode_findings, encode_findings
from nexus_stream.extraction.extractor import Extractor, Findings, Turn, Usage
from nexus_stream.extraction.observer import ExtractionObserver, Unobserved

__all__ = ["CachedExtractor"]


@dataclass(slots=True)
class _Flight:
    """One call under way, and the number of callers that wait for it."""

    task: asyncio.Task[Findings]
    waiting: int = field(default=0)


class CachedExtractor:
    """An `Extractor` that puts a cache in front of another extractor.

    Args:
        extractor: Called on a miss. `close` closes it too.
        cache: Stores the answers. `close` closes it too.
        observer: Notified of the result of every look-up.
    """

    def __init__(self, extractor: Extractor, cache: FindingsCache, observer: ExtractionObserver | None = None) -> None:
        self.cache = cache
        self._observer = observer or Unobserved()
        self._extractor = extractor
        self.labels = extractor.labels
        self._flights: dict[str, _Flight] = {}

    async def extract(self, turns: Sequence[Turn], region: str | None = None) -> Findings:
        """Read the turns, or reuse the findings of equal turns. Raises the errors of the wrapped extractor."""
        started = time.monotonic()
        key = cache_key(self.labels, turns)
        flight = self._flights.get(key)
        if flight is not None and flight.task.done():
            # The call has ended, and its callback has not run yet. To wait for it would not pause. So a caller that
            # asks again after an error would never let the callback run.
            flight = None
        is_first = flight is None
        if flight is None:
            flight = self._flights[key] = _Flight(asyncio.get_running_loop().create_task(self._look_up(key, turns)))
            flight.task.add_done_callback(lambda task: self._ended(key, task))
        flight.waiting += 1
        try:
            # Shielded: a caller that gives up must not cancel the call for the others.
            findings = await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            if flight.waiting == 0 and not flight.task.done():
                # Removed at once: a new caller must not wait for a call that is being cancelled.
                self._forget(key, flight.task)
                flight.task.cancel()
        if is_first and not findings.cached:
            return findings
        waited_ms = round((time.monotonic() - started) * 1000, 3)
        return replace(findings, usage=Usage(latency_ms=waited_ms), cached=True)

    async def forget(self) -> None:
        """See `Remembers.forget`."""
        await self.cache.clear()

    async def close(self) -> None:
        """Close the cache and the extractor."""
        await self.cache.close()
        await self._extractor.close()

    async def _look_up(self, key: str, turns: Sequence[Turn]) -> Findings:
        stored = await self.cache.get(key)
        known = decode_findings(stored) if stored is not None else None
        self._observer.looked_up("hit" if known is not None else "miss" if self.cache.is_available else "error")
        if known is not None:
            return replace(known, cached=True)
        findings = await self._extractor.extract(turns)
        await self.cache.put(key, encode_findings(findings))
        return findings

    def _ended(self, key: str, task: asyncio.Task[Findings]) -> None:
        self._forget(key, task)
        if not task.cancelled():
            task.exception()  # marks the exception as retrieved, because perhaps no caller waits any more

    def _forget(self, key: str, task: asyncio.Task[Findings]) -> None:
        flight = self._flights.get(key)
        if flight is not None and flight.task is task:
            del self._flights[key]
