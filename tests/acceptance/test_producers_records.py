"""No producer's record stops a worker or hides a lead: codecs, headers, damaged batches and clocks, on both brokers."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, ConsumerRecord
from aiokafka.partitioner import murmur2

from nexus_stream.embedded.broker import EmbeddedBroker
from nexus_stream.embedded.postgres import EmbeddedPostgres
from nexus_stream.kafka.clients import client_options
from tests.kafka.launcher import KafkaCluster, available
from tests.stack import Stack, eventually
from tests.support.raw_produce import raw_batch, raw_record, send_raw
from tests.support.requirements import require

pytestmark = pytest.mark.timeout(300)

CODECS = [None, "gzip", "snappy", "lz4", "zstd"]
PHONE = "300 555 0102"


@pytest.fixture(scope="module", params=["embedded", "kafka", "kafka-create-time"])
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Gateway, enricher and sink on one broker; the tests share it and use sessions of their own."""
    folder = tmp_path_factory.mktemp(f"records-{request.param}")
    folder.chmod(0o755)
    if request.param != "embedded":
        require("kafka", available())
        broker: KafkaCluster | EmbeddedBroker = KafkaCluster.start(data_dir=folder / "kafka")
    else:
        broker = EmbeddedBroker.start(log_path=folder / "broker.log")
    with broker, EmbeddedPostgres.start(folder / "postgres") as database:
        one = Stack(folder, broker.bootstrap_servers, database.dsn, NEXUS_METRICS_PORT="0")
        try:
            asyncio.run(one.prepare())
            if request.param == "kafka-create-time":
                asyncio.run(change_topics(one))
            one.start_all()
            yield one
        finally:
            one.stop_all()


async def change_topics(stack: Stack) -> None:
    """Make the topics as other installations have them: the producers' times, and compressed by the broker."""
    settings = stack.settings
    options = {"compression.type": "lz4", "message.timestamp.type": "CreateTime"}
    await stack.alter_topic(settings.ingestion_topic, options)
    await stack.alter_topic(settings.enriched_topic, {"compression.type": "snappy"})
    for topic in (settings.sessions_changelog_topic, settings.dead_letter_topic, settings.status_topic):
        await stack.alter_topic(topic, {"compression.type": "zstd"})


def body(session: str, *texts: str) -> bytes:
    turns = [{"role": "user", "content": text} for text in texts or (f"Me llamo Carlos Rojas y mi celular es {PHONE}",)]
    return json.dumps({"messages": turns, "sessionId": session, "fingerprint": f"fp-{session}"}).encode()


def home(stack: Stack, session: str) -> int:
    """The partition of a session without a tenant."""
    return (murmur2(session.encode()) & 0x7FFFFFFF) % stack.settings.topic_partitions


async def row(stack: Stack, session: str) -> dict[str, Any]:
    async def found() -> dict[str, Any] | None:
        return await stack.prospect(f"fp-{session}")

    return await eventually(found, seconds=60, what=f"the row of {session}")  # type: ignore[return-value]


async def letters(stack: Stack, place: str) -> list[ConsumerRecord]:
    """The dead letters whose error names that place."""
    found = await stack.read_topic(stack.settings.dead_letter_topic)
    return [one for one in found if place.encode() in dict(one.headers).get("nexus-error", b"")]


def still_runs(stack: Stack) -> None:
    for process in stack.processes.values():
        assert process.process.poll() is None, process.log.read_text()[-3000:]


@pytest.mark.parametrize("codec", CODECS)
async def test_a_compressed_conversation_of_2_kb_becomes_a_row(stack: Stack, codec: str | None):
    session = f"codec-{codec}"
    producer = AIOKafkaProducer(**client_options(stack.settings), compression_type=codec)
    await producer.start()
    try:
        text = f"Hola, me llamo Carlos Rojas y mi celular es {PHONE}. " + "Quiero saber de los planes. " * 70
        await producer.send_and_wait(stack.settings.ingestion_topic, body(session, text), key=session.encode())
    finally:
        await producer.stop()
    assert (await row(stack, session))["nombre"] == "Carlos Rojas"


