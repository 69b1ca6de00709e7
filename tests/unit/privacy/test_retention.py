"""The sweep of idle sessions, on the enricher it runs in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from nexus_stream.contracts.session_command import CommandKind, decode_command
from nexus_stream.errors import ConfigurationError
from nexus_stream.settings import load_settings

if TYPE_CHECKING:
    from tests.unit.privacy.conftest import Bench

_DAY_SECONDS = 86_400
# Committing once a day: the clock stops at every tick.
_SETTINGS: dict[str, Any] = {"topic_partitions": 1, "settle_seconds": 1, "commit_interval_seconds": _DAY_SECONDS}


@pytest.fixture
async def sweeping(bench: Bench) -> Bench:
    await bench.crash()
    bench.settings = load_settings(environ={}, **_SETTINGS, retention_days=9)
    await bench.start()
    return bench


async def _deliver_commands(bench: Bench) -> list[str]:
    """The commands of the sweep, parsed as the worker parses them."""
    records = bench.broker.records("nexus-prospect-ingestion")
    bench.broker._logs.pop(("nexus-prospect-ingestion", 0), None)
    for record in records:
        command = decode_command(record.value, dict(record.headers)["nexus-command"])
        assert command.command is CommandKind.EXPIRE
        await bench.send(record.value, record.headers)
    await bench.clock.advance(1)
    return [(record.key or b"").decode() for record in records]


async def test_idle_sessions_are_forgotten_busy_and_erased_ones_stay(sweeping: Bench):
    bench = sweeping
    for session in ("idle", "busy", "erased"):
        await bench.say(["me llamo Carlos"], session=session)
    await bench.command("erase", session="erased")
    await bench.clock.advance(8 * _DAY_SECONDS)
    await bench.say(["me llamo Carlos", "hola", "sigo aquí"], session="busy")
    assert await _deliver_commands(bench) == []
    await bench.clock.advance(2 * _DAY_SECONDS)
    # One command per sweep, until the worker runs it.
    assert set(await _deliver_commands(bench)) == {"idle"}
    assert sorted(bench.table.values) == [b"busy", b"erased"]
    assert bench.emitted()[-1][1]["reason"] == "retention"
    await bench.clock.advance(_DAY_SECONDS)
    assert await _deliver_commands(bench) == []


async def test_a_sweep_goes_through_more_than_a_slice(sweeping: Bench):
    bench = sweeping
    for number in range(250):
        await bench.say(["hola"], session=f"s-{number}")
    await bench.clock.advance(10 * _DAY_SECONDS)
    assert len(set(await _deliver_commands(bench))) == 250
    assert bench.table.values == {}


async def test_without_the_setting_nothing_is_swept(bench: Bench):
    await bench.crash()
    bench.settings = load_settings(environ={}, **_SETTINGS)
    await bench.start()
    await bench.say(["hola"])
    await bench.clock.advance(100 * _DAY_SECONDS)
    assert await _deliver_commands(bench) == []


def test_a_retention_below_the_topics_is_refused():
    with pytest.raises(ConfigurationError, match="NEXUS_RETENTION_DAYS: at least 9"):
        load_settings(environ={"NEXUS_RETENTION_DAYS": "7"})
    assert load_settings(environ={"NEXUS_RETENTION_DAYS": "9"}).retention_days == 9
