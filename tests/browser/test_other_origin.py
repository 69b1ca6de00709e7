"""Pages on another origin than the gateway, as sites have them: every post is accepted, and the rows are right."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from nexus_stream.embedded.broker import EmbeddedBroker
from nexus_stream.embedded.postgres import EmbeddedPostgres
from nexus_stream.gateway.server_keys import key_hash, new_key
from tests.browser.stage import browser, missing
from tests.stack import Stack, eventually
from tests.support.requirements import require

KEY = new_key()
SCRIPT = Path(__file__).with_name("other_origin.js").read_text(encoding="utf-8")
PRODUCER = "/api/nexus/producer"
EXCHANGES = 16


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Gateway, enricher and sink; pages on any port of localhost are allowed, and one server has a key."""
    require("browser", missing())
    folder = tmp_path_factory.mktemp("other-origin")
    folder.chmod(0o755)
    with (
        EmbeddedBroker.start(log_path=folder / "broker.log") as broker,
        EmbeddedPostgres.start(folder / "postgres") as database,
    ):
        one = Stack(
            folder,
            broker.bootstrap_servers,
            database.dsn,
            NEXUS_GATEWAY_ALLOWED_ORIGINS="http://localhost:*",
            NEXUS_GATEWAY_SERVER_KEYS=f"web:sha256:{key_hash(KEY)}",
            NEXUS_GATEWAY_REQUESTS_PER_MINUTE="300",
        )
        try:
            asyncio.run(one.prepare())
            one.start_all()
            yield one
        finally:
            one.stop_all()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def site(stack: Stack) -> AsyncIterator[str]:
    """The site: a page, and a route handler that forwards with the key."""
    gateway = stack.processes["gateway"].url

    async def page(request: web.Request) -> web.Response:
        text = f"<!doctype html><title>Shop</title><link rel=icon href=data:,><script>{SCRIPT}</script>"
        return web.Response(text=text, content_type="text/html")

    async def forward(request: web.Request) -> web.Response:
        # As a careless handler does, with every header of the browser.
        headers = {name: value for name, value in request.headers.items() if name.lower() not in {"host", "connection"}}
        headers |= {"x-nexus-server-key": KEY, "x-tenant-id": "acme", "x-nexus-visitor-address": "203.0.113.7"}
        async with (
            aiohttp.ClientSession() as session,
            session.post(gateway + PRODUCER, data=await request.read(), headers=headers) as answer,
        ):
            return web.Response(body=await answer.read(), status=answer.status, content_type="application/json")

    app = web.Application()
    app.router.add_get("/", page)
    app.router.add_post(PRODUCER, forward)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://localhost:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def chromium(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Any]:
    async with browser(tmp_path_factory.mktemp("home")) as one:
        yield one


async def chatted(chromium: Any, site: str, *, scripts: bool = False, **options: Any) -> tuple[list[int], list[str]]:
    """Chat in a page and leave it; returns the posts' statuses, and the errors in the page."""
    context = await chromium.new_context()
    problems: list[str] = []
    try:
        page = await context.new_page()
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        # The page learns only "Failed to fetch". This says why, in the message of a failed test.
        failed: list[str] = []
        page.on("requestfailed", lambda request: failed.append(f"{request.method} {request.url}: {request.failure}"))
        await page.goto(site)
        if scripts:
            await page.evaluate("withScripts()")
        try:
            statuses: list[int] = await page.evaluate("options => chat(options)", {"exchanges": EXCHANGES, **options})
        except Exception as error:
            raise AssertionError(f"{error}\n{failed}") from error
        await page.goto(f"{site}/?left")
    finally:
        await context.close()
    return statuses, problems


async def assert_row(stack: Stack, session: str, tenant: str = "") -> None:
    """The session has one row, with the first turn's name and the beacon's phone."""

    async def whole() -> dict[str, Any] | None:
        rows = await stack.fetch("SELECT tenant_id, record FROM prospect_sessions WHERE session_id = $1", session)
        assert {row["tenant_id"] for row in rows} <= {tenant}
        return rows[0]["record"] if rows and rows[0]["record"]["prospect"]["telefono"] else None

    record = await eventually(whole, seconds=60, what=f"the row of {session}")
    assert record["prospect"]["nombre"] == "Carlos Rojas"
    assert record["prospect"]["telefono"] == "+573005550102"
    assert record["conversation"]["turns"] == 2 * EXCHANGES + 1


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("plain", {}),
        ("scripts", {"scripts": True}),
        ("text", {"type": "text/plain"}),
        ("slash", {"path": "/", "scripts": True}),
    ],
)
async def test_every_post_of_a_page_is_accepted(
    stack: Stack, site: str, chromium: Any, name: str, options: dict[str, Any]
) -> None:
    session = f"origin-{name}"
    endpoint = stack.processes["gateway"].url + PRODUCER
    first = "Hola, me llamo Carlos Rojas"
    statuses, problems = await chatted(chromium, site, endpoint=endpoint, session=session, first=first, **options)
    assert statuses == [202] * (2 * EXCHANGES)
    assert problems == []
    await assert_row(stack, session)


async def test_a_route_handler_with_a_key_names_the_tenant(stack: Stack, site: str, chromium: Any) -> None:
    statuses, problems = await chatted(
        chromium,
        site,
        scripts=True,
        endpoint=site + PRODUCER,
        session="origin-forward",
        first="Hola, me llamo Carlos Rojas",
    )
    assert statuses == [202] * (2 * EXCHANGES)
    assert problems == []
    await assert_row(stack, "origin-forward", "acme")


@pytest.mark.parametrize("header", ["x-tenant-id", "x-nexus-server-key", "x-nexus-visitor-address"])
async def test_a_page_cannot_send_a_servers_header(stack: Stack, site: str, chromium: Any, header: str) -> None:
    page = await chromium.new_page()
    try:
        await page.goto(site)
        outcome = await page.evaluate(
            """([url, header]) => fetch(url, {
              method: "POST",
              headers: { [header]: "acme", "content-type": "application/json" },
              body: JSON.stringify({ messages: [{ role: "user", content: "Hola" }], sessionId: "origin-tenant" }),
            }).then(answer => answer.status, error => error.name)""",
            [stack.processes["gateway"].url + PRODUCER, header],
        )
    finally:
        await page.close()
    assert outcome == "TypeError"
