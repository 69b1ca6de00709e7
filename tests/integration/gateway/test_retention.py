"""Messages that might expire unread are refused: records with old times, on the embedded broker and Apache Kafka."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from aiohttp import ClientSession, web
from aiokafka import AIOKafkaConsumer, TopicPartition

from nexus_stream.embedded.broker import EmbeddedBroker
from nexus_stream.gateway.app import create_app
from nexus_stream.gateway.publisher import Publisher
from nexus_stream.gateway.retention import RetentionWatch
from nexus_stream.kafka.group_offsets import GroupOffsets
from nexus_stream.settings import load_settings
from tests.kafka.launcher import KafkaCluster, available
from tests.support.raw_produce import raw_batch, raw_record, send_raw
from tests.support.requirements import require

_SNAPSHOT: dict[str, Any] = {"messages": [{"role": "user", "content": "Hola"}], "sessionId": "s"}
_MINUTE_MS = 60_000


@pytest.fixture(scope="module", params=["embedded", "kafka"])
def any_broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Addresses of a broker of each kind, because each needs other requests."""
    if request.param == "embedded":
        with EmbeddedBroker.start() as broker:
            yield broker.bootstrap_servers
        return
    require("kafka", available())
    with KafkaCluster.start(data_dir=tmp_path_factory.mktemp("retention-kafka")) as cluster:
        yield cluster.bootstrap_servers


@pytest.fixture
async def own_topic(any_broker: str, topic_class) -> Any:
    own = topic_class(any_broker)
    await own.create()
    return own


@pytest.fixture
def topic_class(request: pytest.FixtureRequest) -> Any:
    # The class of the tier's `topic` fixture; conftest modules cannot be imported by name.
    return request.getfixturevalue("topic").__class__


def settings_of(own: Any) -> Any:
    # Half of it is 30 minutes.
    return load_settings(
        "gateway",
        environ={},
        kafka_bootstrap_servers=own.bootstrap_servers,
        topic_prefix=own.prefix,
        enricher_app_id=f"{own.prefix}enricher",
        ingestion_retention_hours=1,
        gateway_requests_per_minute=1_000_000,
    )