@pytest.mark.parametrize(
    "headers",
    [
        [(b"correlation-id", None)],
        [(b"correlation-id", None), (b"correlation-id", None)],
        [(b"traceparent", None), (b"nexus-hop", None), (b"nexus-command", None), (b"nexus-redrive", None)],
        [(b"caf\xe9", b"1")],
        [(b"\xff\xfe", None), (b"x", b"\xff")],
        [(b"", b"1")],
        [(b"correlation-id", b"\xff\x00")],
    ],
    ids=["null", "null-twice", "null-of-ours", "latin-1", "not-utf8", "empty-name", "value-not-utf8"],
)
async def test_a_record_with_such_headers_and_the_record_behind_it_become_rows(
    stack: Stack, headers: list[tuple[bytes, bytes | None]], request: pytest.FixtureRequest
):
    name = f"{request.node.callspec.id}-{secrets.token_hex(2)}"
    for session, ones in [(f"{name}-1", headers), (f"{name}-2", headers), (f"{name}-3", [])]:
        record = raw_record(0, body(session), ones, key=session.encode())
        now_ms = time.time_ns() // 1_000_000
        sent = await send_raw(
            stack.settings,
            stack.settings.ingestion_topic,
            home(stack, session),
            raw_batch(0, [record], first_ms=now_ms),
        )
        assert not sent
    for number in (1, 2, 3):
        assert (await row(stack, f"{name}-{number}"))["nombre"] == "Carlos Rojas"
    still_runs(stack)


DAMAGED = {
    "decompression": {"codec": 4, "payload": b"no zstd at all"},
    "codec": {"codec": 6},
    "checksum": {"is_damaged": True},
    "record": {},
}


@pytest.mark.parametrize("kind", DAMAGED)
@pytest.mark.parametrize("topic", ["ingestion", "enriched"])
async def test_a_damaged_batch_is_one_dead_letter_and_the_record_behind_it_is_a_row(
    stack: Stack, kind: str, topic: str
):
    session = f"behind-{kind}-{topic}"
    settings = stack.settings
    name = settings.ingestion_topic if topic == "ingestion" else settings.enriched_topic
    partition = home(stack, session)
    records = [raw_record(number, body("x"), count=3 if kind == "record" else None) for number in range(3)]
    sent = await send_raw(settings, name, partition, raw_batch(0, records, **DAMAGED[kind]))  # type: ignore[arg-type]
    # Apache Kafka reads every batch before it takes it; the embedded broker only compares the checksum.
    assert sent in {"", "UnknownError", "CorruptRecordException"}
    await stack.produce(settings.ingestion_topic, [(session.encode(), body(session))])
    assert (await row(stack, session))["nombre"] == "Carlos Rojas"

    still_runs(stack)
    if sent:
        return
    expected = 3 if kind == "record" else 1

    async def told() -> list[ConsumerRecord]:
        found = [
            one
            for one in await letters(stack, f"{name}-{partition}, offset")
            if dict(one.headers)["nexus-reason"] == b"unreadable"
        ]
        return found if len(found) >= expected else []

    found = await eventually(told, seconds=30, what="the dead letter")
    ids = [dict(one.headers)["nexus-id"] for one in found]
    assert len(ids) == len(set(ids))


CLOCKS_MS: dict[str, Callable[[int], int]] = {
    "microseconds": lambda now_ms: now_ms * 1000,
    "seconds": lambda now_ms: now_ms // 1000,
    "zero": lambda now_ms: 0,
    "minus-one": lambda now_ms: -1,
    "50-min-ahead": lambda now_ms: now_ms + 3_000_000,
    "10-min-behind": lambda now_ms: now_ms - 600_000,
}


@pytest.mark.parametrize("clock", CLOCKS_MS)
async def test_a_producers_clock_hides_nothing_that_the_visitor_says_later(stack: Stack, clock: str):
    session, settings = f"clock-{clock}", stack.settings
    now_ms = time.time_ns() // 1_000_000
    record = raw_record(0, body(session, "Hola, me llamo Carlos Rojas"), key=session.encode())
    data = raw_batch(0, [record], first_ms=CLOCKS_MS[clock](now_ms))
    sent = await send_raw(settings, settings.ingestion_topic, home(stack, session), data)
    if sent:
        assert (sent, clock) == ("InvalidTimestampError", "microseconds")
        return
    assert (await row(stack, session))["nombre"] == "Carlos Rojas"
    later = json.loads(body(session, "Hola, me llamo Carlos Rojas", f"Mi celular es {PHONE}"))
    status, _ = await asyncio.to_thread(stack.post, later)
    assert status == 202

    async def has_phone() -> bool:
        return bool((await row(stack, session)).get("telefono"))

    await eventually(has_phone, seconds=30, what="the phone")
    (stored,) = await stack.fetch("SELECT snapshot_at_ms FROM prospect_sessions WHERE session_id = $1", session)
    assert abs(stored["snapshot_at_ms"] - now_ms) < 60_000
    assert not [one for one in await letters(stack, "") if dict(one.headers)["nexus-reason"] == b"row_rejected"]
    still_runs(stack)


