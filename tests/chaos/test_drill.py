"""Every alert fires on a real fault, within its time, is posted signed, and clears by itself."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from nexus_stream.console.alerts.conditions import AlertKind
from tests.chaos.drill import Drill, table
from tests.chaos.environment import BrokerKind, Environment

# What went wrong once went unseen for days: a failing effect is told within a minute.
PERSISTENCE_SECONDS = 60.0
# Of a loaded machine; a free one takes a fifth of it.
FIRE_SECONDS, CLEAR_SECONDS = 75.0, 85.0


@pytest.mark.timeout(900)
async def test_every_alert_fires_on_its_fault_and_clears_by_itself(
    environment_of: Callable[[BrokerKind], Environment], tmp_path: Path
) -> None:
    # Refused connections are the point.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    drill = Drill(environment_of("embedded"), tmp_path)
    measured = await drill.run()
    story = table(measured)
    assert drill.receiver.problems == []
    assert drill.receiver.firing == set()
    assert {one.alert for one in measured if one.alert[0] != "("} == {kind.value for kind in AlertKind}
    for one in measured:
        assert one.seconds_to_fire is not None, f"{one.alert} did not fire\n{story}"
        assert one.seconds_to_clear is not None, f"{one.alert} did not clear\n{story}"
        bound = PERSISTENCE_SECONDS if one.alert == AlertKind.PERSISTENCE else FIRE_SECONDS
        assert 0 <= one.seconds_to_fire <= bound, story
        assert 0 <= one.seconds_to_clear <= CLEAR_SECONDS, story
    for post in drill.receiver.posts:
        assert post.body.keys() == {"alert", "where", "state", "value", "threshold", "since", "runbook"}
        assert post.body["runbook"].endswith(f"#{post.alert}")
        # Nobody's data: a role, a period, or a process id made of hashes.
        assert "drill" not in post.where
        assert "example" not in post.where
