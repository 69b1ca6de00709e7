from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from nexus_stream.contracts.prospect import ExtractionFacts, Prospect
from nexus_stream.contracts.session_key import session_key
from nexus_stream.embedded.broker import EmbeddedBroker
from nexus_stream.kafka.topics import apply_topics
from nexus_stream.settings import Settings
from tables.session_state import SessionState, encode_state

START_MS = 1_760_000_000_000


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker.start(tmp_path / "broker.log") as broker:
        yield broker


@pytest.fixture
async def settings(broker: EmbeddedBroker, tmp_path: Path) -> Settings:
    """Of a broker whose topics are there."""
    settings = Settings(
        kafka_bootstrap_servers=broker.bootstrap_servers, data_dir=tmp_path / "data", topic_partitions=3, console_port=0
    )
    await apply_topics(settings)
    return settings


@pytest.fixture
def encode() -> Callable[..., bytes]:
    """A session state as the enricher writes it to the changelog."""

    def encode(session_id: str, number: int, nombre: str | None, tenant_id: str = "", **values: Any) -> bytes:
        return encode_state(
            SessionState(
                session_id=session_id,
                tenant_id=tenant_id,
                chain=("aabbccddeeff",),
                turns=2,
                prospect=Prospect(nombre=nombre),
                extraction=ExtractionFacts(extractor="offline-rules-v1"),
                enriched_at="2026-01-02T03:04:05.678+00:00",
                first_seen_ms=START_MS,
                last_seen_ms=START_MS + number,
                **values,
            )
        )

    return encode


Put = Callable[..., Awaitable[None]]


@pytest.fixture
async def put(settings: Settings, encode: Callable[..., bytes]) -> AsyncIterator[Put]:
    """Writes a state, or with ``nombre=...`` left out a tombstone, to the changelog and waits for the broker."""
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka_bootstrap_servers)
    await producer.start()

    async def put(session_id: str, number: int = 0, nombre: str | None = None, tenant_id: str = "") -> None:
        key = session_key(tenant_id, session_id)
        value = None if nombre is None else encode(session_id, number, nombre, tenant_id)
        await producer.send_and_wait(
            settings.sessions_changelog_topic, value, key=key, partition=sum(key) % settings.topic_partitions
        )

    yield put
    await producer.stop()
