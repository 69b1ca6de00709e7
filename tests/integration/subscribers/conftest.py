"""A broker of each kind with both kinds of records on ``prospects-enriched``, and kafkajs.

The embedded broker always runs. Apache Kafka needs Java and Maven (``NEXUS_REQUIRE=kafka``). kafkajs needs Node.js
(``NEXUS_REQUIRE=node``).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from nexus_stream.contracts.erased import ErasedSession
from nexus_stream.contracts.session_key import session_key
from nexus_stream.embedded.broker import EmbeddedBroker
from nexus_stream.kafka.clients import client_options
from nexus_stream.kafka.topics import apply_topics
from nexus_stream.settings import Settings, load_settings
from tests.clients import npm
from tests.kafka.launcher import KafkaCluster, available
from tests.support.requirements import require

GOLDEN = Path(__file__).parents[2] / "unit" / "contracts" / "golden"


@dataclass(frozen=True)
class Published:
    """The published records: by key, the value and the headers."""

    settings: Settings
    values: dict[str, dict[str, Any]]
    headers: dict[str, dict[str, str]]
    erased: ErasedSession  # its record is in `values` and `headers` too

    @property
    def bootstrap_servers(self) -> str:
        return self.settings.kafka_bootstrap_servers

    @property
    def topic(self) -> str:
        return self.settings.enriched_topic


@pytest.fixture(scope="package", params=["embedded", "kafka"])
def broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a broker: each test that uses it runs on both kinds."""
    folder = tmp_path_factory.mktemp(f"broker-{request.param}")
    if request.param == "kafka":
        require("kafka", available())
        with KafkaCluster.start(data_dir=folder) as cluster:
            yield cluster.bootstrap_servers
    else:
        with EmbeddedBroker.start(log_path=folder / "broker.log") as embedded:
            yield embedded.bootstrap_servers


@pytest.fixture(scope="package")
def published(broker: str) -> Published:
    """The golden prospects and an erased session, sent by aiokafka as the enricher sends them."""
    settings = load_settings(environ={}, kafka_bootstrap_servers=broker)
    template = json.loads((GOLDEN / "headers-enriched.json").read_text())
    values, headers = {}, {}
    for path in sorted(GOLDEN.glob("enriched-*.json")):
        value = json.loads(path.read_text())
        key = session_key(value["tenant_id"], value["session_id"]).decode()
        values[key] = value
        headers[key] = {**template, "ce_id": path.stem, "ce_time": value["enriched_at"]}
    erased = ErasedSession(
        session_id="erased-session",
        requested_at="2026-01-15T12:00:00.000Z",
        request_id="request-1",
        erased_at="2026-01-15T12:00:03.000Z",
    )
    key = erased.key.decode()
    values[key] = json.loads(erased.value)
    headers[key] = {name: text.decode() for name, text in erased.headers("/nexus-stream/nexus-enricher")}
    asyncio.run(_publish(settings, values, headers))
    return Published(settings, values, headers, erased)


async def _publish(settings: Settings, values: dict[str, Any], headers: dict[str, dict[str, str]]) -> None:
    await apply_topics(settings)
    producer = AIOKafkaProducer(**client_options(settings), acks="all")
    await producer.start()
    try:
        for key, value in values.items():
            await producer.send_and_wait(
                settings.enriched_topic,
                key=key.encode(),
                value=json.dumps(value, ensure_ascii=False).encode(),
                headers=[(name, text.encode()) for name, text in headers[key].items()],
            )
    finally:
        await producer.stop()


@pytest.fixture(scope="package")
def node_clients() -> Path:
    """The folder where Node.js scripts find kafkajs."""
    require("node", npm.available())
    return npm.install()
