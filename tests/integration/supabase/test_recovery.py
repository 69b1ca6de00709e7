"""Servers and poolers that fail during writes: no row is lost or doubled. The tests print the time to recover.

Each test delivers as the sink does (the same batch again until it is taken) and is compared with a delivery in peace.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import asyncpg
import pytest

from benchmarks.sink_records import enriched_records
from nexus_stream.contracts.prospect import EnrichedProspect
from nexus_stream.embedded.postgres import EmbeddedPostgres
from nexus_stream.errors import DatabaseUnavailableError
from nexus_stream.host.free_ports import LOOPBACK
from nexus_stream.settings import load_settings
from nexus_stream.supabase.migrate import apply_migrations
from nexus_stream.supabase.writer import ProspectWriter
from tests.integration.supabase.conftest import connected
from tests.support.pgbouncer import PgBouncer, missing_pgbouncer
from tests.support.postgres import server_folder
from tests.support.requirements import require

if TYPE_CHECKING:
    from tests.integration.supabase.conftest import Database

_BATCH_ROWS = 25
_RETRY_SECONDS = 0.05
_RECOVERY_LIMIT_SECONDS = 30
_CHECKSUM_ROWS = (
    "SELECT tenant_id, fingerprint_id, prospect_data::text FROM prospect_tracking ORDER BY 1, 2",
    "SELECT tenant_id, session_id, fingerprint, record::text, source FROM prospect_sessions ORDER BY 1, 2",
)

Rows = list[list[tuple[object, ...]]]
Disturb = Callable[[], Awaitable[None]]


class Delivery:
    """Writes batches until each succeeds; records the time without an answer and the number of tries."""

    def __init__(self, writer: ProspectWriter) -> None:
        self._writer = writer
        self.longest_wait_seconds = 0.0
        self.failures: list[str] = []

    async def run(self, records: Sequence[EnrichedProspect], disturbances: dict[int, Disturb]) -> None:
        """Deliver the batches. The disturbance starts at the batch of that number and runs during the next ones."""
        one_at_a_time = asyncio.Lock()

        async def disturb(disturbance: Disturb) -> None:
            async with one_at_a_time:
                await disturbance()

        tasks: list[asyncio.Task[None]] = []
        batches = [records[start : start + _BATCH_ROWS] for start in range(0, len(records), _BATCH_ROWS)]
        for number, batch in enumerate(batches):
            if number in disturbances:
                tasks.append(asyncio.create_task(disturb(disturbances[number])))
                await asyncio.sleep(0)
            await self._until_taken(batch)
        # A disturbance that still runs affects the batches once more.
        while not all(task.done() for task in tasks):
            for batch in batches:
                await self._until_taken(batch)
        await asyncio.gather(*tasks)

    async def _until_taken(self, batch: Sequence[EnrichedProspect]) -> None:
        started = time.monotonic()
        async with asyncio.timeout(_RECOVERY_LIMIT_SECONDS):
            while True:
                try:
                    result = await self._writer.write(batch)
                except DatabaseUnavailableError as error:
                    self.failures.append(str(error))
                    await asyncio.sleep(_RETRY_SECONDS)
                else:
                    assert result.rejected == ()
                    break
        self.longest_wait_seconds = max(self.longest_wait_seconds, time.monotonic() - started)


async def _rows(dsn: str) -> Rows:
    connection = await asyncpg.connect(dsn)
    try:
        return [[tuple(row) for row in await connection.fetch(query)] for query in _CHECKSUM_ROWS]
    finally:
        await connection.close()


@pytest.fixture(scope="module")
def records() -> list[EnrichedProspect]:
    return enriched_records(400)


@pytest.fixture
async def expected(database: Database, writer: ProspectWriter, records: list[EnrichedProspect]) -> Rows:
    """The rows after an undisturbed delivery of the records."""
    await Delivery(writer).run(records, {})
    return await _rows(database.dsn())


@pytest.fixture
async def folder() -> AsyncIterator[Path]:
    with server_folder() as folder:
        yield folder


def _say(what: str, delivery: Delivery) -> None:
    print(f"{what}: {len(delivery.failures)} attempts failed, recovered in {delivery.longest_wait_seconds:.2f} s")


def _writer(port: int, pooler_mode: str = "auto") -> AbstractAsyncContextManager[ProspectWriter]:
    dsn = f"postgresql://postgres@{LOOPBACK}:{port}/postgres"
    return connected(
        load_settings(
            environ={},
            database_url=dsn,
            database_pooler_mode=pooler_mode,
            database_connect_timeout_seconds=2,
            database_statement_timeout_seconds=2,
        )
    )


@pytest.mark.parametrize("server", ["embedded"], indirect=True)
async def test_a_server_killed_in_the_middle_of_a_transaction(
    folder: Path, records: list[EnrichedProspect], expected: Rows
) -> None:
    server = EmbeddedPostgres.start(folder / "data")
    try:
        await apply_migrations(server.dsn)
        async with _writer(server.port) as writer:
            delivery = Delivery(writer)

            async def kill_and_restart() -> None:
                nonlocal server
                # Given the batch's sessions are written, and its fold waits for a lock
                blocker = await asyncpg.connect(server.dsn)
                try:
                    await blocker.execute("BEGIN; LOCK TABLE prospect_tracking IN ACCESS EXCLUSIVE MODE")
                    waiting = 0
                    async with asyncio.timeout(10):
                        while not waiting:
                            await asyncio.sleep(0.01)
                            waiting = await blocker.fetchval(
                                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'nexus-stream'"
                                " AND wait_event_type = 'Lock'"
                            )
                    # When the server is killed, as a machine that fails, and comes back
                    await asyncio.to_thread(server.kill)
                finally:
                    blocker.terminate()
                server = await asyncio.to_thread(EmbeddedPostgres.start, folder / "data", server.port)

            await delivery.run(records, {3: kill_and_restart, 9: kill_and_restart})
        assert delivery.failures
        assert await _rows(server.dsn) == expected
        _say("server killed twice", delivery)
    finally:
        server.stop()


@pytest.mark.parametrize("server", ["embedded"], indirect=True)
async def test_a_failover_to_another_server_on_the_same_port(
    folder: Path, records: list[EnrichedProspect], expected: Rows
) -> None:
    first = EmbeddedPostgres.start(folder / "first")
    second: EmbeddedPostgres | None = None
    try:
        await apply_migrations(first.dsn)
        async with _writer(first.port) as writer:
            delivery = Delivery(writer)

            async def replace() -> None:
                nonlocal second
                # A server of other files, which hold what the first had committed, as a synchronous standby's do
                await asyncio.to_thread(first.kill)
                await asyncio.to_thread(shutil.copytree, folder / "first", folder / "second")
                second = await asyncio.to_thread(EmbeddedPostgres.start, folder / "second", first.port)

            await delivery.run(records, {5: replace})
        assert delivery.failures
        assert await _rows(first.dsn) == expected
        _say("server replaced", delivery)
    finally:
        (second or first).stop()


@pytest.mark.parametrize("server", ["embedded"], indirect=True)
async def test_a_standby_that_only_reads_for_a_while(
    database: Database, records: list[EnrichedProspect], expected: Rows
) -> None:
    await database.admin.execute("TRUNCATE prospect_sessions, prospect_tracking, prospect_contributions")
    async with connected(database.settings()) as writer:
        delivery = Delivery(writer)

        async def read_only_for_a_while() -> None:
            alter = f"ALTER DATABASE {database.name}"
            await database.admin.execute(f"{alter} SET default_transaction_read_only = on")
            # Existing connections do not notice this; a failover would end them.
            await database.admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'nexus-stream' AND datname = current_database()"
            )
            await asyncio.sleep(0.5)
            await database.admin.execute("SET default_transaction_read_only = off")
            await database.admin.execute(f"{alter} RESET default_transaction_read_only")

        await delivery.run(records, {2: read_only_for_a_while, 7: read_only_for_a_while})
    assert any("read-only" in failure for failure in delivery.failures)
    assert await _rows(database.dsn()) == expected
    _say("read-only twice for 0.5 s", delivery)


@pytest.mark.parametrize("mode", ["session", "transaction"])
@pytest.mark.parametrize("server", ["embedded"], indirect=True)
async def test_a_pooler_that_is_restarted(
    database: Database,
    folder: Path,
    records: list[EnrichedProspect],
    expected: Rows,
    mode: Literal["session", "transaction"],
) -> None:
    require("pgbouncer", missing_pgbouncer())
    await database.admin.execute("TRUNCATE prospect_sessions, prospect_tracking, prospect_contributions")
    with PgBouncer(
        folder / "pgbouncer", database.server.port, "session" if mode == "session" else "transaction"
    ) as pooler:
        dsn = f"postgresql://postgres@{LOOPBACK}:{pooler.port}/{database.name}"
        async with connected(load_settings(environ={}, database_url=dsn)) as writer:
            delivery = Delivery(writer)

            async def restart() -> None:
                await asyncio.to_thread(pooler.kill)
                await asyncio.sleep(0.3)
                await asyncio.to_thread(pooler.start)

            await delivery.run(records, {2: restart, 6: restart, 11: restart})
    assert delivery.failures
    assert await _rows(database.dsn()) == expected
    _say(f"pooler in {mode} mode restarted three times", delivery)
