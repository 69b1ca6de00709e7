"""Events during a run: a batch is cancelled or deleted, a cache is shared, the user answers on a terminal."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nexus_stream.extraction.cache import RedisCache
from nexus_stream.extraction.cached import CachedExtractor
from nexus_stream.extraction.claude.prompt import load_prompt
from nexus_stream.extraction.extractor import MadeBy
from tests.integration.backfill.conftest import Desk, body
from tests.integration.backfill.test_backfill import NAMES, chats, refusing
from tests.support.requirements import require


async def until(condition: object, seconds: float = 30.0) -> None:
    assert callable(condition)
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.05)


async def test_a_cancelled_batch_stops_the_run_until_the_command_runs_again(desk: Desk):
    desk.stand_in.polls_until_end = 1_000_000
    path = desk.write(*chats())
    running = asyncio.create_task(desk.backfill(path, "--yes"))
    await until(lambda: len(desk.stand_in.created) == 2)
    desk.stand_in.cancel()
    desk.stand_in.polls_until_end = 1
    ended = await running
    assert ended.code == 1
    assert "was cancelled at Anthropic" in ended.errors
    assert len(desk.stand_in.created) == 2
    assert desk.stand_in.open_batches == []
    ended = await desk.backfill(path, "--yes")
    assert ended.code == 0, ended
    assert set(desk.stand_in.paid.values()) == {1}
    assert len((await desk.enrich(refusing())).enriched()) == len(NAMES)


async def test_conversations_of_a_deleted_batch_are_skipped_because_they_may_be_paid(desk: Desk):
    desk.stand_in.polls_until_end = 1_000_000
    running = asyncio.create_task(desk.backfill(desk.write(*chats()), "--yes"))
    await until(lambda: len(desk.stand_in.created) == 2)
    desk.stand_in.forget(next(iter(desk.stand_in.created)))
    desk.stand_in.polls_until_end = 1
    ended = await running
    assert ended.code == 1
    assert "5  not sent: somebody deleted a batch's results" in ended.output
    assert len((await desk.enrich(refusing())).enriched()) == 2


def answers(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    binary = shutil.which("redis-server")
    require("redis", None if binary else "redis-server (apt-get install redis-server)")
    assert binary is not None
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = int(one.getsockname()[1])
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while not answers(port):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait(10)


async def test_enrichers_that_share_the_cache_find_the_answers_for_their_backlog(desk: Desk, redis_url: str):
    await desk.post(*chats())
    desk.environ["NEXUS_REDIS_URL"] = redis_url
    ended = await desk.backfill("--from-topic", "--yes")
    assert ended.code == 0, ended
    assert "7  sent with Claude's answer" in ended.output
    live = refusing()
    live.labels = MadeBy("claude", "claude-haiku-5-5", load_prompt().version)
    cache = RedisCache(redis_url, ttl_seconds=60, timeout_seconds=2.0)
    originals = [one for one in await desk.ingested() if "nexus-answer" not in dict(one.headers)]
    line = await desk.line(CachedExtractor(live, cache))
    await line.feed(originals)
    await until(lambda: len(line.enriched()) == len(NAMES))
    assert live.calls == []
    assert {one["extraction"]["cached"] for one in line.enriched().values()} == {True}
    await cache.close()


async def test_on_a_terminal_it_asks_and_draws_a_bar(desk: Desk):
    path = desk.write(body("s-1", "me llamo Carlos"))
    command = [str(path)]
    no = await desk.on_a_terminal(command, b"n\n")
    assert no[0] == 0
    assert "Start?" in no[1]
    assert desk.stand_in.created == {}
    assert not list(desk.state.rglob("*.sqlite3"))
    yes = await desk.on_a_terminal(command, b"y\n")
    assert yes[0] == 0
    assert "1 of 1 sent" in yes[1]
    assert "━" in yes[1]
    assert len((await desk.enrich(refusing())).enriched()) == 1
