"""A person is erased while others talk, everything is replayed, their browser speaks again: they stay away.

On real processes; what remains of their e-mail address afterwards is what the command listed, and nothing else.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor

from nexus_stream.console.reading.queries import SessionFilter, SessionQueries
from nexus_stream.contracts.headers import ERASED_TYPE
from nexus_stream.contracts.topics import segment_hours
from nexus_stream.embedded.broker import EmbeddedBroker
from nexus_stream.embedded.postgres import EmbeddedPostgres
from nexus_stream.kafka.clients import client_options
from tests.kafka.launcher import KafkaCluster, available
from tests.stack import Stack, eventually
from tests.support.requirements import require

EMAIL = "ana.borrar@example.com"
FINGERPRINT = "fp-person-to-erase"
HISTORY = [
    {"role": "user", "content": "Hola, me llamo Ana Borrar"},
    {"role": "assistant", "content": "Hola Ana, ¿tu correo?"},
    {"role": "user", "content": f"Mi correo es {EMAIL} y quiero empezar"},
]
_TABLES = ("prospect_tracking", "prospect_sessions", "prospect_contributions")
# What the broker does at its leisure, it does at once here.
_EAGER = {
    "log.retention.check.interval.ms": "1000",
    "log.segment.delete.delay.ms": "500",
    "log.cleaner.backoff.ms": "500",
}


@pytest.fixture(params=["embedded", "kafka"])
def stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    # Not below pytest's own folder: every pytest run closes that to other users, such as the database server's.
    with tempfile.TemporaryDirectory(prefix="nexus-erase-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        if request.param == "kafka":
            require("kafka", available())
            broker: Any = KafkaCluster.start(data_dir=folder / "kafka", overrides=_EAGER)
        else:
            broker = EmbeddedBroker.start(log_path=folder / "broker.log")
        with broker, EmbeddedPostgres.start(folder / "postgres") as database:
            one = Stack(folder, broker.bootstrap_servers, database.dsn)
            try:
                asyncio.run(one.prepare())
                one.start_all("gateway", "enricher", "sink", "console")
                yield one
            finally:
                one.stop_all()


class Load:
    """Other visitors, who talk all the time."""

    def __init__(self, stack: Stack) -> None:
        self.posted: list[str] = []
        self._stack = stack
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stopped.wait(0.02):
            name = f"other-{len(self.posted)}"
            content = f"Hola, mi correo es {name}@example.com"
            body = {"messages": [{"role": "user", "content": content}], "sessionId": name, "fingerprint": f"fp-{name}"}
            assert self._stack.post(body)[0] == 202
            self.posted.append(name)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join(30)


def nexus(stack: Stack, *arguments: str) -> tuple[int, dict[str, Any], str]:
    """Run the command as an operator does: exit code, its JSON, everything it printed."""
    done = subprocess.run(
        [str(Path(sys.executable).with_name("nexus")), "privacy", *arguments, "--json"],
        env={"PATH": "/usr/bin:/bin", **stack.variables},
        cwd=stack.folder,
        capture_output=True,
        text=True,
        timeout=100,
    )
    return done.returncode, json.loads(done.stdout or "{}"), done.stdout + done.stderr


def say(
    stack: Stack, session: str, messages: list[dict[str, str]] | None = None, fingerprint: str = FINGERPRINT
) -> None:
    body = {"messages": messages or HISTORY, "sessionId": session, "fingerprint": fingerprint}
    assert stack.post(body)[0] == 202


async def rows_about(stack: Stack) -> list[str]:
    """Every row that holds the address or the fingerprint, whatever its column."""
    found = []
    for table in (*_TABLES, "prospect_suppressions", "privacy_audit"):
        query = f"SELECT t::text AS row FROM {table} t WHERE t::text LIKE ANY ($1)"  # noqa: S608
        found += [row["row"] for row in await stack.fetch(query, [f"%{EMAIL}%", f"%{FINGERPRINT}%"])]
    return found


async def states(stack: Stack) -> Mapping[bytes, dict[str, Any]]:
    newest: dict[bytes, dict[str, Any]] = {}
    for record in await stack.read_topic(stack.settings.sessions_changelog_topic):
        newest[record.key] = orjson.loads(record.value)
    return newest


def on_console(stack: Stack, text: str) -> int:
    queries = SessionQueries(stack.folder / "data" / "console" / "sessions.sqlite3")
    return len(queries.page(SessionFilter(text=text), None, 10).rows)


def files_with(folder: Path, text: str) -> list[str]:
    def holds(path: Path) -> bool:
        try:
            return path.is_file() and text.encode() in path.read_bytes()
        except FileNotFoundError:
            # Deleted since it was listed, by the broker or RocksDB.
            return False

    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if holds(path))


@pytest.mark.timeout(420)
async def test_erased_under_load_then_replayed_the_person_stays_away(stack: Stack):
    settings = stack.settings
    # Given a person with two sessions, on all shelves
    with Load(stack) as load:
        say(stack, "mine-1", HISTORY[:1])
        say(stack, "mine-1")
        say(stack, "mine-2")
        await eventually(lambda: _has_email(stack, 2), seconds=40, what="both sessions of the person")

        async def listed() -> bool:
            return on_console(stack, EMAIL) == 2

        await eventually(listed, seconds=20, what="both sessions on the console")
        code, exported, output = nexus(stack, "export", "--email", EMAIL)
        assert code == 0, output
        assert sorted(exported["session_ids"]) == ["mine-1", "mine-2"]
        assert exported["prospect_tracking"][0]["prospect_data"]["email"] == EMAIL

        # When they are erased while they, and others, go on talking
        say(
            stack, "mine-2", [*HISTORY, {"role": "assistant", "content": "Gracias"}, {"role": "user", "content": "¿Y?"}]
        )
        code, erased, output = nexus(stack, "erase", "--email", EMAIL, "--yes", "--by", "officer")
        erased_at = datetime.now(UTC)
    assert code == 0, output
    assert erased["complete"] is True
    assert len(erased["session_hashes"]) == 2
    assert EMAIL not in output
    assert FINGERPRINT not in output

    # Then nobody knows them
    assert await rows_about(stack) == []
    known = await states(stack)
    assert {known[key]["status"] for key in (b"mine-1", b"mine-2")} == {"erased"}
    assert EMAIL.encode() not in orjson.dumps(list(known.values()))
    assert FINGERPRINT.encode() not in orjson.dumps(list(known.values()))

    async def not_listed() -> bool:
        return on_console(stack, EMAIL) == 0 and on_console(stack, FINGERPRINT) == 0

    await eventually(not_listed, seconds=20, what="the console without them")

    # And a replay of both topics from the start, with the browser's next full snapshot and a new session of theirs,
    # brings nothing back and changes nobody else.
    await _caught_up(stack)
    others = "SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) AS sum, count(*) FROM prospect_tracking t"
    (before,) = await stack.fetch(others)
    assert before["count"] == len(load.posted)
    for kind in ("enricher", "sink"):
        assert stack.processes[kind].stop() == 0
    await _rewind(stack, settings.enricher_app_id, settings.ingestion_topic)
    await _rewind(stack, settings.sink_app_id, settings.enriched_topic)
    say(
        stack, "mine-1", [*HISTORY, {"role": "assistant", "content": "Listo"}, {"role": "user", "content": "Sigo aquí"}]
    )
    say(stack, "mine-new")
    for kind in ("enricher", "sink"):
        stack.start(kind)
    for kind in ("enricher", "sink"):
        stack.processes[kind].wait_until_ready()

    async def new_session_erased() -> bool:
        return (await states(stack)).get(b"mine-new", {}).get("status") == "erased"

    await eventually(new_session_erased, seconds=60, what="the new session erased by what the sink knows")
    await _caught_up(stack)
    assert await rows_about(stack) == []
    (after,) = await stack.fetch(others)
    assert after == before
    known = await states(stack)
    assert EMAIL.encode() not in orjson.dumps(list(known.values()))
    await eventually(not_listed, seconds=20, what="the console without them")

    # The address is where the command said, and nowhere else.
    places = {copy["place"]: copy["until"] for copy in erased["copies"]}
    holding = {
        f"topic {topic}"
        for topic in (
            settings.ingestion_topic,
            settings.enriched_topic,
            settings.dead_letter_topic,
            settings.sessions_changelog_topic,
        )
        if any(EMAIL.encode() in (record.value or b"") for record in await stack.read_topic(topic))
    }
    assert {f"topic {settings.ingestion_topic}", f"topic {settings.enriched_topic}"} <= holding <= places.keys()
    (audited,) = await stack.fetch("SELECT finished_at FROM privacy_audit WHERE action = 'erase'")
    for topic, hours in (
        (settings.ingestion_topic, settings.ingestion_retention_hours),
        (settings.enriched_topic, settings.enriched_retention_hours),
    ):
        # Counted from when all of it was done, to the minutes that a broker takes.
        kept = datetime.fromisoformat(places[f"topic {topic}"]) - timedelta(hours=hours + segment_hours(hours))
        assert audited["finished_at"] <= kept <= erased_at + timedelta(minutes=15)
    assert all(places[place] for place in holding), "each with the moment when it is gone"

    async def local_files_clean() -> bool:
        return not files_with(stack.folder / "data", EMAIL)

    await eventually(local_files_clean, seconds=60, what=f"no address under {stack.folder / 'data'}")
    for process in stack.processes.values():
        assert EMAIL not in process.log.read_text()

    # Audited: who, when, whom, without naming them.
    audit = await stack.fetch("SELECT * FROM privacy_audit ORDER BY requested_at")
    assert [(row["action"], row["outcome"]) for row in audit] == [("export", "done"), ("erase", "done")]
    assert audit[1]["requested_by"] == "officer"
    # Again is the same.
    code, again, output = nexus(stack, "erase", "--fingerprint", FINGERPRINT, "--yes")
    assert code == 0, output
    assert len(again["session_hashes"]) == 3

    # Let in again, they can be known anew.
    code, _, output = nexus(stack, "lift", "--fingerprint", FINGERPRINT, "--yes")
    assert code == 0, output
    say(stack, "mine-1", [{"role": "user", "content": "Hola otra vez, me llamo Ana Torres"}])

    async def back() -> bool:
        data = await stack.prospect(FINGERPRINT)
        return data is not None and data["nombre"] == "Ana Torres"

    await eventually(back, seconds=40, what="the person who came back")
    assert (await stack.prospect(FINGERPRINT))["email"] is None

    if (stack.folder / "kafka").exists():
        await _let_time_pass(stack)

        async def gone() -> bool:
            return not files_with(stack.folder / "kafka", EMAIL)

        await eventually(gone, seconds=60, what="the address in no file of the broker after the listed time")


@pytest.mark.parametrize("stack", ["embedded"], indirect=True)
async def test_one_session_is_forgotten_and_its_person_stays(stack: Stack):
    # Given a person, and somebody who opened a session in their name
    say(stack, "theirs", fingerprint="fp-kept")
    say(stack, "opened-by-another", [{"role": "user", "content": "Mi teléfono es +57 300 555 0102"}], "fp-kept")

    async def both() -> bool:
        data = await stack.prospect("fp-kept")
        return data is not None and (data["email"], data["telefono"]) == (EMAIL, "+573005550102")

    await eventually(both, seconds=40, what="the person with what both sessions said")

    # When that one is forgotten
    code, answer, output = nexus(stack, "forget-session", "opened-by-another", "--yes")
    assert code == 0, output
    assert (answer["complete"], len(answer["session_hashes"]), answer["fingerprint_hashes"]) == (True, 1, [])

    # Then what it said is gone, and the person is there
    data = await stack.prospect("fp-kept")
    assert data is not None
    assert (data["email"], data["telefono"]) == (EMAIL, None)
    assert await stack.fetch("SELECT FROM prospect_suppressions") == []
    sessions = await stack.fetch("SELECT session_id FROM prospect_sessions")
    assert [row["session_id"] for row in sessions] == ["theirs"]

    # And it may come back
    say(stack, "opened-by-another", [{"role": "user", "content": "Mi teléfono es +57 300 555 0103"}], "fp-kept")

    async def back() -> bool:
        data = await stack.prospect("fp-kept")
        return data is not None and data["telefono"] == "+573005550103"

    await eventually(back, seconds=40, what="what the session said later")


async def _let_time_pass(stack: Stack) -> None:
    """Shorten what the topics keep to a second, and have others talk, so that every partition begins a new file."""
    settings = stack.settings
    short = {"retention.ms": "1000", "segment.ms": "1000"}
    configs = {
        settings.ingestion_topic: short,
        settings.enriched_topic: short,
        settings.dead_letter_topic: short,
        settings.sessions_changelog_topic: {
            "cleanup.policy": "compact",
            "segment.ms": "1000",
            "max.compaction.lag.ms": "1000",
            "min.cleanable.dirty.ratio": "0.01",
        },
    }
    admin = AIOKafkaAdminClient(**client_options(settings))
    await admin.start()
    try:
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, *one) for one in configs.items()])
    finally:
        await admin.close()
    for number in range(3):
        await asyncio.sleep(1.5)
        for index in range(30):
            say(stack, f"later-{number}-{index}", [{"role": "user", "content": "Hola"}], f"fp-later-{number}-{index}")


async def test_a_command_header_posted_to_the_gateway_is_no_command(stack: Stack):
    say(stack, "victim", fingerprint="fp-victim")
    body = {
        "command": "erase",
        "session_id": "victim",
        "request_id": "request-1",
        "requested_at": "2026-01-01T00:00:00Z",
    }
    assert stack.post(body, {"nexus-command": "erase"})[0] == 400
    conversation = {"messages": HISTORY, "sessionId": "victim-2", "fingerprint": "fp-victim-2"}
    assert stack.post({**conversation, **body}, {"nexus-command": "erase"})[0] == 202
    await eventually(lambda: stack.prospect("fp-victim-2"), seconds=40, what="the conversation as a conversation")
    assert (await stack.prospect("fp-victim"))["email"] == EMAIL
    for record in await stack.read_topic(stack.settings.ingestion_topic):
        assert "nexus-command" not in dict(record.headers)
    types = {dict(record.headers)["ce_type"] for record in await stack.read_topic(stack.settings.enriched_topic)}
    assert ERASED_TYPE.encode() not in types


async def _has_email(stack: Stack, sessions: int) -> bool:
    query = "SELECT count(*) FROM prospect_sessions WHERE record -> 'prospect' ->> 'email' = $1"
    (row,) = await stack.fetch(query, EMAIL)
    return bool(row["count"] == sessions)


class _FaustsProtocol(RoundRobinPartitionAssignor):
    """Assigns as it likes, under the name that members of the enricher's group had."""

    name = "faust"


