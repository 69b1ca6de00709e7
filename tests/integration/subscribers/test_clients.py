"""kafkajs and librdkafka read the stream's records and write records that the stream reads.

Known limits of the embedded broker, found with these clients: a group join takes half the session timeout (with
librdkafka's default of 45 s the first record comes after 23 s, hence 6 s here); the idempotent producers of kafkajs and
aiokafka fail, librdkafka's works; the newer group protocol (``group.protocol=consumer``) gets no records.
"""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from jsonschema import Draft202012Validator

from nexus_stream.contracts.conversation import Limits, decode
from nexus_stream.contracts.headers import ENRICHED_TYPE, ERASED_TYPE
from tests.clients import confluent, npm

pytestmark = pytest.mark.timeout(300)

ROOT = Path(__file__).parents[3]
CLIENTS = ROOT / "tests" / "clients"
SCHEMAS = {ENRICHED_TYPE: "enriched-prospect", ERASED_TYPE: "erased-session"}


def test_confluent_kafka_reads_enriched_prospects(published: Any) -> None:
    records = confluent.read(published.bootstrap_servers, published.topic, len(published.values))
    _assert_as_published([(one.key, json.loads(one.value), dict(one.headers)) for one in records], published)


def test_kafkajs_reads_enriched_prospects(published: Any, node_clients: Path) -> None:
    lines = _run(node_clients, "consume.mjs", published.bootstrap_servers, published.topic, str(len(published.values)))
    records = [(line["key"], json.loads(line["value"]), line["headers"]) for line in lines]
    _assert_as_published(records, published)


def test_kafkajs_producer_scatters_snapshots_as_the_existing_site(broker: str, node_clients: Path) -> None:
    topics = [_create_topic(broker, partitions=6) for _ in range(2)]

    told = [_run(node_clients, "produce_snapshots.mjs", broker, topic) for topic in topics]

    assert told[0] == told[1]
    by_topic = [confluent.read(broker, topic, 60) for topic in topics]
    assert by_topic[0] == by_topic[1], "the same arguments must send the same records to the same partitions"
    records = by_topic[0]
    assert len({key for _, _, key, _, _ in records}) == 60
    assert {len(key) for _, _, key, _, _ in records} == {21}
    assert all(dict(headers)["correlation-id"] == key for _, _, key, _, headers in records)
    sessions: dict[str, list[tuple[int, int]]] = {}
    for partition, _, _, value, _ in records:
        conversation = decode(value, Limits())
        sessions.setdefault(conversation.session_id, []).append((partition, len(conversation.messages)))
    assert len(sessions) == 10
    assert all(sorted(turns for _, turns in found) == [1, 3, 5, 7, 9, 11] for found in sessions.values())
    assert all(len({partition for partition, _ in found}) > 1 for found in sessions.values())
    assert {line["sessionId"] for line in told[0]} == sessions.keys()
    assert {len(line["newest"]["messages"]) for line in told[0]} == {11}


def test_confluent_kafka_produces_idempotently(broker: str) -> None:
    topic = _create_topic(broker, partitions=1)
    producer = Producer({"bootstrap.servers": broker, "enable.idempotence": True, "acks": "all"})
    errors: list[Any] = []
    for number in range(20):
        producer.produce(topic, str(number).encode(), on_delivery=lambda error, _: errors.append(error))
    assert producer.flush(20) == 0
    assert errors == [None] * 20


@pytest.mark.parametrize("broker", ["kafka"], indirect=True)
async def test_aiokafka_produces_idempotently(broker: str) -> None:
    """On Apache Kafka only: to aiokafka's InitProducerId the embedded broker answers with an unknown error."""
    topic = _create_topic(broker, partitions=1)
    producer = AIOKafkaProducer(bootstrap_servers=broker, enable_idempotence=True)
    await producer.start()
    try:
        sent = [await producer.send_and_wait(topic, b"v") for _ in range(20)]
    finally:
        await producer.stop()
    assert [record.offset for record in sent] == list(range(20))


@pytest.mark.parametrize("script", ["subscriber.py", "subscriber.mjs"])
async def test_example_prints_records_and_stops_on_ctrl_c(
    published: Any, script: str, request: pytest.FixtureRequest
) -> None:
    if script.endswith(".mjs"):
        folder: Path = request.getfixturevalue("node_clients")
        argv = ["node", str(npm.place(ROOT / "examples" / script, folder))]
    else:
        argv = [sys.executable, str(ROOT / "examples" / script)]
    argv += ["--bootstrap", published.bootstrap_servers, "--group", f"example-{uuid.uuid4().hex[:8]}"]

    process = await asyncio.create_subprocess_exec(
        *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        lines = await asyncio.wait_for(_first_lines(process, 1 + len(published.values)), timeout=40)
        process.send_signal(2)
        _, complaint = await asyncio.wait_for(process.communicate(), timeout=15)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()

    assert lines[0].startswith(f"Reading {published.topic} at {published.bootstrap_servers}")
    printed = "\n".join(lines[1:])
    erased = published.erased
    assert f"{erased.erased_at} {erased.session_id}: erased (request)" in lines
    for key, value in published.values.items():
        if key == erased.key.decode():
            continue
        assert value["session_id"] in printed
        assert (value["prospect"]["nombre"] or "(no name yet)") in printed
        assert published.headers[key]["ce_id"] in printed
    assert process.returncode == 0
    assert complaint.decode() == ""


async def _first_lines(process: asyncio.subprocess.Process, count: int) -> list[str]:
    assert process.stdout is not None
    lines: list[str] = []
    while len(lines) < count:
        line = await process.stdout.readline()
        if not line:
            complaint = await process.stderr.read() if process.stderr else b""
            pytest.fail(f"the example ended after {lines}: {complaint.decode()[-2000:]}")
        lines.append(line.decode().rstrip())
    # The greeting and the first record may come in either order.
    return sorted(lines, key=lambda line: not line.startswith("Reading "))


def _assert_as_published(records: list[tuple[str, Any, dict[str, str]]], published: Any) -> None:
    for _, value, headers in records:
        schema = SCHEMAS[headers["ce_type"]]
        _validator(f"{schema}.v1").validate(value)
        _validator(f"{schema}-headers.v1").validate(headers)
    assert {key: value for key, value, _ in records} == published.values
    assert {key: headers for key, _, headers in records} == published.headers


def _validator(schema: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads((ROOT / "contracts" / f"{schema}.schema.json").read_text()))


def _create_topic(bootstrap: str, partitions: int) -> str:
    topic = f"clients-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result(timeout=10)
    return topic


def _run(folder: Path, script: str, *arguments: str) -> list[dict[str, Any]]:
    return npm.run(npm.place(CLIENTS / script, folder), *arguments)
