"""A real PostgreSQL (the embedded one, and Debian's 15 where it is installed), and a database of its own a test."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import asyncpg
import pytest

from nexus_stream.contracts.prospect import EnrichedProspect
from nexus_stream.embedded.ports import LOOPBACK, free_port
from nexus_stream.embedded.postgres import EmbeddedPostgres
from nexus_stream.embedded.postgres_user import server_user
from nexus_stream.settings import Settings, load_settings
from nexus_stream.supabase.migrate import apply_migrations
from nexus_stream.supabase.writer import ProspectWriter

_DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")
_TEMPLATE = "nexus_template"
_names = itertools.count()


@dataclass(frozen=True)
class Server:
    """A server that may be replaced on its port during a test."""

    port: int

    def dsn(self, database: str = "postgres", user: str = "postgres") -> str:
        return f"postgresql://{user}@{LOOPBACK}:{self.port}/{database}"


class MakeRecord(Protocol):
    def __call__(
        self,
        session_id: str,
        fingerprint: str | None = ...,
        *,
        at: int = ...,
        signals: tuple[str, ...] = ...,
        **facts: Any,
    ) -> EnrichedProspect: ...


@dataclass(frozen=True)
class Database:
    """One test's database, with the migrations applied."""

    server: Server
    name: str
    admin: asyncpg.Connection[asyncpg.Record]

    def dsn(self, user: str = "postgres") -> str:
        return self.server.dsn(self.name, user)

    def settings(self, user: str = "postgres", **changes: Any) -> Settings:
        return load_settings(environ={"NEXUS_ENV": "test"}, database_url=self.dsn(user), **changes)

    async def people(self) -> dict[str, dict[str, Any]]:
        """fingerprint_id -> prospect_data, of the empty tenant."""
        rows = await self.admin.fetch(
            "SELECT fingerprint_id, prospect_data FROM prospect_tracking WHERE tenant_id = ''"
        )
        return {row["fingerprint_id"]: row["prospect_data"] for row in rows}

    async def person(self, fingerprint_id: str) -> dict[str, Any]:
        people = await self.people()
        return people[fingerprint_id]

    async def call(self, fingerprint_id: str, data: dict[str, Any]) -> dict[str, Any]:
        result: dict[str, Any] = await self.admin.fetchval("SELECT update_prospect_data($1, $2)", fingerprint_id, data)
        return result


@pytest.fixture(scope="session", params=["embedded", "debian-15"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    # Not below pytest's own folder: every pytest run closes that to other users, such as the server's.
    folder = Path(tempfile.mkdtemp(prefix="nexus-postgres-"))
    try:
        yield from _embedded_server(folder) if request.param == "embedded" else _debian_server(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _embedded_server(folder: Path) -> Iterator[Server]:
    with EmbeddedPostgres.start(folder / "data") as embedded:
        yield Server(embedded.port)


def _debian_server(folder: Path) -> Iterator[Server]:
    if not (_DEBIAN_15 / "postgres").exists():
        if "postgres" in os.environ.get("NEXUS_REQUIRE", "").split(","):
            pytest.fail(f"NEXUS_REQUIRE names postgres, and there is no {_DEBIAN_15}")
        pytest.skip(f"PostgreSQL 15 is not installed ({_DEBIAN_15}): the version Supabase runs is not tested")
    data_dir = folder / "data"
    user = server_user()
    data_dir.mkdir()
    user.own(data_dir)
    user.reach(data_dir)
    options: dict[str, Any] = {"user": user.uid, "group": user.gid, "cwd": data_dir, "stdin": subprocess.DEVNULL}
    subprocess.run(
        [_DEBIAN_15 / "initdb", "-D", data_dir, "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"],
        check=True,
        capture_output=True,
        timeout=60,
        **options,
    )
    port = free_port(set())
    argv = [_DEBIAN_15 / "postgres", "-D", data_dir, "-p", str(port), "-h", LOOPBACK, "-c", "fsync=off"]
    with (data_dir.parent / "log").open("wb") as log:
        process = subprocess.Popen(
            [*argv, "-c", "unix_socket_directories="], stdout=log, stderr=log, start_new_session=True, **options
        )
    try:
        deadline = time.monotonic() + 30
        pid_file = data_dir / "postmaster.pid"
        while not (pid_file.exists() and "ready" in pid_file.read_text()):
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail((data_dir.parent / "log").read_text())
            time.sleep(0.05)
        yield Server(port)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)


@pytest.fixture(scope="session")
def template(server: Server) -> str:
    """A database with the migrations applied, to copy."""

    async def make() -> None:
        connection = await asyncpg.connect(server.dsn())
        try:
            await connection.execute(f"CREATE DATABASE {_TEMPLATE}")
        finally:
            await connection.close()
        await apply_migrations(server.dsn(_TEMPLATE))

    asyncio.run(make())
    return _TEMPLATE


async def _set_json_codec(connection: Any) -> None:
    import json

    await connection.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")


async def _database(server: Server, template: str) -> AsyncIterator[Database]:
    name = f"test_{next(_names)}"
    root = await asyncpg.connect(server.dsn())
    try:
        await root.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        admin = await asyncpg.connect(server.dsn(name))
        await _set_json_codec(admin)
        try:
            yield Database(server, name, admin)
        finally:
            await admin.close()
            await root.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await root.close()


@pytest.fixture
async def database(server: Server, template: str) -> AsyncIterator[Database]:
    async for database in _database(server, template):
        yield database


@pytest.fixture
async def empty_database(server: Server) -> AsyncIterator[Database]:
    """Without the migrations."""
    async for database in _database(server, "template0"):
        yield database


@pytest.fixture
async def writer(database: Database) -> AsyncIterator[ProspectWriter]:
    writer = await ProspectWriter.connect(database.settings())
    yield writer
    await writer.close()


@pytest.fixture
def record() -> MakeRecord:
    return make_record


def make_record(
    session_id: str,
    fingerprint: str | None = None,
    *,
    at: int = 1_000,
    signals: tuple[str, ...] = (),
    tenant_id: str = "",
    enriched_at: str = "2026-01-01T00:00:00.000Z",
    **facts: Any,
) -> EnrichedProspect:
    """The enriched record of a session's snapshot at a moment (ms)."""
    return EnrichedProspect.model_validate(
        {
            "tenant_id": tenant_id,
            "session_id": session_id,
            "fingerprint": fingerprint,
            "prospect": facts,
            "conversation": {"turns": 2, "digest": f"{session_id}-{at}"},
            "extraction": {
                "extractor": "offline-rules-v1",
                "signals": [{"name": name, "turn": 0, "start": 0, "end": 4} for name in signals],
            },
            "snapshot_at_ms": at,
            "enriched_at": enriched_at,
            "source": {"topic": "nexus-prospect-ingestion", "partition": 0, "offset": at % 1000},
        }
    )


@pytest.fixture
def now_ms() -> Callable[[], int]:
    return lambda: int(datetime.now(UTC).timestamp() * 1000)
