"""The choice of a session's snapshot, and the time of the snapshot."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from nexus_stream.backfill.intake import Intake, snapshot_of, take_lines
from nexus_stream.backfill.store import RunStore
from nexus_stream.contracts.limits import enricher_limits
from nexus_stream.settings import load_settings

NOW_MS = 1_790_000_000_000
HOUR_MS = 3_600_000
SETTINGS = load_settings(environ={})


def line(session: str, *texts: str, **more: Any) -> bytes:
    messages = [{"role": ("user", "assistant")[index % 2], "content": text} for index, text in enumerate(texts)]
    return json.dumps({"messages": messages, "sessionId": session, **more}).encode()


@pytest.fixture
def intake() -> Iterator[Intake]:
    with RunStore.in_memory() as store:
        yield Intake(store, SETTINGS, NOW_MS)


def taken(intake: Intake, session: bytes = b"s") -> dict[str, Any]:
    item = intake.store.find(session)
    assert item is not None
    return json.loads(item.value)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_longer_history_is_newer_in_any_order(intake: Intake, order: tuple[int, int]):
    lines = [line("s", "hola"), line("s", "hola", "dime", "me llamo Ana")]
    take_lines(intake, [lines[index] for index in order], NOW_MS)
    assert len(taken(intake)["messages"]) == 3
    assert intake.taken == 2


def test_half_an_emoji_is_loaded_as_the_enricher_reads_it(intake: Intake):
    take_lines(
        intake, [line("s", "hola \ud83d", fingerprint="f"), line("s", "hola \ud83d", "dime", "y \udc00")], NOW_MS
    )
    assert [message["content"] for message in taken(intake)["messages"]] == ["hola \ufffd", "dime", "y \ufffd"]
    assert intake.problems == []


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_unrelated_histories_are_ordered_by_time(intake: Intake, order: tuple[int, int]):
    lines = [
        line("s", "uno", metadata={"enqueuedAt": "2026-01-01T00:00:00Z"}),
        line("s", "dos", metadata={"enqueuedAt": "2026-01-02T00:00:00Z"}),
    ]
    take_lines(intake, [lines[index] for index in order], NOW_MS)
    assert taken(intake)["messages"][0]["content"] == "dos"


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_fingerprint_of_an_earlier_snapshot_is_kept(intake: Intake, order: tuple[int, int]):
    lines = [line("s", "hola", fingerprint="fp"), line("s", "hola", "dime", "sí")]
    take_lines(intake, [lines[index] for index in order], NOW_MS)
    assert taken(intake)["fingerprint"] == "fp"
    assert len(taken(intake)["messages"]) == 3


def test_a_line_without_a_time_gets_the_files_time(intake: Intake):
    said_at_ms = NOW_MS - 1000 * HOUR_MS
    take_lines(intake, [line("s", "hola")], said_at_ms)
    item = intake.store.find(b"s")
    assert item is not None
    # The record's timestamp is recent enough that the topic does not drop it. The snapshot's time is unchanged.
    assert item.timestamp_ms == NOW_MS - SETTINGS.ingestion_retention_hours * HOUR_MS // 3
    assert snapshot_of("t", item, enricher_limits(SETTINGS)).snapshot_at_ms == said_at_ms


def test_equal_session_ids_of_two_tenants_are_different_sessions(intake: Intake):
    take_lines(intake, [line("s", "a", metadata={"tenant_id": "acme"}), line("s", "b")], NOW_MS)
    assert intake.store.counts().total == 2
    assert taken(intake, b"acme:s")["messages"][0]["content"] == "a"


def test_an_invalid_line_is_named_by_number_and_reason_without_its_text(intake: Intake):
    lines = [b"{secret", b"", b'{"messages": [], "sessionId": "secret"}', line("s", "hola"), b'{"x": NaN']
    take_lines(intake, lines, NOW_MS)
    assert intake.taken == 1
    assert dict(intake.refused) == {"not_json": 2, "wrong_shape": 1}
    assert [problem.split(":")[0] for problem in intake.problems] == ["line 1", "line 3", "line 5"]
    assert "secret" not in " ".join(intake.problems)


def test_a_value_that_only_one_parser_accepts_does_not_crash(intake: Intake):
    value = line("s", "hola").replace(b'"sessionId"', b'"x": NaN, "sessionId"')
    take_lines(intake, [value], NOW_MS)
    assert intake.refused.total() + intake.taken == 1


def test_our_own_headers_are_removed(intake: Intake):
    headers = (("correlation-id", b"c"), ("nexus-hop", b"x"), ("nexus-answer", b"y"))
    intake.take("0-0", line("s", "hola"), NOW_MS, headers)
    item = intake.store.find(b"s")
    assert item is not None
    assert item.headers == (("correlation-id", b"c"),)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (1, 2, 0)])
def test_the_windows_of_a_site_are_put_together(intake: Intake, order: tuple[int, ...]):
    chat = ["me llamo Ana", "¿celular?", "300 555 0102", "gracias", "quiero empezar", "claro", "adiós"]
    lines = [
        line("s", *chat[first : first + 3], metadata={"enqueuedAt": f"2026-01-01T0{first}:00:00Z"})
        for first in (0, 2, 4)
    ]
    take_lines(intake, [lines[index] for index in order], NOW_MS)
    said = [message["content"] for message in taken(intake)["messages"] if message["role"] == "user"]
    assert said == chat[::2]
