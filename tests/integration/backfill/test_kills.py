"""``kill -9`` at every step of a backfill: the same command continues, and no conversation is lost or paid twice."""

from __future__ import annotations

import signal

import pytest

from tests.integration.backfill.conftest import Desk, body
from tests.integration.backfill.killing import BATCH_REQUESTS, POINTS
from tests.integration.backfill.test_backfill import refusing

COUNT = 2 * BATCH_REQUESTS + 2


@pytest.mark.parametrize("point", POINTS)
async def test_after_a_kill_it_continues_and_pays_once(desk: Desk, point: str):
    names = [f"Carlos {chr(65 + number)}omez" for number in range(COUNT)]
    path = desk.write(*(body(f"s-{number}", f"me llamo {name}") for number, name in enumerate(names)))
    # Another program's batch has the same size, so that the size alone identifies nothing.
    foreign = desk.stand_in.add_foreign(BATCH_REQUESTS)
    killed = await desk.backfill(path, "--yes", dying=point)
    assert killed.code == -signal.SIGKILL, killed
    ended = await desk.backfill(path, "--yes")
    assert ended.code == 0, ended
    paid = {said: count for said, count in desk.stand_in.paid.items() if said != "ajeno"}
    assert paid == {f"me llamo {name}": 1 for name in names}
    assert desk.stand_in.open_batches == [foreign]
    assert desk.stand_in.live_calls == 0
    line = await desk.enrich(refusing())
    assert {one["prospect"]["nombre"] for one in line.enriched().values()} == set(names)
    assert line.outcomes.count("Enriched") == COUNT
    assert not list(desk.state.rglob("*.sqlite3*"))


async def test_after_many_kills_it_still_pays_once(desk: Desk):
    path = desk.write(*(body(f"s-{number}", f"me llamo Ana {chr(65 + number)}ez") for number in range(COUNT)))
    for point in ("intended", "created", "opened", "half read", "settled", "half sent", "deleted"):
        killed = await desk.backfill(path, "--yes", dying=point)
        # A point that this run does not reach any more kills nothing.
        assert killed.code in {-signal.SIGKILL, 0}, killed
    ended = await desk.backfill(path, "--yes")
    assert ended.code == 0, ended
    assert len(desk.stand_in.paid) == COUNT
    assert set(desk.stand_in.paid.values()) == {1}
    assert desk.stand_in.open_batches == []
    assert len((await desk.enrich(refusing())).enriched()) == COUNT
