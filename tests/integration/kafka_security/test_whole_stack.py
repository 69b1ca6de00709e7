"""Gateway, enricher, sink and console over TLS, each by its own login and with no permission too many."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.stack import eventually

if TYPE_CHECKING:
    from tests.integration.kafka_security.conftest import SecuredStack

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize(
    ("gateway", "enricher", "sink"),
    [
        ("SCRAM-SHA-512", "SCRAM-SHA-512", "SCRAM-SHA-512"),
        ("mTLS", "mTLS", "mTLS"),
        ("PLAIN", "OAUTHBEARER", "SCRAM-SHA-256"),
    ],
    ids=["scram-512", "mtls", "plain-oauth-scram-256"],
)
async def test_a_conversation_becomes_a_row(stack: SecuredStack, gateway: str, enricher: str, sink: str):
    stack.start_as("gateway", gateway)
    stack.start_as("enricher", enricher)
    stack.start_as("sink", sink)
    for process in stack.processes.values():
        await asyncio.to_thread(process.wait_until_ready)
    person = f"fp-{gateway}-{enricher}-{sink}"
    body = {
        "messages": [{"role": "user", "content": "Hola, me llamo Carlos"}],
        "sessionId": f"session-{person}",
        "fingerprint": person,
    }
    assert (await asyncio.to_thread(stack.post, body))[0] == 202

    data = await eventually(lambda: stack.prospect(person), seconds=60, what="the row")
    assert data["nombre"] == "Carlos"
    # A record that is not a conversation: writing a dead letter is allowed too.
    await stack.produce(stack.settings.ingestion_topic, [(b"x", person.encode())])

    async def letters() -> bool:
        records = await stack.read_topic(stack.settings.dead_letter_topic)
        return any(record.value == person.encode() for record in records)

    await eventually(letters, seconds=60, what="the dead letter")
    keys = {record.key for record in await stack.read_topic(stack.settings.status_topic) if record.value}
    assert {key.split(b"-")[0] for key in keys if key} >= {b"gateway", b"enricher", b"sink"}
    committed = await stack.committed_as("enricher", stack.settings.enricher_app_id, stack.settings.ingestion_topic)
    assert sum(committed.values()) > 0
    for name in tuple(stack.processes):
        assert await asyncio.to_thread(stack.processes[name].stop) == 0
        assert not re.search("uthorization|denied|refuse", stack.output(name))


async def test_a_table_is_rebuilt_from_its_changelog(stack: SecuredStack, tmp_path: Path):
    state = {"NEXUS_DATA_DIR": str(tmp_path / "one"), "NEXUS_TABLE_STORE": "memory"}
    value = b'{"sessionId":"rebuilt","messages":[{"role":"user","content":"Hola, soy Ana"}],"fingerprint":"fp-rebuilt"}'
    process = stack.start_as("enricher", "SCRAM-SHA-512", **state)
    await asyncio.to_thread(process.wait_until_ready)
    await stack.produce(stack.settings.ingestion_topic, [(b"rebuilt", value)])

    async def stored() -> int:
        records = await stack.read_topic(stack.settings.sessions_changelog_topic)
        return sum(record.key == b"rebuilt" for record in records)

    await eventually(stored, seconds=60, what="the session in the changelog")
    assert await asyncio.to_thread(process.stop) == 0
    before = await stored()

    again = stack.start_as("enricher", "SCRAM-SHA-512", **state | {"NEXUS_DATA_DIR": str(tmp_path / "two")})
    await asyncio.to_thread(again.wait_until_ready)
    await stack.produce(
        stack.settings.ingestion_topic, [(b"rebuilt", value), (b"later", value.replace(b"rebuilt", b"later"))]
    )

    async def later() -> bool:
        records = await stack.read_topic(stack.settings.sessions_changelog_topic)
        return any(record.key == b"later" for record in records)

    await eventually(later, seconds=60, what="the other session")
    # The known snapshot is a duplicate of the restored state, so nothing new is written.
    assert await stored() == before


async def test_console_and_tools_have_what_they_need(stack: SecuredStack):
    console = stack.start_as("console", "SCRAM-SHA-512")
    await eventually(lambda: asyncio.to_thread(_answers, console.url), seconds=60, what="the console's page")
    login = stack.login("tools", "SCRAM-SHA-512")
    for arguments in (["topics", "check"], ["dlq", "list"]):
        outcome = await asyncio.to_thread(_nexus, arguments, stack.folder, {**stack.variables, **login})
        assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert not re.search("uthorization|denied|refuse", stack.output("console"))


def _answers(url: str) -> bool:
    import urllib.error
    import urllib.request

    try:
        with urllib.request.urlopen(f"{url}/", timeout=5) as answer:  # noqa: S310 - loopback
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _nexus(arguments: list[str], folder: Path, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("NEXUS_", "SUPABASE_"))}
    return subprocess.run(
        [str(Path(sys.executable).with_name("nexus")), *arguments],
        cwd=folder,
        env={**kept, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
