"""Apache Kafka from Maven's jars: what the other tests and `make kafka` rely on."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from nexus_stream.contracts.topics import declared_topics
from nexus_stream.host.free_ports import free_port
from nexus_stream.kafka.topics import apply_topics, compare_topics
from nexus_stream.settings import load_settings
from tests.kafka.launcher import KafkaCluster, available
from tests.stack import eventually
from tests.support.requirements import require

pytestmark = pytest.mark.timeout(300)

ROOT = Path(__file__).parents[2]
GROUP = "launcher-test"


@pytest.fixture(scope="module", autouse=True)
def _kafka() -> None:
    require("kafka", available())


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    with KafkaCluster.start(data_dir=tmp_path_factory.mktemp("kafka")) as cluster:
        yield cluster


async def test_a_killed_node_keeps_records_and_committed_offsets(cluster: KafkaCluster) -> None:
    tp = TopicPartition("kept", 0)
    await _create(cluster, NewTopic(tp.topic, 1, 1))
    await _produce(cluster, tp.topic, range(10))
    async with _consumer(cluster) as consumer:
        consumer.assign([tp])
        assert await _read(consumer, 5) == [0, 1, 2, 3, 4]
        await consumer.commit({tp: 5})
    pid = cluster.node(1).pid

    await asyncio.to_thread(cluster.node(1).kill)
    assert pid is not None
    assert not psutil.pid_exists(pid)
    cluster.node(1).start()
    await asyncio.to_thread(cluster.wait_until_ready)

    assert cluster.node(1).pid not in {None, pid}
    await _produce(cluster, tp.topic, range(10, 12))
    async with _consumer(cluster) as consumer:
        consumer.assign([tp])
        assert await consumer.committed(tp) == 5
        assert await _read(consumer, 7) == [5, 6, 7, 8, 9, 10, 11]


async def test_topics_get_the_declared_options(cluster: KafkaCluster) -> None:
    settings = load_settings(
        environ={},
        kafka_bootstrap_servers=cluster.bootstrap_servers,
        topic_prefix="declared.",
        enricher_app_id="declared-enricher",
        ingestion_retention_hours=5,
        topic_partitions=3,
    )
    specs = {spec.name: spec for spec in declared_topics(settings)}

    assert await apply_topics(settings) == sorted(specs)

    # A broker applies what the controller has answered for a little later.
    async def as_declared() -> bool:
        return await compare_topics(settings) == []

    await eventually(as_declared, seconds=60, what="the topics as declared")
    assert await apply_topics(settings) == []

    found = await _describe(cluster, list(specs))
    assert found.keys() == specs.keys()
    for name, spec in specs.items():
        assert {option: found[name][option] for option in spec.configs} == spec.configs
    assert found["declared.nexus-prospect-ingestion"]["retention.ms"] == str(5 * 3_600_000)
    assert found["declared-enricher-sessions-changelog"]["cleanup.policy"] == "compact"


async def test_a_topic_is_never_created_by_accident(cluster: KafkaCluster) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=cluster.bootstrap_servers)
    await admin.start()
    try:
        described = await admin.describe_topics(["mistyped"])
        assert [topic["error_code"] for topic in described] == [3]  # UNKNOWN_TOPIC_OR_PARTITION
        assert "mistyped" not in await admin.list_topics()
    finally:
        await admin.close()


async def test_three_nodes_go_on_without_one(tmp_path: Path) -> None:
    tp = TopicPartition("replicated", 0)
    cluster = await asyncio.to_thread(lambda: KafkaCluster.start(3, data_dir=tmp_path))
    try:
        await _create(cluster, NewTopic(tp.topic, 1, 3, topic_configs={"min.insync.replicas": "2"}))
        await _produce(cluster, tp.topic, range(5))
        leader = await _leader(cluster, tp.topic)

        await asyncio.to_thread(cluster.node(leader).kill)
        await _produce(cluster, tp.topic, range(5, 10))

        async def another_leads() -> bool:
            return await _leader(cluster, tp.topic) not in {leader, -1}

        await eventually(another_leads, seconds=60, what="another leader")

        cluster.node(leader).start()
        await asyncio.to_thread(cluster.wait_until_ready)
        async with _consumer(cluster) as consumer:
            consumer.assign([tp])
            assert await _read(consumer, 10) == list(range(10))
        await _wait_for_replicas_in_sync(cluster, tp.topic, 3)
    finally:
        await asyncio.to_thread(cluster.stop)
    assert [node.pid for node in cluster.nodes] == [None, None, None]


async def test_make_kafka_survives_its_own_kill_and_stops_on_ctrl_c(tmp_path: Path) -> None:
    port = free_port()
    argv = [sys.executable, "-m", "tests.kafka", "--port", str(port), "--data-dir", str(tmp_path)]
    environ = {**os.environ, "PYTHONUNBUFFERED": "1"}

    first = await asyncio.create_subprocess_exec(*argv, cwd=ROOT, env=environ, stdout=asyncio.subprocess.PIPE)
    await _printed(first, f"NEXUS_KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:{port}")
    first_jvm = _jvm_pid(tmp_path)
    first.kill()
    await first.wait()
    assert psutil.pid_exists(first_jvm), "SIGKILL leaves the JVM behind: that is what the next start must handle"

    second = await asyncio.create_subprocess_exec(*argv, cwd=ROOT, env=environ, stdout=asyncio.subprocess.PIPE)
    try:
        address = await _printed(second, "NEXUS_KAFKA_BOOTSTRAP_SERVERS=")
        assert address.strip() == f"NEXUS_KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:{port}"
        second_jvm = _jvm_pid(tmp_path)
        assert second_jvm != first_jvm
        assert not psutil.pid_exists(first_jvm)
    finally:
        second.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(second.wait(), timeout=40) == 0
    assert not psutil.pid_exists(second_jvm)


def test_one_launcher_a_folder(cluster: KafkaCluster) -> None:
    with pytest.raises(RuntimeError, match=f"is used by .*pid {os.getpid()}"):
        KafkaCluster.start(data_dir=cluster.node(1).folder.parent)
    assert cluster.node(1).pid is not None


def _jvm_pid(data_dir: Path) -> int:
    return int(json.loads((data_dir / "node-1" / "pid.json").read_text())["pid"])


async def _create(cluster: KafkaCluster, topic: NewTopic) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=cluster.bootstrap_servers)
    await admin.start()
    try:
        await admin.create_topics([topic])
    finally:
        await admin.close()


async def _describe(cluster: KafkaCluster, topics: list[str]) -> dict[str, dict[str, str]]:
    admin = AIOKafkaAdminClient(bootstrap_servers=cluster.bootstrap_servers)
    await admin.start()
    try:
        responses = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in topics])
    finally:
        await admin.close()
    return {
        name: {option[0]: option[1] for option in options}
        for response in responses
        for _, _, _, name, options in response.resources
    }


async def _partition(cluster: KafkaCluster, topic: str) -> dict[str, object]:
    admin = AIOKafkaAdminClient(bootstrap_servers=cluster.bootstrap_servers)
    await admin.start()
    try:
        [described] = await admin.describe_topics([topic])
    finally:
        await admin.close()
    partition: dict[str, object] = described["partitions"][0]
    return partition


async def _leader(cluster: KafkaCluster, topic: str) -> int:
    leader = (await _partition(cluster, topic))["leader"]
    assert isinstance(leader, int)
    return leader


async def _wait_for_replicas_in_sync(cluster: KafkaCluster, topic: str, count: int) -> None:
    async with asyncio.timeout(60):
        while True:
            in_sync = (await _partition(cluster, topic))["isr"]
            assert isinstance(in_sync, list)
            if len(in_sync) == count:
                return
            await asyncio.sleep(0.5)


async def _produce(cluster: KafkaCluster, topic: str, numbers: range) -> None:
    # Idempotent: the retries after a leader was killed must not write a record twice.
    producer = AIOKafkaProducer(
        bootstrap_servers=cluster.bootstrap_servers, enable_idempotence=True, request_timeout_ms=30_000
    )
    await producer.start()
    try:
        for number in numbers:
            await producer.send_and_wait(topic, str(number).encode(), key=b"k")
    finally:
        await producer.stop()


@asynccontextmanager
async def _consumer(cluster: KafkaCluster) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=cluster.bootstrap_servers,
        group_id=GROUP,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def _read(consumer: AIOKafkaConsumer, count: int) -> list[int]:
    async with asyncio.timeout(30):
        return [int((await consumer.getone()).value) for _ in range(count)]


async def _printed(process: asyncio.subprocess.Process, text: str) -> str:
    """The first line that holds the text."""
    assert process.stdout is not None
    async with asyncio.timeout(60):
        while line := await process.stdout.readline():
            if text in line.decode():
                return line.decode()
    pytest.fail(f"ended without printing {text!r}")
