"""Answers for equal turns: in this process, or in a Redis that all workers share.

From: cached.py. Key: a hash of model, prompt version, this file's schema version and the turns as sent. Value: the
findings as JSON: what was extracted and where it stands, and no other text of the conversation. The values are personal
data: they end with ``NEXUS_CACHE_TTL_SECONDS``, and `clear` empties the cache when a person is to be forgotten.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import redis.asyncio
from pydantic import TypeAdapter, ValidationError
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from nexus_stream.extraction.claude.prompt import turns_as_json
from nexus_stream.extraction.extractor import Findings, MadeBy, Turn

__all__ = ["FindingsCache", "MemoryCache", "RedisCache", "cache_key", "decode_findings", "encode_findings"]

logger = logging.getLogger(__name__)

# In the key, so that what an older version wrote is never read: raise it when Findings changes.
SCHEMA_VERSION: Final = 1
_KEY_PREFIX: Final = "nexus:findings:"
# After a failure Redis is left alone, so that one that hangs does not slow every call; doubled up to a minute.
_FIRST_REST_SECONDS: Final = 1.0
_LONGEST_REST_SECONDS: Final = 60.0
_SCAN_COUNT: Final = 500

_FINDINGS: Final = TypeAdapter(Findings)


class FindingsCache(Protocol):
    """Findings as bytes by key. A cache that fails answers None and forgets: it never raises."""

    @property
    def is_available(self) -> bool:
        """Whether it answers; what is asked meanwhile is not found."""
        ...

    async def get(self, key: str) -> bytes | None:
        """What is stored under the key, if it has not expired."""
        ...

    async def put(self, key: str, value: bytes) -> None:
        """Store it for the cache's time to live."""
        ...

    async def clear(self) -> None:
        """Forget everything."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


def cache_key(made_by: MadeBy, turns: Sequence[Turn]) -> str:
    """A hash over all that an answer depends on.

    The turns are taken exactly as they are sent, role and content only. Nothing more is evened out: the evidence in the
    findings counts characters of these turns.
    """
    parts = (made_by.model or "", made_by.prompt_version or "", str(SCHEMA_VERSION), turns_as_json(turns))
    hasher = hashlib.sha256()
    for part in parts:
        data = part.encode()
        hasher.update(len(data).to_bytes(8, "big"))
        hasher.update(data)
    return hasher.hexdigest()


def encode_findings(findings: Findings) -> bytes:
    """The findings without what they cost: reused, they cost nothing."""
    return _FINDINGS.dump_json(findings, exclude={"usage", "cached"})


def decode_findings(value: bytes) -> Findings | None:
    """The findings again; None if the value is not one of ours."""
    try:
        return _FINDINGS.validate_json(value)
    except ValidationError:
        return None


class MemoryCache:
    """The most recently used, in this process.

    Args:
        max_entries: So many at the most, about 1 KB each.
        ttl_seconds: And none for longer.
        now: Seconds, monotonic.
    """

    def __init__(self, *, max_entries: int, ttl_seconds: float, now: Callable[[], float] = time.monotonic) -> None:
        self._max_entries = max_entries
        self._ttl_seconds = ttl_seconds
        self._now = now
        self._entries: OrderedDict[str, tuple[float, bytes]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def is_available(self) -> bool:
        """Always."""
        return True

    async def get(self, key: str) -> bytes | None:
        """See `FindingsCache.get`."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        expires_at, value = entry
        if expires_at <= self._now():
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return value

    async def put(self, key: str, value: bytes) -> None:
        """See `FindingsCache.put`."""
        self._entries[key] = (self._now() + self._ttl_seconds, value)
        self._entries.move_to_end(key)
        while len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)

    async def clear(self) -> None:
        """See `FindingsCache.clear`."""
        self._entries.clear()

    async def close(self) -> None:
        """There is nothing to release."""


class RedisCache:
    """In Redis, with its own expiry. A Redis that is down or hangs costs a call to Claude, never an error.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``; may hold a password, so it is in no message.
        ttl_seconds: How long a value lives.
        timeout_seconds: How long one operation may take, connecting included.
        now: Seconds, monotonic.
    """

    def __init__(
        self, url: str, *, ttl_seconds: int, timeout_seconds: float, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._client = redis.asyncio.Redis.from_url(
            url,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            # Its own retries would multiply the time that a dead Redis costs.
            retry=Retry(NoBackoff(), 0),
        )
        self._ttl_seconds = ttl_seconds
        self._timeout_seconds = timeout_seconds
        self._now = now
        self._rest_seconds = _FIRST_REST_SECONDS
        self._resting_until = float("-inf")

    @property
    def is_available(self) -> bool:
        """Not while it is left alone after a failure."""
        return self._now() >= self._resting_until

    async def get(self, key: str) -> bytes | None:
        """See `FindingsCache.get`."""
        if self._now() < self._resting_until:
            return None
        try:
            async with asyncio.timeout(self._timeout_seconds):
                value = await self._client.get(_KEY_PREFIX + key)
        except (RedisError, OSError, TimeoutError) as error:
            self._rest(error)
            return None
        self._works()
        # Text only if somebody turned on decoding in the address: not what we stored.
        return value if isinstance(value, bytes) else None

    async def put(self, key: str, value: bytes) -> None:
        """See `FindingsCache.put`."""
        if self._now() < self._resting_until:
            return
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await self._client.set(_KEY_PREFIX + key, value, ex=self._ttl_seconds)
        except (RedisError, OSError, TimeoutError) as error:
            self._rest(error)
        else:
            self._works()

    async def clear(self) -> None:
        """Remove all of ours from Redis.

        Raises:
            RedisError: not now. Here and not passed over: whoever forgets a person must know.
        """
        keys = [key async for key in self._client.scan_iter(match=f"{_KEY_PREFIX}*", count=_SCAN_COUNT)]
        for start in range(0, len(keys), _SCAN_COUNT):
            await self._client.unlink(*keys[start : start + _SCAN_COUNT])

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def _rest(self, error: BaseException) -> None:
        if self._now() < self._resting_until:
            return  # one of several that waited together; the first one counts
        logger.warning(
            "Redis does not answer, going on without the cache",
            extra={"event": "cache_unavailable", "problem": type(error).__name__, "for_seconds": self._rest_seconds},
        )
        self._resting_until = self._now() + self._rest_seconds
        self._rest_seconds = min(2 * self._rest_seconds, _LONGEST_REST_SECONDS)

    def _works(self) -> None:
        if self._rest_seconds > _FIRST_REST_SECONDS:
            logger.info("Redis answers again", extra={"event": "cache_available"})
            self._rest_seconds = _FIRST_REST_SECONDS
