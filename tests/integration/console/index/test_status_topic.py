"""A process reports, is shown, and removes itself when it stops. A missing topic is not created."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from click.testing import CliRunner

from nexus_stream.console.command import open_model
from nexus_stream.console.index.indexer import Indexer
from nexus_stream.console.index.read_model import ReadModel
from nexus_stream.console.reading.overview import OverviewQueries
from nexus_stream.contracts.status import ProcessStatus
from nexus_stream.embedded.broker import EmbeddedBroker
from nexus_stream.errors import BrokerUnavailableError, TopicMismatchError
from nexus_stream.observability.status import StatusPublisher, failed_status
from nexus_stream.observability.status_command import command, forget
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


async def sink_report() -> ProcessStatus:
    return (await report()).model_copy(update={"process_id": "sink-0123abcd-0123ab"})


async def _shown(model: ReadModel, expected: int, state: str = "running") -> None:
    queries = OverviewQueries(model.path)

    def states() -> list[str]:
        return [process.state for process in queries.overview(time.time_ns() // 1_000_000).processes]

    async with asyncio.timeout(60):
        while states() != [state] * expected:  # noqa: ASYNC110 - a file
            await asyncio.sleep(0.05)


async def test_a_process_is_shown_while_it_runs(settings: Settings, model: ReadModel) -> None:
    publishing = asyncio.create_task(StatusPublisher(settings, "sink-a", report).run())
    await _shown(model, 1)
    publishing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await publishing
    await _shown(model, 0)


async def test_a_process_that_fails_reports_it_and_is_missing(settings: Settings, model: ReadModel) -> None:
    publishing = asyncio.create_task(
        StatusPublisher(settings, "sink-0123abcd-0123ab", sink_report, failed_by=lambda: "Supabase").run()
    )
    await _shown(model, 1)
    publishing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await publishing
    await _shown(model, 1, state="failed")
    queries = OverviewQueries(model.path)
    (process,) = queries.overview(time.time_ns() // 1_000_000).processes
    assert (process.detail, process.is_missed) == ("Supabase", True)
    # Until an operator forgets the process.
    await forget(settings, ("sink-0123abcd-0123ab", "sink"))
    await _shown(model, 0)
    assert queries.overview(time.time_ns() // 1_000_000).absent_seconds == {}


async def test_a_process_that_refuses_to_start_reports_it(settings: Settings, model: ReadModel) -> None:
    report = failed_status("enricher", "enricher-a", "TopicMismatchError")
    await StatusPublisher(settings, "enricher-a", report).say_once()
    await _shown(model, 1, state="failed")


async def test_forgetting_without_a_topic_or_a_broker_says_what_to_do(broker: EmbeddedBroker) -> None:
    with pytest.raises(TopicMismatchError, match="nexus topics apply"):
        await forget(Settings(kafka_bootstrap_servers=broker.bootstrap_servers, topic_prefix="none-"), ("sink",))
    away = Settings(kafka_bootstrap_servers="127.0.0.1:1", kafka_request_timeout_seconds=0.5)
    with pytest.raises(BrokerUnavailableError):
        await forget(away, ("sink",))


@pytest.mark.parametrize("name", ["console", "sink-", "sink-a", "nexus-sink", "sink-0123abcd-0123ab-1"])
def test_forgetting_accepts_names_from_alerts(name: str) -> None:
    result = CliRunner().invoke(command, ["forget", name])
    assert result.exit_code == 2
    assert "is neither a process type nor a process id" in " ".join(result.output.split())


async def test_a_missing_topic_is_not_created(broker: EmbeddedBroker, tmp_path: Path) -> None:
    settings = Settings(kafka_bootstrap_servers=broker.bootstrap_servers, data_dir=tmp_path)
    publishing = asyncio.create_task(StatusPublisher(settings, "sink-a", report).run())
    await asyncio.sleep(1.5)
    assert not publishing.done()
    publishing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await publishing
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
    try:
        await admin.start()
        assert settings.status_topic not in await admin.list_topics()
    finally:
        await admin.close()
