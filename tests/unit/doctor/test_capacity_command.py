"""`nexus capacity` follows docs/reference/capacity.md, and agrees with the benchmarks."""

from __future__ import annotations

import re

import pytest
from click.testing import CliRunner

from nexus_stream.doctor.capacity_command import Load, calls_per_chat, command, needs_of
from nexus_stream.settings import load_settings
from tests.deploy_files import ROOT

LOAD = Load(chats_per_hour=600, turns=6, gap_seconds=20, conversation_bytes=4096, call_seconds=1.5)


@pytest.mark.parametrize(
    ("gap_seconds", "settle_seconds", "measured"),
    # docs/reference/claude.md, "Cost": chats of six turns.
    [(5, 10, 1.63), (20, 10, 5.42), (60, 10, 5.99), (20, 60, 1.16), (60, 60, 3.50)],
)
def test_calls_a_chat_are_those_that_were_measured(gap_seconds, settle_seconds, measured) -> None:
    text = (ROOT / "docs" / "reference" / "claude.md").read_text()
    assert f"{measured:.2f}" in text
    assert calls_per_chat(6, gap_seconds, settle_seconds) == pytest.approx(measured, rel=0.02)


def test_calls_a_chat_lie_between_one_and_its_turns() -> None:
    assert calls_per_chat(1, 20, 10) == 1
    assert calls_per_chat(6, 0, 10) == 1
    assert calls_per_chat(6, 20, 0) == 6
    assert calls_per_chat(6, 1e6, 10) == pytest.approx(6)


@pytest.mark.parametrize(("gap_seconds", "measured_usd"), [(5, 0.240), (20, 0.625), (60, 0.683)])
def test_cost_is_near_what_was_measured(gap_seconds: float, measured_usd: float) -> None:
    needs = needs_of(Load(600, 6, gap_seconds, 4096, 1.5), load_settings(environ={}))
    assert needs.usd_per_1000_chats == pytest.approx(measured_usd, rel=0.2)


def test_pending_sessions_follow_littles_law() -> None:
    settings = load_settings(environ={"NEXUS_SETTLE_SECONDS": "0", "NEXUS_MAX_WAIT_SECONDS": "0"})
    # One chat a second, a call for each of six turns, two seconds each: twelve at a time; in bytes twice over.
    needs = needs_of(Load(3600, 6, 20, 1000, 2.0), settings)
    assert needs.settled_per_second == 6
    assert (needs.pending_sessions_per_worker, needs.pending_bytes_per_worker) == (12, 24_000)
    assert needs.concurrency_per_worker == 12
    assert needs_of(Load(3600, 6, 20, 1000, 2.0, enrichers=4), settings).pending_sessions_per_worker == 3


def test_what_a_busy_chat_waits_is_bounded_by_the_maximum() -> None:
    settings = load_settings(environ={})
    busy = needs_of(Load(3600, 50, 5, 1000, 0.0), settings)
    assert busy.pending_sessions_per_worker <= busy.settled_per_second * settings.max_wait_seconds + 1


def test_disk_is_rate_by_retention_by_copies() -> None:
    one = needs_of(LOAD, load_settings(environ={"NEXUS_INGESTION_RETENTION_HOURS": "10"}))
    # 1 post a second of 2 KiB on average, for 36,000 s.
    assert one.ingestion_gib == pytest.approx(1 * 2048 * 36_000 / 1024**3)
    three = needs_of(
        LOAD,
        load_settings(environ={"NEXUS_INGESTION_RETENTION_HOURS": "10", "NEXUS_TOPIC_REPLICATION_FACTOR": "3"}),
    )
    assert three.ingestion_gib == pytest.approx(3 * one.ingestion_gib)
    assert three.enriched_gib == pytest.approx(3 * one.enriched_gib)


def test_a_bound_that_is_too_small_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEXUS_CLAUDE_CONCURRENCY", "1")
    answer = CliRunner().invoke(command, ["--chats-per-hour", "6000"])
    assert answer.exit_code == 0, answer.output
    lines = {line[:28].strip(): line[28:].strip() for line in answer.output.splitlines()}
    assert "TOO SMALL" in lines["calls at a time, a worker"]
    assert lines["sessions pending, a worker"].endswith("enough")


def test_the_documents_example_is_what_it_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NEXUS_CLAUDE_CONCURRENCY", "NEXUS_SETTLE_SECONDS", "NEXUS_TOPIC_PARTITIONS"):
        monkeypatch.delenv(name, raising=False)
    text = (ROOT / "docs" / "reference" / "capacity.md").read_text()
    block = re.search(r"```\n\$ nexus (capacity [^\n]+)\n(.+?)```", text, re.DOTALL)
    assert block is not None
    printed = CliRunner().invoke(command, block[1].split()[1:])
    assert printed.exit_code == 0, printed.output
    assert printed.output == block[2]
