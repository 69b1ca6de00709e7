"""All services accept connections but never answer: the doctor still ends in time and reports each one."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

from nexus_stream.host.free_ports import LOOPBACK

if TYPE_CHECKING:
    from tests.integration.doctor.conftest import Doctor

_MOST_SECONDS = 15.0


def test_a_host_that_takes_connections_and_never_answers(without_database: Doctor) -> None:
    with socket.create_server((LOOPBACK, 0), backlog=128) as silent:
        port = silent.getsockname()[1]

        report = without_database.examine(
            NEXUS_KAFKA_BOOTSTRAP_SERVERS=f"{LOOPBACK}:{port}",
            SUPABASE_DB_URL=f"postgresql://sink:a-secret@{LOOPBACK}:{port}/postgres",
            ANTHROPIC_API_KEY="sk-ant-a-key-of-no-account",
            ANTHROPIC_BASE_URL=f"http://{LOOPBACK}:{port}",
            NEXUS_REDIS_URL=f"redis://{LOOPBACK}:{port}/0",
        )

    reached = {each.check: each for each in report.findings if each.check.endswith(".reachable")}
    assert set(reached) == {"kafka.reachable", "postgresql.reachable", "claude.reachable", "redis.reachable"}
    assert all(each.severity in {"error", "warning"} and each.fix for each in reached.values())
    assert all("no answer in time" in each.found for each in reached.values())
    assert report.seconds < _MOST_SECONDS


def test_names_that_do_not_resolve(without_database: Doctor) -> None:
    started = time.monotonic()

    code, document = without_database.run_json(
        NEXUS_KAFKA_BOOTSTRAP_SERVERS="kafka.invalid:9092",
        SUPABASE_DB_URL="postgresql://sink:a-secret@db.invalid:5432/postgres",
        ANTHROPIC_API_KEY="sk-ant-a-key-of-no-account",
        ANTHROPIC_BASE_URL="https://api.invalid",
        NEXUS_REDIS_URL="rediss://cache.invalid:6379/0",
    )

    assert code == 1
    reached = {each["check"] for each in document["findings"] if each["check"].endswith(".reachable")}
    assert reached == {"kafka.reachable", "postgresql.reachable", "claude.reachable", "redis.reachable"}
    # The interpreter's start, on a loaded machine, is not the doctor's.
    assert document["seconds"] < _MOST_SECONDS
    assert time.monotonic() - started < 4 * _MOST_SECONDS
