"""Export and erasure from the console's pages: their rows in ``privacy_audit``, whatever the outcome."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from aiohttp.test_utils import TestClient, TestServer

from nexus_stream.console.command import open_model
from nexus_stream.console.index.session_row import ChangelogRecord
from nexus_stream.console.web import views_erase
from nexus_stream.console.web.access import COOKIE
from nexus_stream.console.web.app import make_app
from nexus_stream.console.web.context import CONTEXT
from nexus_stream.contracts.subject import subject_hash
from nexus_stream.embedded.broker import EmbeddedBroker
from nexus_stream.kafka.sender import Sender
from nexus_stream.kafka.topics import apply_topics
from nexus_stream.settings import Settings

if TYPE_CHECKING:
    from aiohttp.web import Application, Request

    from tests.integration.privacy.conftest import Database

    Client = TestClient[Request, Application]

_STATE = {"tenant_id": "", "session_id": "s-1", "status": "enriched", "fingerprints": ["fp"], "last_seen_ms": 5}
_HERE = {"tenant": "~", "session": "s-1"}


@asynccontextmanager
async def _console(database: Database, folder: Path, bootstrap_servers: str) -> AsyncIterator[tuple[Settings, Client]]:
    """A console that knows one session."""
    settings = database.settings.model_copy(
        update={
            "kafka_bootstrap_servers": bootstrap_servers,
            "kafka_request_timeout_seconds": 5.0,
            "topic_partitions": 2,
            "data_dir": folder,
            "console_port": 0,
        }
    )
    model = open_model(settings)
    model.apply([ChangelogRecord(partition=0, offset=0, timestamp_ms=1000, key=b"s-1", value=orjson.dumps(_STATE))])
    async with TestClient(TestServer(make_app(settings, model))) as client:
        yield settings, client
    model.close()


async def _erase(client: Client) -> tuple[int, str]:
    # As its forms carry it; those of a page that could not be shown are not there to be read.
    cookie = client.session.cookie_jar.filter_cookies(client.make_url("/"))[COOKIE].value
    who = client.app[CONTEXT].access.of_cookie(cookie)
    response = await client.post("/erase", data={**_HERE, "csrf": who.csrf, "typed": "s-1"})
    return response.status, await response.text()


async def _noted(database: Database) -> list[tuple[Any, ...]]:
    rows = sorted(await database.rows("privacy_audit"), key=lambda row: row["requested_at"])
    assert all(row["finished_at"] is not None for row in rows)
    return [(row["action"], row["outcome"], row["session_hashes"]) for row in rows]


async def test_a_failed_request_is_recorded_as_failed(database: Database, tmp_path: Path):
    async with _console(database, tmp_path, "127.0.0.1:1") as (_, client):
        # Given an unreachable broker, so that no search can finish
        statuses = [(await client.get(path, params=_HERE)).status for path in ("/person.json", "/erase")]
        statuses.append((await _erase(client))[0])
    assert statuses == [503, 503, 503]
    assert await _noted(database) == [("export", "failed", []), ("erase", "failed", []), ("erase", "failed", [])]


async def test_a_done_request_is_recorded_with_its_person(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # No enricher runs that could execute the command.
    monkeypatch.setattr(views_erase, "_WAIT_SECONDS", 0.5)
    with EmbeddedBroker.start(tmp_path / "broker.log") as broker:
        async with _console(database, tmp_path, broker.bootstrap_servers) as (settings, client):
            await apply_topics(settings)
            async with Sender(settings) as sender:
                await sender.send(settings.sessions_changelog_topic, b"s-1", orjson.dumps(_STATE))
            response = await client.get("/person.json", params=_HERE)
            found = await response.json(content_type="application/json")
            confirming = await client.get("/erase", params=_HERE)
            status, page = await _erase(client)
    assert (found["session_ids"], found["fingerprints"], len(found["session_table"])) == (["s-1"], ["fp"], 1)
    assert (confirming.status, status) == (200, 200)
    whom = [subject_hash("", "session", "s-1")]
    assert await _noted(database) == [
        ("export", "done", whom),
        ("erase", "dry run", whom),
        ("erase", "incomplete", whom),
    ]
    # One request is one line, and the page names it.
    rows = {row["outcome"]: row["request_id"] for row in await database.rows("privacy_audit")}
    assert rows["incomplete"] in page
    assert rows["done"] == found["request_id"]
