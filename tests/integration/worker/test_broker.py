"""The producer beside Faust's consumer, on a broker: which records it sends, and which it drops."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka.errors import KafkaConnectionError, KafkaError
from aiokafka.protocol.produce import ProduceRequest

from nexus_stream.delivery.lease import Lease
from nexus_stream.embedded.broker import EmbeddedBroker
from nexus_stream.errors import BrokerUnavailableError
from nexus_stream.kafka.topics import apply_topics
from nexus_stream.worker.broker import FaustBroker
from tests.stack import Stack, eventually

LEASE_SECONDS = 15.0


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker.start(log_path=tmp_path_factory.mktemp("broker") / "broker.log") as one:
        yield one


class Clock:
    """A clock that the test sets."""

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
        self.port = FaustBroker(cast(Any, None), stack.settings, self.lease, cast(Any, access))
        self.stack = stack
        self.topic = stack.settings.enriched_topic

    async def send(self, value: bytes) -> object:
        """Send and wait for the broker's acknowledgement."""
        async with asyncio.timeout(20):
            return await (await self.port.send(self.topic, b"key", value, partition=0))

    async def values(self) -> list[bytes | None]:
        """The records of the topic."""
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
    # The producer logs its failed batch, which is expected here.
    caplog.set_level(logging.CRITICAL, logger="aiokafka")
    assert await worker.send(b"before")

    # Queued with a valid lease. The machine freezes before the batch is sent.
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


async def test_a_record_queued_before_a_revocation_is_not_sent_after_it(worker: Port) -> None:
    assert await worker.send(b"before")
    # The record is in the producer for the linger time. The group revokes the partitions meanwhile.
    sent = await worker.port.send(worker.topic, b"key", b"another's by now", partition=0)
    worker.port.drop_unsent()

    with pytest.raises(KafkaError, match="revoked before it was sent"):
        async with asyncio.timeout(20):
            await sent
    # The next assignment's records are sent as usual.
    assert await worker.send(b"after")
    assert await worker.values() == [b"before", b"after"]


async def test_a_batch_being_sent_at_a_revocation_is_not_retried(worker: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await worker.send(b"before")
    producer = worker.port._producer
    assert producer is not None
    tries = 0
    fenced = producer.client.send

    async def disconnected(node_id: int, request: Any, **options: Any) -> Any:
        nonlocal tries
        if not isinstance(request, ProduceRequest):
            return await fenced(node_id, request, **options)
        tries += 1
        worker.port.drop_unsent()
        # An error that aiokafka retries by itself.
        raise KafkaConnectionError("the broker is away")

    monkeypatch.setattr(producer.client, "send", disconnected)
    sent = await worker.port.send(worker.topic, b"key", b"another's by now", partition=0)
    with pytest.raises(KafkaError, match="revoked before it was sent"):
        async with asyncio.timeout(20):
            await sent
    monkeypatch.undo()

    assert tries == 1
    assert await worker.send(b"after")
    assert await worker.values() == [b"before", b"after"]


async def test_a_batch_waiting_for_a_retry_at_a_revocation_is_dropped(
    worker: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    producer = worker.port._producer
    assert producer is not None
    fenced, tried = producer.client.send, asyncio.Event()

    async def disconnected(node_id: int, request: Any, **options: Any) -> Any:
        if not isinstance(request, ProduceRequest):
            return await fenced(node_id, request, **options)
        tried.set()
        raise KafkaConnectionError("the broker is away")

    monkeypatch.setattr(producer.client, "send", disconnected)
    sent = await worker.port.send(worker.topic, b"key", b"another's by now", partition=0)
    await asyncio.wait_for(tried.wait(), 20)

    async def is_queued_again() -> bool:
        queues = producer._message_accumulator._batches.values()
        return any(batch.retry_count for queue in queues for batch in queue)

    await eventually(is_queued_again, seconds=20, what="the batch to wait for its next try")
    worker.port.drop_unsent()
    with pytest.raises(KafkaError, match="revoked before it was sent"):
        async with asyncio.timeout(20):
            await sent
    await asyncio.sleep(0.05)
    monkeypatch.undo()
    asyncio.get_running_loop().set_exception_handler(None)
    assert complaints == []
    assert await worker.values() == []
