"""A real PostgreSQL with the migrations applied; a database of its own a test."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest

from nexus_stream.contracts.erased import ErasedSession
from nexus_stream.contracts.prospect import EnrichedProspect
from nexus_stream.embedded.postgres import EmbeddedPostgres
from nexus_stream.host.free_ports import LOOPBACK
from nexus_stream.settings import Settings, load_settings
from nexus_stream.supabase.migrate import apply_migrations
from nexus_stream.supabase.writer import ProspectWriter
from tests.support.postgres import debian_postgres, missing_debian_postgres, server_folder
from tests.support.requirements import require

_names = itertools.count()


@dataclass(frozen=True)
class Database:
    """One test's database and a writer on it."""

    settings: Settings
    admin: asyncpg.Connection[asyncpg.Record]
    writer: ProspectWriter

    async def rows(self, table: str) -> list[dict[str, Any]]:
        query = f"SELECT * FROM {table} ORDER BY 1, 2"  # noqa: S608
        return [dict(row) for row in await self.admin.fetch(query)]

    async def people(self) -> dict[str, Any]:
        return {row["fingerprint_id"]: row["prospect_data"] for row in await self.rows("prospect_tracking")}

    async def sessions(self) -> list[str]:
        return [row["session_id"] for row in await self.rows("prospect_sessions")]

    @staticmethod
    def record(session_id: str, fingerprint: str | None = None, *, at: int = 1000, **facts: Any) -> EnrichedProspect:
        return EnrichedProspect.model_validate(
            {
                "session_id": session_id,
                "fingerprint": fingerprint,
                "prospect": facts,
                "conversation": {"turns": 2, "digest": f"{session_id}-{at}"},
                "extraction": {"extractor": "offline-rules-v1"},
                "snapshot_at_ms": at,
                "enriched_at": "2026-01-01T00:00:00.000Z",
                "source": {"topic": "nexus-prospect-ingestion", "partition": 0, "offset": at % 1000},
            }
        )

    @staticmethod
    def erased(session_id: str, *hashes: str, request: str = "request-1", **fields: Any) -> ErasedSession:
        return ErasedSession(
            session_id=session_id,
            fingerprint_hashes=hashes,
            request_id=request,
            **{
                "requested_at": "2026-01-02T00:00:00.000+00:00",
                "erased_at": "2026-01-02T00:00:00.000+00:00",
                **fields,
            },
        )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """What is SQL runs on both servers; what starts processes, on one."""
    if "server_dsn" in metafunc.fixturenames:
        both = metafunc.module.__name__.endswith("_in_sql")
        servers = ["embedded", "debian-15"] if both else ["embedded"]
        metafunc.parametrize("server_dsn", servers, indirect=True, scope="package")


@pytest.fixture(scope="package")
def server_dsn(request: pytest.FixtureRequest) -> Iterator[str]:
    with server_folder() as folder:
        if request.param == "embedded":
            with EmbeddedPostgres.start(folder / "data") as server:
                dsn = server.dsn.rsplit("/", 1)[0]
                asyncio.run(_make_template(dsn))
                yield dsn
            return
        require("postgres15", missing_debian_postgres())
        with debian_postgres(folder) as port:
            dsn = f"postgresql://postgres@{LOOPBACK}:{port}"
            asyncio.run(_make_template(dsn))
            yield dsn


async def _make_template(dsn: str) -> None:
    root = await asyncpg.connect(f"{dsn}/postgres")
    await root.execute("CREATE DATABASE privacy_template")
    await root.close()
    await apply_migrations(f"{dsn}/privacy_template")


@pytest.fixture
async def database(server_dsn: str) -> AsyncIterator[Database]:
    name = f"privacy_{next(_names)}"
    root = await asyncpg.connect(f"{server_dsn}/postgres")
    await root.execute(f"CREATE DATABASE {name} TEMPLATE privacy_template")
    settings = load_settings(environ={}, database_url=f"{server_dsn}/{name}")
    admin = await asyncpg.connect(f"{server_dsn}/{name}")
    await admin.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
    writer = await ProspectWriter.connect(settings)
    try:
        yield Database(settings, admin, writer)
    finally:
        await writer.close()
        await admin.close()
        await root.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await root.close()
