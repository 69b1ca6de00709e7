"""A real broker and a real PostgreSQL, healthy unless a test breaks them. The doctor runs as command or in process."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from nexus_stream.doctor.command import examine_environment
from nexus_stream.doctor.finding import DoctorReport, Finding
from nexus_stream.embedded.broker import EmbeddedBroker
from nexus_stream.embedded.postgres import EmbeddedPostgres
from nexus_stream.host.free_ports import LOOPBACK
from nexus_stream.kafka.topics import apply_topics
from nexus_stream.settings import Role, Settings, load_settings
from nexus_stream.supabase.migrate import apply_migrations
from tests.support.postgres import FAST_SETTINGS, server_folder

ROOT = Path(__file__).parents[3]
_names = itertools.count()
_ATTEMPTS = 3


@dataclass
class Doctor:
    """An environment to examine, and the ways to do it."""

    environ: dict[str, str]
    folder: Path
    broken: dict[str, str] = field(default_factory=dict)

    def settings(self, **changes: str) -> Settings:
        return load_settings(environ={**self.environ, **changes})

    def examine(self, *roles: Role, offline: bool = False, sinks: int | None = None, **changes: str) -> DoctorReport:
        """In this process. On a busy machine a check may have no answer in its time: then again, as its fix says."""
        for _ in range(_ATTEMPTS):
            report = examine_environment(
                frozenset(roles), offline=offline, sinks=sinks, environ={**self.environ, **changes}
            )
            if not any(found.fix and found.fix.startswith("Run it again") for found in report.findings):
                break
        return report

    def run(self, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
        """As an operator does."""
        kept = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "TMPDIR", "LANG"}}
        return subprocess.run(
            [sys.executable, "-c", "from nexus_stream.cli import main; main()", "doctor", *arguments],
            env={**kept, **self.environ, **changes, "PYTHONPATH": str(ROOT)},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def run_json(self, *arguments: str, **changes: str) -> tuple[int, dict[str, Any]]:
        done = self.run("--json", *arguments, **changes)
        return done.returncode, json.loads(done.stdout)


def finding(report: DoctorReport, check: str, severity: str | None = None) -> Finding:
    """The one finding of a check (and severity)."""
    found = [
        each for each in report.findings if each.check == check and (severity is None or each.severity == severity)
    ]
    assert len(found) == 1, (check, report.findings)
    return found[0]


@pytest.fixture(scope="package", name="finding")
def _finding() -> Any:
    return finding


@pytest.fixture(scope="package")
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker.start() as running:
        yield running


@pytest.fixture(scope="package")
def postgres() -> Iterator[EmbeddedPostgres]:
    with server_folder() as folder, EmbeddedPostgres.start(folder / "data") as running:
        asyncio.run(_execute(running.dsn, *(f"ALTER SYSTEM SET {setting}" for setting in FAST_SETTINGS)))
        asyncio.run(_execute(running.dsn, "SELECT pg_reload_conf()", "CREATE ROLE anon", "CREATE ROLE authenticated"))
        yield running


async def _execute(dsn: str, *statements: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


@dataclass
class Database:
    """A database of one test's own."""

    postgres: EmbeddedPostgres
    name: str

    def dsn(self, user: str = "postgres", password: str = "", port: int | None = None) -> str:
        login = f"{user}:{password}" if password else user
        return f"postgresql://{login}@{LOOPBACK}:{port or self.postgres.port}/{self.name}"

    def execute(self, *statements: str) -> None:
        asyncio.run(_execute(self.dsn(), *statements))


@pytest.fixture
def empty_database(postgres: EmbeddedPostgres) -> Iterator[Database]:
    """Without the migrations."""
    name = f"doctor_{next(_names)}"
    asyncio.run(_execute(postgres.dsn, f"CREATE DATABASE {name}"))
    yield Database(postgres, name)
    asyncio.run(_execute(postgres.dsn, f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
def database(empty_database: Database) -> Database:
    """With the migrations, and a login for the sink that has nothing else."""
    asyncio.run(apply_migrations(empty_database.dsn()))
    empty_database.execute(
        "DO $$ BEGIN IF to_regrole('doctor_sink') IS NULL THEN CREATE ROLE doctor_sink LOGIN; END IF; END $$",
        "GRANT nexus_sink TO doctor_sink",
    )
    return empty_database


def _environ(broker: EmbeddedBroker, tmp_path: Path, prefix: str, changes: Mapping[str, str]) -> dict[str, str]:
    return {
        "NEXUS_ENV": "test",
        "NEXUS_KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
        "NEXUS_TOPIC_PREFIX": f"{prefix}-",
        "NEXUS_TOPIC_PARTITIONS": "2",
        "NEXUS_ENRICHER_APP_ID": f"{prefix}-enricher",
        "NEXUS_SINK_APP_ID": f"{prefix}-sink",
        "NEXUS_DATA_DIR": str(tmp_path / "data"),
        **changes,
    }


@pytest.fixture
def no_topics(broker: EmbeddedBroker, tmp_path: Path) -> Doctor:
    """A broker without our topics, and no database."""
    return Doctor(_environ(broker, tmp_path, f"d{next(_names)}", {}), tmp_path)


@pytest.fixture
def without_database(no_topics: Doctor) -> Doctor:
    """The topics are there."""
    asyncio.run(apply_topics(no_topics.settings()))
    return no_topics


@pytest.fixture
def doctor(without_database: Doctor, database: Database) -> Doctor:
    """All is well."""
    without_database.environ["SUPABASE_DB_URL"] = database.dsn("doctor_sink")
    return without_database
