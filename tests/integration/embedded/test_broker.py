"""The embedded broker from the view of a Kafka client."""

import asyncio
import socket
import time

import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from nexus_stream.embedded.broker import EmbeddedBroker
from nexus_stream.errors import ConfigurationError
from nexus_stream.host.free_ports import LOOPBACK

_TOPIC = "greetings"


async def _create_topic(broker: EmbeddedBroker) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(_TOPIC, 2, 1)])
    finally:
        await admin.close()


async def _topics(broker: EmbeddedBroker) -> list[str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
    await admin.start()
    try:
        return list(await admin.list_topics())
    finally:
        await admin.close()


async def _produce(broker: EmbeddedBroker, count: int) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap_servers, acks="all")
    await producer.start()
    try:
        for number in range(count):
            await producer.send_and_wait(_TOPIC, b"value %d" % number, key=b"key %d" % number)
    finally:
        await producer.stop()


async def _consume(broker: EmbeddedBroker, count: int) -> dict[bytes, bytes]:
    consumer = AIOKafkaConsumer(
        _TOPIC, bootstrap_servers=broker.bootstrap_servers, auto_offset_reset="earliest", group_id=None
    )
    await consumer.start()
    try:
        found: dict[bytes, bytes] = {}
        async with asyncio.timeout(20):
            while len(found) < count:
                record = await consumer.getone()
                found[record.key] = record.value
        return found
    finally:
        await consumer.stop()


async def test_produced_records_are_consumed(tmp_path) -> None:
    with EmbeddedBroker.start(tmp_path / "broker.log") as broker:
        await _create_topic(broker)
        await _produce(broker, 10)

        assert await _consume(broker, 10) == {b"key %d" % number: b"value %d" % number for number in range(10)}
    assert "ready" in (tmp_path / "broker.log").read_text()


async def test_the_cluster_id_is_the_one_clients_see() -> None:
    with EmbeddedBroker.start() as broker:
        admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
        await admin.start()
        try:
            described = await admin.describe_cluster()
        finally:
            await admin.close()

    assert described["cluster_id"] == broker.cluster_id


async def test_after_a_kill_it_starts_again_on_another_port_as_another_cluster_without_topics() -> None:
    first = EmbeddedBroker.start()
    await _create_topic(first)
    first.kill()
    assert first.exit_code() is not None

    with EmbeddedBroker.start() as second:
        assert second.port != first.port
        assert second.cluster_id != first.cluster_id
        assert _TOPIC not in await _topics(second)


def test_it_listens_on_the_loopback_address_only_and_stop_ends_it() -> None:
    with EmbeddedBroker.start() as broker:
        addresses = {
            connection.laddr.ip
            for connection in psutil.Process(broker.pid).net_connections(kind="tcp")
            if connection.status == psutil.CONN_LISTEN
        }
        started = time.monotonic()

    assert addresses == {LOOPBACK}
    assert not psutil.pid_exists(broker.pid)
    assert time.monotonic() - started < 5


def test_a_taken_port_is_named_with_its_owner() -> None:
    with EmbeddedBroker.start() as broker, pytest.raises(ConfigurationError, match=rf"{broker.port}.*{broker.pid}"):
        EmbeddedBroker.start(port=broker.port)


def test_another_listener_on_the_port_is_not_taken_for_the_broker() -> None:
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        listener.listen()
        port = listener.getsockname()[1]

        with pytest.raises(ConfigurationError, match=str(port)):
            EmbeddedBroker.start(port=port)


def test_the_process_is_reported_before_it_is_ready() -> None:
    pids: list[int] = []

    with EmbeddedBroker.start(on_spawn=pids.append) as broker:
        assert pids == [broker.pid]
