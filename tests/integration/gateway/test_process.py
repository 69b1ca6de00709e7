"""A real ``nexus gateway`` process: stopping, starting, ports, logs, memory."""

import asyncio
import random
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator
from typing import Any, Literal

import aiohttp
import orjson
import psutil
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from nexus_stream.gateway import command
from nexus_stream.settings import Settings
from tests.integration.gateway.conftest import make_settings

_PATH = "/api/nexus/producer"


async def _wait_until_healthy(base_url: str, session: aiohttp.ClientSession) -> None:
    async with asyncio.timeout(20):
        while True:
            async with session.get(base_url + _PATH) as response:
                if response.status == 200:
                    return
            await asyncio.sleep(0.1)


def _exit_code(process: subprocess.Popen[bytes], timeout_seconds: float) -> int:
    return process.wait(timeout_seconds)


async def test_sigterm_under_load_loses_no_accepted_message(start_process, topic) -> None:
    gateway = await asyncio.to_thread(start_process, topic)
    accepted: set[str] = set()
    refused = 0
    stopping = asyncio.Event()

    async def client(name: int, session: aiohttp.ClientSession) -> None:
        nonlocal refused
        number = 0
        while True:
            number += 1
            snapshot = {"messages": [{"role": "user", "content": "Hola" * 50}], "sessionId": f"s-{name}-{number}"}
            try:
                async with session.post(gateway.base_url + _PATH, json=snapshot) as response:
                    if response.status == 202:
                        accepted.add((await response.json())["messageId"])
                    else:
                        refused += 1
            except aiohttp.ClientError:
                if stopping.is_set():
                    return
                raise

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        await _wait_until_healthy(gateway.base_url, session)
        clients = [asyncio.create_task(client(name, session)) for name in range(30)]
        await asyncio.sleep(1.5)
        before_stop = len(accepted)
        stopping.set()
        gateway.process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(asyncio.gather(*clients), 20)
    assert await asyncio.to_thread(_exit_code, gateway.process, 15) == 0
    assert before_stop > 100
    stored = {dict(record.headers)["correlation-id"].decode() for record in await topic.records()}
    assert accepted - stored == set()
    assert refused == 0


async def test_a_request_in_flight_at_sigterm_is_answered(start_process, topic) -> None:
    gateway = await asyncio.to_thread(start_process, topic)
    async with aiohttp.ClientSession() as session:
        await _wait_until_healthy(gateway.base_url, session)

        async def slow_body() -> AsyncIterator[bytes]:
            yield b'{"messages":[{"role":"user","content":"Hola"}],'
            await asyncio.sleep(0.5)
            gateway.process.send_signal(signal.SIGTERM)
            await asyncio.sleep(1)
            yield b'"sessionId":"s"}'

        headers = {"Content-Type": "application/json"}
        async with session.post(gateway.base_url + _PATH, data=slow_body(), headers=headers) as response:
            assert response.status == 202
            assert response.headers["Connection"] == "close"
    assert await asyncio.to_thread(_exit_code, gateway.process, 15) == 0
    assert len(await topic.records()) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_stops_within_its_time_also_without_a_broker(start_process, topic, number) -> None:
    nowhere = type(topic)("127.0.0.1:1")
    gateway = await asyncio.to_thread(start_process, nowhere, [("NEXUS_GATEWAY_STOP_SECONDS", "3")])
    started = time.monotonic()
    gateway.process.send_signal(number)
    assert await asyncio.to_thread(_exit_code, gateway.process, 10) == 0
    assert time.monotonic() - started < 9


async def test_a_request_that_never_ends_does_not_hold_the_stop(start_process, topic) -> None:
    gateway = await asyncio.to_thread(start_process, topic, [("NEXUS_GATEWAY_STOP_SECONDS", "2")])
    host, port = gateway.base_url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /api/nexus/producer HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n")
    writer.write(b"Content-Length: 100\r\n\r\n{")
    await writer.drain()
    await asyncio.sleep(0.3)
    started = time.monotonic()
    gateway.process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(_exit_code, gateway.process, 10) == 0
    assert time.monotonic() - started < 9
    writer.close()


async def test_a_taken_port_is_named_with_exit_code_2_and_reported_to_the_console(start_process, topic) -> None:
    settings = await _settings(topic)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(AssertionError, match=f"127.0.0.1:{port} is taken"):
            await asyncio.to_thread(start_process, topic, [("PORT", str(port))])
    said = await _last_words(settings)
    assert (said["role"], said["state"], said["detail"]) == ("gateway", "failed", "ConfigurationError")


