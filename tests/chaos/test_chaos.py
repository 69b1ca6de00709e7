"""Every row of the table in short, on both brokers: what ``make chaos`` prints, as tests."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.environment import BROKERS, BrokerKind, Environment
from tests.chaos.row import SHORT, Row
from tests.chaos.scenarios import SCENARIOS, Scenario

# Embedded first: its rows need no Java, and the sooner something fails the better.
ROWS = [(broker, scenario) for broker in BROKERS for scenario in SCENARIOS if broker in scenario.brokers]


@pytest.mark.timeout(480)
@pytest.mark.parametrize(("broker", "scenario"), ROWS, ids=lambda part: getattr(part, "name", part))
async def test_row(
    broker: BrokerKind, scenario: Scenario, environment_of: Callable[[BrokerKind], Environment], tmp_path: Path
):
    # Refused connections are the point.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    result = await Row(scenario, SHORT, environment_of(broker), tmp_path).run()
    verdict = result.verdict
    story = "\n".join([*verdict.problems, *verdict.timelines, *result.restarts_by_supervisor, *result.notes])
    assert result.passed, f"{scenario.title} on {broker}:\n{story}"
    assert verdict.sent >= SHORT.snapshots
    assert verdict.calls > 0
