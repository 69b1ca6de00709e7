"""The API's answers for one session and one dead letter have all data of their pages, on a real broker."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import TestServer
from aiokafka import AIOKafkaProducer
from jsonschema import Draft202012Validator
from pydantic import SecretStr

from nexus_stream.console.command import open_model
from nexus_stream.console.index.read_model import ReadModel
from nexus_stream.console.index.session_row import ChangelogRecord
from nexus_stream.console.index.topic_record import TopicRecord
from nexus_stream.console.web.api import ROUTES
from nexus_stream.console.web.app import make_app
from nexus_stream.console.web.openapi import openapi_document
from nexus_stream.contracts.conversation import Limits, decode, digest
from nexus_stream.contracts.prospect import ExtractionFacts, Prospect, Signal
from nexus_stream.contracts.session_key import session_key
from nexus_stream.dead_letters.letter import Action, Letter, mark_headers, read_record
from nexus_stream.settings import Settings
from tables.session_state import SessionState, encode_state

OPERATOR = "operator-token-0123456789"
VIEWER = "viewer-token-0123456789"
NOW_MS = 1_760_000_000_000
MESSAGES = [{"role": "user", "content": "Hola, me llamo Carlos"}, {"role": "assistant", "content": "Hola"}]
LETTER_KEY, LETTER_BYTES = b"\xff\x00 no text", b'{"sessionId": "s-1", "messages": 7}'


async def send(settings: Settings, topic: str, key: bytes, value: bytes, headers: list[tuple[str, bytes]]) -> None:
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka_bootstrap_servers) as producer:
        await producer.send_and_wait(topic, value, key=key, partition=0, headers=headers)


@pytest.fixture
async def model(settings: Settings) -> AsyncIterator[ReadModel]:
    """One person's two sessions, the first with its text on the topic; its dead letter, marked by an operator."""
    model = open_model(settings)
    body = json.dumps({"messages": MESSAGES, "sessionId": "s-1"}).encode()
    await send(settings, settings.ingestion_topic, b"s-1", body, [])
    whose = {"fingerprints": ("fp-1",), "prospect": Prospect(nombre="Carlos"), "first_seen_ms": NOW_MS}
    first = SessionState(
        session_id="s-1",
        chain=("aabbccddeeff",),
        turns=2,
        digest=digest(decode(body, Limits())),
        source_partition=0,
        source_offset=0,
        extraction=ExtractionFacts(extractor="claude", signals=(Signal(name="nombre", turn=0, start=15, end=21),)),
        enriched_at="2026-01-02T03:04:05.678+00:00",
        last_seen_ms=NOW_MS,
        **whose,  # type: ignore[arg-type]
    )
    second = SessionState(session_id="s-2", last_seen_ms=NOW_MS + 1, **whose)  # type: ignore[arg-type]
    for offset, state in enumerate((first, second)):
        key = session_key("", state.session_id)
        model.apply([ChangelogRecord(0, offset, NOW_MS, key, encode_state(state))])
    headers = [
        ("nexus-id", b"nexus-prospect-ingestion-0-1"),
        ("nexus-reason", b"not_json"),
        ("nexus-origin-topic", b"nexus-prospect-ingestion"),
        ("nexus-failed-at", b"2026-01-02T03:04:05.678+00:00"),
    ]
    await send(settings, settings.dead_letter_topic, LETTER_KEY, LETTER_BYTES, headers)
    letter = read_record(0, 0, NOW_MS, LETTER_KEY, LETTER_BYTES, tuple(headers))
    assert isinstance(letter, Letter)
    mark = mark_headers(letter, Action.DISCARDED, by="Ana", at=datetime.fromtimestamp(NOW_MS / 1000, UTC))
    model.apply_beside(
        settings.dead_letter_topic,
        [
            TopicRecord(0, 0, NOW_MS, LETTER_KEY, LETTER_BYTES, tuple(headers)),
            TopicRecord(0, 1, NOW_MS, letter.id.encode(), None, tuple(mark)),
        ],
    )
    yield model
    model.close()


