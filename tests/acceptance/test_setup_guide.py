"""The setup guide followed as it is written, on an Apache Kafka with TLS, SCRAM and ACLs and a PostgreSQL with TLS.

From: docs/howto/setup.md. Its files are written with their placeholders filled in and its commands are run in order, in
a new folder, with nothing in the environment but a PATH. To: the first conversation's row, and the first alert at the
console and at the webhook. The Spanish page has to have the same files and commands.

What is not run is the block without a language, which installs. ``kafka-acls.sh`` is tests/kafka/acls.py here.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

import tests.kafka.acls
from nexus_stream.embedded.postgres_user import server_user
from nexus_stream.host.free_ports import LOOPBACK, free_port
from tests.chaos.webhook_receiver import SECRET, WebhookReceiver
from tests.kafka.launcher import KafkaCluster, SecurityOptions, available
from tests.setup_guide import PLACEHOLDER, Newcomer, blocks
from tests.stack import eventually
from tests.support.certificates import CertificateAuthority
from tests.support.postgres import FAST_SETTINGS, debian_postgres, missing_debian_postgres, server_folder
from tests.support.requirements import require

pytestmark = pytest.mark.timeout(480)

_HOWTO = Path(__file__).parents[2] / "docs" / "howto"
ENGLISH, SPANISH = _HOWTO / "setup.md", _HOWTO / "puesta-en-marcha.md"
_PROCESSES = ("gateway", "enricher", "sink", "console")
# The administrator's name is one that the cluster was started with as its super user.
_ADMIN = "kafka-admin"
_POSTGRES_PROGRAMS = Path("/usr/lib/postgresql/15/bin")
_ALERT_TIMEOUT_SECONDS = 90.0
# The two commands that the guide says to repeat, and what they print in the end.
_PRINTED_IN_THE_END = {"from prospect_tracking": "| Carlos", "/api/v1/overview": "silent sink-"}


def _secret(owner: str) -> str:
    """A password that no log may hold."""
    return f"pass-{owner}-4b81d0"


def test_both_languages_have_the_same_files_and_commands() -> None:
    assert blocks(SPANISH) == blocks(ENGLISH)


def test_placeholders_stand_in_files_alone_and_each_file_has_its_name() -> None:
    commands = [block for block in blocks(ENGLISH) if block.language == "sh"]
    files = [block for block in blocks(ENGLISH) if block.language != "sh"]
    assert [block.file for block in files if not PLACEHOLDER.search(block.text)] == []
    assert len({block.file for block in files} - {None}) == len(files)
    assert [block.text for block in commands if PLACEHOLDER.search(block.text)] == []


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[KafkaCluster]:
    """With an administrator and a user for each process, who may do nothing yet."""
    require("kafka", available())
    require("postgres15", missing_debian_postgres())
    with KafkaCluster.start(data_dir=tmp_path / "kafka", security=SecurityOptions()) as one:
        for user in (_ADMIN, *_PROCESSES):
            one.admin.add_user(user, _secret(user), "SCRAM-SHA-512")
        yield one


@asynccontextmanager
async def _database() -> AsyncIterator[tuple[int, Path]]:
    """PostgreSQL 15 that takes passwords over TLS and nothing else; its port and its authority's certificate."""
    user = server_user()
    with server_folder() as folder:
        authority = CertificateAuthority.make(folder / "ca", "database-ca")
        rules = folder / "hba.conf"
        rules.write_text(f"hostnossl all postgres {LOOPBACK}/32 trust\n")
        certificate, key = (Path(shutil.copy(file, folder)) for file in authority.issue("localhost"))
        for file in (certificate, key, rules):
            if user.uid is not None and user.gid is not None:
                shutil.chown(file, user.uid, user.gid)
            file.chmod(0o600)
        settings = ["ssl=on", f"ssl_cert_file={certificate}", f"ssl_key_file={key}", f"hba_file={rules}"]
        with debian_postgres(folder, [*FAST_SETTINGS, *settings]) as port:
            await _close(f"postgresql://postgres@{LOOPBACK}:{port}/postgres?sslmode=disable", rules)
            yield port, authority.certificate


async def _close(dsn: str, rules: Path) -> None:
    """Give the administrator a password, then let nobody in without one and TLS."""
    connection = await asyncpg.connect(dsn)
    await connection.execute(f"alter role postgres password '{_secret('db-admin')}'")
    await asyncio.to_thread(rules.write_text, f"hostssl all all {LOOPBACK}/32 scram-sha-256\n")
    await connection.execute("select pg_reload_conf()")
    await connection.close()

    async def refuses() -> bool:
        try:
            await (await asyncpg.connect(dsn)).close()
        except asyncpg.InvalidAuthorizationSpecificationError:
            return True
        return False

    await eventually(refuses, seconds=30, what="the database refuses whoever comes without TLS")


