"""Sent events and commands fit the published schemas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
from jsonschema import Draft202012Validator

if TYPE_CHECKING:
    from tests.unit.privacy.conftest import Bench

_CONTRACTS = Path(__file__).parents[3] / "contracts"


def _validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads((_CONTRACTS / name).read_text()))


async def test_events_and_commands_fit_their_schemas(bench: Bench):
    await bench.say(["me llamo Carlos"])
    await bench.clock.advance(30)
    await bench.command("expire", idle_since_ms=bench.clock.time_ms())
    await bench.command("erase", fingerprint_hashes=("a" * 64,))
    await bench.clock.advance(10)
    await bench.command("lift")
    await bench.clock.advance(10)
    events = [
        record
        for record in bench.broker.records("prospects-enriched")
        if dict(record.headers)["ce_type"] == b"nexus.prospect.erased.v1"
    ]
    assert len(events) == 2
    for record in events:
        assert record.key == b"s-1"
        _validator("erased-session.v1.schema.json").validate(orjson.loads(record.value or b""))
        headers = {name: value.decode() for name, value in record.headers}
        _validator("erased-session-headers.v1.schema.json").validate(headers)
    commands = [value for _, _, value, headers in bench.sent if dict(headers).get("nexus-command")]
    assert len(commands) == 3
    for value in commands:
        _validator("session-command.v1.schema.json").validate(orjson.loads(value or b""))
