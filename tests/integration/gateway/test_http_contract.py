"""The HTTP contract of ``/api/nexus/producer`` on a real broker."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from nexus_stream import __version__
from nexus_stream.contracts.conversation import Limits, decode

_SNAPSHOT: dict[str, Any] = {
    "messages": [
        {"role": "user", "content": "Hola, me llamo Carlos", "timestamp": "2026-01-02T03:04:05Z"},
        {"role": "assistant", "content": "Hola Carlos"},
    ],
    "fingerprint": "test-fp-123",
    "sessionId": "test-session-456",
}


async def test_202_has_the_existing_sites_body_and_headers(gateway, topic) -> None:
    status, answer, headers = await gateway.post(_SNAPSHOT)
    assert status == 202
    assert list(answer) == ["status", "messageId", "kafka", "message", "estimatedProcessingTime"]
    assert answer["status"] == "accepted"
    assert re.fullmatch(r"[A-Za-z0-9_-]{21}", answer["messageId"])
    assert answer["message"] == "Your message has been queued for processing"
    assert answer["estimatedProcessingTime"] == "2-5 seconds"
    assert answer["kafka"] == {"offset": 0, "partition": answer["kafka"]["partition"], "topicName": topic.name}
    assert headers["X-Message-Id"] == answer["messageId"]
    assert re.fullmatch(r"\d+ms", headers["X-Processing-Time"])


async def test_the_record_is_on_the_topic_with_key_headers_and_metadata(gateway, topic) -> None:
    before = datetime.now(UTC)
    _, answer, _ = await gateway.post(
        _SNAPSHOT, headers={"Referer": "https://www.example.com/chat", "User-Agent": "Agent/1", "x-tenant-id": "acme"}
    )
    (record,) = await topic.records()
    assert (record.partition, record.offset) == (answer["kafka"]["partition"], answer["kafka"]["offset"])
    assert record.key == b"acme:test-session-456"
    assert dict(record.headers) == {
        "correlation-id": answer["messageId"].encode(),
        "producer-version": f"nexus-stream/{__version__}".encode(),
    }
    value = orjson.loads(record.value)
    metadata = value.pop("metadata")
    assert value == _SNAPSHOT
    enqueued_at = datetime.fromisoformat(metadata.pop("enqueuedAt"))
    assert abs((enqueued_at - before).total_seconds()) < 10
    assert metadata == {
        "producerVersion": f"nexus-stream/{__version__}",
        "url": "https://www.example.com/chat",
        "userAgent": "Agent/1",
        "tenant_id": "acme",
    }


async def test_all_snapshots_of_a_session_are_on_one_partition_in_order(gateway, topic) -> None:
    for turns in range(1, 6):
        messages = [{"role": "user", "content": f"turno {number}"} for number in range(turns)]
        await gateway.post({"messages": messages, "sessionId": "one"})
    records = await topic.records()
    assert len({record.partition for record in records}) == 1
    assert [len(orjson.loads(record.value)["messages"]) for record in records] == [1, 2, 3, 4, 5]


async def test_a_page_cannot_choose_a_tenant_in_its_body(gateway, topic) -> None:
    await gateway.post({**_SNAPSHOT, "metadata": {"tenant_id": "victim", "consent": True}})
    (record,) = await topic.records()
    conversation = decode(record.value, Limits())
    assert conversation.tenant_id == ""
    assert conversation.metadata.consent is True
    assert record.key == b"test-session-456"


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "application/json; charset=utf-8",
        "APPLICATION/JSON;Charset=UTF-8",
        "text/plain;charset=UTF-8",
        "text/plain",
        "application/vnd.example+json",
    ],
)
async def test_json_under_any_of_its_names_is_accepted(gateway, content_type: str) -> None:
    status, _, _ = await gateway.post(json.dumps(_SNAPSHOT).encode(), headers={"Content-Type": content_type})
    assert status == 202


async def test_a_request_without_content_type_is_accepted(gateway) -> None:
    body = json.dumps(_SNAPSHOT).encode()
    async with gateway.session.post(gateway.url, data=body, skip_auto_headers=["Content-Type"]) as response:
        assert response.status == 202


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/html"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "multipart/form-data; boundary=x"},
        {"Content-Type": "application/octet-stream"},
        {"Content-Type": ""},
        {"Content-Type": "application/json; charset=latin-1"},
        {"Content-Encoding": "gzip"},
        {"Content-Encoding": "br"},
        {"Content-Encoding": "zstd"},
    ],
)
async def test_415_for_what_is_not_plain_json(gateway, headers: dict[str, str]) -> None:
    status, answer, _ = await gateway.post(json.dumps(_SNAPSHOT).encode(), headers=headers)
    assert status == 415
    assert answer["error"]


async def test_the_exact_400_bodies(gateway) -> None:
    for body, expected in (
        (
            {**_SNAPSHOT, "messages": []},
            {"error": "Messages array is required and cannot be empty", "code": "messages_required"},
        ),
        ({"messages": _SNAPSHOT["messages"]}, {"error": "sessionId is required", "code": "session_id_required"}),
    ):
        status, answer, _ = await gateway.post(body)
        assert (status, answer) == (400, expected)


async def test_400_with_details_for_malformed_json_and_missing_messages(gateway, topic) -> None:
    for body in (b'{"messages":', b"", b'{"sessionId":"s"}', b'{"messages":[{"role":"x"}],"sessionId":"s"}'):
        status, answer, _ = await gateway.post(body)
        assert status == 400
        assert answer["error"]
        assert answer["details"]
    assert await topic.records() == []


async def test_413_by_the_announced_length(start_gateway, topic) -> None:
    running = await start_gateway(topic, max_request_bytes=300_000)
    await running.wait_for_health(200)
    status, answer, _ = await running.post(b"x" * 300_001)
    assert (status, answer["code"]) == (413, "body_too_large")
    assert answer["error"] == "The body is over 300000 bytes"


async def test_413_while_it_streams_without_a_length(gateway) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(2000):
            sent += 65_536
            yield b"[" * 65_536

    async with gateway.session.post(
        gateway.url, data=endless(), headers={"Content-Type": "application/json"}
    ) as response:
        assert response.status == 413
        assert (await response.json())["error"]
        # Answered long before the 125 MiB were sent.
        assert sent < 50_000_000


async def test_a_history_over_the_limits_is_cut_and_accepted(start_gateway, topic) -> None:
    running = await start_gateway(topic, max_turns=3, max_turn_chars=10)
    await running.wait_for_health(200)
    turn = {"role": "user", "content": "ñ" * 10}
    longer = {"role": "user", "content": "ñ" * 11}
    for messages in ([turn] * 3, [turn] * 4, [longer]):
        assert (await running.post({"messages": messages, "sessionId": "s"}))[0] == 202
    at_the_limit, one_less, shorter = [orjson.loads(record.value) for record in await topic.records()]
    assert at_the_limit["messages"] == one_less["messages"] == [turn] * 3
    assert "cut" not in at_the_limit["metadata"]
    assert one_less["metadata"]["cut"] == {"turns": 1, "characters": 0, "until": 1}
    assert len(shorter["messages"][0]["content"]) <= 10


async def test_429_with_retry_after_when_a_client_floods(start_gateway, topic) -> None:
    running = await start_gateway(topic, gateway_requests_per_minute=5, gateway_trusted_proxies=1)
    await running.wait_for_health(200)
    answers = [await running.post(_SNAPSHOT, headers={"X-Forwarded-For": "203.0.113.5"}) for _ in range(8)]
    assert [status for status, _, _ in answers] == [202] * 5 + [429] * 3
    _, answer, headers = answers[-1]
    assert (answer["error"], answer["code"]) == ("Too many requests", "too_many_requests")
    assert 1 <= int(headers["Retry-After"]) <= 12
    # Another client, and the health check, are not affected; a forged entry on the left changes nothing.
    assert (await running.post(_SNAPSHOT, headers={"X-Forwarded-For": "203.0.113.6"}))[0] == 202
    assert (await running.post(_SNAPSHOT, headers={"X-Forwarded-For": "198.51.100.1, 203.0.113.5"}))[0] == 429
    await running.wait_for_health(200)


async def test_404_and_405_are_json(gateway) -> None:
    for method, path, status in (
        ("GET", "/", 404),
        ("POST", "/api/nexus/other", 404),
        ("PUT", "/api/nexus/producer", 405),
        ("DELETE", "/api/nexus/producer", 405),
        ("POST", "/ready", 405),
        ("PATCH", "/api/nexus/producer", 405),
    ):
        async with gateway.session.request(method, gateway.base_url + path) as response:
            assert response.status == status
            answer = await response.json()
            assert answer["error"]
            assert answer["code"] == {404: "not_found", 405: "method_not_allowed"}[status]
            if status == 405:
                assert "GET" in response.headers["Allow"]


async def test_the_health_check_has_no_side_effects(gateway, topic) -> None:
    answer = await gateway.wait_for_health(200)
    timestamp = datetime.fromisoformat(answer.pop("timestamp"))
    assert abs((datetime.now(UTC) - timestamp).total_seconds()) < 10
    assert answer == {
        "status": "healthy",
        "version": __version__,
        "role": "message-producer",
        "transport": "kafka",
        "topic": topic.name,
        "kafkaConfigured": True,
        "producerConnected": True,
    }
    for _ in range(20):
        await gateway.wait_for_health(200)
    assert await topic.records() == []


async def test_live_and_ready(gateway) -> None:
    for path in ("/live", "/ready"):
        async with gateway.session.get(gateway.base_url + path) as response:
            assert response.status == 200
            assert response.headers["Content-Type"].startswith("application/json")


async def test_a_listed_site_can_preflight_post_and_read_errors(start_gateway, topic) -> None:
    running = await start_gateway(topic, gateway_allowed_origins=("https://www.example.com",))
    await running.wait_for_health(200)
    origin = {"Origin": "https://www.example.com"}
    preflight = {**origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    async with running.session.options(running.url, headers=preflight) as response:
        assert response.status == 204
        assert response.headers["Access-Control-Allow-Origin"] == "https://www.example.com"
        assert response.headers["Access-Control-Allow-Credentials"] == "true"
        assert "POST" in response.headers["Access-Control-Allow-Methods"]
        assert "content-type" in response.headers["Access-Control-Allow-Headers"]
        assert response.headers["Vary"] == "Origin, Access-Control-Request-Headers"
    for body in (_SNAPSHOT, {}, b"x" * 300_000):
        _, _, headers = await running.post(body, headers=origin)
        assert headers["Access-Control-Allow-Origin"] == "https://www.example.com"
        assert "X-Message-Id" in headers["Access-Control-Expose-Headers"]
    for foreign in ({"Origin": "https://evil.example"}, {"Origin": "null"}):
        async with running.session.options(running.url, headers={**preflight, **foreign}) as response:
            assert not any(name.lower().startswith("access-control-") for name in response.headers)
            assert "Origin" in response.headers["Vary"]
        _, _, headers = await running.post(_SNAPSHOT, headers=foreign)
        assert "Access-Control-Allow-Origin" not in headers


async def test_a_body_that_does_not_arrive_ends_with_408(start_gateway, topic) -> None:
    running = await start_gateway(topic, body_timeout_seconds=0.5)
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)

    async def drip() -> None:
        while not writer.is_closing():
            writer.write(b" ")
            await asyncio.sleep(0.1)

    dripping = asyncio.create_task(drip())
    try:
        writer.write(
            b"POST /api/nexus/producer HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: 1000\r\n\r\n{"
        )
        async with asyncio.timeout(5):
            head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 408 ")
        assert b"application/json" in head
        # A byte now and then does not keep the connection open.
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(10):
                await reader.read(-1)
    finally:
        dripping.cancel()
        writer.close()


async def test_a_client_that_leaves_in_the_middle_harms_nobody(gateway, topic) -> None:
    for _ in range(20):
        _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(
            b"POST /api/nexus/producer HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b'Content-Length: 1000\r\n\r\n{"messages":['
        )
        await writer.drain()
        writer.close()
        await writer.wait_closed()
    assert (await gateway.post(_SNAPSHOT))[0] == 202
    assert len(await topic.records()) == 1


async def test_a_trailing_slash_answers_as_without_it(start_gateway, topic) -> None:
    running = await start_gateway(topic, gateway_allowed_origins=("https://www.example.com",))
    await running.wait_for_health(200)
    url = f"{running.url}/"
    origin = {"Origin": "https://www.example.com"}
    preflight = {**origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "traceparent"}
    # A browser takes a redirect for a failed preflight.
    async with running.session.options(url, headers=preflight, allow_redirects=False) as response:
        assert response.status == 204
        assert "traceparent" in response.headers["Access-Control-Allow-Headers"]
    async with running.session.post(url, json=_SNAPSHOT, headers=origin, allow_redirects=False) as response:
        assert response.status == 202
        assert response.headers["Access-Control-Allow-Origin"] == "https://www.example.com"
    async with running.session.get(url) as response:
        assert (await response.json())["status"] == "healthy"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/nexus/producer"),
        ("GET", "/api/nexus/producer"),
        ("OPTIONS", "/api/nexus/producer"),
        ("GET", "/live"),
        ("GET", "/none"),
        ("GET", "/openapi.json"),
    ],
)
async def test_no_answer_keeps_a_share_of_the_keepalive_quota(gateway, method: str, path: str) -> None:
    """Chromium does not give it back for an unread answer with ``no-store``."""
    async with gateway.session.request(method, gateway.base_url + path, data=b"{}") as response:
        assert response.headers["Cache-Control"] == "no-cache"
        assert response.headers["Server"] == "nexus-stream"


async def test_many_requests_at_once_are_all_on_the_topic(gateway, topic) -> None:
    async def one(number: int) -> str:
        status, answer, _ = await gateway.post({**_SNAPSHOT, "sessionId": f"s-{number}"})
        assert status == 202
        return str(answer["messageId"])

    ids = await asyncio.gather(*[one(number) for number in range(300)])
    records = await topic.records()
    assert {dict(record.headers)["correlation-id"].decode() for record in records} == set(ids)
    assert gateway.publisher.pending_bytes == 0
