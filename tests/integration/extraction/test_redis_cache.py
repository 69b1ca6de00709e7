"""The cache in a real Redis. A Redis that is down, hangs or has other data causes a call, not an error."""

import asyncio
import logging
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis.asyncio

from nexus_stream.extraction.cache import RedisCache
from nexus_stream.extraction.cached import CachedExtractor
from nexus_stream.extraction.extractor import Turn
from nexus_stream.host.free_ports import free_port
from nexus_stream.settings import load_settings
from nexus_stream.testing.extractor import ScriptedExtractor
from tests.support.requirements import require

TURNS = (Turn("user", "me llamo Carlos Ruiz"),)


@dataclass
class Server:
    """This test's own redis-server."""

    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    binary = shutil.which("redis-server")
    require("redis", None if binary else "redis-server (apt-get install redis-server)")
    assert binary is not None
    port = free_port()
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(port)
        yield Server(port, process)
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait(10)


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with socket.socket() as one:
            if one.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise TimeoutError("redis-server did not start")


@pytest.fixture
async def cache_at():
    made: list[RedisCache] = []

    def make(url: str, *, timeout_seconds: float = 5.0, now: Callable[[], float] = time.monotonic) -> RedisCache:
        cache = RedisCache(url, ttl_seconds=100, timeout_seconds=timeout_seconds, now=now)
        made.append(cache)
        return cache

    yield make
    for cache in made:
        await cache.close()


async def test_workers_share_answers_and_the_answers_expire(server, cache_at):
    first, second = ScriptedExtractor(), ScriptedExtractor()
    found = await CachedExtractor(first, cache_at(server.url)).extract(TURNS)
    again = await CachedExtractor(second, cache_at(server.url)).extract(TURNS)
    assert (len(first.calls), len(second.calls)) == (1, 0)
    assert (again.nombre, again.signals, again.cached) == (found.nombre, found.signals, True)
    async with redis.asyncio.Redis.from_url(server.url) as client:
        (key,) = await client.keys()
        assert key.startswith(b"nexus:findings:")
        assert 0 < await client.ttl(key) <= 100
        # The value has only the extracted parts of the conversation.
        assert b"me llamo" not in await client.get(key)


async def test_clearing_deletes_only_our_keys(server, cache_at):
    cache = cache_at(server.url)
    for index in range(1200):
        await cache.put(f"{index}", b"{}")
    async with redis.asyncio.Redis.from_url(server.url) as client:
        await client.set("somebody-elses", b"1")
        await cache.clear()
        assert await client.keys() == [b"somebody-elses"]


async def test_a_foreign_value_is_a_miss(server, cache_at):
    extractor = CachedExtractor(ScriptedExtractor(), cache_at(server.url))
    await extractor.extract(TURNS)
    async with redis.asyncio.Redis.from_url(server.url) as client:
        (key,) = await client.keys()
        await client.set(key, b"not json")
        assert not (await extractor.extract(TURNS)).cached
        await client.delete(key)
        await client.lpush(key, b"a list")
        assert not (await extractor.extract(TURNS)).cached


async def test_a_redis_that_is_down_causes_a_call_and_is_not_used_for_a_while(cache_at, caplog):
    now = 100.0
    port = free_port()
    cache = cache_at(f"redis://:pass-word@127.0.0.1:{port}/0", now=lambda: now)
    behind = ScriptedExtractor()
    extractor = CachedExtractor(behind, cache)
    started = time.monotonic()
    for _ in range(50):
        assert (await extractor.extract(TURNS)).nombre == "Carlos Ruiz"
    assert time.monotonic() - started < 5
    assert len(behind.calls) == 50
    assert [record.getMessage() for record in caplog.records] == ["cache_unavailable"]
    now += 1.0
    await extractor.extract(TURNS)
    assert [record.for_seconds for record in caplog.records] == [1.0, 2.0]
    assert "pass-word" not in "".join(f"{record.getMessage()}{record.__dict__}" for record in caplog.records)


async def test_a_redis_that_hangs_slows_one_call_and_not_all(server, cache_at):
    now = 100.0
    cache = cache_at(server.url, timeout_seconds=2.0, now=lambda: now)
    extractor = CachedExtractor(ScriptedExtractor(), cache)
    await extractor.extract(TURNS)
    server.process.send_signal(signal.SIGSTOP)
    started = time.monotonic()
    assert not (await extractor.extract(TURNS)).cached
    assert 1.9 < time.monotonic() - started < 10
    started = time.monotonic()
    # Many calls at once, each with different turns.
    await asyncio.gather(*(extractor.extract((Turn("user", f"me llamo Ana {index}"),)) for index in range(50)))
    assert time.monotonic() - started < 1.9
    server.process.send_signal(signal.SIGCONT)
    now += 60
    assert (await extractor.extract(TURNS)).cached


async def test_it_recovers_and_logs_that(server, cache_at, caplog):
    caplog.set_level(logging.INFO)
    now = 100.0
    cache = cache_at(server.url, timeout_seconds=1.0, now=lambda: now)
    await cache.put("a", b"{}")
    server.process.send_signal(signal.SIGSTOP)
    await asyncio.gather(*(cache.get("a") for _ in range(10)))
    server.process.send_signal(signal.SIGCONT)
    now += 60
    assert await cache.get("a") == b"{}"
    assert [record.getMessage() for record in caplog.records] == ["cache_unavailable", "cache_available"]


def test_an_invalid_address_is_refused_without_showing_it():
    with pytest.raises(Exception, match="NEXUS_REDIS_URL") as caught:
        load_settings(environ={"NEXUS_REDIS_URL": "http://:pass-word@example.com"})
    assert "pass-word" not in str(caught.value)
    assert "pass-word" not in repr(load_settings(environ={"NEXUS_REDIS_URL": "redis://:pass-word@example.com"}))
