"""The bound on the bytes of all requests together, with a real server."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import aiohttp
import pytest
from aiohttp import web

from nexus_stream.gateway.body import ByteBudget, read_body
from nexus_stream.gateway.refusal import RequestRefusedError
from tests.stack import eventually


def test_a_budget_reserves_bytes_that_fit_and_none_otherwise() -> None:
    budget = ByteBudget(10)
    assert budget.take(7)
    assert not budget.take(4)
    assert budget.used_bytes == 7
    assert budget.take(3)
    budget.give_back(10)
    assert budget.used_bytes == 0


@pytest.fixture
async def served() -> AsyncIterator[tuple[str, ByteBudget]]:
    """A server that only reads bodies, at most 1,500 bytes for all requests at a time."""
    budget = ByteBudget(1500)

    async def handler(request: web.Request) -> web.Response:
        try:
            body = await read_body(request, 1000, 1.0, budget)
        except RequestRefusedError as refusal:
            return web.json_response(refusal.body, status=refusal.status, headers=refusal.headers)
        return web.Response(body=body)

    runner = web.ServerRunner(web.Server(handler), shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}", budget
    await runner.cleanup()


async def _slowly(count: int) -> AsyncIterator[bytes]:
    yield b"x" * (count - 1)
    await asyncio.sleep(0.4)
    yield b"y"


async def test_requests_over_the_shared_budget_get_retry_after(served: tuple[str, ByteBudget]) -> None:
    url, budget = served
    async with aiohttp.ClientSession() as session:

        async def post() -> tuple[int, str | None]:
            async with session.post(url, data=_slowly(900)) as response:
                return response.status, response.headers.get("Retry-After")

        answers = await asyncio.gather(post(), post(), post())
        assert sorted(answers, key=lambda answer: answer[0]) == [(200, None), (503, "1"), (503, "1")]
        assert budget.used_bytes == 0
        assert await post() == (200, None)


async def test_every_way_out_gives_the_budget_back(served: tuple[str, ByteBudget]) -> None:
    url, budget = served
    async with aiohttp.ClientSession() as session:
        for body, status in ((b"x" * 1000, 200), (b"x" * 1001, 413), (_slowly(1001), 413)):
            async with session.post(url, data=body) as response:
                assert response.status == status
    _, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\nxxx")
    await writer.drain()

    async def uses(count: int) -> bool:
        return budget.used_bytes == count

    await eventually(partial(uses, 3), seconds=60, what="the three bytes taken")
    writer.close()
    await eventually(partial(uses, 0), seconds=60, what="the three bytes given back")