async def _rewind(stack: Stack, group: str, topic: str) -> None:
    """Commit offset 0 as a member of the group: the embedded broker takes commits from nobody else."""
    is_enricher = group == stack.settings.enricher_app_id
    consumer = AIOKafkaConsumer(
        topic,
        partition_assignment_strategy=[_FaustsProtocol if is_enricher else RoundRobinPartitionAssignor],
        **client_options(stack.settings),
        group_id=group,
        enable_auto_commit=False,
        session_timeout_ms=6000,
        heartbeat_interval_ms=1000,
    )

    async def assigned() -> bool:
        return bool(consumer.assignment())

    try:
        await consumer.start()
        await eventually(assigned, seconds=60, what=f"partitions of {topic} for a member of {group}")
        await consumer.commit(dict.fromkeys(consumer.assignment(), 0))
    finally:
        await consumer.stop()


async def _caught_up(stack: Stack) -> None:
    settings = stack.settings

    async def no_lag() -> bool:
        for group, topic in (
            (settings.enricher_app_id, settings.ingestion_topic),
            (settings.sink_app_id, settings.enriched_topic),
        ):
            ends: dict[int, int] = {}
            for record in await stack.read_topic(topic):
                ends[record.partition] = record.offset + 1
            committed = await stack.committed(group, topic)
            if any(committed.get(partition, 0) < end for partition, end in ends.items()):
                return False
        return True

    await eventually(no_lag, seconds=90, what="both groups have no lag")
