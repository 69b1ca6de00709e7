"""Single records by position, actions on dead letters, and the indexer, on both brokers."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from nexus_stream.console.command import open_model
from nexus_stream.console.index.indexer import Indexer
from nexus_stream.console.reading.queries import SessionQueries
from nexus_stream.console.web.access import Identity
from nexus_stream.console.web.app import make_app
from nexus_stream.console.web.context import CONTEXT
from nexus_stream.console.web.dead_letter_actions import Wanted, act, plan
from nexus_stream.console.web.topic_reader import Absent, TopicReader
from nexus_stream.delivery.dead_letters import letter_headers
from nexus_stream.delivery.received import Received
from nexus_stream.embedded.broker import EmbeddedBroker
from nexus_stream.errors import Reason
from nexus_stream.kafka.topics import apply_topics
from nexus_stream.settings import Settings
from tests.kafka.launcher import KafkaCluster, available
from tests.support.requirements import require


@pytest.fixture(scope="module", params=["embedded", "kafka"])
def bootstrap_servers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "kafka":
        require("kafka", available())
        with KafkaCluster.start(data_dir=folder) as cluster:
            yield cluster.bootstrap_servers
    else:
        with EmbeddedBroker.start(folder / "broker.log") as broker:
            yield broker.bootstrap_servers


@pytest.fixture
async def settings(bootstrap_servers: str, tmp_path: Path) -> Settings:
    """Topics of the test's own."""
    settings = Settings(
        kafka_bootstrap_servers=bootstrap_servers,
        data_dir=tmp_path / "data",
        topic_partitions=3,
        topic_prefix=f"t{secrets.token_hex(4)}-",
        enricher_app_id=f"e{secrets.token_hex(4)}",
    )
    await apply_topics(settings)
    return settings


async def test_everything_on_the_topics_is_indexed(settings: Settings, encode: Callable[..., bytes]) -> None:
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka_bootstrap_servers) as producer:
        for number in range(20):
            key = f"s-{number}".encode()
            value = encode(f"s-{number}", number, "Ana")
            await producer.send_and_wait(settings.sessions_changelog_topic, value, key=key, partition=number % 3)
            await producer.send_and_wait(settings.enriched_topic, b"{}", key=key)
        await producer.send_and_wait(settings.sessions_changelog_topic, None, key=b"s-0", partition=0)
    model = open_model(settings)
    indexer = asyncio.create_task(Indexer(settings, model).run())
    queries = SessionQueries(model.path)
    async with asyncio.timeout(20):
        while queries.counts() != {"enriched": 19} or model.next_offset(0, settings.enriched_topic) is None:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        while sum(model.next_offset(number, settings.enriched_topic) or 0 for number in range(3)) != 20:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    indexer.cancel()
    await asyncio.gather(indexer, return_exceptions=True)
    model.close()


@pytest.fixture
async def reader(settings: Settings) -> TopicReader:
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka_bootstrap_servers) as producer:
        for number in range(3):
            await producer.send_and_wait(settings.ingestion_topic, b"value-%d" % number, key=b"k", partition=1)
    return TopicReader(settings)


async def test_reads_the_record_at_a_position(settings: Settings, reader: TopicReader) -> None:
    for number in range(3):
        record = await reader.read(settings.ingestion_topic, 1, number)
        assert not isinstance(record, Absent)
        assert record.value == b"value-%d" % number


@pytest.mark.parametrize(("partition", "offset"), [(1, 3), (1, 10**12), (0, 0), (99, 0)])
async def test_reports_why_a_record_is_absent(
    settings: Settings, reader: TopicReader, partition: int, offset: int
) -> None:
    assert await reader.read(settings.ingestion_topic, partition, offset) is Absent.MISSING


async def test_does_not_create_a_missing_topic(settings: Settings, reader: TopicReader) -> None:
    assert await reader.read("nobody-made-this", 0, 0) is Absent.MISSING
    assert await reader.read("nobody-made-this", 0, 0) is Absent.MISSING


async def test_an_unreachable_broker_is_reported(settings: Settings) -> None:
    away = settings.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:1"})
    assert await TopicReader(away).read(settings.ingestion_topic, 0, 0) is Absent.UNREACHABLE


async def test_all_of_a_reason_are_redriven_and_one_is_discarded(settings: Settings) -> None:
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka_bootstrap_servers) as producer:
        for number, reason in enumerate((Reason.NOT_JSON, Reason.NOT_JSON, Reason.EMPTY)):
            record = Received(settings.ingestion_topic, 0, number, 1_760_000_000_000, b"k", b"v", (), epoch=1)
            headers = letter_headers(record, reason, attempts=1, failed_at="2026-01-02T03:04:05.678+00:00")
            await producer.send_and_wait(settings.dead_letter_topic, b"v", key=b"k", headers=list(headers))

    model = open_model(settings)
    context, ana = make_app(settings, model)[CONTEXT], Identity("operator", "Ana")
    all_of_it = Wanted(reason="not_json")
    report, ends = await plan(settings, "redrive", all_of_it)
    assert report.total == 2
    assert (await act(context, ana, "redrive", all_of_it, ends)).total == 2
    # A second click sends nothing again.
    assert (await plan(settings, "redrive", all_of_it))[0].total == 0
    one = Wanted(letter_id=f"{settings.ingestion_topic}-0-2")
    report, ends = await plan(settings, "discard", one)
    assert (await act(context, ana, "discard", one, ends)).total == 1
    # A letter named by id may be sent again.
    assert (await plan(settings, "redrive", Wanted(letter_id=f"{settings.ingestion_topic}-0-0")))[0].total == 1
    model.close()