@pytest.mark.parametrize("clock", CLOCKS_MS)
async def test_a_chat_that_begins_anew_is_read_whatever_the_clocks_say(stack: Stack, clock: str):
    """The same session with another history. Either one may come with that clock, and with any key."""
    settings = stack.settings
    now_ms = time.time_ns() // 1_000_000
    for order in ("clock-first", "clock-second"):
        session = f"anew-{clock}-{order}"
        texts = ["Hola, me llamo Carlos Rojas", f"Buenas, mi celular es {PHONE}"]
        for number, text in enumerate(texts):
            if (number == 0) == (order == "clock-first"):
                # Not on its session's partition.
                record = raw_record(0, body(session, text), key=b"random")
                partition = (home(stack, session) + 1) % settings.topic_partitions
                data = raw_batch(0, [record], first_ms=CLOCKS_MS[clock](now_ms))
                if await send_raw(settings, settings.ingestion_topic, partition, data):
                    return
            else:
                assert (await asyncio.to_thread(stack.post, json.loads(body(session, text))))[0] == 202
            if number == 0:
                await row(stack, session)

        async def is_whole(session: str = session) -> bool:
            found = await row(stack, session)
            return bool(found.get("telefono")) and found["nombre"] == "Carlos Rojas"

        await eventually(is_whole, seconds=30, what=f"name and phone of {session}")
    still_runs(stack)


async def test_the_topics_own_compression_is_read_at_a_recovery(stack: Stack):
    session = "recovered"
    await stack.produce(stack.settings.ingestion_topic, [(session.encode(), body(session))])
    await row(stack, session)
    stack.processes["enricher"].stop()
    # Without its local table it restores the changelog. A duplicate then costs no second extraction.
    stack.start("enricher", NEXUS_DATA_DIR=str(stack.folder / "restored")).wait_until_ready()
    before = len(await stack.read_topic(stack.settings.enriched_topic))
    await stack.produce(stack.settings.ingestion_topic, [(session.encode(), body(session))])
    await stack.produce(stack.settings.ingestion_topic, [(session.encode(), body(f"{session}-2"))])
    await row(stack, f"{session}-2")
    assert len(await stack.read_topic(stack.settings.enriched_topic)) == before + 1


async def test_a_batch_that_was_damaged_on_the_brokers_disk_is_a_dead_letter(
    stack: Stack, request: pytest.FixtureRequest
):
    """Apache Kafka checks what a producer sends, but not what its disk returns."""
    if request.node.callspec.params["stack"] != "kafka":
        # The embedded broker has no disk, and the mark is not found in a compressed file.
        return
    session, settings = "bit-rot", stack.settings
    stack.processes["enricher"].stop()
    await stack.produce(settings.ingestion_topic, [(session.encode(), body(session, "Soy MARKED-ON-DISK"))])
    await stack.produce(settings.ingestion_topic, [(session.encode(), body(f"{session}-2"))], home(stack, session))
    damage(stack.folder / "kafka", settings.ingestion_topic, b"MARKED-ON-DISK")
    stack.start("enricher").wait_until_ready()
    assert (await row(stack, f"{session}-2"))["nombre"] == "Carlos Rojas"
    (letter,) = await letters(stack, "the checksum is wrong")
    headers = dict(letter.headers)
    assert (headers["nexus-reason"], letter.value) == (b"unreadable", b"")
    place = f"{settings.ingestion_topic}-{home(stack, session)}-{headers['nexus-origin-offset'].decode()}"
    assert headers["nexus-id"].decode() == place


async def test_a_damaged_changelog_stops_the_enricher_and_is_named(stack: Stack, request: pytest.FixtureRequest):
    if request.node.callspec.params["stack"] != "kafka":
        # The embedded broker has no disk, and the mark is not found in a compressed file.
        return
    session = "SESSION-ON-DISK"
    await stack.produce(stack.settings.ingestion_topic, [(session.encode(), body(session))])
    await row(stack, session)
    stack.processes["enricher"].stop()
    changelog = stack.settings.sessions_changelog_topic
    damage(stack.folder / "kafka", changelog, session.encode())
    # Without its local table it restores all of the changelog.
    process = stack.start("enricher", NEXUS_DATA_DIR=str(stack.folder / "new"))
    code = await asyncio.to_thread(process.process.wait, 90)
    log = process.log.read_text()
    assert code == 78, log[-3000:]
    assert f"{changelog}-{home(stack, session)}, offset " in log
    assert "kafka-delete-records.sh" in log
    stack.processes.pop("enricher")


def damage(folder: Path, topic: str, marked: bytes) -> None:
    """Change one byte behind each mark in the topic's files."""
    found = 0
    for file in folder.rglob(f"{topic}-*/*.log"):
        data = bytearray(file.read_bytes())
        at = data.find(marked)
        while at >= 0:
            found += 1
            data[at] ^= 0x01
            at = data.find(marked, at + 1)
        file.write_bytes(data)
    assert found, f"no {marked!r} under {folder}"
