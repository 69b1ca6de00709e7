"""The alert watch on a real broker without workers: it detects, reports and stores problems that no process reports."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import orjson
import pytest
from aiohttp.test_utils import TestClient, TestServer
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from prometheus_client import CollectorRegistry, generate_latest
from structlog.testing import capture_logs

from nexus_stream.console.alerts import watch as alert_watch
from nexus_stream.console.alerts.conditions import Alert, AlertKind
from nexus_stream.console.alerts.store import AlertStore
from nexus_stream.console.alerts.watch import AlertWatch
from nexus_stream.console.command import open_model
from nexus_stream.console.index.indexer import Indexer
from nexus_stream.console.metrics import ConsoleCollector
from nexus_stream.console.web.app import make_app
from nexus_stream.console.web.context import CONTEXT, Context
from nexus_stream.contracts.status import ProcessStatus
from nexus_stream.embedded.broker import EmbeddedBroker
from nexus_stream.kafka.topics import apply_topics
from nexus_stream.observability.status_command import forget
from nexus_stream.settings import Settings


@pytest.fixture
async def settings(broker: EmbeddedBroker, tmp_path: Path) -> Settings:
    settings = Settings(
        kafka_bootstrap_servers=broker.bootstrap_servers,
        data_dir=tmp_path / "data",
        topic_partitions=3,
        console_port=0,
        ingestion_retention_hours=1,
        alert_lag_records=4,
        alert_no_progress_seconds=2,
        alert_for_seconds=0.5,
        alert_clear_seconds=1,
        alert_window_seconds=10,
    )
    await apply_topics(settings)
    return settings


@asynccontextmanager
async def console(settings: Settings) -> AsyncIterator[Context]:
    """A console's moving parts, without its pages."""
    model = open_model(settings)
    context = make_app(settings, model)[CONTEXT]
    tasks = [
        asyncio.create_task(Indexer(settings, model).run()),
        asyncio.create_task(context.lag.run()),
        asyncio.create_task(context.alerts.run()),
    ]
    try:
        yield context
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        model.close()


