"""Checks do not hide each other, have a time limit, and show no secret."""

from __future__ import annotations

import asyncio
import fcntl
import os
import threading
import time
from pathlib import Path

import pytest

from nexus_stream.doctor import command as doctor
from nexus_stream.doctor.finding import Area, Finding, error, ok
from nexus_stream.doctor.host_checks import slot_holders
from nexus_stream.doctor.redaction import Redaction
from nexus_stream.doctor.running import guarded, run, run_areas
from nexus_stream.errors import ConfigurationError
from nexus_stream.settings import load_settings


async def _well() -> list[Finding]:
    return [ok("host.disk", "fine")]


async def _hang() -> list[Finding]:
    await asyncio.sleep(3600)
    return []


async def _crash() -> list[Finding]:
    raise ValueError("a secret of somebody's")


async def _misconfigured() -> list[Finding]:
    raise ConfigurationError("NEXUS_X: set it.")


def test_one_area_that_hangs_and_one_that_crashes_hide_no_other() -> None:
    areas = {Area.KAFKA: _hang, Area.CLAUDE: _crash, Area.HOST: _well}

    findings, seconds = run(run_areas(areas, 0.3))

    found = {finding.check: finding for finding in findings}
    assert set(found) == {"kafka.complete", "claude.complete", "host.disk"}
    assert "no answer within 0.3 s" in found["kafka.complete"].found
    # Its class, not its text.
    assert found["claude.complete"].found == "the check itself failed: ValueError"
    assert seconds < 30


async def test_our_own_errors_are_reported_with_their_message() -> None:
    (found,) = await guarded("kafka.topics", _misconfigured())

    assert (found.severity, found.found) == ("error", "NEXUS_X: set it.")


def test_a_thread_that_never_ends_does_not_delay_the_exit() -> None:
    never = threading.Event()

    async def look() -> str:
        try:
            async with asyncio.timeout(0.1):
                await asyncio.to_thread(never.wait, 120)
        except TimeoutError:
            return "gone on"
        return "waited"

    started = time.monotonic()
    assert run(look())[0] == "gone on"
    assert time.monotonic() - started < 60
    never.set()


def test_secrets_are_removed_from_every_field() -> None:
    settings = load_settings(
        environ={
            "SUPABASE_DB_URL": "postgresql://sink:p%40ss-word@db.example.com/postgres",
            "NEXUS_KAFKA_PASSWORD": "kafkas-own",
            "NEXUS_REDIS_URL": "redis://:cache-word@127.0.0.1/0",
        }
    )
    text = "kafkas-own p%40ss-word p@ss-word cache-word http://user:another@host postgresql://USER:PASSWORD@HOST"

    hidden = Redaction(settings).apply(error("kafka.reachable", text, text, text))

    for part in (hidden.found, hidden.why, hidden.fix):
        assert part == "*** *** *** *** http://user:***@host postgresql://USER:PASSWORD@HOST"


def test_secrets_are_removed_from_invalid_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(role: object, environ: object) -> None:
        raise ConfigurationError("Invalid:\n  - SUPABASE_DB_URL: not an address: postgres://sink:s3cret-word@db:x/p")

    monkeypatch.setattr(doctor, "load_settings", refuse)

    report = doctor.examine_environment(environ={})

    assert report.is_invalid
    assert [finding.found for finding in report.findings] == [
        "SUPABASE_DB_URL: not an address: postgres://sink:***@db:x/p"
    ]


def test_who_holds_a_slot(tmp_path: Path) -> None:
    for slot in ("0", "1"):
        (tmp_path / slot).mkdir()
        (tmp_path / slot / "lock").write_text(str(os.getpid()))
    with (tmp_path / "1" / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        found = slot_holders(tmp_path)

    assert [(slot, pid) for slot, pid, _ in found] == [("1", os.getpid())]
    assert slot_holders(tmp_path / "absent") == []