@asynccontextmanager
async def asking(settings: Settings, model: ReadModel, token: str) -> AsyncIterator[ClientSession]:
    tokens = {"console_token": SecretStr(OPERATOR), "console_viewer_token": SecretStr(VIEWER)}
    server = TestServer(make_app(settings.model_copy(update=tokens), model))
    await server.start_server()
    async with ClientSession(server.make_url("/"), headers={"Authorization": f"Bearer {token}"}) as client:
        yield client
    await server.close()


def assert_as_described(body: dict[str, Any], schema: str) -> None:
    components = openapi_document(ROUTES)["components"]
    Draft202012Validator({"$ref": f"#/components/schemas/{schema}", "components": components}).validate(body)


async def test_a_session_has_all_its_details(settings: Settings, model: ReadModel) -> None:
    async with asking(settings, model, OPERATOR) as program:
        body = await (await program.get("/api/v1/sessions/~/s-1")).json()
    assert_as_described(body, "SessionDetail")
    assert body["conversation"]["problem"] is None
    user, assistant = body["conversation"]["turns"]
    assert (user["role"], user["text"]) == ("user", "Hola, me llamo Carlos")
    assert user["evidence"] == [{"text": "Carlos", "signals": ["nombre"]}]
    assert (assistant["text"], assistant["evidence"]) == ("Hola", [])
    assert [other["session_id"] for other in body["others"]] == ["s-2"]
    assert [(one["reason"], one["marked_by"]) for one in body["letters"]] == [("not_json", "Ana")]
    # No database was named.
    assert body["database"] is None


async def test_an_unreachable_database_is_reported(settings: Settings, model: ReadModel) -> None:
    down = settings.model_copy(update={"database_url": SecretStr("postgresql://u:p@127.0.0.1:1/postgres")})
    async with asking(down, model, OPERATOR) as program:
        body = await (await program.get("/api/v1/sessions/~/s-1")).json()
    assert_as_described(body, "SessionDetail")
    assert body["database"] == {"problem": "unreachable", "updated_at": None, "rows": None}


async def test_a_letter_has_its_bytes_and_the_operator_of_its_mark(settings: Settings, model: ReadModel) -> None:
    async with asking(settings, model, OPERATOR) as program:
        body = await (await program.get("/api/v1/dead-letters/nexus-prospect-ingestion-0-1")).json()
    assert_as_described(body, "LetterDetail")
    assert (body["letter"]["state"], body["letter"]["marked_by"]) == ("discarded", "Ana")
    assert body["letter"]["marked_at"] == "2025-10-09T08:53:20Z"
    assert base64.b64decode(body["content"]["value"]) == LETTER_BYTES
    assert base64.b64decode(body["content"]["key"]) == LETTER_KEY
    headers = {header["name"]: base64.b64decode(header["value"]) for header in body["content"]["headers"]}
    assert headers["nexus-reason"] == b"not_json"


async def test_a_viewer_is_shown_neither_text_nor_bytes(settings: Settings, model: ReadModel) -> None:
    async with asking(settings, model, VIEWER) as viewer:
        session = await (await viewer.get("/api/v1/sessions/~/s-1")).text()
        letter = await (await viewer.get("/api/v1/dead-letters/nexus-prospect-ingestion-0-1")).json()
    assert "Carlos" not in session
    assert json.loads(session)["conversation"] == {"problem": "hidden", "turns": []}
    assert json.loads(session)["database"]["problem"] == "hidden"
    assert (letter["content"], letter["problem"]) == (None, "hidden")


async def test_letters_have_pages(settings: Settings, model: ReadModel) -> None:
    records = []
    for number in range(2, 25):
        headers = {"nexus-id": f"t-0-{number:02}", "nexus-reason": "empty", "nexus-failed-at": "2026-01-02T03:04:05Z"}
        raw = tuple((name, text.encode()) for name, text in headers.items())
        records.append(TopicRecord(0, number, NOW_MS, b"k", b"x", raw))
    model.apply_beside(settings.dead_letter_topic, records)
    seen: list[str] = []
    async with asking(settings, model, OPERATOR) as program:
        wanted = {"reason": "empty", "limit": "10"}
        while True:
            body = await (await program.get("/api/v1/dead-letters", params=wanted)).json()
            seen += [letter["id"] for letter in body["letters"]]
            if body["next"] is None:
                break
            wanted["after"] = body["next"]
    assert seen == [f"t-0-{number:02}" for number in range(2, 25)]
