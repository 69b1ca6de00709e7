"""Records that cannot be read, and every codec, for the readers outside of the workers."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest
from aiokafka import AIOKafkaProducer

from nexus_stream.dead_letters.letter import Letter
from nexus_stream.dead_letters.log import DeadLetterLog
from nexus_stream.delivery.dead_letters import letter_headers
from nexus_stream.delivery.received import Received, Unreadable
from nexus_stream.embedded.broker import EmbeddedBroker
from nexus_stream.errors import ConfigurationError, Reason
from nexus_stream.kafka.clients import client_options
from nexus_stream.kafka.reading import TopicLog
from nexus_stream.kafka.sender import Sender
from nexus_stream.kafka.topics import apply_topics
from nexus_stream.privacy.changelog import read_states
from nexus_stream.settings import Settings, load_settings
from tests.kafka.launcher import KafkaCluster, available
from tests.support.raw_produce import raw_batch, raw_record, send_raw
from tests.support.requirements import require

pytestmark = pytest.mark.timeout(300)

ZSTD = 4


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    require("kafka", available())
    with EmbeddedBroker.start() as embedded, KafkaCluster.start(data_dir=tmp_path_factory.mktemp("kafka")) as kafka:
        yield {"embedded": embedded.bootstrap_servers, "kafka": kafka.bootstrap_servers}


@pytest.fixture(params=["embedded", "kafka"])
async def settings(request: pytest.FixtureRequest, servers: dict[str, str]) -> Settings:
    return await topics_at(servers[request.param])


@pytest.fixture
async def embedded(servers: dict[str, str]) -> Settings:
    """Apache Kafka takes no damaged batch; see tests/acceptance/test_producers_records.py for its disk."""
    return await topics_at(servers["embedded"])


async def topics_at(bootstrap_servers: str) -> Settings:
    settings = load_settings(
        environ={
            "NEXUS_KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
            "NEXUS_TOPIC_PREFIX": f"t{secrets.token_hex(4)}.",
            "NEXUS_TOPIC_PARTITIONS": "1",
        }
    )
    await apply_topics(settings)
    return settings


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_a_topic_log_reads_every_codec(settings: Settings, codec: str):
    producer = AIOKafkaProducer(**client_options(settings), compression_type=codec)
    await producer.start()
    try:
        for _ in range(3):
            await producer.send_and_wait(settings.enriched_topic, b"x" * 2000, partition=0)
    finally:
        await producer.stop()
    async with TopicLog(settings, settings.enriched_topic) as log:
        assert [record.value async for record in log.read()] == [b"x" * 2000] * 3


async def test_a_topic_log_tells_what_it_cannot_read_and_goes_on(embedded: Settings, caplog: pytest.LogCaptureFixture):
    topic = embedded.enriched_topic
    records = [raw_record(number, b"a") for number in range(3)]
    assert not await send_raw(embedded, topic, 0, raw_batch(0, records, ZSTD, b"no zstd"))
    assert not await send_raw(embedded, topic, 0, raw_batch(0, [raw_record(0, b"b", [(b"\xff", None)])]))
    async with TopicLog(embedded, topic) as log:
        damaged, good = [record async for record in log.read()]
    assert isinstance(damaged.value, Unreadable)
    assert (damaged.value.first_offset, damaged.offset, good.offset, good.value) == (0, 2, 3, b"b")
    told = [getattr(line, "problem", "") for line in caplog.records if line.getMessage() == "records_unreadable"]
    assert told[0].startswith(f"{topic}-0, offset 0 to 2, cannot be read: ")


@pytest.mark.parametrize("clock_ms", [0, -1, 1_796_000_000, 1_796_000_000_000_000])
async def test_the_dead_letters_behind_a_damaged_batch_and_a_wrong_clock_are_listed(embedded: Settings, clock_ms: int):
    topic = embedded.dead_letter_topic
    assert not await send_raw(embedded, topic, 0, raw_batch(0, [raw_record(0, b"a")] * 2, ZSTD, b"no zstd"))
    record = Received(embedded.ingestion_topic, 0, 7, 0, b"k", b"v", (), epoch=1)
    headers = letter_headers(record, Reason.UNREADABLE, attempts=1, failed_at="no time")
    pairs = [(name.encode(), value) for name, value in headers]
    assert not await send_raw(embedded, topic, 0, raw_batch(0, [raw_record(0, b"v", pairs)], first_ms=clock_ms))
    async with Sender(embedded) as sender:
        await sender.send(topic, b"k", b"v", headers=headers)
    async with DeadLetterLog(embedded) as log:
        entries = [entry async for entry in log.entries(await log.ends())]
    assert [type(entry) for entry in entries] == [type(None), Letter, Letter]
    assert {entry.failed_at.year >= 2026 for entry in entries if isinstance(entry, Letter)} == {True}


async def test_a_changelog_record_that_cannot_be_read_is_named_to_the_privacy_tools(embedded: Settings):
    topic = embedded.sessions_changelog_topic
    assert not await send_raw(embedded, topic, 0, raw_batch(0, [raw_record(0, b"a")] * 2, ZSTD, b"no zstd"))
    with pytest.raises(
        ConfigurationError, match=f"{topic}-0, offset 0 to 1, cannot be read: .*offset 2 with kafka-delete-records"
    ):
        await read_states(embedded, lambda _: True)