async def test_only_a_gateway_that_was_told_to_stop_sends_a_null_status(topic, monkeypatch) -> None:
    settings = await _settings(topic)

    class Failing(asyncio.Event):
        async def wait(self) -> Literal[True]:
            await super().wait()
            raise OSError("an error of its own")

    async def end_after_its_first_report(end: asyncio.Event) -> None:
        monkeypatch.setattr(command, "_stop_signal", lambda: end)
        serving = asyncio.create_task(command.serve(settings))
        async with asyncio.timeout(60):
            while (await _last_words(settings) or {}).get("state") != "running":  # noqa: ASYNC110 - a broker
                await asyncio.sleep(0.2)
        end.set()
        await serving

    await end_after_its_first_report(asyncio.Event())
    assert await _last_words(settings) is None
    with pytest.raises(OSError, match="of its own"):
        await end_after_its_first_report(Failing())
    said = await _last_words(settings)
    assert (said["state"], said["detail"]) == ("failed", "OSError")


async def _settings(topic: Any) -> Settings:
    """Settings of a gateway on any port, with a status topic."""
    settings = make_settings(topic, port=0)
    admin = AIOKafkaAdminClient(bootstrap_servers=topic.bootstrap_servers)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(settings.status_topic, 1, 1)])
    finally:
        await admin.close()
    return settings


async def _last_words(settings: Settings) -> Any:
    """The newest status record; None for a null value."""
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka_bootstrap_servers, enable_auto_commit=False)
    await consumer.start()
    try:
        partition = TopicPartition(settings.status_topic, 0)
        consumer.assign([partition])
        end = (await consumer.end_offsets([partition]))[partition]
        if not end:
            return None
        consumer.seek(partition, end - 1)
        async with asyncio.timeout(30):
            newest = await consumer.getone(partition)
        return None if newest.value is None else orjson.loads(newest.value)
    finally:
        await consumer.stop()


async def test_logs_hold_no_personal_data_even_at_debug(start_process, topic) -> None:
    gateway = await asyncio.to_thread(start_process, topic, [("NEXUS_LOG_LEVEL", "DEBUG")])
    secrets = ["Zacarías", "zacarias@example.com", "fp-secret", "sesion-secreta", "https://www.example.com/secret"]
    snapshot = {
        "messages": [{"role": "user", "content": f"{secrets[0]} {secrets[1]}"}],
        "sessionId": secrets[3],
        "fingerprint": secrets[2],
        "metadata": {"url": secrets[4]},
    }
    host, port = gateway.base_url.removeprefix("http://").split(":")
    async with aiohttp.ClientSession(headers={"User-Agent": "AgentSecret/1", "Referer": secrets[4]}) as session:
        await _wait_until_healthy(gateway.base_url, session)
        for body in (snapshot, {**snapshot, "sessionId": secrets[:2]}, {**snapshot, "metadata": secrets}):
            async with session.post(gateway.base_url + _PATH, json=body) as response:
                assert response.status in {202, 400}
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"zacarias@example.com fp-secret\r\n\r\n")
    await writer.drain()
    await asyncio.sleep(0.3)
    writer.close()
    gateway.process.terminate()
    await asyncio.to_thread(_exit_code, gateway.process, 15)
    log = gateway.log.read_text()
    assert "broker_connected" in log
    for secret in [*secrets, "Zacar", "AgentSecret", "127.0.0.1 "]:
        assert secret not in log, secret


async def test_memory_stays_bounded_under_large_and_endless_bodies(start_process, topic) -> None:
    gateway = await asyncio.to_thread(start_process, topic)
    process = psutil.Process(gateway.process.pid)
    seed = random.Random(7)  # noqa: S311 - text that does not compress, no secret
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
        await _wait_until_healthy(gateway.base_url, session)

        async def endless() -> AsyncIterator[bytes]:
            for _ in range(200):
                yield b"[" * 65_536

        async def post(body: object) -> int:
            headers = {"Content-Type": "application/json"}
            try:
                async with session.post(gateway.base_url + _PATH, data=body, headers=headers) as response:
                    assert (await response.json()).keys() >= {"error"} or response.status == 202
                    return response.status
            except aiohttp.ClientError:
                # The answer was sent and the connection closed while we were still sending.
                return 413

        turns = [{"role": "user", "content": seed.randbytes(3500).hex()} for _ in range(34)]
        large = orjson.dumps({"messages": turns, "sessionId": "s"})
        nested = b'{"messages":[{"role":"user","content":"x"}],"sessionId":"s","x":' + b'{"a":' * 40_000
        before = process.memory_info().rss
        statuses = await asyncio.gather(
            *[post(body) for _ in range(40) for body in (endless(), b"9" * 262_000, large, nested)]
        )
        grown = process.memory_info().rss - before
    assert set(statuses) == {202, 400, 413}
    assert grown < 100 * 1024 * 1024