@pytest.fixture
def start_console(tmp_path: Path) -> Iterator[Callable[[Settings], str]]:
    """Start a real ``nexus console``; returns the address of its metrics."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(settings: Settings) -> str:
        log = tmp_path / "console.log"
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("NEXUS_", "PORT"))}
        environ |= {
            "NEXUS_KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
            "NEXUS_DATA_DIR": str(tmp_path / "process"),
            "NEXUS_METRICS_PORT": "0",
            "PORT": "0",
            "PYTHONUNBUFFERED": "1",
        }
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-c", "from nexus_stream.cli import main; main()", "console"],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environ,
                cwd=tmp_path,
            )
        processes.append(process)
        deadline = time.monotonic() + 60
        while "metrics on " not in (text := log.read_text()):
            assert process.poll() is None, text
            assert time.monotonic() < deadline, text
            time.sleep(0.05)
        return text.partition("metrics on ")[2].split()[0].removesuffix("/metrics")

    yield start
    for process in processes:
        process.terminate()
        assert process.wait(30) == 0


async def until(is_true: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


def kinds(watch: AlertWatch) -> set[AlertKind]:
    return {alert.kind for alert in watch.firing}


async def put(settings: Settings, count: int, minutes_old: int) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka_bootstrap_servers, max_batch_size=1)
    await producer.start()
    try:
        time_ms = time.time_ns() // 1_000_000 - minutes_old * 60_000
        for _ in range(count):
            await producer.send_and_wait(settings.ingestion_topic, b"{}", partition=1, timestamp_ms=time_ms)
    finally:
        await producer.stop()


async def commit(settings: Settings, offset: int) -> None:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka_bootstrap_servers,
        group_id=settings.enricher_app_id,
        enable_auto_commit=False,
    )
    await consumer.start()
    try:
        place = TopicPartition(settings.ingestion_topic, 1)
        consumer.assign([place])
        await consumer.commit({place: offset})
    finally:
        await consumer.stop()


async def test_without_workers_alerts_for_lag_age_and_no_progress_begin_and_end(settings: Settings) -> None:
    with capture_logs() as logs:
        await _told_and_ended(settings)
    for event, level in (("alert begins", "warning"), ("alert ended", "info")):
        lines = [line for line in logs if line["event"] == event]
        assert {line["log_level"] for line in lines} == {level}
        assert sorted(line["alert"] for line in lines) == ["lag", "no_progress", "old_messages"]


async def _told_and_ended(settings: Settings) -> None:
    async with console(settings) as context:
        registry = CollectorRegistry()
        registry.register(ConsoleCollector(context.lag, context.alerts))
        await until(lambda: context.lag.standings["enricher"] is not None)
        assert context.alerts.firing == ()
        await put(settings, 6, minutes_old=40)
        expected = {AlertKind.LAG, AlertKind.NO_PROGRESS, AlertKind.OLD_MESSAGES}
        # Lag waits until processes have had the time to report.
        await until(lambda: kinds(context.alerts) == expected)

        figures = await context.figures(time.time_ns() // 1_000_000)
        assert (figures.role("enricher").unread, kinds(context.alerts)) == (6, expected)
        lines = generate_latest(registry).decode().splitlines()
        place = '{group="nexus-enricher",partition="1",topic="nexus-prospect-ingestion"}'
        assert f"nexus_group_lag_records{place} 6.0" in lines
        (age,) = [line for line in lines if line.startswith(f"nexus_group_oldest_age_seconds{place}")]
        assert float(age.split()[-1]) == pytest.approx(2400, abs=60)
        assert 'nexus_group_lag_known{group="nexus-sink"} 1.0' in lines
        assert 'nexus_alert_firing{alert="lag",where="enricher"} 1.0' in lines
        assert "nexus_alert_webhook_failures_total 0.0" in lines

        await commit(settings, 6)
        await until(lambda: context.alerts.firing == ())
        assert "nexus_alert_firing{" not in generate_latest(registry).decode()


async def test_a_restart_begins_no_alert_again_and_ends_finished_ones(settings: Settings) -> None:
    async with console(settings) as context:
        await put(settings, 1, minutes_old=40)
        await until(lambda: kinds(context.alerts) == {AlertKind.NO_PROGRESS, AlertKind.OLD_MESSAGES})
        firing = {alert.identity: alert.since_ms for alert in context.alerts.firing}
        stored = settings.data_dir / "console" / "alerts.json"
        await until(lambda: len(orjson.loads(stored.read_bytes())["firing"]) == 2)
    async with console(settings) as context:
        assert {alert.identity: alert.since_ms for alert in context.alerts.firing} == firing
        await until(lambda: context.lag.standings["enricher"] is not None)
        await asyncio.sleep(3)
        assert {alert.identity: alert.since_ms for alert in context.alerts.firing} == firing
    await commit(settings, 1)
    async with console(settings) as context:
        assert len(context.alerts.firing) == 2
        await until(lambda: context.alerts.firing == ())


async def test_a_dead_process_is_missing_until_an_operator_forgets_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alert_watch, "_REPORT_WAIT_SECONDS", 0.5)
    a_day_ago_ms = time.time_ns() // 1_000_000 - 25 * 3_600_000
    name = "gateway-0123abcd-0123ab"
    status = ProcessStatus(
        process_id=name,
        role="gateway",
        version="1",
        host="h",
        pid=1,
        state="running",
        since_ms=a_day_ago_ms,
        started_at_ms=a_day_ago_ms,
        updated_at_ms=a_day_ago_ms,
    )
    sink, refused = "sink-0123abcd-0123ab", {"role": "sink", "state": "failed", "detail": "Supabase"}
    said: dict[str, dict[str, str]] = {name: {}, (other := "gateway-0123abcd-fedcba"): {}, sink: refused}
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka_bootstrap_servers) as producer:
        for key, values in said.items():
            record = status.model_copy(update={"process_id": key, **values}).model_dump_json().encode()
            await producer.send_and_wait(settings.status_topic, record, key=key.encode())
    # Yesterday's console told of the one, and that nothing is saved. The other was dead before any console looked: it
    # begins none.
    told = [(AlertKind.SILENT, name), (AlertKind.PERSISTENCE, "sink")]
    alerts = [Alert(*identity, 90_000.0, 0, is_critical=True, since_ms=a_day_ago_ms) for identity in told]
    (folder := settings.data_dir / "console").mkdir(parents=True)
    AlertStore(folder).save(alerts, [])
    async with console(settings) as context:
        await until(lambda: context.model.lag_beside(settings.status_topic) == 0 and context.model.version > 1)
        await asyncio.sleep(4)
        assert [one.identity for one in context.alerts.firing] == told
        await forget(settings, (name,))
        await until(lambda: kinds(context.alerts) == {AlertKind.PERSISTENCE})
        # Another running sink saves, whatever happened to the first one.
        now_ms = time.time_ns() // 1_000_000
        runs = {"process_id": "sink-0123abcd-fedcba", "role": "sink", "since_ms": now_ms, "updated_at_ms": now_ms}
        record = status.model_copy(update=runs).model_dump_json().encode()
        async with AIOKafkaProducer(bootstrap_servers=settings.kafka_bootstrap_servers) as producer:
            await producer.send_and_wait(settings.status_topic, record, key=str(runs["process_id"]).encode())
        await until(lambda: context.alerts.firing == ())
        assert other in context.overview.overview(time.time_ns() // 1_000_000).forgotten


async def test_alerts_show_on_the_page_and_in_the_api(settings: Settings) -> None:
    model = open_model(settings)
    app = make_app(settings, model)
    context = app[CONTEXT]
    async with TestClient(TestServer(app)) as client:
        runs = (Indexer(settings, model).run(), context.lag.run(), context.alerts.run())
        tasks = [asyncio.create_task(run) for run in runs]
        await put(settings, 1, minutes_old=40)
        await until(lambda: AlertKind.OLD_MESSAGES in kinds(context.alerts))
        answer = await (await client.get("/api/v1/overview")).json()
        found = {alert["kind"]: alert for alert in answer["alerts"]}
        assert found["old_messages"]["where"] == "enricher"
        assert found["old_messages"]["since"].startswith("20")
        page = await (await client.get("/", headers={"Accept-Language": "es"})).text()
        assert "más de 30 min (la mitad de la retención)" in page
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    model.close()


async def test_the_console_serves_its_metrics_and_watches(
    settings: Settings, start_console: Callable[[Settings], str]
) -> None:
    metrics_url = await asyncio.to_thread(start_console, settings)
    async with aiohttp.ClientSession() as session:
        deadline = time.monotonic() + 60
        while True:
            async with session.get(f"{metrics_url}/metrics") as response:
                text = await response.text()
            if 'nexus_group_lag_known{group="nexus-enricher"} 1.0' in text:
                break
            assert time.monotonic() < deadline, text
            await asyncio.sleep(0.1)
        assert 'nexus_build_info{role="console"' in text
        assert "nexus_alert_webhook_failures_total 0.0" in text
