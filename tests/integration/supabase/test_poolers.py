"""Direct, through a session pooler and through a transaction pooler: the same rows, and the start logs the mode."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Literal

import asyncpg
import pytest

from nexus_stream.errors import ConfigurationError
from nexus_stream.host.free_ports import LOOPBACK
from nexus_stream.settings import Settings, load_settings
from nexus_stream.supabase.migrate import apply_migrations, plan_migrations
from nexus_stream.supabase.target import Mode
from nexus_stream.supabase.writer import ProspectWriter
from tests.integration.supabase.conftest import connected
from tests.support.pgbouncer import PgBouncer

if TYPE_CHECKING:
    from tests.integration.supabase.conftest import Database, MakeRecord

Way = Literal["direct", "session", "transaction"]


def _port(database: Database, poolers: dict[str, PgBouncer], way: Way) -> int:
    return database.server.port if way == "direct" else poolers[way].port


def _settings(database: Database, poolers: dict[str, PgBouncer], way: Way, **changes: Any) -> Settings:
    dsn = f"postgresql://postgres@{LOOPBACK}:{_port(database, poolers, way)}/{database.name}"
    return load_settings(environ={"NEXUS_ENV": "test"}, database_url=dsn, **changes)


@pytest.mark.parametrize(
    ("way", "setting", "mode"),
    [
        ("direct", "auto", Mode.DIRECT),
        ("session", "auto", Mode.POOLER),
        ("transaction", "auto", Mode.POOLER),
        ("session", "session", Mode.SESSION_POOLER),
        ("transaction", "transaction", Mode.TRANSACTION_POOLER),
    ],
)
async def test_rows_are_the_same_through_every_pooler(
    database: Database,
    poolers: dict[str, PgBouncer],
    record: MakeRecord,
    caplog: pytest.LogCaptureFixture,
    way: Way,
    setting: str,
    mode: Mode,
) -> None:
    caplog.set_level(logging.INFO, logger="nexus_stream.supabase.pool")
    async with connected(_settings(database, poolers, way, database_pooler_mode=setting)) as writer:
        assert writer.mode is mode
        assert [getattr(logged, "mode", None) for logged in caplog.records] == [str(mode)]

        # A link, a bad row under a savepoint, a replay: every statement of the writer
        batch = [record("s1", None, at=1, nombre="Ana"), record("s2", "fp", at=2, email="ana@example.com")]
        assert (await writer.write(batch)).inserted == 2
        linked = await writer.write([record("s1", "fp", at=3, nombre="Ana Ruiz"), record("bad", "fp", nombre="\x00")])
        assert (linked.updated, [refused.sqlstate for refused in linked.rejected]) == (1, ["22P05"])
        checksum = await database.checksum()
        assert (await writer.write(batch)).unchanged == 2
        await writer.ping()

    assert await database.checksum() == checksum
    assert {key: data["nombre"] for key, data in (await database.people()).items()} == {"fp": "Ana Ruiz"}


@pytest.mark.parametrize("way", ["direct", "session", "transaction"])
async def test_more_writers_than_connections_all_succeed(
    database: Database, poolers: dict[str, PgBouncer], record: MakeRecord, way: Way
) -> None:
    # In session mode each client keeps a server connection: no more clients than the pooler has of them.
    sinks, pool_max = (3, 1) if way == "session" else (6, 2)
    settings = _settings(database, poolers, way, database_pool_max=pool_max)
    async with AsyncExitStack() as stack:
        writers = [await stack.enter_async_context(connected(settings)) for _ in range(sinks)]

        async def deliver(number: int) -> None:
            for n in range(10):
                await writers[number].write([record(f"s{number}-{n}", f"fp{n % 4}", at=n, nombre="Ana")])

        await asyncio.wait_for(asyncio.gather(*(deliver(number) for number in range(sinks))), 60)

    assert {key: data["sessions"] for key, data in (await database.people()).items()} == {
        f"fp{n}": (3 if n < 2 else 2) * sinks for n in range(4)
    }


async def test_nothing_of_a_transaction_is_left_on_the_servers_connection(
    database: Database, poolers: dict[str, PgBouncer], record: MakeRecord
) -> None:
    async with connected(_settings(database, poolers, "transaction", database_statement_timeout_seconds=7)) as writer:
        await writer.write([record("s", "fp", nombre="Ana")])

    others = [
        await asyncpg.connect(_settings_dsn(database, poolers), statement_cache_size=0)
        for _ in range(3)  # as many as the pooler has connections
    ]
    names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "transaction_read_only")
    try:
        for name in names:
            found = await asyncio.gather(*(_in_transaction(other, f"SHOW {name}") for other in others))
            assert set(found) <= {"0", "off"}, name
    finally:
        for other in others:
            await other.close()


def _settings_dsn(database: Database, poolers: dict[str, PgBouncer]) -> str:
    return f"postgresql://postgres@{LOOPBACK}:{poolers['transaction'].port}/{database.name}"


async def _in_transaction(connection: Any, query: str) -> Any:
    async with connection.transaction():
        await asyncio.sleep(0.05)  # so that each has a server connection at the same time
        return await connection.fetchval(query)


async def test_prepared_statements_behind_a_transaction_pooler_are_a_configuration_error(
    database: Database, poolers: dict[str, PgBouncer], record: MakeRecord
) -> None:
    # Given a wrong setting without a pooler, so that statements stay prepared
    settings = _settings(database, poolers, "transaction", database_pooler_mode="none")
    writers: list[ProspectWriter] = []

    async def disturb() -> None:
        for number in range(40):
            writers.append(await ProspectWriter.connect(settings))
            await asyncio.gather(
                *(one.write([record(f"s{number}-{n}", "fp", at=number)]) for n, one in enumerate(writers[-3:]))
            )

    try:
        with pytest.raises(ConfigurationError, match=r"NEXUS_DATABASE_POOLER_MODE=transaction.*\[(26000|42P05)\]"):
            await disturb()
    finally:
        for writer in writers:
            await writer.close()


@pytest.mark.own_database
async def test_migrations_go_through_a_transaction_pooler(
    empty_database: Database, poolers: dict[str, PgBouncer]
) -> None:
    dsn = _settings_dsn(empty_database, poolers)
    applied = await apply_migrations(dsn)
    assert applied
    plan = await plan_migrations(dsn)
    assert ([str(migration) for migration in plan.applied], plan.pending) == (applied, ())


@pytest.mark.own_database
async def test_the_application_is_named_and_the_pool_is_small(
    database: Database, writer: ProspectWriter, record: MakeRecord
) -> None:
    await asyncio.gather(*(writer.write([record(f"s{n}", f"fp{n}")]) for n in range(12)))
    connections = await database.admin.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'nexus-stream' AND datname = current_database()"
    )
    assert 1 <= connections <= 4
