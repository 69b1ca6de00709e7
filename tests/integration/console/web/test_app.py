"""The pages over real HTTP; no broker is needed for them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer
from aiohttp.web import Application, Request
from yarl import URL

from nexus_stream.console.command import open_model
from nexus_stream.console.index.read_model import ReadModel
from nexus_stream.console.index.session_row import ChangelogRecord
from nexus_stream.console.web.app import make_app
from nexus_stream.console.web.rendering import session_url
from nexus_stream.contracts.session_key import session_key
from nexus_stream.settings import Settings

NOW_MS = 1_760_000_000_000

Client = TestClient[Request, Application]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Of a console whose broker does not answer."""
    return Settings(
        data_dir=tmp_path, kafka_bootstrap_servers="127.0.0.1:1", kafka_request_timeout_seconds=0.2, console_port=0
    )


@pytest.fixture
def model(settings: Settings) -> ReadModel:
    return open_model(settings)


@pytest.fixture
async def client(settings: Settings, model: ReadModel) -> AsyncIterator[Client]:
    async with TestClient(TestServer(make_app(settings, model))) as client:
        yield client
    model.close()


@pytest.fixture
def add(model: ReadModel, encode: Callable[..., bytes]) -> Callable[..., None]:
    offset = iter(range(1_000_000))

    def add(session_id: str, nombre: str = "Carlos", tenant_id: str = "") -> None:
        number = next(offset)
        value = encode(session_id, number, nombre, tenant_id)
        model.apply([ChangelogRecord(0, number, NOW_MS, session_key(tenant_id, session_id), value)])

    return add


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/sessions?q=x",
        "/nope",
        "/sessions/~/none",
        "/sessions?after=rubbish",
        "/sessions/export.csv",
        "/dead-letters",
        "/tail",
        "/events",
        "/audit",
        "/language?to=es",
        "/api/v1/overview",
        "/api/v1/nope",
        "/static/console.css",
        "/static/vendor/htmx.min.js",
        "/live",
        "/ready",
    ],
)
async def test_every_answer_carries_the_security_headers(client: Client, path: str) -> None:
    response = await client.get(path, allow_redirects=False)
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Referrer-Policy"] == "same-origin"
    assert response.headers["Server"] == "nexus-stream"
    assert response.headers["Cache-Control"] == ("no-cache" if path.startswith("/static/") else "no-store")


async def test_pages_have_no_inline_script_or_style_and_nothing_from_elsewhere(
    client: Client, add: Callable[..., None]
) -> None:
    add("s-1")
    for path in ("/", "/sessions", "/sessions/~/s-1", "/dead-letters", "/tail", "/audit", "/nope"):
        html = await (await client.get(path)).text()
        assert all(part.startswith(' src="/static/') for part in html.split("<script")[1:])
        assert not re.search(r"\son\w+=", html)
        assert "style=" not in html
        assert "<style" not in html
        assert "://" not in html


