"""A process reports, is shown, and takes itself off when it stops; a missing topic is not made by asking for it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from nexus_stream.console.command import open_model
from nexus_stream.console.indexer import Indexer
from nexus_stream.console.overview import OverviewQueries
from nexus_stream.console.read_model import ReadModel
from nexus_stream.contracts.status import ProcessStatus
from nexus_stream.embedded.broker import EmbeddedBroker
from nexus_stream.observability.status import StatusPublisher
from nexus_stream.settings import Settings


async def report() -> ProcessStatus:
    now_ms = time.time_ns() // 1_000_000
    return ProcessStatus(
        process_id="sink-a",
        role="sink",
        version="1",
        host="h",
        pid=1,
        state="running",
        since_ms=now_ms,
        started_at_ms=now_ms,
        updated_at_ms=now_ms,
    )


@pytest.fixture
async def model(settings: Settings) -> AsyncIterator[ReadModel]:
    model = open_model(settings)
    indexer = asyncio.create_task(Indexer(settings, model).run())
    yield model
    indexer.cancel()
    await asyncio.gather(indexer, return_exceptions=True)
    model.close()


async def _shown(model: ReadModel, expected: int) -> None:
    queries = OverviewQueries(model.path)
    async with asyncio.timeout(10):
        while len(queries.overview(time.time_ns() // 1_000_000).processes) != expected:  # noqa: ASYNC110 - a file
            await asyncio.sleep(0.05)


async def test_a_process_is_shown_while_it_runs(settings: Settings, model: ReadModel) -> None:
    publishing = asyncio.create_task(StatusPublisher(settings, "sink-a", report).run())
    await _shown(model, 1)
    publishing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await publishing
    await _shown(model, 0)


async def test_a_missing_topic_is_left_missing(broker: EmbeddedBroker, tmp_path: Path) -> None:
    settings = Settings(kafka_bootstrap_servers=broker.bootstrap_servers, data_dir=tmp_path)
    publishing = asyncio.create_task(StatusPublisher(settings, "sink-a", report).run())
    await asyncio.sleep(1.5)
    assert not publishing.done()
    publishing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await publishing
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
    await admin.start()
    assert settings.status_topic not in await admin.list_topics()
    await admin.close()
