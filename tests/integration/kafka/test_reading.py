"""Reading a topic to its end, on both brokers: it always ends, with every record there was when it was asked."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import psutil
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from confluent_kafka import Producer

from nexus_stream.embedded.broker import EmbeddedBroker
from nexus_stream.errors import BrokerUnavailableError, TopicMismatchError
from nexus_stream.kafka.reading import TopicLog
from nexus_stream.settings import Settings, load_settings
from tests.kafka.launcher import KafkaCluster, available
from tests.stack import eventually
from tests.support.requirements import require

pytestmark = pytest.mark.timeout(300)

PARTITIONS = 2


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    require("kafka", available())
    overrides = {"log.cleaner.backoff.ms": "100", "log.initial.task.delay.ms": "100"}
    with KafkaCluster.start(data_dir=tmp_path_factory.mktemp("kafka"), overrides=overrides) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def embedded() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker.start() as broker:
        yield broker


@pytest.fixture(params=["embedded", "kafka"])
def broker(request: pytest.FixtureRequest) -> EmbeddedBroker | KafkaCluster:
    found: EmbeddedBroker | KafkaCluster = request.getfixturevalue(request.param)
    return found


def settings_of(broker: EmbeddedBroker | KafkaCluster) -> Settings:
    # What the broker does not answer is given up after three times as long.
    return load_settings(
        environ={
            "NEXUS_KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
            "NEXUS_KAFKA_REQUEST_TIMEOUT_SECONDS": "3",
        }
    )


async def create(broker: EmbeddedBroker | KafkaCluster, **options: str) -> str:
    name = f"reading-{secrets.token_hex(4)}"
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
    await admin.start()
    try:
        configs = {option.replace("_", "."): value for option, value in options.items()}
        await admin.create_topics([NewTopic(name, PARTITIONS, 1, topic_configs=configs)])
    finally:
        await admin.close()
    return name


@asynccontextmanager
async def producing(broker: EmbeddedBroker | KafkaCluster) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap_servers, acks="all", linger_ms=20)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def put(broker: EmbeddedBroker | KafkaCluster, topic: str, keys: list[str], partition: int = 0) -> None:
    """Send them in as few batches as they fit into."""
    async with producing(broker) as producer:
        sent = [await producer.send(topic, key.encode(), key=key.encode(), partition=partition) for key in keys]
        await asyncio.gather(*sent)


async def _ends_at(log: TopicLog, end: int) -> bool:
    return (await log.ends())[0] == end


async def _is_stopped(pid: int) -> bool:
    return psutil.Process(pid).status() == psutil.STATUS_STOPPED


async def read(broker: EmbeddedBroker | KafkaCluster, topic: str) -> list[tuple[int, int, str]]:
    async with TopicLog(settings_of(broker), topic) as log:
        return [(record.partition, record.offset, record.value.decode()) async for record in log.read()]


async def test_every_record_of_every_partition(broker: EmbeddedBroker | KafkaCluster):
    topic = await create(broker)
    assert await read(broker, topic) == []
    # One batch: the embedded broker's end offset is one past the first record of it.
    await put(broker, topic, [str(number) for number in range(50)])
    await put(broker, topic, ["one"], partition=1)
    found = await read(broker, topic)
    assert sorted(found) == [(0, number, str(number)) for number in range(50)] + [(1, 0, "one")]


async def test_it_ends_while_others_write_all_the_time(broker: EmbeddedBroker | KafkaCluster):
    topic = await create(broker)
    await put(broker, topic, [str(number) for number in range(10)])

    async def write() -> None:
        async with producing(broker) as producer:
            while True:
                for partition in range(PARTITIONS):
                    await producer.send_and_wait(topic, b"more", partition=partition)
                await asyncio.sleep(0.01)

    writer = asyncio.create_task(write())
    try:
        await asyncio.sleep(1)
        began = time.monotonic()
        found = await read(broker, topic)
        took = time.monotonic() - began
    finally:
        writer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writer
    assert [text for partition, _, text in found if partition == 0][:10] == [str(number) for number in range(10)]
    assert {text for partition, _, text in found if partition == 1} == {"more"}
    assert took < 10


async def test_reading_goes_on_and_begins_again(broker: EmbeddedBroker | KafkaCluster):
    topic = await create(broker)
    await put(broker, topic, ["a"])
    async with TopicLog(settings_of(broker), topic) as log:
        assert [record.value async for record in log.read()] == [b"a"]
        assert [record.value async for record in log.read()] == []
        await put(broker, topic, ["b"])
        assert [record.value async for record in log.read()] == [b"b"]
        await log.rewind()
        # One partition alone.
        assert [record.value async for record in log.read({1: 0})] == []
        assert [record.value async for record in log.read({0: 2})] == [b"a", b"b"]


@pytest.mark.parametrize("ends_by", ["commit", "abort"])
async def test_a_marker_of_a_transaction_at_the_end(kafka: KafkaCluster, ends_by: str):
    topic = await create(kafka)

    def transact() -> None:
        producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "transactional.id": topic})
        producer.init_transactions(60)
        producer.begin_transaction()
        producer.produce(topic, b"in it", partition=0)
        producer.flush(30)
        if ends_by == "commit":
            producer.commit_transaction(60)
        else:
            producer.abort_transaction(60)

    await asyncio.to_thread(transact)
    async with TopicLog(settings_of(kafka), topic) as log:
        # The record, and the marker that no consumer sees. The coordinator writes the marker a moment after the answer.
        await eventually(lambda: _ends_at(log, 2), seconds=30, what="the marker")
        assert [record.value async for record in log.read()] == [b"in it"]
        # Nothing but the marker is left.
        assert [record.value async for record in log.read({0: 2})] == []


async def test_records_at_the_end_that_compaction_removed(kafka: KafkaCluster):
    topic = await create(
        kafka,
        cleanup_policy="compact",
        segment_ms="100",
        min_cleanable_dirty_ratio="0.001",
        max_compaction_lag_ms="100",
    )
    await put(kafka, topic, ["kept", "a", "b"])
    async with TopicLog(settings_of(kafka), topic) as log:
        ends = await log.ends()
        assert ends[0] == 3
        deadline = time.monotonic() + 90
        while True:
            await asyncio.sleep(0.5)
            # New values of the keys at the end. Each closes the segment before it, which is then compacted.
            await put(kafka, topic, ["a", "b"])
            await log.rewind()
            found = [record.offset async for record in log.read(ends)]
            if not {1, 2} & set(found):
                break
            assert time.monotonic() < deadline
        assert found[0] == 0


@pytest.mark.parametrize("stops", ["before", "while"])
async def test_a_broker_that_stops_answering(stops: str):
    with EmbeddedBroker.start() as broker:
        topic = await create(broker)
        await put(broker, topic, ["a"])
        async with TopicLog(settings_of(broker), topic) as log:
            ends = await log.ends()
            began = time.monotonic()
            os.kill(broker.pid, signal.SIGSTOP)
            try:
                await eventually(lambda: _is_stopped(broker.pid), seconds=10, what="a stopped broker")
                # There will be no tenth record.
                reading = log.read(None if stops == "before" else {0: ends[0] + 9})
                with pytest.raises(BrokerUnavailableError):
                    _ = [record async for record in reading]
            finally:
                os.kill(broker.pid, signal.SIGCONT)
            assert time.monotonic() - began < 40


async def test_an_end_that_never_comes_is_given_up(broker: EmbeddedBroker | KafkaCluster):
    topic = await create(broker)
    await put(broker, topic, ["a"])
    async with TopicLog(settings_of(broker), topic) as log:
        with pytest.raises(BrokerUnavailableError, match=f"nothing arrives for 9 s: {topic}-0 at offset 1"):
            _ = [record async for record in log.read({0: 2})]


async def test_a_missing_topic_is_told_and_stays_missing(broker: EmbeddedBroker | KafkaCluster):
    for _ in range(2):
        with pytest.raises(TopicMismatchError, match="There is no topic reading-none"):
            async with TopicLog(settings_of(broker), "reading-none"):
                pass


async def test_no_broker():
    settings = load_settings(environ={"NEXUS_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9"})
    with pytest.raises(BrokerUnavailableError, match=r"No broker answers at 127\.0\.0\.1:9"):
        async with TopicLog(settings, "reading-none"):
            pass
