"""The broker is down, comes, goes, hangs or lacks the topic: 503 meanwhile, and recovery without help."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from nexus_stream.embedded.broker import EmbeddedBroker
from nexus_stream.host.free_ports import free_port

_SNAPSHOT: dict[str, Any] = {"messages": [{"role": "user", "content": "Hola"}], "sessionId": "s"}


@pytest.fixture
def own_broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker.start() as broker:
        yield broker


@pytest.fixture
def topic_on(topic):
    """Make a topic object for another broker."""
    return type(topic)


async def _expect_503(gateway) -> None:
    started = time.monotonic()
    status, answer, headers = await gateway.post(_SNAPSHOT)
    assert status == 503
    assert answer["error"]
    assert answer["code"] == "broker_unavailable"
    assert int(headers["Retry-After"]) >= 1
    assert time.monotonic() - started < 9


async def test_it_starts_while_the_broker_is_down_and_recovers_when_it_comes(start_gateway, topic_on) -> None:
    port = free_port()
    topic = topic_on(f"127.0.0.1:{port}")
    started = time.monotonic()
    gateway = await start_gateway(topic)
    assert time.monotonic() - started < 9
    answer = await gateway.wait_for_health(503)
    assert answer["status"] == "unhealthy"
    assert set(answer) == {"status", "version", "error", "code"}
    assert answer["code"] == "broker_unavailable"
    assert str(port) not in answer["error"]
    await _expect_503(gateway)
    async with gateway.session.get(gateway.base_url + "/live") as response:
        assert response.status == 200
    async with gateway.session.get(gateway.base_url + "/ready") as response:
        assert response.status == 503
    with await asyncio.to_thread(EmbeddedBroker.start, port=port):
        await topic.create()
        await gateway.wait_for_health(200)
        assert (await gateway.post(_SNAPSHOT))[0] == 202
        assert len(await topic.records()) == 1


async def test_a_bad_request_is_400_also_while_the_broker_is_down(start_gateway, topic_on) -> None:
    gateway = await start_gateway(topic_on(f"127.0.0.1:{free_port()}"))
    assert (await gateway.post({}))[0] == 400


async def test_a_broker_that_dies_and_comes_back_on_its_port(start_gateway, topic_on, own_broker) -> None:
    topic = topic_on(own_broker.bootstrap_servers)
    await topic.create()
    gateway = await start_gateway(topic, kafka_request_timeout_seconds=3.0)
    await gateway.wait_for_health(200)
    assert (await gateway.post(_SNAPSHOT))[0] == 202
    own_broker.kill()
    await _expect_503(gateway)
    await gateway.wait_for_health(503)
    await _expect_503(gateway)
    with await asyncio.to_thread(EmbeddedBroker.start, port=own_broker.port):
        # A broker without the topic: the gateway must not create it with the broker's own partition count.
        await asyncio.sleep(4)
        assert "topics apply" in (await gateway.wait_for_health(503))["error"]
        await _expect_503(gateway)
        assert not await topic.exists()
        await topic.create()
        await gateway.wait_for_health(200)
        # The embedded broker may have stored a late retry under the missing topic's name: then it refuses one record.
        async with asyncio.timeout(10):
            while (await gateway.post(_SNAPSHOT))[0] != 202:  # noqa: ASYNC110 - what a client does
                await asyncio.sleep(0.2)
        assert gateway.publisher.pending_bytes == 0


async def test_a_missing_topic_is_named_and_not_created(start_gateway, topic_on, shared_broker) -> None:
    topic = topic_on(shared_broker.bootstrap_servers)
    gateway = await start_gateway(topic)
    assert topic.name in (await gateway.wait_for_health(503))["error"]
    await _expect_503(gateway)
    assert not await topic.exists()
    await topic.create()
    await gateway.wait_for_health(200)


async def test_a_broker_that_hangs_costs_503_within_the_timeout(start_gateway, topic_on, own_broker) -> None:
    topic = topic_on(own_broker.bootstrap_servers)
    await topic.create()
    gateway = await start_gateway(topic, kafka_request_timeout_seconds=2.0)
    await gateway.wait_for_health(200)
    os.kill(own_broker.pid, signal.SIGSTOP)
    try:
        answers = await asyncio.gather(*[gateway.post({**_SNAPSHOT, "sessionId": f"s-{n}"}) for n in range(50)])
        assert {status for status, _, _ in answers} == {503}
        await gateway.wait_for_health(503)
    finally:
        os.kill(own_broker.pid, signal.SIGCONT)
    await gateway.wait_for_health(200)
    assert (await gateway.post(_SNAPSHOT))[0] == 202


async def test_what_waits_for_a_hanging_broker_is_bounded(start_gateway, topic_on, own_broker) -> None:
    topic = topic_on(own_broker.bootstrap_servers)
    await topic.create()
    gateway = await start_gateway(topic, kafka_request_timeout_seconds=4.0)
    await gateway.wait_for_health(200)
    os.kill(own_broker.pid, signal.SIGSTOP)
    try:
        big = {"messages": [{"role": "user", "content": "x" * 7500}] * 30, "sessionId": "s"}
        posts = asyncio.gather(*[gateway.post({**big, "sessionId": f"s-{n}"}) for n in range(250)])
        peak_bytes = 0
        while not posts.done():
            peak_bytes = max(peak_bytes, gateway.publisher.pending_bytes)
            await asyncio.sleep(0.01)
        assert {status for status, _, _ in await posts} == {503}
        # 250 of these are 56 MB: the bound was reached, and kept.
        assert 30_000_000 < peak_bytes <= 32 * 1024 * 1024
    finally:
        os.kill(own_broker.pid, signal.SIGCONT)
    await gateway.wait_for_health(200)
