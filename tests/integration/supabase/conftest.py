"""A real PostgreSQL (the embedded one, and Debian's 15 if installed), with a database for each test."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import asyncpg
import pytest

from nexus_stream.contracts.prospect import EnrichedProspect
from nexus_stream.embedded.postgres import EmbeddedPostgres
from nexus_stream.embedded.postgres_data import program_directory
from nexus_stream.host.free_ports import LOOPBACK
from nexus_stream.settings import Settings, load_settings
from nexus_stream.supabase.migrate import apply_migrations
from nexus_stream.supabase.writer import ProspectWriter
from tests.support.pgbouncer import PgBouncer, missing_pgbouncer
from tests.support.postgres import (
    DEBIAN_15,
    FAST_SETTINGS,
    debian_postgres,
    missing_debian_postgres,
    server_folder,
)
from tests.support.requirements import require

_TEMPLATE = "nexus_template"
_OLDER_TEMPLATE = "older_template"
_OLDER = (Path(__file__).parent / "older_installation.sql").read_text(encoding="utf-8")
_names = itertools.count()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "own_database: changes more than rows, or counts what happens in its database")


@dataclass(frozen=True)
class Server:
    """A server of the matrix."""

    name: str
    port: int
    data_dir: Path
    programs: Path

    def alter(self, setting: str) -> None:
        """Change a setting for good, ``name = value``; seen by connections a moment later."""
        asyncio.run(_alter_system(self.dsn(), setting))

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

    async def checksum(self) -> str:
        """Of everything the sink wrote, but not of when it did."""
        checksum: str = await self.admin.fetchval(
            """
            SELECT md5(
                coalesce((SELECT string_agg(to_jsonb(t)::text, E'\\n' ORDER BY t.tenant_id, t.fingerprint_id)
                    FROM (SELECT tenant_id, fingerprint_id, prospect_data, merged_keys FROM prospect_tracking) t), '')
                || coalesce((SELECT string_agg(to_jsonb(s)::text, E'\\n' ORDER BY s.tenant_id, s.session_id)
                    FROM (SELECT tenant_id, session_id, fingerprint, record, snapshot_at_ms, enriched_at, source
                        FROM prospect_sessions) s), '')
            )
            """
        )
        return checksum

    async def person(self, fingerprint_id: str) -> dict[str, Any]:
        people = await self.people()
        return people[fingerprint_id]

    async def call(self, fingerprint_id: str, data: dict[str, Any]) -> dict[str, Any]:
        result: dict[str, Any] = await self.admin.fetchval("SELECT update_prospect_data($1, $2)", fingerprint_id, data)
        return result


@pytest.fixture(scope="package", params=["embedded", "debian-15"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with server_folder() as folder:
        if request.param == "embedded":
            with EmbeddedPostgres.start(folder / "data") as embedded:
                asyncio.run(_alter_system(embedded.dsn, *FAST_SETTINGS))
                yield Server(request.param, embedded.port, embedded.data_dir, program_directory())
            return
        require("postgres15", missing_debian_postgres())
        with debian_postgres(folder) as port:
            yield Server(request.param, port, folder / "data", DEBIAN_15)


async def _alter_system(dsn: str, *settings: str) -> None:
    connection = await asyncpg.connect(dsn)
    for setting in settings:
        await connection.execute(f"ALTER SYSTEM SET {setting}")
    await connection.execute("SELECT pg_reload_conf()")
    await connection.close()


@pytest.fixture(scope="package")
def poolers(server: Server) -> Iterator[dict[str, PgBouncer]]:
    """One of each mode before the server."""
    require("pgbouncer", missing_pgbouncer())
    with server_folder() as folder, ExitStack() as stack:
        yield {
            mode: stack.enter_context(PgBouncer(folder / mode, server.port, mode))
            for mode in ("session", "transaction")
        }


@pytest.fixture(scope="package")
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


@pytest.fixture(scope="package")
def older_template(server: Server) -> str:
    """An older installation with the migrations applied, to copy."""

    async def make() -> None:
        connection = await asyncpg.connect(server.dsn())
        await connection.execute(f"CREATE DATABASE {_OLDER_TEMPLATE}")
        await connection.close()
        connection = await asyncpg.connect(server.dsn(_OLDER_TEMPLATE))
        await connection.execute(_OLDER)
        await connection.close()
        await apply_migrations(server.dsn(_OLDER_TEMPLATE))

    asyncio.run(make())
    return _OLDER_TEMPLATE


@pytest.fixture
async def older_database(server: Server, older_template: str) -> AsyncIterator[Database]:
    async for database in _database(server, older_template):
        yield database


@pytest.fixture(scope="package")
def shared_database(server: Server, template: str) -> str:
    """One for all tests that only write rows: a database of its own would cost each of them more than the test."""
    return asyncio.run(_copy(server, template))


@pytest.fixture(scope="module")
def module_database(server: Server, template: str) -> str:
    """One for all tests of a module, which may change it once and for all."""
    return asyncio.run(_copy(server, template))


async def _copy(server: Server, template: str) -> str:
    name = f"test_{next(_names)}"
    connection = await asyncpg.connect(server.dsn())
    await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    await connection.close()
    return name


@pytest.fixture
async def database(
    request: pytest.FixtureRequest, server: Server, template: str, shared_database: str
) -> AsyncIterator[Database]:
    """With the migrations applied and no rows. A test that changes more than rows is marked ``own_database``."""
    if request.node.get_closest_marker("own_database") is not None:
        async for database in _database(server, template):
            yield database
        return
    async for database in emptied(server, shared_database):
        yield database


async def emptied(server: Server, name: str) -> AsyncIterator[Database]:
    """A database that other tests used, without their rows."""
    admin = await asyncpg.connect(server.dsn(name))
    try:
        await _set_json_codec(admin)
        tables = await admin.fetchval(
            "SELECT string_agg(format('public.%I', relname), ', ') FROM pg_class"
            " WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
        )
        await admin.execute(f"TRUNCATE {tables}")
        yield Database(server, name, admin)
    finally:
        await admin.close()


@pytest.fixture
async def database_of_module(server: Server, module_database: str) -> AsyncIterator[Database]:
    async for database in emptied(server, module_database):
        yield database


@pytest.fixture
async def empty_database(server: Server) -> AsyncIterator[Database]:
    """Without the migrations."""
    async for database in _database(server, "template0"):
        yield database


@pytest.fixture
async def writer(database: Database) -> AsyncIterator[ProspectWriter]:
    async with connected(database.settings()) as writer:
        yield writer


@asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[ProspectWriter]:
    """A writer that is closed also where the test fails: left open, its warning would fail a later test too."""
    writer = await ProspectWriter.connect(settings)
    try:
        yield writer
    finally:
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
                # A question mark after the name: unconfirmed.
                "signals": [
                    {"name": name.rstrip("?"), "turn": 0, "start": 0, "end": 4, "confirmed": not name.endswith("?")}
                    for name in signals
                ],
            },
            "snapshot_at_ms": at,
            "enriched_at": enriched_at,
            "source": {"topic": "nexus-prospect-ingestion", "partition": 0, "offset": at % 1000},
        }
    )


@pytest.fixture
def now_ms() -> Callable[[], int]:
    return lambda: int(datetime.now(UTC).timestamp() * 1000)
