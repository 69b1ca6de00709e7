"""`nexus privacy` as an operator runs it, on a broker and a database without workers: results, output and audit.

What it does together with enricher and sink is in tests/acceptance/test_privacy.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import asyncpg
import orjson
import pytest

from nexus_stream.contracts.subject import subject_hash
from nexus_stream.contracts.topics import segment_hours
from nexus_stream.embedded.broker import EmbeddedBroker
from nexus_stream.host.free_ports import free_port
from nexus_stream.kafka.sender import Sender
from nexus_stream.kafka.topics import apply_topics
from nexus_stream.privacy.changelog import follow_states, read_states
from nexus_stream.privacy.people import People
from nexus_stream.privacy.selector import Selector
from nexus_stream.settings import Settings, load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.privacy.conftest import Database

EMAIL = "ana.borrar@example.com"
PHONE = "300 555 0102"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker.start(log_path=tmp_path_factory.mktemp("broker") / "log") as one:
        yield one


@dataclass(frozen=True)
class Desk:
    """An operator's environment: settings, variables and the command."""

    database: Database
    settings: Settings
    variables: dict[str, str]
    folder: Path

    async def nexus(self, *arguments: str, **variables: str) -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        done = await asyncio.to_thread(
            subprocess.run,
            self.call(*arguments),
            env={**self.variables, **variables},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=100,
        )
        return done.returncode, done.stdout, done.stderr

    @staticmethod
    def call(*arguments: str) -> list[str]:
        return [str(Path(sys.executable).with_name("nexus")), "privacy", *arguments]

    async def audit(self) -> dict[str, Any]:
        """The only row of the audit."""
        (row,) = await self.database.rows("privacy_audit")
        return row

    async def states(self, *states: dict[str, Any]) -> None:
        """As an enricher would keep them."""
        async with Sender(self.settings) as sender:
            for state in states:
                key = str(state["session_id"]).encode()
                await sender.send(self.settings.sessions_changelog_topic, key, orjson.dumps(state))


@pytest.fixture
async def desk(database: Database, broker: EmbeddedBroker, tmp_path: Path) -> Desk:
    assert database.settings.database_url is not None
    address = urlsplit(database.settings.database_url.get_secret_value())
    # With no more rights than an operator's login has. Roles belong to the server that all tests share.
    with contextlib.suppress(asyncpg.DuplicateObjectError):
        await database.admin.execute("CREATE ROLE officer LOGIN IN ROLE nexus_privacy")
    variables = {
        "PATH": "/usr/bin:/bin",
        "NEXUS_KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
        # Topics of its own, on the broker that all tests share.
        "NEXUS_TOPIC_PREFIX": f"{address.path[1:]}-",
        "NEXUS_TOPIC_PARTITIONS": "2",
        "SUPABASE_DB_URL": f"postgresql://officer@{address.hostname}:{address.port}{address.path}",
        "NEXUS_DATA_DIR": str(tmp_path / "data"),
    }
    settings = load_settings(environ=variables)
    await apply_topics(settings)
    return Desk(database, settings, variables, tmp_path)


async def test_an_unknown_person_is_reported(desk: Desk):
    for action, arguments in (("erase", ["--yes"]), ("erase", ["--dry-run", "--json"]), ("export", [])):
        await desk.database.admin.execute("DELETE FROM privacy_audit")
        code, out, err = await desk.nexus(action, "--email", EMAIL, *arguments)
        assert code == 1, out + err
        assert "Nobody found" in err
        assert "Done" not in out
        if "--json" in arguments:
            assert json.loads(out) == {"found": False, "session_hashes": [], "fingerprint_hashes": []}
        row = await desk.audit()
        assert (row["action"], row["outcome"]) == (action, "nobody found")
        assert row["finished_at"] is not None
    assert await desk.database.rows("prospect_suppressions") == []


async def test_a_number_in_another_format_is_found_and_a_dry_run_is_recorded(desk: Desk):
    await desk.database.admin.execute("SELECT update_prospect_data('fp', $1)", {"telefono": PHONE})
    code, out, err = await desk.nexus("erase", "--phone", "+573005550102", "--dry-run", "--json", "--by", "officer")
    assert code == 0, err
    hashed = [subject_hash("", "fingerprint", "fp")]
    assert json.loads(out) == {"found": True, "session_hashes": [], "fingerprint_hashes": hashed}
    row = await desk.audit()
    assert (row["outcome"], row["requested_by"], row["fingerprint_hashes"]) == ("dry run", "officer", hashed)
    assert list(await desk.database.people()) == ["fp"]


