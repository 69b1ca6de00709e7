from __future__ import annotations

import asyncio
from typing import Any

import pytest

from nexus_stream.contracts.status import ProcessStatus
from nexus_stream.delivery.facts import Facts
from nexus_stream.observability import status as module
from nexus_stream.observability.status import StateClock, StatusPublisher, process_id
from nexus_stream.settings import Settings

NOW_MS = 1_760_000_000_000
T0, T1 = ("conversations", 0), ("conversations", 1)


def test_state_remembers_since_when() -> None:
    clock = StateClock()
    clock.note("running", None, 1000)
    clock.note("running", None, 9000)
    assert (clock.state, clock.since_ms) == ("running", 1000)
    clock.note("waiting", "claude", 9500, 9100)
    assert (clock.state, clock.detail, clock.since_ms) == ("waiting", "claude", 9100)
    clock.note("waiting", "Supabase", 9900)
    assert clock.since_ms == 9900


def test_percentiles_are_the_nearest_rank_of_what_is_recent() -> None:
    facts = Facts()
    facts.took(1000.0, now=1.0)
    for number in range(1, 101):
        facts.took(number / 100, now=50.0)
    assert facts.percentiles((0.5, 0.95), since=10.0) == (0.5, 0.95)
    assert facts.percentiles((0.5,), since=60.0) == (None,)


def test_a_process_keeps_its_id_and_names_no_host() -> None:
    first = process_id("sink", "/data/nexus-sink/0")
    assert first == process_id("sink", "/data/nexus-sink/0")
    assert first != process_id("sink", "/data/nexus-sink/1")
    assert module.host_name() in first
    assert __import__("socket").gethostname() not in first


async def test_only_a_cancellation_stops_the_publisher(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the report raises or the broker is down, only status records are lost."""
    monkeypatch.setattr(module, "_RETRY_SECONDS", 0.0)
    calls, often = 0, asyncio.Event()

    async def report() -> ProcessStatus:
        nonlocal calls
        calls += 1
        if calls == 4:
            often.set()
        if calls % 2:
            raise RuntimeError("a bug of ours")
        return _status()

    settings = Settings(kafka_bootstrap_servers="127.0.0.1:1", kafka_request_timeout_seconds=0.2)
    task = asyncio.create_task(StatusPublisher(settings, "sink-a", report).run())
    await asyncio.wait_for(often.wait(), 10)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def _status(**values: Any) -> ProcessStatus:
    base: dict[str, Any] = {
        "process_id": "sink-a",
        "role": "sink",
        "version": "1",
        "host": "h",
        "pid": 1,
        "state": "running",
        "since_ms": 1,
        "started_at_ms": 1,
        "updated_at_ms": 2,
    }
    return ProcessStatus(**(base | values))


def test_a_record_without_later_fields_is_read() -> None:
    text = _status().model_dump_json(exclude_none=True, exclude_defaults=True)
    assert ProcessStatus.model_validate_json(text) == _status()
    assert ProcessStatus.model_validate_json(text[:-1] + ',"later":1}') == _status()
