"""The Faust workers as processes: refused starts, served pages, and the private parts of Faust that they need."""

from __future__ import annotations

import asyncio
import inspect
import json
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faust
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import UnknownError
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread

from nexus_stream.contracts.status import ProcessStatus
from nexus_stream.embedded.broker import EmbeddedBroker
from nexus_stream.errors import BrokerUnavailableError
from nexus_stream.kafka.clients import client_options
from nexus_stream.kafka.topics import apply_topics
from nexus_stream.worker.directory import WorkerDirectory
from tests.stack import Stack, eventually

EX_CONFIG = 78


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker.start(log_path=tmp_path_factory.mktemp("broker") / "broker.log") as one:
        yield one


@pytest.fixture
def stack(broker: EmbeddedBroker, tmp_path: Path) -> Iterator[Stack]:
    """Workers on topics of the test's own; no database is reached by an enricher."""
    name = tmp_path.name[:40]
    one = Stack(
        tmp_path,
        broker.bootstrap_servers,
        "postgresql://nobody@127.0.0.1:9/none",
        NEXUS_TOPIC_PREFIX=f"{name}-",
        NEXUS_ENRICHER_APP_ID=f"{name}-enricher",
        NEXUS_SINK_APP_ID=f"{name}-sink",
    )
    yield one
    one.stop_all()


def log_of(stack: Stack, name: str) -> str:
    return stack.processes[name].log.read_text()


def test_a_worker_refuses_missing_topics_and_names_the_command(stack: Stack):
    process = stack.start("enricher")
    assert process.process.wait(40) == EX_CONFIG
    log = log_of(stack, "enricher")
    assert "nexus topics apply" in log
    assert stack.settings.ingestion_topic in log
    assert "Traceback" not in log


async def test_a_worker_refuses_another_partition_count(stack: Stack):
    admin = AIOKafkaAdminClient(**client_options(stack.settings))
    try:
        await admin.start()
        await admin.create_topics(
            [NewTopic(stack.settings.ingestion_topic, 3, 1), NewTopic(stack.settings.status_topic, 1, 1)]
        )
    finally:
        await admin.close()
    process = stack.start("enricher")
    assert await asyncio.to_thread(process.process.wait, 40) == EX_CONFIG
    assert "3 partitions, NEXUS_TOPIC_PARTITIONS says 4" in log_of(stack, "enricher")
    # The worker never ran, but its failure is on the status topic.
    (record,) = await stack.read_topic(stack.settings.status_topic)
    status = ProcessStatus.model_validate_json(record.value)
    assert (status.role, status.state, status.detail) == ("enricher", "failed", "TopicMismatchError")


def test_a_worker_reports_all_wrong_settings_at_once(stack: Stack):
    process = stack.start("sink", SUPABASE_DB_URL="", NEXUS_SETTLE_SECONDS="soon", NEXUS_SETLE_SECONDS="1")
    assert process.process.wait(40) == EX_CONFIG
    log = log_of(stack, "sink")
    assert "Traceback" not in log
    assert "NEXUS_SETTLE_SECONDS" in log
    assert "Did you mean NEXUS_SETTLE_SECONDS?" in log


async def test_an_enricher_serves_readiness_and_no_table(stack: Stack):
    await apply_topics(stack.settings)
    process = stack.start("enricher")
    await asyncio.to_thread(process.wait_until_ready)

    def get(path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(process.url + path, timeout=5) as answer:  # noqa: S310 - loopback
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    status, body = await asyncio.to_thread(get, "/ready")
    assert (status, json.loads(body)["state"]) == (200, "running")
    assert (await asyncio.to_thread(get, "/live"))[0] == 200
    for closed in ("/tables/", "/table/", "/router/", "/stats/", "/graph/"):
        assert (await asyncio.to_thread(get, closed))[0] == 404
    status, body = await asyncio.to_thread(get, "/metrics")
    assert status == 200
    assert "nexus_records_total" in body

    # Signals by which Faust prints local variables and opens a debugger.
    process.process.send_signal(signal.SIGUSR2)
    told = await asyncio.to_thread(process.tell_where_it_stands)
    assert "_commit_intents:" in told
    assert "GroupCoordinator._heartbeat_routine:" in told
    assert "self = <" not in log_of(stack, "enricher")
    assert "Logging error" not in log_of(stack, "enricher")
    assert (await asyncio.to_thread(get, "/ready"))[0] == 200
    assert await asyncio.to_thread(process.stop) == 0
    # It was told to stop: a null value ends its alerts.
    *_, before, last = await stack.read_topic(stack.settings.status_topic)
    assert ProcessStatus.model_validate_json(before.value).state != "failed"
    assert last.value is None


async def test_a_sink_without_its_database_lives_and_is_not_ready(stack: Stack):
    await apply_topics(stack.settings)
    process = stack.start("sink")

    def get(path: str) -> tuple[int, dict[str, Any]]:
        try:
            with urllib.request.urlopen(process.url + path, timeout=5) as answer:  # noqa: S310 - loopback
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())
        except OSError:
            return 0, {}

    async def waits_for_its_database() -> bool:
        status, body = await asyncio.to_thread(get, "/ready")
        return (status, body.get("reason")) == (503, "waiting for Supabase")

    await eventually(waits_for_its_database, seconds=60, what="503, because it waits for Supabase")
    assert (await asyncio.to_thread(get, "/live"))[0] == 200
    assert await asyncio.to_thread(process.stop) == 0


