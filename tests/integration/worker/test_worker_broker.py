"""The producer beside Faust's consumer, on a broker: what it sends, and what it does not send any more."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka.errors import KafkaError

from nexus_stream.delivery.lease import Lease
from nexus_stream.embedded.broker import EmbeddedBroker
from nexus_stream.errors import BrokerUnavailableError
from nexus_stream.topics import apply_topics
from nexus_stream.worker_broker import FaustBroker
from tests.stack import Stack

LEASE_SECONDS = 15.0


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker.start(log_path=tmp_path_factory.mktemp("broker") / "broker.log") as one:
        yield one


class Clock:
    """Seconds, as the test says."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


class Port:
    """A worker's broker port on topics of the test's own."""

    def __init__(self, stack: Stack) -> None:
        self.clock = Clock()
        self.lease = Lease(LEASE_SECONDS, self.clock)
        self.lease.renew(self.clock())
        access = SimpleNamespace(hint=lambda error: None, hint_from=lambda sent: None)
        self.port = FaustBroker(cast(Any, SimpleNamespace(nexus=stack.settings, lease=self.lease, access=access)))
        self.stack = stack
        self.topic = stack.settings.enriched_topic

    async def send(self, value: bytes) -> object:
        """Send and wait for the broker's word."""
        async with asyncio.timeout(20):
            return await (await self.port.send(self.topic, b"key", value, partition=0))

    async def values(self) -> list[bytes | None]:
        """What the topic holds."""
        return [record.value for record in await self.stack.read_topic(self.topic)]


@pytest.fixture
async def worker(broker: EmbeddedBroker, tmp_path: Path) -> AsyncIterator[Port]:
    stack = Stack(
        tmp_path, broker.bootstrap_servers, "postgresql://nobody@127.0.0.1:9/none", NEXUS_TOPIC_PREFIX=tmp_path.name
    )
    await apply_topics(stack.settings)
    one = Port(stack)
    await one.port.start(max_batch_bytes=1)
    yield one
    await one.port.stop()


async def test_nothing_is_sent_before_the_start_or_after_the_stop(worker: Port) -> None:
    await worker.port.stop()
    with pytest.raises(BrokerUnavailableError, match="starting or stopping"):
        await worker.send(b"late")
    assert await worker.values() == []


async def test_a_batch_left_in_the_producer_of_a_frozen_worker_is_not_sent(
    worker: Port, caplog: pytest.LogCaptureFixture
) -> None:
    # The producer tells of its failed batch; here it is what is expected.
    caplog.set_level(logging.CRITICAL, logger="aiokafka")
    assert await worker.send(b"before")

    # Queued while the group knew us; the machine stands still before the batch is on its way.
    sent = await worker.port.send(worker.topic, b"key", b"frozen", partition=0)
    worker.clock.seconds += LEASE_SECONDS

    with pytest.raises(KafkaError, match="not heard from for too long"):
        async with asyncio.timeout(20):
            await sent
    assert await worker.values() == [b"before"]


async def test_once_confirmed_again_it_sends_again(worker: Port, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, logger="aiokafka")
    worker.lease.lose()
    with pytest.raises(KafkaError, match="not heard from"):
        await worker.send(b"nobody's")

    worker.lease.renew(worker.clock())

    assert await worker.send(b"ours")
    assert await worker.values() == [b"ours"]