async def test_a_number_is_the_same_in_sql_as_in_python(database: Database):
    written = (
        *("+573005550102", "+57 300 555 0102", PHONE, "(300) 555-0102", "573005550102", "0057 300 555 0102"),
        *(" (+57) 300.555.0102", "+1 300 555 0102", "+30 05 55 01 02", "300 555 0103", "555 0102", "no phone", "0"),
        *("020 7946 0018", "+44 (0)20 7946 0018", "+44 20 7946 0018", "2079460018"),
    )
    for number, text in enumerate(written):
        await database.admin.execute("SELECT update_prospect_data($1, $2)", f"fp-{number}", {"telefono": text})
    # As another program may write it: a number, not a text.
    await database.admin.execute(
        "INSERT INTO prospect_tracking (fingerprint_id, prospect_data) VALUES ('n', '{\"telefono\": 3005550102}')"
    )
    async with People.connect(database.settings) as people:
        for asked in (PHONE, "+44 20 7946 0018", "+1 300 555 0102"):
            selector = Selector.of("phone", asked, "", "CO")
            expected = {f"fp-{number}" for number, text in enumerate(written) if selector.is_number(text)}
            expected |= {"n"} if selector.is_number("3005550102") else set()
            assert len(expected) > 1
            assert (await people.find(selector)).fingerprints == expected


async def test_a_declined_confirmation_is_recorded(desk: Desk):
    await desk.database.writer.write([desk.database.record("s-1", "fp", email=EMAIL)])
    terminal, theirs = pty.openpty()
    try:
        asking = await asyncio.to_thread(
            subprocess.Popen,
            desk.call("erase", "--email", EMAIL),
            env=desk.variables,
            cwd=desk.folder,
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        os.write(terminal, b"n\n")
        out, _ = await asyncio.to_thread(asking.communicate, timeout=100)
    finally:
        os.close(terminal)
        os.close(theirs)
    assert asking.returncode == 0, out
    assert b"1 session(s), 1 browser(s)" in out
    row = await desk.audit()
    assert (row["action"], row["outcome"]) == ("erase", "refused")
    assert row["session_hashes"] == [subject_hash("", "session", "s-1")]
    assert await desk.database.sessions() == ["s-1"]


async def test_a_call_that_fails_after_the_search_is_recorded(desk: Desk):
    await desk.database.writer.write([desk.database.record("s-1", "fp", email=EMAIL)])
    nowhere = f"127.0.0.1:{free_port()}"
    code, out, err = await desk.nexus("export", "--email", EMAIL, NEXUS_KAFKA_BOOTSTRAP_SERVERS=nowhere)
    assert code == 1, out + err
    row = await desk.audit()
    assert (row["action"], row["outcome"], row["selector_kind"]) == ("export", "failed", "email")


async def test_an_incomplete_erasure_counts_its_times_from_the_end_of_the_run(desk: Desk):
    await desk.database.writer.write([desk.database.record("s-1", "fp", email=EMAIL)])
    # The times count from after the confirmation and the wait.
    code, out, err = await desk.nexus("erase", "--email", EMAIL, "--yes", "--json", "--timeout", "2")
    assert code == 1, err
    answer = json.loads(out)
    assert (answer["complete"], answer["waiting_for"]) == (False, [subject_hash("", "session", "s-1")[:12]])
    row = await desk.audit()
    assert row["outcome"] == "incomplete"
    assert row["finished_at"] - row["requested_at"] >= timedelta(seconds=2)
    counted_from = datetime.fromisoformat(answer["copies_counted_from"])
    assert counted_from >= row["finished_at"].replace(microsecond=0)
    (until,) = [copy["until"] for copy in answer["copies"] if copy["place"] == f"topic {desk.settings.ingestion_topic}"]
    hours = desk.settings.ingestion_retention_hours
    kept = timedelta(hours=hours + segment_hours(hours), minutes=10)
    assert datetime.fromisoformat(until) == counted_from + kept

    code, out, err = await desk.nexus("erase", "--fingerprint", "fp", "--yes", "--timeout", "1")
    assert code == 0, "nothing of theirs is left, and no session is known any more: " + out + err
    assert "Copies that remain, with the latest time of deletion:" in out


async def test_forgetting_a_session_is_recorded_as_session_only(desk: Desk):
    await desk.database.writer.write(
        [desk.database.record("s-1", "fp", email=EMAIL), desk.database.record("s-2", "fp", nombre="Ana")]
    )
    code, out, err = await desk.nexus("forget-session", "s-1", "--dry-run")
    assert code == 0, err
    assert "1 session(s), 0 browser(s), 1 row(s)" in out
    row = await desk.audit()
    assert (row["action"], row["selector_kind"], row["outcome"]) == ("erase", "session only", "dry run")
    assert row["session_hashes"] == [subject_hash("", "session", "s-1")]
    assert row["fingerprint_hashes"] == []


async def test_repeated_reads_do_not_read_states_again(desk: Desk):
    def wanted(state: dict[str, Any]) -> bool:
        return state.get("status") == "erased"

    await desk.states(*({"session_id": f"s-{number}", "status": "enriched"} for number in range(30)))
    await desk.states({"session_id": "s-1", "status": "erased"}, {"session_id": "s-2", "status": "erased"})
    async with follow_states(desk.settings, wanted) as states:
        assert set(await states.newest()) == {b"s-1", b"s-2"}
        assert states.records_read == 32
        for _ in range(3):
            assert set(await states.newest()) == {b"s-1", b"s-2"}
        assert states.records_read == 32
        await desk.states({"session_id": "s-1", "status": "unblocked"}, {"session_id": "s-3", "status": "erased"})
        assert set(await states.newest()) == {b"s-2", b"s-3"}
        assert states.records_read == 34
    assert set(await read_states(desk.settings, wanted)) == {b"s-2", b"s-3"}