async def test_two_workers_on_one_host_take_slots_of_their_own(stack: Stack):
    await apply_topics(stack.settings)
    for name in ("one", "two"):
        stack.start("enricher", name)
    for process in stack.processes.values():
        await asyncio.to_thread(process.wait_until_ready)
    slots = sorted(path.name for path in (stack.folder / "data" / stack.settings.enricher_app_id).iterdir())
    assert [slot for slot in slots if slot.isdecimal()] == ["0", "1"]


def test_a_slot_is_found_again_and_its_tables_are_bound_to_the_cluster(tmp_path: Path):
    first = WorkerDirectory.claim(tmp_path, "app")
    second = WorkerDirectory.claim(tmp_path, "app")
    assert (first.path.name, second.path.name) == ("0", "1")
    assert first.bind({"cluster_id": "a"}) is False
    (first.path / "v1" / "tables").mkdir(parents=True)
    assert first.bind({"cluster_id": "a"}) is False
    assert (first.path / "v1").exists()
    assert first.bind({"cluster_id": "b"}) is True
    assert not (first.path / "v1").exists()
    first.release()
    again = WorkerDirectory.claim(tmp_path, "app")
    assert again.path == first.path
    again.release()
    second.release()


async def test_records_hidden_by_the_creation_of_their_topic_do_not_hold_up_recovery(tmp_path: Path):
    """A client of the embedded broker before this one sends to it at once, when there is no topic yet."""
    before = EmbeddedBroker.start(log_path=tmp_path / "before.log")
    stack = Stack(tmp_path, before.bootstrap_servers, "postgresql://nobody@127.0.0.1:9/none")
    changelog = stack.settings.sessions_changelog_topic
    producer = AIOKafkaProducer(**client_options(stack.settings), acks="all", max_batch_size=1)
    try:
        await apply_topics(stack.settings)
        await producer.start()
        await producer.send_and_wait(changelog, b"{}", key=b"known", partition=0)
        await asyncio.to_thread(before.kill)
        # Fails while no broker runs. A metadata request to the next broker would create the topic.
        await producer.client.force_metadata_update()
        with EmbeddedBroker.start(log_path=tmp_path / "after.log", port=before.port):
            for number in range(5):
                await _send_at_last(producer, changelog, b"hidden-%d" % number)
            await producer.stop()
            await apply_topics(stack.settings)
            with pytest.raises(BrokerUnavailableError, match=r"nothing arrives .* at offset 0"):
                await stack.read_topic(changelog, stall_seconds=3)
            process = stack.start("enricher")
            await asyncio.to_thread(process.wait_until_ready, 45.0)
            stack.stop_all()
    finally:
        await producer.stop()
        stack.stop_all()
        before.kill()


async def _send_at_last(producer: AIOKafkaProducer, topic: str, key: bytes) -> None:
    # While the embedded broker creates a topic it answers a few sends with "unknown error".
    for attempt in range(20):
        try:
            await producer.send_and_wait(topic, b"{}", key=key, partition=0)
        except UnknownError:
            await asyncio.sleep(0.05 * attempt)
        else:
            return
    raise AssertionError(f"{topic} could not be sent to")


async def test_a_stop_is_bounded_while_the_broker_is_away(tmp_path: Path):
    # The grace period of the deployments is 60 s; Faust alone waited longer for its consumer's thread.
    with EmbeddedBroker.start(log_path=tmp_path / "broker.log") as broker:
        stack = Stack(tmp_path, broker.bootstrap_servers, "postgresql://nobody@127.0.0.1:9/none")
        try:
            await apply_topics(stack.settings)
            process = stack.start("enricher")
            await asyncio.to_thread(process.wait_until_ready, 60.0)
            await asyncio.to_thread(broker.kill)
            assert await asyncio.to_thread(process.stop, 45.0) == 0
        finally:
            stack.stop_all()


def test_the_private_parts_of_faust_are_as_we_know_them():
    """0.15.3 is pinned: after an upgrade, check worker/broker.py and tables/sessions.py again."""
    assert faust.__version__ == "0.15.3"
    from faust.transport.consumer import Consumer

    assert list(inspect.signature(Consumer._commit_offsets).parameters) == ["self", "offsets", "start_new_transaction"]
    assert "fetch_max_wait_ms=1500" in inspect.getsource(AIOKafkaConsumerThread._create_worker_consumer)
    from faust.stores.rocksdb import Store

    assert "current_event()" in inspect.getsource(Store._set)
    assert "event.message.partition" in inspect.getsource(Store._set)
    from faust.tables.recovery import Recovery

    assert list(inspect.signature(Recovery._seek_offsets).parameters) == ["self", "consumer", "tps", "offsets", "title"]
    assert "consumer.end_offsets" in inspect.getsource(AIOKafkaConsumerThread._highwaters)
    # Our worker replaces these, because they print local variables.
    assert "_cry" in inspect.getsource(faust.Worker._on_sigusr1)