@pytest.mark.parametrize(
    ("tenant_id", "session_id"),
    [
        ("", "plain"),
        ("acme", "s-1"),
        ("-", "s"),
        ("..", "s"),
        (".", ".."),
        ("", "."),
        ("", ".."),
        ("", "a/b"),
        ("", "../../etc"),
        ("", "a%2Fb"),
        ("", "%"),
        ("", "%25"),
        ("", "a?b#c&d=e"),
        ("", "a:b"),
        ("acme", "a:b"),
        ("", "ñandú 😀"),
        ("", " spaces  "),
        ("", "back\\slash"),
        ("", "a+b"),
        ("", "~"),
        ("", "/"),
        ("", "//"),
        ("", "trailing/"),
        ("", "\"<b>'"),
    ],
)
async def test_every_session_has_an_address(
    client: Client, add: Callable[..., None], tenant_id: str, session_id: str
) -> None:
    add("another", "Berta")
    add(session_id, "Carlos", tenant_id)
    # As a browser sends it: resolved against the page, dot segments removed, nothing encoded again.
    url = URL(f"http://127.0.0.1:{client.port}/").join(URL(session_url(tenant_id, session_id), encoded=True))
    async with client.session.get(url) as response:
        assert response.status == 200, url
        html = await response.text()
    assert "Carlos" in html
    assert "Berta" not in html


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/nope", 404),
        ("/sessions/~/none", 404),
        ("/sessions/not+a+tenant!/x", 404),
        ("/sessions/~/", 404),
        ("/static/../app.py", 404),
        ("/static/%2e%2e%2fapp.py", 404),
        ("/static/console.css%00", 404),
        ("/static/vendor/README.md", 404),
        ("/static/vendor/../console.css", 404),
        ("/sessions?after=rubbish", 400),
        ("/sessions?after=1.%25", 400),
        ("/sessions?since=yesterday", 400),
        ("/sessions/export.xml", 404),
        ("/dead-letters?after=x.y", 400),
        ("/dead-letters/none", 404),
        ("/dead-letters/confirm", 400),
        ("/dead-letters/confirm?action=redrive&id=x", 503),
        ("/erase?session=none", 404),
        ("/sessions/~/%ff", 404),
        ("/sessions?q=%ff%00&status=%00&momento=%f0&objecion='%20OR%201&arquetipo=%00&period=x", 200),
        ("/sessions?q=" + "a" * 5000, 200),
    ],
)
async def test_odd_addresses_get_a_page(client: Client, path: str, status: int) -> None:
    response = await client.session.get(URL(f"http://127.0.0.1:{client.port}{path}", encoded=True))
    assert response.status == status
    assert response.content_type == "text/html"
    assert "<main" in await response.text()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_a_page_refuses_a_form(client: Client, method: str) -> None:
    response = await client.request(method, "/sessions")
    assert response.status == 403
    assert response.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8090", 200),
        ("127.0.0.1:8090", 200),
        ("[::1]:8090", 200),
        ("localhost", 200),
        ("[::1]", 200),
        ("evil.example.com:8090", 421),
        ("localhost.example.com", 421),
        ("192.168.1.10:8090", 421),
        ("", 421),
    ],
)
async def test_only_its_own_names_are_answered(
    client: Client, add: Callable[..., None], host: str, status: int
) -> None:
    add("s-1", "Carlos")
    response = await client.get("/sessions", headers={"Host": host})
    assert response.status == status
    assert ("Carlos" in await response.text()) is (status == 200)


async def test_list_pages_on_and_keeps_the_filter(client: Client, add: Callable[..., None]) -> None:
    for number in range(120):
        add(f"s-{number:03}", "Carla" if number % 2 else "Berta")
    seen: list[str] = []
    path: str | None = "/sessions?q=carla"
    while path is not None:
        html = await (await client.get(path)).text()
        seen += [part[:5] for part in html.split('href="/sessions/~/')[1:]]
        _, found, rest = html.partition('rel="next"')
        path = (
            html[: -len(found + rest)].rpartition('href="')[2].partition('"')[0].replace("&amp;", "&")
            if found
            else None
        )
    assert seen == [f"s-{number:03}" for number in reversed(range(120)) if number % 2]


async def test_ready_once_the_view_was_complete(client: Client, model: ReadModel) -> None:
    assert (await client.get("/live")).status == 200
    response = await client.get("/ready")
    assert response.status == 503
    assert (await response.json())["problem"] == "starting"
    model.bind("c", {0: 0}, {0: 1}, NOW_MS)
    assert (await client.get("/ready")).status == 503
    model.apply([ChangelogRecord(0, 0, NOW_MS, b"k", b"{}")])
    model.observe({0: 1}, NOW_MS)
    response = await client.get("/ready")
    assert response.status == 200
    assert await response.json() == {
        "status": "ready",
        "problem": None,
        "lag": 0,
        "partitions": {"0": {"next_offset": 1, "lag": 0}},
        "caught_up_at_ms": NOW_MS,
    }
    model.set_problem("broker_unreachable")
    response = await client.get("/ready")
    assert response.status == 200
    assert (await response.json())["problem"] == "broker_unreachable"


async def test_a_broken_index_is_a_page_that_says_nothing_private(
    client: Client, model: ReadModel, caplog: pytest.LogCaptureFixture
) -> None:
    model.path.unlink()
    response = await client.get("/sessions?q=carlos@example.com")
    assert response.status == 500
    assert "carlos@" not in await response.text()
    # The test's own server writes an access log, which the console turns off.
    ours = [record.getMessage() for record in caplog.records if record.name != "aiohttp.access"]
    assert not any("carlos@" in message for message in ours)
    assert response.headers["Cache-Control"] == "no-store"
