"""Alerts posted to a real receiver: signed, repeated with the same id, and without harm to the console."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from standardwebhooks import Webhook as Signer

from nexus_stream.console.alerts.book import AlertEvent
from nexus_stream.console.alerts.conditions import Alert, AlertKind
from nexus_stream.console.alerts.webhook import AlertMessage, Webhook, message_of
from nexus_stream.settings import Settings
from tests.stack import eventually

KEY = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(KEY).decode()
AT_MS = 1_760_000_000_000


@dataclass
class Receiver:
    """A receiver that answers with the statuses in turn, then with 204. With ``hang`` it never answers."""

    statuses: list[int | str] = field(default_factory=list)
    received: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    url: str = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.received.append((dict(request.headers), await request.read()))
        status = self.statuses.pop(0) if self.statuses else 204
        if status == "cut":
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if status == 302:
            raise web.HTTPFound("/elsewhere")
        return web.Response(status=int(status))

    async def has(self, count: int) -> None:
        deadline = time.monotonic() + 60
        while len(self.received) < count:
            assert time.monotonic() < deadline, f"{len(self.received)} of {count}"
            await asyncio.sleep(0.02)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/{path:.*}", receiver.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    yield receiver
    await runner.cleanup()


@dataclass
class Sending:
    """A webhook that runs."""

    webhook: Webhook
    changes: int = 0


@pytest.fixture
async def start() -> AsyncIterator[Any]:
    tasks = []

    def start(url: str, *pending: AlertMessage) -> Sending:
        async def changed() -> None:
            sending.changes += 1

        settings = Settings(alert_webhook_url=url, alert_webhook_secret=SECRET)
        sending = Sending(Webhook(settings, pending, on_change=changed, retry_min_seconds=0.02))
        tasks.append(asyncio.create_task(sending.webhook.run()))
        return sending

    yield start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def message(number: int = 0, state: Any = "firing") -> AlertMessage:
    alert = Alert(AlertKind.LAG, f"enricher-{number}", 500.5, 100, "detail", since_ms=AT_MS)
    return message_of(AlertEvent(state, alert, time.time_ns() // 1_000_000), "https://docs.example.com/runbook#")


def verify(headers: dict[str, str], body: bytes) -> dict[str, Any]:
    """As receivers do: by hand after docs/reference/alerts.md, and with the library of Standard Webhooks."""
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    digest = hmac.new(base64.b64decode(SECRET.removeprefix("whsec_")), signed, hashlib.sha256).digest()
    assert hmac.compare_digest(headers["webhook-signature"], "v1," + base64.b64encode(digest).decode())
    assert abs(time.time() - int(headers["webhook-timestamp"])) < 300
    content: dict[str, Any] = Signer(SECRET).verify(body, headers)
    return content


async def gone(sending: Sending) -> None:
    deadline = time.monotonic() + 60
    while sending.webhook.pending:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def test_begin_and_end_are_posted_in_order_and_signed(receiver: Receiver, start: Any) -> None:
    sending = start(receiver.url)
    for state in ("firing", "resolved"):
        sending.webhook.offer(message(state=state))
    await receiver.has(2)
    bodies = [verify(headers, body) for headers, body in receiver.received]
    assert bodies[0] == {
        "alert": "lag",
        "where": "enricher-0",
        "state": "firing",
        "value": 500.5,
        "threshold": 100,
        "since": "2025-10-09T08:53:20.000+00:00",
        "runbook": "https://docs.example.com/runbook#lag",
    }
    assert bodies[1]["state"] == "resolved"
    assert len({headers["webhook-id"] for headers, _ in receiver.received}) == 2
    assert receiver.received[0][0]["Content-Type"] == "application/json"
    await gone(sending)
    assert (sending.webhook.failures, sending.changes) == (0, 2)


async def test_a_message_is_posted_again_with_the_same_id_until_it_is_accepted(receiver: Receiver, start: Any) -> None:
    receiver.statuses = [500, "cut", 429, 503]
    sending = start(receiver.url, message(1))
    sending.webhook.offer(message(2))
    await receiver.has(6)
    ids = [headers["webhook-id"] for headers, _ in receiver.received]
    assert ids[:5] == [message(1).id] * 5
    assert ids[5] == message(2).id
    for headers, body in receiver.received:
        verify(headers, body)
    assert sending.webhook.failures == 4


async def test_a_refused_message_does_not_block_the_next_ones(receiver: Receiver, start: Any) -> None:
    receiver.statuses = [400, 302, 404, 400, 410]
    sending = start(receiver.url, message(1), message(2))
    await receiver.has(6)
    assert [headers["webhook-id"] for headers, _ in receiver.received[4:]] == [message(1).id, message(2).id]
    await gone(sending)


async def test_an_unreachable_receiver_fills_a_bounded_queue(start: Any) -> None:
    sending = start("http://127.0.0.1:1/hook")
    for number in range(500):
        sending.webhook.offer(message(number))
    assert len(sending.webhook.pending) == 200
    # The oldest are gone.
    assert sending.webhook.pending[-1].id == message(499).id

    async def failed() -> bool:
        return bool(sending.webhook.failures > 300)

    await eventually(failed, seconds=60, what="more than 300 failures")


async def test_an_old_message_is_dropped(receiver: Receiver, start: Any) -> None:
    receiver.statuses = [500]
    old = AlertMessage("msg_old", "{}", time.time() - 25 * 3600)
    sending = start(receiver.url, old, message(1))
    await receiver.has(2)
    assert [headers["webhook-id"] for headers, _ in receiver.received] == ["msg_old", message(1).id]
    await gone(sending)


async def test_a_redirect_is_not_followed(receiver: Receiver, start: Any) -> None:
    receiver.statuses = [302]
    start(receiver.url, message(1))
    await receiver.has(2)
    assert receiver.received[1][0]["webhook-id"] == message(1).id


async def test_address_and_secret_are_not_logged(start: Any, caplog: pytest.LogCaptureFixture) -> None:
    sending = start("http://127.0.0.1:1/hook?token=s3cr3t-token", message(1))
    deadline = time.monotonic() + 60
    while not sending.webhook.failures:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    assert "s3cr3t" not in caplog.text
    assert SECRET not in repr(Settings(alert_webhook_url="https://x.example.com", alert_webhook_secret=SECRET))
