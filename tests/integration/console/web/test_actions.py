"""Operators' actions on a real broker: they run to their end and are recorded, whatever happens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from aiokafka import AIOKafkaProducer

from nexus_stream.console.command import open_model
from nexus_stream.console.web.access import Identity
from nexus_stream.console.web.app import make_app
from nexus_stream.console.web.context import CONTEXT, Context
from nexus_stream.console.web.recorded_actions import End, recorded
from nexus_stream.embedded.broker import EmbeddedBroker
from nexus_stream.settings import Settings

REASON = "not_json"


@pytest.fixture
async def served(settings: Settings) -> AsyncIterator[tuple[str, Context]]:
    """A console as the command serves it: it cancels a handler whose client is gone."""
    settings = settings.model_copy(update={"kafka_request_timeout_seconds": 2.0})
    model = open_model(settings)
    app = make_app(settings, model)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    yield f"http://{host}:{port}", app[CONTEXT]
    await runner.cleanup()
    model.close()


async def put_letters(settings: Settings, count: int) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka_bootstrap_servers)
    await producer.start()
    try:
        for number in range(count):
            headers = {
                "nexus-id": f"{settings.ingestion_topic}-0-{number}",
                "nexus-reason": REASON,
                "nexus-origin-topic": settings.ingestion_topic,
                "nexus-failed-at": "2026-01-02T03:04:05.678+00:00",
            }
            # One by one: the embedded broker counts only the first of several batches of a request.
            await producer.send_and_wait(
                settings.dead_letter_topic,
                b"not json",
                key=b"k",
                partition=0,
                headers=[(name, text.encode()) for name, text in headers.items()],
            )
    finally:
        await producer.stop()


def ends_of(context: Context, action: str) -> list[str]:
    return [str(entry["ended"]) for entry in context.audit.newest(10, {action})][::-1]


async def until_ended(context: Context, action: str, count: int) -> list[str]:
    deadline = time.monotonic() + 60
    while len(ends := ends_of(context, action)) < count:
        assert time.monotonic() < deadline, ends
        await asyncio.sleep(0.01)
    return ends


@pytest.mark.parametrize("client", ["page", "program"])
async def test_an_action_continues_after_its_client_disconnects(
    settings: Settings, served: tuple[str, Context], client: str
) -> None:
    url, context = served
    letters = 150
    await put_letters(settings, letters)
    async with aiohttp.ClientSession(url, cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        html = await (await session.get(f"/dead-letters/confirm?action=discard&reason={REASON}")).text()
        csrf = html.partition('name="csrf" value="')[2].partition('"')[0]
        assert csrf
        if client == "page":
            form = {"csrf": csrf, "action": "discard", "reason": REASON, "ends": f'{{"0": {letters}}}'}
            request = session.post("/dead-letters/act", data=form)
        else:
            body = {"reason": REASON}
            request = session.post("/api/v1/dead-letters/discard", json=body, headers={"X-CSRF-Token": csrf})
        asking = asyncio.create_task(request.__aenter__())
        assert await until_ended(context, "discard", 1) == ["began"]
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        # Precondition: the client is gone, and the action is not done.
        assert ends_of(context, "discard") == ["began"]
    assert await until_ended(context, "discard", 2) == ["began", "complete"]
    end = context.audit.newest(1, {"discard"})[0]
    assert (end["letters"], end["reason"]) == (letters, REASON)


async def test_an_action_that_fails_halfway_is_recorded(
    settings: Settings, broker: EmbeddedBroker, served: tuple[str, Context]
) -> None:
    url, context = served
    letters = 150
    await put_letters(settings, letters)
    async with aiohttp.ClientSession(url, cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        html = await (await session.get(f"/dead-letters/confirm?action=discard&reason={REASON}")).text()
        csrf = html.partition('name="csrf" value="')[2].partition('"')[0]
        body, headers = {"reason": REASON}, {"X-CSRF-Token": csrf}
        asking = asyncio.create_task(session.post("/api/v1/dead-letters/discard", json=body, headers=headers))
        assert await until_ended(context, "discard", 1) == ["began"]
        broker.kill()
        response = await asking
        assert response.status == 503
        answer = await response.json()
    assert answer["error"] == "unavailable"
    # The error's own text, for the operator who must fix it.
    assert answer["reason"]
    assert await until_ended(context, "discard", 2) == ["began", "interrupted"]
    assert context.audit.newest(1, {"discard"})[0]["letters"] < letters


async def test_a_stopping_console_records_the_interrupted_actions(settings: Settings) -> None:
    model = open_model(settings)
    app = make_app(settings, model)
    context = app[CONTEXT]
    runner = web.AppRunner(app)
    await runner.setup()

    works = asyncio.Event()

    async def work(end: End) -> None:
        end["letters"] = 7
        works.set()
        await asyncio.sleep(3600)

    acting = asyncio.create_task(recorded(context, Identity("operator", "Ana"), "redrive", work, reason=REASON))
    async with asyncio.timeout(60):
        await works.wait()
    await runner.cleanup()
    assert ends_of(context, "redrive") == ["began", "interrupted"]
    assert context.audit.newest(1)[0]["letters"] == 7
    assert acting.done()
    await asyncio.gather(acting, return_exceptions=True)
    model.close()
