"""The indexer and the process against the embedded broker: kills, restarts, another cluster."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import aiohttp
import pytest
from aiokafka import AIOKafkaProducer

from nexus_stream.console.command import open_model
from nexus_stream.console.index.indexer import Indexer
from nexus_stream.console.index.read_model import FILE_NAME, ReadModel
from nexus_stream.console.reading.filters import SessionFilter
from nexus_stream.console.reading.queries import SessionQueries
from nexus_stream.contracts.session_key import session_key
from nexus_stream.embedded.broker import EmbeddedBroker
from nexus_stream.host.free_ports import free_port
from nexus_stream.kafka.topics import apply_topics
from nexus_stream.settings import Settings

Put = Callable[..., Awaitable[None]]


async def eventually(check: Callable[[], Awaitable[bool]], seconds: float) -> float:
    """Wait until ``check`` holds; returns how long that took."""
    started = time.monotonic()
    while not await check():
        assert time.monotonic() - started < seconds, f"not within {seconds} s"
        await asyncio.sleep(0.05)
    return time.monotonic() - started


def content(folder: Path, table: str = "sessions", order: str = "key") -> list[tuple[object, ...]]:
    """A table without its row numbers, which depend on how often the process was killed."""
    db = sqlite3.connect(f"file:{folder / FILE_NAME}?mode=ro", uri=True)
    columns = [row[1] for row in db.execute(f"PRAGMA table_info ({table})") if row[1] != "id" or table == "letters"]
    rows = db.execute(f"SELECT {', '.join(columns)} FROM {table} ORDER BY {order}").fetchall()  # noqa: S608
    db.close()
    return rows


# Every table that the topics alone decide, and what orders it.
TABLES = {
    "sessions": "key",
    "facet_counts": "facet, value",
    "emissions": "partition, offset",
    "usage_hours": "hour_ms",
    "letters": "identity",
    "letter_marks": "identity",
}


class Console:
    """``nexus console`` as a process, as an operator starts it."""

    def __init__(self, settings: Settings, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("NEXUS_", "PORT"))}
        environ |= {
            "NEXUS_KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
            "NEXUS_DATA_DIR": str(settings.data_dir),
            "PORT": str(port),
        }
        nexus = Path(sys.executable).with_name("nexus")
        self.process = subprocess.Popen([nexus, "console"], env=environ, cwd=settings.data_dir.parent)

    async def get(self, path: str) -> tuple[int, str]:
        try:
            async with aiohttp.ClientSession() as session, session.get(self.url + path) as response:
                return response.status, await response.text()
        except aiohttp.ClientConnectionError:
            assert self.process.poll() is None, "the console ended"
            return 0, ""

    async def is_ready(self) -> bool:
        return (await self.get("/ready"))[0] == 200

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(5)

    def terminate(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(10)


Start = Callable[[], Console]


@pytest.fixture
def start(settings: Settings) -> Iterator[Start]:
    consoles: list[Console] = []

    def start() -> Console:
        consoles.append(Console(settings, free_port()))
        return consoles[-1]

    yield start
    for console in consoles:
        if console.process.poll() is None:
            console.kill()


async def test_changelog_shows_on_the_pages_soon(put: Put, start: Start) -> None:
    await put("before", 1, "Berta")
    console = start()
    await eventually(console.is_ready, 60)
    assert "Berta" in (await console.get("/sessions"))[1]

    async def shows(path: str, text: str) -> bool:
        return text in (await console.get(path))[1]

    # An open live view must not hold up the stop at the end.
    watching = asyncio.create_task(console.get("/events"))
    await put("s-1", 2, "Carlos", "acme")
    assert await eventually(lambda: shows("/sessions", "Carlos"), 10.0) < 10.0
    await put("s-1", 3, "Carlos Ruiz", "acme")
    await eventually(lambda: shows("/sessions/acme/s-1", "Carlos Ruiz"), 10.0)
    await put("s-1", tenant_id="acme")  # a tombstone

    async def is_gone() -> bool:
        return (await console.get("/sessions/acme/s-1"))[0] == 404

    await eventually(is_gone, 10.0)
    assert "Carlos" not in (await console.get("/sessions"))[1]
    began = time.monotonic()
    assert await asyncio.to_thread(console.terminate) == 0
    assert time.monotonic() - began < 4.9
    await watching


async def test_killed_while_indexing_it_ends_with_the_content_of_a_fresh_build(
    settings: Settings, encode: Callable[..., bytes], start: Start, tmp_path: Path
) -> None:
    chance = random.Random(7)  # noqa: S311 - the same log every time
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka_bootstrap_servers, linger_ms=5) as producer:

        async def write(first: int, last: int) -> None:
            futures = []
            for number in range(first, last):
                session_id = f"s-{chance.randrange(4000)}"
                key = session_key("", session_id)
                value = None if chance.random() < 0.1 else encode(session_id, number, f"Nombre {number}")
                futures.append(
                    await producer.send(settings.sessions_changelog_topic, value, key=key, partition=sum(key) % 3)
                )
                if number % 4 == 0:
                    # Only sessions that are never erased: the order between topics is random.
                    futures.append(
                        await producer.send(settings.enriched_topic, emission(number), key=b"e%d" % (number % 999))
                    )
                if number % 40 == 0:
                    reason = chance.choice(["not_json", "wrong_shape"])
                    futures.append(
                        await producer.send(
                            settings.dead_letter_topic, b"{", key=key, headers=letter_headers_of(number, reason)
                        )
                    )
            await asyncio.gather(*futures)

        await write(0, 12_000)
        kills = 0
        for round_number in range(4):
            console = start()
            writing = asyncio.create_task(write(12_000 + round_number * 1000, 13_000 + round_number * 1000))
            before = _applied(settings)
            await eventually(lambda before=before: _has_grown(settings, before), 60)  # type: ignore[misc]
            await asyncio.sleep(chance.random() * 0.2)
            console.kill()
            kills += 1
            await writing
    console = start()
    await eventually(console.is_ready, 60)

    async def all_applied() -> bool:
        return _applied(settings) == 20_400

    # It is ready once it has the changelog; the other topics may still be behind.
    await eventually(all_applied, 60)
    assert console.terminate() == 0

    fresh = open_model(settings.model_copy(update={"data_dir": tmp_path / "fresh"}))
    indexer = asyncio.create_task(Indexer(settings, fresh).run())

    async def is_complete() -> bool:
        beside = sum(fresh.lag_beside(topic) for topic in fresh.topics[1:] if topic != settings.status_topic)
        letters = len(content(tmp_path / "fresh" / "console", "letters", "identity"))
        return bool(fresh.freshness().caught_up_at_ms) and beside == 0 and letters == 400

    await eventually(is_complete, 60)
    indexer.cancel()
    await asyncio.gather(indexer, return_exceptions=True)
    fresh.close()
    for table, order in TABLES.items():
        expected = content(tmp_path / "fresh" / "console", table, order)
        assert expected or table == "letter_marks", table
        assert content(settings.data_dir / "console", table, order) == expected, table
    assert len(content(tmp_path / "fresh" / "console")) > 3000
    assert kills == 4


def emission(number: int) -> bytes:
    """An enriched record as far as the console reads it."""
    value = {
        "prospect": {"momento_optimo": "tibio"},
        "extraction": {"extractor": "claude", "input_tokens": 10, "output_tokens": 1, "cost_usd": 0.5},
        "snapshot_at_ms": number // 8,
    }
    return json.dumps(value).encode()


def letter_headers_of(number: int, reason: str) -> list[tuple[str, bytes]]:
    names = {"nexus-id": f"conversations-0-{number}", "nexus-reason": reason, "nexus-failed-at": "2026-01-02T03:04:05Z"}
    return [(name, text.encode()) for name, text in names.items()]


def _applied(settings: Settings) -> int:
    path = settings.data_dir / "console" / FILE_NAME
    if not path.exists():
        return 0
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return int(db.execute("SELECT coalesce(sum(next_offset), 0) FROM offsets").fetchone()[0])
    except sqlite3.OperationalError:  # not made yet
        return 0
    finally:
        db.close()


async def _has_grown(settings: Settings, before: int) -> bool:
    return _applied(settings) > before


@pytest.fixture
async def model(settings: Settings) -> AsyncIterator[ReadModel]:
    model = ReadModel(settings.data_dir / "console", settings.sessions_changelog_topic)
    indexer = asyncio.create_task(Indexer(settings, model).run())
    yield model
    indexer.cancel()
    await asyncio.gather(indexer, return_exceptions=True)
    model.close()


async def test_another_broker_on_the_same_port_resets_the_view(
    broker: EmbeddedBroker, settings: Settings, put: Put, model: ReadModel, encode: Callable[..., bytes]
) -> None:
    for number in range(3):
        await put(f"old-{number}", number, "Ana")

    async def sessions(expected: set[str]) -> bool:
        return {row[2] for row in content(model.path.parent)} == expected

    await eventually(lambda: sessions({"old-0", "old-1", "old-2"}), 5)
    await eventually(lambda: _is_without_problem(model), 5)
    broker.kill()

    async def is_lost() -> bool:
        return model.freshness().problem == "broker_unreachable"

    await eventually(is_lost, 15)
    # Known data is still shown during the outage.
    assert await sessions({"old-0", "old-1", "old-2"})

    with EmbeddedBroker.start(port=broker.port):
        await apply_topics(settings)
        # More records than before in every partition, so that offsets alone would not show the change.
        async with AIOKafkaProducer(bootstrap_servers=settings.kafka_bootstrap_servers) as producer:
            for number in range(30):
                key = session_key("", f"new-{number}")
                await producer.send_and_wait(
                    settings.sessions_changelog_topic,
                    encode(f"new-{number}", number, "Eva"),
                    key=key,
                    partition=number % 3,
                )
        await eventually(lambda: sessions({f"new-{number}" for number in range(30)}), 20)
        await eventually(lambda: _is_without_problem(model), 5)


async def _is_without_problem(model: ReadModel) -> bool:
    return model.freshness().problem is None and model.freshness().lag == 0


@pytest.mark.parametrize("met_by", ["a reader", "the writer"])
async def test_damage_in_the_index_ends_with_an_index_built_again(settings: Settings, put: Put, met_by: str) -> None:
    folder = settings.data_dir / "console"

    async def follow(check: Callable[[], Awaitable[bool]]) -> None:
        model = ReadModel(folder, settings.sessions_changelog_topic)
        indexer = asyncio.create_task(Indexer(settings, model).run())
        await eventually(check, 30)
        assert not indexer.done()
        indexer.cancel()
        await asyncio.gather(indexer, return_exceptions=True)
        model.close()

    async def sessions() -> set[object]:
        return {row[2] for row in content(folder)}

    async def has_two() -> bool:
        return (folder / FILE_NAME).exists() and await sessions() == {"s-1", "s-2"}

    await put("s-1", 1, "Ana")
    await put("s-2", 2, "Eva")
    await follow(has_two)
    db = sqlite3.connect(folder / FILE_NAME)
    page_bytes = db.execute("PRAGMA page_size").fetchone()[0]
    page = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'sessions'").fetchone()[0]
    db.close()
    with (folder / FILE_NAME).open("r+b") as file:
        file.seek((page - 1) * page_bytes)
        file.write(b"\xa5" * page_bytes)
    if met_by == "the writer":
        await put("s-3", 3, "Inés")

    async def shows_all() -> bool:
        try:
            found = SessionQueries(folder / FILE_NAME).page(SessionFilter(), None, 10)
        except sqlite3.OperationalError:
            return False
        return {row["session_id"] for row in found.rows} >= {"s-1", "s-2"}

    async def is_whole() -> bool:
        try:
            return await sessions() >= {"s-1", "s-2"}
        except sqlite3.DatabaseError:
            return False

    # The writer alone, where nobody asks for a page.
    await follow(shows_all if met_by == "a reader" else is_whole)
    assert await sessions() == {"s-1", "s-2"} | ({"s-3"} if met_by == "the writer" else set())


async def test_waits_for_a_topic_that_is_not_there_and_does_not_make_it(broker: EmbeddedBroker, tmp_path: Path) -> None:
    settings = Settings(kafka_bootstrap_servers=broker.bootstrap_servers, data_dir=tmp_path, topic_partitions=2)
    model = ReadModel(tmp_path / "console", settings.sessions_changelog_topic)
    indexer = asyncio.create_task(Indexer(settings, model).run())

    async def is_missing() -> bool:
        return model.freshness().problem == "topic_missing"

    await eventually(is_missing, 5)
    await asyncio.sleep(1.5)
    # The test created the topic with two partitions. If the indexer had requested it, the broker would have made one.
    assert settings.sessions_changelog_topic in await apply_topics(settings)

    async def follows() -> bool:
        return len(model.freshness().partitions) == 2 and await _is_without_problem(model)

    await eventually(follows, 10)
    indexer.cancel()
    await asyncio.gather(indexer, return_exceptions=True)
    model.close()


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"NEXUS_CONSOLE_HOST": "0.0.0.0"}, "NEXUS_CONSOLE_HOST"),
        ({"NEXUS_CONSOLE_PORT": "taken"}, "NEXUS_CONSOLE_PORT"),
    ],
)
def test_an_unusable_configuration_ends_the_console_with_a_message(
    tmp_path: Path, environ: dict[str, str], expected: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        taken = str(holder.getsockname()[1])
        environ = {name: taken if value == "taken" else value for name, value in environ.items()}
        nexus = Path(sys.executable).with_name("nexus")
        base = {name: value for name, value in os.environ.items() if not name.startswith(("NEXUS_", "PORT"))}
        ended = subprocess.run(
            [nexus, "console"],
            env={**base, "NEXUS_DATA_DIR": str(tmp_path), "NEXUS_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1", **environ},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=30,
        )
    assert ended.returncode == 2
    assert expected in ended.stderr
    assert "Traceback" not in ended.stderr
