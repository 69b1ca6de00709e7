"""The sink's writer on a real server that stops and comes back: its metrics, and the sink's readiness."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

import pytest
from prometheus_client import REGISTRY

from nexus_stream.delivery.received import Assignment
from nexus_stream.delivery.stage import StageParts
from nexus_stream.errors import ConfigurationError, DatabaseUnavailableError
from nexus_stream.host.free_ports import LOOPBACK
from nexus_stream.observability.outcomes import OutcomeObserver
from nexus_stream.settings import Settings, load_settings
from nexus_stream.supabase.connecting import DATABASE, ConnectingWriter, watch_database
from nexus_stream.supabase.stage import Sink
from nexus_stream.testing.broker import InMemoryBroker
from nexus_stream.testing.clock import FakeClock

if TYPE_CHECKING:
    from tests.integration.supabase.conftest import Database, MakeRecord


class Way:
    """The way to the server: a forwarder that can be cut and opened again, at the same address."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._listener: asyncio.Server | None = None
        self._ends: set[asyncio.StreamWriter] = set()
        self.port = 0

    async def open(self) -> None:
        self._listener = await asyncio.start_server(self._forward, LOOPBACK, self.port)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for end in self._ends:
            end.transport.abort()
        self._ends.clear()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(LOOPBACK, self._server_port)
        self._ends |= {writer, server_writer}
        await asyncio.gather(self._pump(reader, server_writer), self._pump(server_reader, writer))

    @staticmethod
    async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65_536):
                target.write(data)
                await target.drain()
        target.transport.abort()


@pytest.fixture
async def way(database: Database) -> AsyncIterator[Way]:
    one = Way(database.server.port)
    await one.open()
    yield one
    await one.cut()


@pytest.fixture
def settings(database: Database, way: Way) -> Settings:
    return load_settings(
        environ={},
        database_url=f"postgresql://postgres@{LOOPBACK}:{way.port}/{database.name}",
        database_connect_timeout_seconds=2,
        database_statement_timeout_seconds=2,
    )


@pytest.fixture
async def connecting(settings: Settings) -> AsyncIterator[ConnectingWriter]:
    one = ConnectingWriter(settings)
    yield one
    await one.close()


@pytest.fixture
def grown() -> Callable[..., float]:
    """The growth of a metric since the test began. The first values are read here."""
    names = [("nexus_sink_rows_total", {}), ("nexus_sink_batch_seconds_count", {})]
    names += [
        ("nexus_sink_batches_total", {"outcome": each}) for each in ("committed", "bisected", "retried", "failed")
    ]
    names += [("nexus_sink_retries_total", {"sqlstate": "os"})]
    before = {(name, *labels.values()): REGISTRY.get_sample_value(name, labels) or 0.0 for name, labels in names}

    def since(name: str, **labels: str) -> float:
        return (REGISTRY.get_sample_value(name, labels) or 0.0) - before[name, *labels.values()]

    return since


async def test_rows_and_batches_are_counted_as_they_end(
    connecting: ConnectingWriter, record: MakeRecord, grown: Callable[..., float]
) -> None:
    batch = [record(f"s-{number}", f"fp-{number}", nombre="Ana") for number in range(3)]
    await connecting.write(batch)
    assert grown("nexus_sink_rows_total") == 3
    await connecting.write(batch)
    # A replay is a batch and changes no row.
    assert (grown("nexus_sink_rows_total"), grown("nexus_sink_batches_total", outcome="committed")) == (3, 2)
    result = await connecting.write([record("good", "fp-9", nombre="Eva"), record("bad", "fp-8", nombre="Ana\0")])
    assert len(result.rejected) == 1
    assert grown("nexus_sink_batches_total", outcome="bisected") == 1
    assert grown("nexus_sink_rows_total") == 4
    assert grown("nexus_sink_batch_seconds_count") == 3


async def test_an_unreachable_server_is_retried_and_counted(
    connecting: ConnectingWriter, way: Way, record: MakeRecord, grown: Callable[..., float]
) -> None:
    await way.cut()
    with pytest.raises(DatabaseUnavailableError):
        await connecting.write([record("s", "fp", nombre="Ana")])
    assert grown("nexus_sink_batches_total", outcome="retried") == 1
    assert grown("nexus_sink_retries_total", sqlstate="os") == 1
    await way.open()
    await connecting.write([record("s", "fp", nombre="Ana")])
    assert grown("nexus_sink_batches_total", outcome="committed") == 1


async def test_a_wrong_database_fails(database: Database, record: MakeRecord, grown: Callable[..., float]) -> None:
    writer = ConnectingWriter(database.settings("nobody_knows"))
    with pytest.raises(ConfigurationError):
        await writer.write([record("s", "fp", nombre="Ana")])
    assert grown("nexus_sink_batches_total", outcome="failed") == 1


async def test_a_batch_and_a_ping_at_the_same_moment_make_one_pool(
    connecting: ConnectingWriter, database: Database, record: MakeRecord
) -> None:
    await asyncio.gather(connecting.ping(), connecting.write([record("s", "fp", nombre="Ana")]), connecting.ping())
    assert await connecting.connected() is await connecting.connected()


async def test_an_idle_sink_notices_that_the_database_went_and_came_back(
    settings: Settings, connecting: ConnectingWriter, way: Way
) -> None:
    clock = FakeClock()
    sink = Sink(
        StageParts(
            broker=InMemoryBroker(),
            assignment=Assignment(),
            clock=clock,
            observer=OutcomeObserver("sink"),
            on_fatal=lambda error: None,
        ),
        settings=settings,
        writer=connecting,
    )
    watching = asyncio.create_task(watch_database(sink, connecting.ping))

    async def until(waits: bool) -> None:
        async with asyncio.timeout(60):
            while sink.is_waiting_for(DATABASE) is not waits:
                await clock.advance(1)
                await asyncio.sleep(0.02)

    try:
        await connecting.connected()
        await way.cut()
        await until(True)
        assert sink.state.startswith("waiting for Supabase")
        # The server answers again. The sink notices this without a write.
        await way.open()
        await until(False)
        assert sink.state == "running"
        # If a batch waits for a retry, a successful ping is not enough.
        sink.keeps_a_batch = True
        sink.waits_for(DATABASE)
        for _ in range(20):
            await clock.advance(1)
            await asyncio.sleep(0.02)
        assert sink.is_waiting_for(DATABASE)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
