"""The whole way with Claude extracting: the real SDK over HTTP, against a stand-in that is not ours (llmock)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nexus_stream.embedded.broker import EmbeddedBroker
from nexus_stream.embedded.postgres import EmbeddedPostgres
from tests.stack import Stack, eventually

ANSWER = {
    "nombre": "Irma del Valle",
    "email": None,
    "telefono": None,
    "ocupacion": None,
    "arquetipo": None,
    "objeciones": [],
    "evidencias": [
        {"senal": "nombre", "turno": 0, "cita": "Irma del Valle"},
        {"senal": "intencion", "turno": 0, "cita": "quiero empezar"},
    ],
}


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str, str]]:
    folder = tmp_path_factory.mktemp("claude")
    folder.chmod(0o755)
    with (
        EmbeddedBroker.start(log_path=folder / "broker.log") as broker,
        EmbeddedPostgres.start(folder / "postgres") as database,
    ):
        yield folder, broker.bootstrap_servers, database.dsn


@pytest.fixture
def stack(services: tuple[Path, str, str], llmock: Any) -> Iterator[Stack]:
    folder, bootstrap_servers, dsn = services
    one = Stack(
        folder,
        bootstrap_servers,
        dsn,
        ANTHROPIC_API_KEY="sk-test-0000000000000000",
        ANTHROPIC_BASE_URL=llmock.base_url("anthropic"),
    )
    yield one
    one.stop_all()


async def test_a_conversation_is_read_by_claude_once_and_survives_a_limit(stack: Stack, llmock: Any):
    """Limited first, then answered: one row, the model named in it; the same conversation again is no call."""
    llmock.fail(429, retry_after=1).reply(json.dumps(ANSWER), times=None)
    await stack.prepare()
    await asyncio.to_thread(stack.start_all)
    body = {
        "messages": [{"role": "user", "content": "Soy Irma del Valle, quiero empezar"}],
        "sessionId": "claude-1",
        "fingerprint": "fp-claude",
    }
    assert (await asyncio.to_thread(stack.post, body))[0] == 202
    data = await eventually(lambda: stack.prospect("fp-claude"), seconds=40, what="the row Claude made")
    assert data["nombre"] == "Irma del Valle"
    assert data["nivel_interes"] == 4
    (row,) = await stack.fetch("SELECT record FROM prospect_sessions WHERE session_id = 'claude-1'")
    assert row["record"]["extraction"]["extractor"] == "claude"
    assert row["record"]["extraction"]["model"] == "claude-haiku-5-5"
    calls = len(llmock.requests)
    assert (await asyncio.to_thread(stack.post, body))[0] == 202
    await asyncio.sleep(3)
    assert len(llmock.requests) == calls
