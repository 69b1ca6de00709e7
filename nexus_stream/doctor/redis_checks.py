"""The area ``redis``: the optional cache of answers. A problem with the cache never loses data."""

from __future__ import annotations

import asyncio
from typing import Final
from urllib.parse import urlsplit

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, AuthorizationError, NoPermissionError, RedisError, ResponseError

from nexus_stream.doctor.finding import Finding, note, ok, warning
from nexus_stream.doctor.network import trouble_of
from nexus_stream.doctor.running import REACH_SECONDS
from nexus_stream.host.addresses import is_loopback
from nexus_stream.settings import Settings

__all__ = ["check_redis", "judge_memory"]

_WHY: Final = "Answers are not cached: equal conversations are paid for again. Everything else works."


async def check_redis(settings: Settings) -> list[Finding]:
    """Connect to Redis, and check how it behaves when it is full."""
    if settings.redis_url is None:
        return []
    url = settings.redis_url.get_secret_value()
    place = _place(url)
    findings = _plain_text(settings, url, place)
    # No retries: each retry would add a timeout if the server is down.
    client = redis.asyncio.Redis.from_url(
        url,
        socket_timeout=REACH_SECONDS,
        socket_connect_timeout=REACH_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
    try:
        async with asyncio.timeout(REACH_SECONDS):
            await client.ping()
            findings.append(ok("redis.reachable", f"{place}: the server answers"))
            try:
                memory = await client.info("memory")
            except NoPermissionError:
                found = "this login may not run INFO memory, so the behaviour of a full Redis is unknown"
                return [*findings, note("redis.memory", found, fix="ACL SETUSER <login> +info")]
    except (RedisError, OSError, TimeoutError) as failure:
        return [*findings, _diagnose(failure, place)]
    finally:
        await client.aclose()
    return [*findings, judge_memory(int(memory.get("maxmemory", 0)), str(memory.get("maxmemory_policy", "")))]


def judge_memory(max_bytes: int, policy: str) -> Finding:
    """Judge how Redis behaves when it is full.

    Args:
        max_bytes: ``maxmemory``; 0 means no limit.
        policy: ``maxmemory-policy``.
    """
    if policy == "noeviction":
        found = (
            f"maxmemory-policy is noeviction, maxmemory {f'{max_bytes / 2**20:.0f} MiB' if max_bytes else 'unlimited'}"
        )
        if max_bytes == 0:
            why = "Memory use grows with NEXUS_CACHE_TTL_SECONDS x conversations."
            return note("redis.memory", found, why, _FIX_POLICY)
        return warning("redis.memory", found, "A full Redis refuses writes: no new answer is cached.", _FIX_POLICY)
    return ok("redis.memory", f"maxmemory-policy is {policy or 'unknown'}")


_FIX_POLICY: Final = "CONFIG SET maxmemory-policy allkeys-lru (and maxmemory), in a Redis used only for this cache"


def _diagnose(failure: BaseException, place: str) -> Finding:
    if isinstance(failure, AuthenticationError | AuthorizationError | NoPermissionError) or (
        isinstance(failure, ResponseError) and "auth" in str(failure).lower()
    ):
        fix = "NEXUS_REDIS_URL: correct user and password (percent-encoded)"
        return warning("redis.reachable", f"{place}: the server refuses the login", _WHY, fix)
    root: BaseException = failure
    while not isinstance(root, OSError | TimeoutError) and (cause := root.__cause__ or root.__context__) is not None:
        root = cause
    if not isinstance(root, OSError) and "timeout" in type(failure).__name__.lower():
        root = TimeoutError()
    trouble = trouble_of(root, place)
    return warning("redis.reachable", trouble.found, _WHY, f"NEXUS_REDIS_URL: {trouble.fix}.")


def _place(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return parts.path
    return f"{parts.hostname or 'localhost'}:{parts.port or 6379}"


def _plain_text(settings: Settings, url: str, place: str) -> list[Finding]:
    host = urlsplit(url).hostname or "localhost"
    if settings.env != "production" or is_loopback(host) or not url.startswith("redis://"):
        return []
    why = "Cached answers contain personal data. They and the password cross the network in plain text."
    return [warning("redis.tls", f"{place}: the connection does not use TLS", why, "NEXUS_REDIS_URL: rediss://")]
