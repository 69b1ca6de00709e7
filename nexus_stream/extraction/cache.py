"""A cache of answers for equal turns: in this process, or in a Redis that all workers share.

Key: a hash of the model, the prompt version, this file's schema version and the turns as sent. Value: the findings as
JSON, that is the extracted values and their positions, and no other text of the conversation. The values are personal
data: they expire after ``NEXUS_CACHE_TTL_SECONDS``, and `clear` empties the cache when a person must be forgotten.
"""

from __future__ import annotations

import asyncio
import hashlib
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
from nexus_stream.host.log import get_logger

__all__ = ["FindingsCache", "MemoryCache", "RedisCache", "cache_key", "decode_findings", "encode_findings"]

_log = get_logger(__name__)

# Part of the key, so that values of an older version are never read. Raise it when Findings changes.
SCHEMA_VERSION: Final = 1
_KEY_PREFIX: Final = "nexus:findings:"
# Pause after a failure, so that a Redis that hangs does not slow every call. It doubles, up to a minute.
_FIRST_PAUSE_SECONDS: Final = 1.0
_LONGEST_PAUSE_SECONDS: Final = 60.0
_SCAN_COUNT: Final = 500

_FINDINGS: Final = TypeAdapter(Findings)


class FindingsCache(Protocol):
    """Findings as bytes by key. ``get`` and ``put`` never raise: a cache that fails finds and stores nothing."""

    @property
    def is_available(self) -> bool:
        """Whether the cache answers. While it does not, every look-up is a miss."""
        ...

    async def get(self, key: str) -> bytes | None:
        """Return the value stored under the key, if it has not expired."""
        ...

    async def put(self, key: str, value: bytes) -> None:
        """Store the value for the cache's time to live."""
        ...

    async def clear(self) -> None:
        """Delete all entries."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


def cache_key(made_by: MadeBy, turns: Sequence[Turn]) -> str:
    """Hash everything that an answer depends on.

    The turns are hashed exactly as sent, role and content only. They are not normalised further, because the evidence
    in the findings counts characters of exactly these turns.
    """
    parts = (made_by.model or "", made_by.prompt_version or "", str(SCHEMA_VERSION), turns_as_json(turns))
    hasher = hashlib.sha256()
    for part in parts:
        data = part.encode()
        hasher.update(len(data).to_bytes(8, "big"))
        hasher.update(data)
    return hasher.hexdigest()


def encode_findings(findings: Findings) -> bytes:
    """Encode the findings without their cost: reused findings cost nothing."""
    return _FINDINGS.dump_json(findings, exclude={"usage", "cached"})


def decode_findings(value: bytes) -> Findings | None:
    """Decode findings; None if `encode_findings` did not write the value."""
    try:
        return _FINDINGS.validate_json(value)
    except ValidationError:
        return None


class MemoryCache:
    """A cache in this process that drops the least recently used entries.

    Args:
        max_entries: Maximum number of entries, about 1 KB each.
        ttl_seconds: Time to live of an entry.
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
        """Do nothing: there is nothing to release."""


class RedisCache:
    """A cache in Redis, which expires the values. A Redis that is down or hangs causes a call to Claude, not an error.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``. It may hold a password, so no message shows it.
        ttl_seconds: Time to live of a value.
        timeout_seconds: Maximum time of one operation, connecting included.
        now: Seconds, monotonic.
    """

    def __init__(
        self, url: str, *, ttl_seconds: int, timeout_seconds: float, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._client = redis.asyncio.Redis.from_url(
            url,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            # The client's own retries would multiply the time lost to a dead Redis.
            retry=Retry(NoBackoff(), 0),
        )
        self._ttl_seconds = ttl_seconds
        self._timeout_seconds = timeout_seconds
        self._now = now
        self._pause_seconds = _FIRST_PAUSE_SECONDS
        self._paused_until = float("-inf")

    @property
    def is_available(self) -> bool:
        """False during the pause after a failure."""
        return self._now() >= self._paused_until

    async def get(self, key: str) -> bytes | None:
        """See `FindingsCache.get`."""
        if self._now() < self._paused_until:
            return None
        try:
            async with asyncio.timeout(self._timeout_seconds):
                value = await self._client.get(_KEY_PREFIX + key)
        except (RedisError, OSError, TimeoutError) as error:
            self._pause(error)
            return None
        self._note_success()
        # It is text only if the URL turns decoding on. Decoded text is not what we stored.
        return value if isinstance(value, bytes) else None

    async def put(self, key: str, value: bytes) -> None:
        """See `FindingsCache.put`."""
        if self._now() < self._paused_until:
            return
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await self._client.set(_KEY_PREFIX + key, value, ex=self._ttl_seconds)
        except (RedisError, OSError, TimeoutError) as error:
            self._pause(error)
        else:
            self._note_success()

    async def clear(self) -> None:
        """Delete all of this cache's keys from Redis.

        Raises:
            RedisError: Redis failed. Not ignored here: the caller that erases a person must know.
        """
        keys = [key async for key in self._client.scan_iter(match=f"{_KEY_PREFIX}*", count=_SCAN_COUNT)]
        for start in range(0, len(keys), _SCAN_COUNT):
            await self._client.unlink(*keys[start : start + _SCAN_COUNT])

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def _pause(self, error: BaseException) -> None:
        if self._now() < self._paused_until:
            return  # several operations failed together; only the first failure counts
        _log.warning("cache_unavailable", problem=type(error).__name__, for_seconds=self._pause_seconds)
        self._paused_until = self._now() + self._pause_seconds
        self._pause_seconds = min(2 * self._pause_seconds, _LONGEST_PAUSE_SECONDS)

    def _note_success(self) -> None:
        if self._pause_seconds > _FIRST_PAUSE_SECONDS:
            _log.info("cache_available")
            self._pause_seconds = _FIRST_PAUSE_SECONDS
