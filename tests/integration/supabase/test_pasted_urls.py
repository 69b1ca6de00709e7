"""SUPABASE_DB_URL as Supabase's and Vercel's pages hand it out: it connects, or the message names the parameter."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from nexus_stream.errors import ConfigurationError
from nexus_stream.host.free_ports import LOOPBACK
from nexus_stream.settings import Settings, load_settings
from nexus_stream.supabase.migrate import plan_migrations
from nexus_stream.supabase.target import Mode
from tests.integration.supabase.conftest import connected
from tests.support.pgbouncer import PgBouncer

if TYPE_CHECKING:
    from tests.integration.supabase.conftest import Database, MakeRecord

QUERIES = [
    "sslmode=prefer&supa=base-pooler.x",
    "pgbouncer=true&connection_limit=1",
    "connect_timeout=10",
    "schema=public&pool_timeout=10&statement_cache_size=0",
    "channel_binding=prefer&application_name=site&target_session_attrs=any",
]


def _url(database: Database, port: int, query: str) -> str:
    return f"postgresql://postgres@{LOOPBACK}:{port}/{database.name}?{query}"


def _settings(url: str) -> Settings:
    return load_settings(environ={"NEXUS_ENV": "test", "SUPABASE_DB_URL": f' "{url}" '})


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("way", ["direct", "session", "transaction"])
async def test_it_connects_and_writes(
    database: Database,
    poolers: dict[str, PgBouncer],
    record: MakeRecord,
    caplog: pytest.LogCaptureFixture,
    way: str,
    query: str,
) -> None:
    caplog.set_level(logging.INFO, logger="nexus_stream.supabase.pool")
    port = database.server.port if way == "direct" else poolers[way].port
    url = _url(database, port, query)
    async with connected(_settings(url)) as writer:
        for at in (1, 2):
            await writer.write([record("s1", "fp", at=at, nombre="Ana")])
        if "pgbouncer=true" in query:
            assert writer.mode is Mode.TRANSACTION_POOLER
    # The command `nexus migrate` takes it too.
    assert not (await plan_migrations(url)).pending
    lines = [logged.getMessage() for logged in caplog.records]
    assert lines.count("database_url_parameters_left_out") == ("connect_timeout" not in query)


async def test_a_parameter_that_the_pooler_refuses_is_named(database: Database, poolers: dict[str, PgBouncer]) -> None:
    url = _url(database, poolers["transaction"].port, "options=-c%20geqo%3Doff")
    with pytest.raises(ConfigurationError, match="does not accept the parameter options"):
        async with connected(_settings(url)):
            pass


async def test_options_reach_the_server_itself(database: Database, record: MakeRecord) -> None:
    url = _url(database, database.server.port, "options=-c%20geqo%3Doff")
    async with connected(_settings(url)) as writer:
        await writer.write([record("s1", "fp", at=1, nombre="Ana")])
