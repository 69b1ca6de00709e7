"""Access control over real HTTP: login, cookies, forms, roles, exports, the API and its description."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientResponse, ClientSession, CookieJar
from aiohttp.test_utils import TestServer
from jsonschema import Draft202012Validator
from pydantic import SecretStr

from nexus_stream.console.command import open_model
from nexus_stream.console.index.read_model import ReadModel
from nexus_stream.console.index.session_row import ChangelogRecord
from nexus_stream.console.index.topic_record import TopicRecord
from nexus_stream.console.web.api import ROUTES
from nexus_stream.console.web.app import make_app
from nexus_stream.console.web.audit import FAILED_LOGINS_FILE_NAME, FILE_NAME
from nexus_stream.contracts.prospect import ExtractionFacts, Prospect
from nexus_stream.contracts.session_key import session_key
from nexus_stream.contracts.status import PartitionLag, ProcessStatus
from nexus_stream.settings import Settings
from tables.session_state import SessionState, encode_state

Client = ClientSession
OPERATOR, VIEWER = "operator-token-1234", "viewer-token-12345"
NOW_MS = 1_760_000_000_000
SECRETS = ("Carlos", "carlos@", "5550102", "contador", "fp-secret", "Ruiz")
PAGES = (
    "/",
    "/sessions",
    "/sessions/~/s-1",
    "/dead-letters",
    "/dead-letters/nexus-prospect-ingestion-0-1",
    "/tail",
    "/api/v1/overview",
    "/api/v1/sessions",
    "/api/v1/sessions/~/s-1",
    "/api/v1/emissions",
    "/api/v1/dead-letters",
    "/sessions/export.csv",
    "/sessions/export.json",
)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        data_dir=tmp_path,
        kafka_bootstrap_servers="127.0.0.1:1",
        kafka_request_timeout_seconds=0.2,
        console_token=OPERATOR,
        console_viewer_token=VIEWER,
    )


def model_state(session_id: str) -> SessionState:
    prospect = Prospect(
        nombre="Carlos Ruiz", email="carlos@example.com", telefono="+573005550102", ocupacion="contador"
    )
    return SessionState(
        session_id=session_id,
        fingerprints=("fp-secret-1",),
        chain=("aabbccddeeff",),
        turns=2,
        digest="d" * 32,
        prospect=prospect,
        extraction=ExtractionFacts(extractor="claude", input_tokens=10, cost_usd=0.5),
        enriched_at="2026-01-02T03:04:05.678+00:00",
        first_url="https://www.example.com/?name=Carlos",
        first_seen_ms=NOW_MS,
        last_seen_ms=NOW_MS,
    )


@pytest.fixture
def model(settings: Settings) -> ReadModel:
    """One session, one emission, one dead letter, one process: something for every page."""
    model = open_model(settings)
    state = model_state("s-1")
    model.apply([ChangelogRecord(0, 0, NOW_MS, session_key("", "s-1"), encode_state(state))])
    value = state.to_enriched("nexus-prospect-ingestion").model_dump_json().encode()
    model.apply_beside(settings.enriched_topic, [TopicRecord(0, 0, NOW_MS, b"s-1", value, state.emission_headers("x"))])
    headers = {
        "nexus-id": "nexus-prospect-ingestion-0-1",
        "nexus-reason": "not_json",
        "nexus-origin-topic": "nexus-prospect-ingestion",
        "nexus-failed-at": "2026-01-02T03:04:05.678+00:00",
    }
    letter = TopicRecord(0, 0, NOW_MS, b"k", b"Carlos", tuple((name, text.encode()) for name, text in headers.items()))
    model.apply_beside(settings.dead_letter_topic, [letter])
    status = ProcessStatus(
        process_id="sink-a",
        role="sink",
        version="1",
        host="h",
        pid=1,
        state="running",
        since_ms=NOW_MS,
        started_at_ms=NOW_MS,
        updated_at_ms=2**50,
        partitions=(PartitionLag(topic="t", partition=0, unread=3),),
    )
    model.apply_beside(settings.status_topic, [TopicRecord(0, 0, NOW_MS, b"sink-a", status.model_dump_json().encode())])
    return model


@pytest.fixture
async def serve(settings: Settings, model: ReadModel) -> AsyncIterator[Callable[..., Any]]:
    """Clients, each with cookies of its own, of one console."""
    server = TestServer(make_app(settings, model))
    await server.start_server()

    @asynccontextmanager
    async def client(token: str | None = None, **headers: str) -> AsyncIterator[Client]:
        base = server.make_url("/")
        async with ClientSession(base, cookie_jar=CookieJar(unsafe=True), headers=headers) as one:
            if token is not None:
                response = await log_in(one, token)
                assert response.status == 303
            yield one

    yield client
    await server.close()
    model.close()


async def log_in(client: Client, token: str, **headers: str) -> ClientResponse:
    return await client.post("/login", data={"token": token, "name": "Ana"}, headers=headers, allow_redirects=False)


async def csrf_of(client: Client) -> str:
    found = re.search(r'name="csrf" value="(\w+)"', await (await client.get("/")).text())
    assert found is not None
    return found[1]


async def test_nobody_sees_anything_without_a_token(serve: Callable[..., Any]) -> None:
    async with serve() as client:
        for path in PAGES:
            response = await client.get(path, allow_redirects=False)
            text = await response.text()
            assert response.status == (401 if path.startswith("/api/") else 303), path
            assert not any(secret in text for secret in SECRETS), path
        # A part of a page: the whole page has to go to the login.
        response = await client.get("/overview/live", headers={"HX-Request": "true"}, allow_redirects=False)
        assert (response.status, response.headers["HX-Redirect"]) == (401, "/login")
        for path in ("/login", "/live", "/static/console.css"):
            assert (await client.get(path)).status == 200


async def test_operator_sees_people_and_viewer_sees_them_masked(serve: Callable[..., Any]) -> None:
    async with serve(OPERATOR) as operator:
        for path in ("/sessions", "/sessions/~/s-1", "/tail", "/api/v1/sessions/~/s-1", "/sessions/export.csv"):
            assert "Carlos" in await (await operator.get(path)).text(), path
    async with serve(VIEWER) as viewer:
        for path in PAGES:
            response = await viewer.get(path)
            text = await response.text()
            assert response.status == 200, path
            assert not any(secret in text for secret in SECRETS), path


async def test_a_viewer_cannot_search_masked_data(serve: Callable[..., Any]) -> None:
    async with serve(VIEWER) as viewer:
        for text in ("carlos", "carlos@example.com", "5550102", "fp-secret-1", "s-"):
            answer = await (await viewer.get("/api/v1/sessions", params={"q": text})).json()
            assert answer["sessions"] == [], text
        answer = await (await viewer.get("/api/v1/sessions", params={"q": "s-1"})).json()
        assert [session["session_id"] for session in answer["sessions"]] == ["s-1"]


async def test_viewer_may_not_act(serve: Callable[..., Any], model: ReadModel) -> None:
    async with serve(VIEWER) as viewer:
        csrf = await csrf_of(viewer)
        for path in ("/audit", "/api/v1/audit", "/dead-letters/confirm?action=redrive&reason=not_json",
                     "/erase?tenant=~&session=s-1", "/person.json?tenant=~&session=s-1"):  # fmt: skip
            assert (await viewer.get(path)).status == 403, path
        for path in ("/dead-letters/act", "/erase"):
            form = {"csrf": csrf, "action": "discard", "reason": "not_json", "ends": "{}", "session": "s-1"}
            assert (await viewer.post(path, data=form)).status == 403, path
    async with serve(Authorization=f"Bearer {VIEWER}") as program:
        assert (await program.post("/api/v1/dead-letters/discard", json={"reason": "not_json"})).status == 403


async def test_a_form_of_another_site_does_nothing(serve: Callable[..., Any]) -> None:
    async with serve(OPERATOR) as operator:
        csrf = await csrf_of(operator)
        form = {"action": "discard", "reason": "not_json", "ends": '{"0": 5}'}
        for data, headers in (
            (form, {}),
            ({**form, "csrf": "0" * 64}, {}),
            ({**form, "csrf": csrf}, {"Origin": "https://evil.example.com"}),
            ({**form, "csrf": csrf}, {"Origin": "null"}),
        ):
            assert (await operator.post("/dead-letters/act", data=data, headers=headers)).status == 403
        # The console's own form passes the check, and then fails because the broker is unreachable.
        assert (await operator.post("/dead-letters/act", data={**form, "csrf": csrf})).status == 503
        assert (await operator.post("/logout", data={"csrf": csrf}, allow_redirects=False)).status == 303
        assert (await operator.get("/", allow_redirects=False)).status == 303


async def test_the_cookie_is_protected(serve: Callable[..., Any]) -> None:
    async with serve() as client:
        response = await log_in(client, OPERATOR)
        cookie = response.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert OPERATOR not in cookie


async def test_login_attempts_are_limited_and_recorded(serve: Callable[..., Any], settings: Settings) -> None:
    async with serve() as client:
        assert (await log_in(client, OPERATOR, Origin="https://evil.example.com")).status == 403
        statuses = [(await log_in(client, f"guess-{number}")).status for number in range(12)]
        assert statuses == [401] * 10 + [429] * 2
        response = await log_in(client, OPERATOR)
        assert response.status == 429
        assert int(response.headers["Retry-After"]) >= 1
    lines = (settings.data_dir / "console" / FAILED_LOGINS_FILE_NAME).read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    assert [entry["action"] for entry in entries] == ["login_failed"] * 10
    assert "guess" not in "".join(lines)
    assert "127.0.0.1" not in "".join(lines)


async def test_the_language_is_kept_and_redirects_only_to_own_pages(serve: Callable[..., Any]) -> None:
    async with serve(OPERATOR) as client:
        assert '<html lang="en">' in await (await client.get("/")).text()
        response = await client.get("/language?to=es&back=/sessions%3Fq%3Dx", allow_redirects=False)
        assert response.headers["Location"] == "/sessions?q=x"
        assert '<html lang="es">' in await (await client.get("/")).text()
        for back in ("//evil.example.com", "https://evil.example.com", "/\\evil.example.com", "/\r\nX: y", ""):
            response = await client.get("/language", params={"to": "xx", "back": back}, allow_redirects=False)
            assert response.headers["Location"] == "/"


async def test_exports_hold_the_filter_and_every_page(
    serve: Callable[..., Any], model: ReadModel, encode: Callable[..., bytes]
) -> None:
    records = [
        ChangelogRecord(1, number, NOW_MS, session_key("", f"x-{number}"), encode(f"x-{number}", number, "=Eva"))
        for number in range(2500)
    ]
    model.apply(records)
    async with serve(OPERATOR) as client:
        text = await (await client.get("/sessions/export.csv?q=eva")).text()
        rows = list(csv.DictReader(io.StringIO(text)))
        assert len({row["session_id"] for row in rows}) == len(rows) == 2500
        # No formula in a spreadsheet.
        assert {row["nombre"] for row in rows} == {"'=Eva"}
        found = await (await client.get("/sessions/export.json")).json()
        assert len(found) == 2501
        assert await (await client.get("/sessions/export.json?q=nobody")).json() == []


async def test_api_answers_as_its_description_says(serve: Callable[..., Any]) -> None:
    async with serve(Authorization=f"Bearer {OPERATOR}") as program:
        document = await (await program.get("/api/v1/openapi.json")).json()
        tried = 0
        for path, operations in document["paths"].items():
            if "get" not in operations or path == "/openapi.json":
                continue
            place = path.replace("{tenant}", "~").replace("{session}", "s-1")
            answer = await program.get(f"/api/v1{place.replace('{id}', 'nexus-prospect-ingestion-0-1')}")
            assert answer.status == 200, path
            body = await answer.json()
            schema = operations["get"]["responses"]["200"]["content"]["application/json"]["schema"]
            Draft202012Validator({**schema, "components": document["components"]}).validate(body)
            tried += 1
        assert tried == 8
        assert (await program.head("/api/v1/overview")).status == 200
        for path in ("/series?minutes=x", "/sessions?after=x", "/sessions?limit=-1", "/sessions?until=x",
                     "/dead-letters?after=²", "/emissions?after=-1"):  # fmt: skip
            answer = await program.get(f"/api/v1{path}")
            assert (answer.status, await answer.json()) == (400, {"error": "bad_request"}), path
        for path, status in (("/nope", 404), ("/sessions/~/nobody", 404), ("/dead-letters/none", 404)):
            answer = await program.get(f"/api/v1{path}")
            assert (answer.status, await answer.json()) == (status, {"error": "not_found"}), path
        answer = await program.post("/api/v1/dead-letters/discard", json={})
        assert answer.status == 400
        answer = await program.post("/api/v1/dead-letters/discard", data=b"{")
        assert answer.status == 400
        answer = await program.post("/api/v1/dead-letters/discard", json={"reason": "not_json"})
        body = await answer.json()
        assert (answer.status, body["error"]) == (503, "unavailable")
        assert "NEXUS_KAFKA_BOOTSTRAP_SERVERS" in body["reason"]
    async with serve(Authorization="Bearer nope") as stranger:
        answer = await stranger.get("/api/v1/overview")
        assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")


async def test_emissions_have_pages_from_the_first(
    serve: Callable[..., Any], settings: Settings, model: ReadModel
) -> None:
    value = model_state("s-1").to_enriched("nexus-prospect-ingestion").model_dump_json().encode()
    model.apply_beside(settings.enriched_topic, [TopicRecord(1, n, NOW_MS, b"s-1", value, ()) for n in range(24)])
    async with serve(Authorization=f"Bearer {OPERATOR}") as program:
        seen: list[int] = []
        after: str | None = "0"
        while after is not None:
            answer = await (await program.get("/api/v1/emissions", params={"after": after, "limit": "10"})).json()
            seen += [emission["id"] for emission in answer["emissions"]]
            after = answer["next"]
        assert seen == list(range(1, 26))
        # Without a start position, the newest emissions.
        answer = await (await program.get("/api/v1/emissions?limit=3")).json()
        assert [emission["id"] for emission in answer["emissions"]] == [23, 24, 25]


@pytest.mark.parametrize("number", ["²", "٣", "9" * 5000, "-1", "x", ""])
async def test_a_malformed_message_in_the_address_is_ignored(serve: Callable[..., Any], number: str) -> None:
    async with serve(OPERATOR) as operator:
        for name in ("n", "left"):
            values = {"done": "redrive", "n": "1", "left": "1", name: number}
            response = await operator.get("/dead-letters", params=values)
            assert response.status == 200
            assert "notice good" not in await response.text()


async def test_a_database_that_is_down_is_named(
    settings: Settings, model: ReadModel, caplog: pytest.LogCaptureFixture
) -> None:
    settings = settings.model_copy(update={"database_url": SecretStr("postgresql://u:secret@127.0.0.1:1/postgres")})
    server = TestServer(make_app(settings, model))
    await server.start_server()
    async with ClientSession(server.make_url("/"), cookie_jar=CookieJar(unsafe=True)) as operator:
        await log_in(operator, OPERATOR)
        for path in ("/erase?tenant=~&session=s-1", "/person.json?tenant=~&session=s-1"):
            response = await operator.get(path)
            text = await response.text()
            assert response.status == 503
            assert "Database 127.0.0.1:1/postgres is unavailable" in text
            assert "The broker does not answer" not in text
            assert "secret" not in text
    assert [record.getMessage() for record in caplog.records].count("console_unavailable") == 2
    await server.close()
    model.close()


async def test_an_export_is_recorded_without_its_search_text(serve: Callable[..., Any], settings: Settings) -> None:
    async with serve(OPERATOR) as operator, serve(VIEWER) as viewer:
        # Read the whole body: closing the connection earlier interrupts the export.
        for reader, path in ((operator, "/sessions/export.csv?q=carlos"), (viewer, "/sessions/export.json")):
            response = await reader.get(path)
            assert response.status == 200
            await response.read()
    # The last line follows the end of the answer.
    deadline = time.monotonic() + 60
    while (text := (settings.data_dir / "console" / FILE_NAME).read_text()).count('"complete"') < 2:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    lines = [entry for entry in map(json.loads, text.splitlines()) if entry["action"] == "export_sessions"]
    assert [
        (line["role"], line["format"], line["filtered"], line["ended"], line.get("sessions")) for line in lines
    ] == [
        ("operator", "csv", True, "began", None),
        ("operator", "csv", True, "complete", 1),
        ("viewer", "json", False, "began", None),
        ("viewer", "json", False, "complete", 1),
    ]
    assert "carlos" not in text.lower()


async def test_an_export_with_a_lost_connection_is_ended_in_the_audit_log(
    serve: Callable[..., Any], settings: Settings
) -> None:
    async with serve(OPERATOR) as operator:
        address = (await operator.get("/")).url / "sessions" / "export.json"
        for _ in range(50):
            # A connection that closes before the body.
            async with ClientSession(cookie_jar=operator.cookie_jar) as leaving:
                assert (await leaving.get(address)).status == 200
    deadline = time.monotonic() + 60
    while (text := (settings.data_dir / "console" / FILE_NAME).read_text()).count('"sessions"') < 50:
        assert time.monotonic() < deadline, text
        await asyncio.sleep(0.05)


def test_description_names_every_route(settings: Settings, model: ReadModel) -> None:
    from nexus_stream.console.web.openapi import openapi_document

    app = make_app(settings, model)
    served = {
        (route.method.lower(), re.sub(r"{(\w+):[^}]*}", r"{\1}", route.resource.canonical).removeprefix("/api/v1"))
        for route in app.router.routes()
        if route.resource is not None and route.resource.canonical.startswith("/api/") and route.method != "HEAD"
    }
    described = {(method, path) for path, item in openapi_document(ROUTES)["paths"].items() for method in item}
    assert served == described
    model.close()