@pytest.fixture
async def base_url(own_topic: Any) -> AsyncIterator[str]:
    """A gateway that checks the age every fifth of a second."""
    settings = settings_of(own_topic)
    publisher = Publisher(settings)
    await publisher.start()
    retention = RetentionWatch(settings, interval_seconds=0.2, confirm_seconds=0.1)
    watching = asyncio.create_task(retention.run())
    runner = web.AppRunner(create_app(settings, publisher, retention=retention), shutdown_timeout=2.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    await runner.cleanup()
    await publisher.stop(2.0)


async def put(own: Any, *minutes_old: int, partition: int = 1) -> None:
    now_ms = time.time_ns() // 1_000_000
    await put_at(own, *(now_ms - minutes * _MINUTE_MS for minutes in minutes_old), partition=partition)


# A topic of Apache Kafka has no leader in its first moments.
_NO_LEADER_YET = {"NotLeaderForPartitionError", "LeaderNotAvailableError", "UnknownTopicOrPartitionError"}


async def put_at(own: Any, *times_ms: int, partition: int = 1) -> None:
    """Send one record of each time. A broker may refuse a time: Apache Kafka refuses microseconds."""
    settings = settings_of(own)
    for time_ms in times_ms:
        data = raw_batch(0, [raw_record(0, b"{}")], first_ms=time_ms)
        refused = await send_raw(settings, own.name, partition, data)
        while refused in _NO_LEADER_YET:
            await asyncio.sleep(0.1)
            refused = await send_raw(settings, own.name, partition, data)
        assert refused in {"", "InvalidTimestampError"}, refused


async def commit(own: Any, offset: int, partition: int = 1) -> None:
    """As the enrichers' group."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=own.bootstrap_servers, group_id=settings_of(own).enricher_app_id, enable_auto_commit=False
    )
    await consumer.start()
    try:
        place = TopicPartition(own.name, partition)
        consumer.assign([place])
        await consumer.commit({place: offset})
    finally:
        await consumer.stop()


async def wait_for_status(session: ClientSession, url: str, status: int) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while True:
        async with session.get(url) as response:
            answer: dict[str, Any] = await response.json()
            if response.status == status:
                return answer
        assert time.monotonic() < deadline, f"still {response.status}: {answer}"
        await asyncio.sleep(0.1)


async def test_old_unread_messages_make_it_refuse_until_they_are_done(own_topic: Any, base_url: str) -> None:
    producer_url = f"{base_url}/api/nexus/producer"
    async with ClientSession() as session:
        await wait_for_status(session, f"{base_url}/ready", 200)
        async with session.post(producer_url, json=_SNAPSHOT) as response:
            assert response.status == 202
        await put(own_topic, 40, 35, 1)
        answer = await wait_for_status(session, f"{base_url}/ready", 503)
        assert "older than half the retention" in answer["error"]
        async with session.post(producer_url, json=_SNAPSHOT) as response:
            refusal = await response.json()
            assert response.status == 503
            assert "expire" in refusal["error"]
            assert int(response.headers["Retry-After"]) >= 1
        async with session.post(producer_url, json={}) as response:
            assert response.status == 400
        async with session.get(f"{base_url}/live") as response:
            assert response.status == 200
        answer = await wait_for_status(session, producer_url, 503)
        assert answer["status"] == "unhealthy"
        # One of the two old ones is done: the other still counts.
        begin = len([one for one in await own_topic.records() if one.partition == 1]) - 3
        await commit(own_topic, begin + 1)
        await asyncio.sleep(1)
        await wait_for_status(session, f"{base_url}/ready", 503)
        await commit(own_topic, begin + 2)
        await wait_for_status(session, f"{base_url}/ready", 200)
        async with session.post(producer_url, json=_SNAPSHOT) as response:
            assert response.status == 202


@pytest.mark.parametrize("kind", ["seconds", "microseconds", "-1", "0", "50 minutes ahead", "year 2020"])
async def test_a_producers_wrong_clock_makes_it_refuse_nobody(own_topic: Any, base_url: str, kind: str) -> None:
    """Also if the record before it, which is done, is older than half the retention."""
    now_ms = time.time_ns() // 1_000_000
    claimed = {
        "seconds": now_ms // 1000,
        "microseconds": now_ms * 1000,
        "-1": -1,
        "0": 0,
        "50 minutes ahead": now_ms + 50 * _MINUTE_MS,
        "year 2020": 1_580_000_000_000,
    }[kind]
    await put(own_topic, 40)
    await commit(own_topic, 1)
    await put_at(own_topic, claimed, claimed)
    settings = settings_of(own_topic)
    offsets = GroupOffsets(settings, settings.enricher_app_id, own_topic.name)
    try:
        assert await offsets.has_older(now_ms - 30 * _MINUTE_MS) is False
        standing = await offsets.ask()
        assert standing is not None
        assert standing.oldest_age_seconds(time.time_ns() // 1_000_000) < 30
        # It counts from the moment it was seen. Apache Kafka takes an hour ahead, and keeps the record longer.
        is_kept = standing.lag == 0 or kind == "50 minutes ahead"
        assert is_kept or await offsets.has_older(time.time_ns() // 1_000_000 + 1000) is True
        # A later query of the same record keeps that moment.
        again = await offsets.ask()
        assert again is not None
        assert again.oldest_ms == standing.oldest_ms
    finally:
        await offsets.close()
    async with ClientSession() as session:
        await asyncio.sleep(1)
        async with session.post(f"{base_url}/api/nexus/producer", json=_SNAPSHOT) as response:
            assert response.status == 202


async def test_a_truly_old_message_behind_a_wrong_clock_still_counts(own_topic: Any) -> None:
    now_ms = time.time_ns() // 1_000_000
    await put_at(own_topic, now_ms // 1000)
    await put(own_topic, 40)
    settings = settings_of(own_topic)
    offsets = GroupOffsets(settings, settings.enricher_app_id, own_topic.name)
    try:
        await commit(own_topic, 1)
        assert await offsets.has_older(now_ms - 30 * _MINUTE_MS) is True
    finally:
        await offsets.close()


async def test_finished_records_may_have_any_age(own_topic: Any) -> None:
    await put(own_topic, 50, 49, 1)
    await commit(own_topic, 2)
    offsets = GroupOffsets(settings_of(own_topic), settings_of(own_topic).enricher_app_id, own_topic.name)
    limit_ms = time.time_ns() // 1_000_000 - 30 * _MINUTE_MS
    try:
        assert await offsets.has_older(limit_ms) is False
        # The newest one is a minute old.
        assert await offsets.has_older(limit_ms + 29 * _MINUTE_MS + 30_000) is True
        await commit(own_topic, 1)
        assert await offsets.has_older(limit_ms) is True
        await commit(own_topic, 3)
        assert await offsets.has_older(limit_ms + 60 * _MINUTE_MS) is False
    finally:
        await offsets.close()


async def test_committed_offsets_are_read_without_joining_the_group(own_topic: Any) -> None:
    await put(own_topic, 50, 10, 1)
    settings = settings_of(own_topic)
    offsets = GroupOffsets(settings, settings.enricher_app_id, own_topic.name)
    try:
        for committed, minutes in ((None, 50), (1, 10), (2, 1), (3, None)):
            if committed is not None:
                await commit(own_topic, committed)
            standing = await offsets.ask()
            assert standing is not None
            place = standing.partitions[1]
            assert (place.committed, place.end, standing.lag) == (committed or 0, 3, 3 - (committed or 0))
            age_seconds = standing.oldest_age_seconds(time.time_ns() // 1_000_000)
            assert age_seconds == pytest.approx(60 * minutes if minutes else 0, abs=30)
    finally:
        await offsets.close()


async def test_a_missing_topic_is_unknown_and_stays_missing(any_broker: str, topic_class: Any) -> None:
    own = topic_class(any_broker)
    offsets = GroupOffsets(settings_of(own), settings_of(own).enricher_app_id, own.name)
    try:
        assert await offsets.ask() is None
        assert await offsets.has_older(time.time_ns() // 1_000_000) is None
        assert offsets.problem == "topic missing"
        assert not await own.exists()
    finally:
        await offsets.close()


async def test_a_broker_that_hangs_is_unknown_and_found_again(topic_class: Any) -> None:
    with EmbeddedBroker.start() as broker:
        own = topic_class(broker.bootstrap_servers)
        await own.create()
        settings = settings_of(own)
        offsets = GroupOffsets(settings, settings.enricher_app_id, own.name)
        try:
            assert await offsets.ask() is not None
            os.kill(broker.pid, signal.SIGSTOP)
            try:
                assert await offsets.ask() is None
                assert offsets.problem is not None
            finally:
                os.kill(broker.pid, signal.SIGCONT)
            deadline = time.monotonic() + 30
            while await offsets.ask() is None:
                assert time.monotonic() < deadline
        finally:
            await offsets.close()