def _programs(folder: Path) -> Path:
    """A folder with ``kafka-acls.sh``."""
    folder.mkdir()
    program = folder / "kafka-acls.sh"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{tests.kafka.acls.__file__}" "$@"\n')
    program.chmod(0o755)
    return folder


def _filled_in(cluster: KafkaCluster, database_port: int, database_ca: Path, webhook_url: str) -> dict[str, str]:
    """What a person with this cluster and this database writes into the files, by placeholder."""
    ports = [str(port) for port in _free_ports(6)]
    return {
        "KAFKA_HOST:PORT": cluster.bootstrap_servers,
        "KAFKA_CA_FILE": str(cluster.ca_file),
        "KAFKA_ADMIN": _ADMIN,
        "KAFKA_ADMIN_PASSWORD": _secret(_ADMIN),
        "GATEWAY_PASSWORD": _secret("gateway"),
        "ENRICHER_PASSWORD": _secret("enricher"),
        "SINK_PASSWORD": _secret("sink"),
        "CONSOLE_PASSWORD": _secret("console"),
        "DB_ADMIN": "postgres",
        "DB_ADMIN_PASSWORD": _secret("db-admin"),
        "DB_HOST:PORT": f"localhost:{database_port}",
        "DB_CA_FILE": str(database_ca),
        "SINK_DB_PASSWORD": _secret("db-sink"),
        # The offline rules: no account is asked.
        "ANTHROPIC_API_KEY": "",
        "CONSOLE_TOKEN": _secret("console-token"),
        "WEBHOOK_URL": webhook_url,
        "WEBHOOK_SECRET": SECRET,
        # One broker, and less patience than is good for real chats and real faults.
        "3": "1",
        "6": "2",
        "10": "1",
        "20": "1",
        "8080": ports[0],
        "8090": ports[1],
        "6071": ports[2],
        "6081": ports[3],
        "9464": ports[4],
        "9465": ports[5],
        "https://www.example.com": "https://www.example.com",
    }


def _judge(doctor: str) -> None:
    """As a person reads it: it spoke for each process, and no error is left but that one broker keeps one copy."""
    assert len(re.findall(r"; exit code \d+$", doctor, re.MULTILINE)) == len(_PROCESSES), doctor
    errors = re.findall(r"^ +error +(.*)$", doctor, re.MULTILINE)
    assert [error for error in errors if not error.endswith("has 1 copies")] == [], doctor


def _free_ports(count: int) -> list[int]:
    ports: list[int] = []
    while len(ports) < count:
        ports.append(free_port(ports))
    return ports


async def test_who_follows_the_guide_gets_the_row_and_the_alert(cluster: KafkaCluster, tmp_path: Path) -> None:
    folder = tmp_path / "nexus"
    folder.mkdir()
    async with WebhookReceiver() as webhook, _database() as (port, authority):
        filled_in = _filled_in(cluster, port, authority, webhook.url)
        newcomer = Newcomer(folder, [_programs(tmp_path / "programs"), _POSTGRES_PROGRAMS], filled_in)
        try:
            # Given the files and the commands in the page's order, when each is done as it stands
            awaited, ended = dict(_PRINTED_IN_THE_END), None
            for block in blocks(ENGLISH):
                if block.language != "sh":
                    newcomer.write(block)
                elif repeated := next((part for part in awaited if part in block.text), None):
                    await newcomer.type_until(block.text, awaited.pop(repeated))
                else:
                    printed = await newcomer.type(block.text)
                    if "nexus doctor" in block.text:
                        _judge(printed)
                    if "/metrics" in block.text:
                        assert re.findall(r'nexus_build_info{role="(\w+)"', printed) == list(_PROCESSES)
                if "until ./as sink" in block.text:
                    # As the page says, before it goes on to the end
                    ended = await webhook.wait_for("silent", "sink", "resolved", 0, _ALERT_TIMEOUT_SECONDS)

            # Then the row and the alert were there, the webhook heard of its begin and its end, and all has stopped
            assert awaited == {}
            await newcomer.wait_until_all_ended()
            begun = await webhook.wait_for("silent", "sink", "firing", 0, 0.1)
            assert begun is not None
            assert ended is not None
            assert ended.where == begun.where
            assert webhook.problems == []
            printed = newcomer.everything_printed()
            assert [value for value in filled_in.values() if value.startswith("pass-") and value in printed] == []
        finally:
            newcomer.kill_all()
