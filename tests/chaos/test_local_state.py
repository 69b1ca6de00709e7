"""The session table in RocksDB across kills and rebalances: what was paid once is known to whoever has it next.

Every chat is sent again after the fault. An enricher that still has its table asks the stand-in nothing.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.chaos.claude_stand_in import ClaudeStandIn
from tests.chaos.environment import BROKERS, BrokerKind, Environment
from tests.chaos.ledger import SentSession
from tests.chaos.load import TopicSender
from tests.chaos.verdict import lag
from tests.stack import Stack, eventually

CHATS = [SentSession(number, f"person-{number}") for number in range(60)]

pytestmark = [
    pytest.mark.timeout(480),
    pytest.mark.parametrize("pair", BROKERS, indirect=True),
]


@dataclass
class Pair:
    """Enrichers on one host and their stand-in."""

    stack: Stack
    stand_in: ClaudeStandIn

    async def start(self, *names: str) -> None:
        for name in names:
            self.stack.start("enricher", name)
        for name in names:
            await asyncio.to_thread(self.stack.processes[name].wait_until_ready)

    async def send_all(self) -> None:
        """Send every chat's snapshot, and wait until all was read and finished."""
        records = [(chat.session_id.encode(), json.dumps(chat.body(1), ensure_ascii=False).encode()) for chat in CHATS]
        send = TopicSender(self.stack.settings)
        try:
            for key, value in records:
                await send(key, value)
        finally:
            await send.close()

        async def finished() -> bool:
            return (await lag(self.stack))[self.stack.settings.enricher_app_id] == 0

        await eventually(finished, seconds=60, what="everything committed")

    def files(self) -> list[Path]:
        """RocksDB's own files under the data directory."""
        return sorted((self.stack.folder / "data").rglob("*.db/CURRENT"))


@pytest.fixture
async def pair(
    request: pytest.FixtureRequest, environment_of: Callable[[BrokerKind], Environment], tmp_path: Path
) -> AsyncIterator[Pair]:
    environment = environment_of(request.param)
    name = f"local-{time.monotonic_ns()}"
    async with ClaudeStandIn(latency_seconds=(0.0, 0.05)) as stand_in:
        stack = Stack(
            tmp_path,
            environment.bootstrap_servers,
            environment.postgres.dsn,
            NEXUS_TOPIC_PREFIX=f"{name}.",
            NEXUS_ENRICHER_APP_ID=f"{name}-enricher",
            NEXUS_SINK_APP_ID=f"{name}-sink",
            NEXUS_SETTLE_SECONDS="0",
            NEXUS_TABLE_STORE="rocksdb",
            NEXUS_EXTRACTOR="claude",
            ANTHROPIC_API_KEY="sk-test-0000",
            ANTHROPIC_BASE_URL=stand_in.url,
            **environment.variables,
        )
        await stack.prepare()
        try:
            yield Pair(stack, stand_in)
        finally:
            await asyncio.to_thread(stack.stop_all)


async def test_killed_and_started_again_on_its_own_files(pair: Pair):
    await pair.start("enricher")
    await pair.send_all()
    assert len(pair.stand_in.calls) == len(CHATS)
    before = pair.files()
    assert before
    pair.stack.processes["enricher"].kill()
    await pair.start("enricher")
    await pair.send_all()
    assert pair.files() == before
    assert len(pair.stand_in.calls) == len(CHATS)


async def test_two_on_one_host_take_over_from_each_other(pair: Pair):
    """Join, ``kill -9`` of the first, its return: three rebalances in which partitions and their files change hands."""
    await pair.start("enricher")
    await pair.send_all()
    await pair.start("enricher-2")
    await pair.send_all()
    pair.stack.processes["enricher"].kill()
    await pair.send_all()
    await pair.start("enricher")
    await pair.send_all()
    assert len(pair.stand_in.calls) == len(CHATS)
    assert [process.process.poll() for process in pair.stack.processes.values()] == [None, None]
