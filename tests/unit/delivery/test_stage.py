"""What a stage drops when its partitions are revoked or the worker stops."""

from __future__ import annotations

import pytest

from nexus_stream.delivery.received import Assignment
from nexus_stream.delivery.stage import Stage, StageParts
from nexus_stream.testing.broker import InMemoryBroker
from nexus_stream.testing.clock import FakeClock

TOPIC = "ingestion"


class _Observer:
    def outcome(self, record: object, outcome: object) -> None: ...

    def waiting(self, what: str, since_ms: int | None) -> None: ...


class _Broker(InMemoryBroker):
    """Notes the number of owned partitions at each `drop_unsent`."""

    def __init__(self, assignment: Assignment) -> None:
        super().__init__()
        self._assignment = assignment
        self.owned_at_drop: list[int] = []

    def drop_unsent(self) -> None:
        self.owned_at_drop.append(len(self._assignment.partitions))


@pytest.mark.parametrize("how", ["revoked", "stop"])
async def test_unsent_records_are_dropped_after_the_revocation(how: str):
    assignment = Assignment()
    broker = _Broker(assignment)
    stage = Stage(
        StageParts(
            broker=broker,
            assignment=assignment,
            clock=FakeClock(),
            observer=_Observer(),
            on_fatal=lambda error: pytest.fail(str(error)),
        ),
        name="test",
        topic=TOPIC,
        commit_interval_seconds=1,
    )
    await stage.assigned([(TOPIC, 0)])
    record = stage.read(TOPIC, 0, 7, 0, b"key", b"value", ())
    assert record is not None

    await getattr(stage, how)(drain_seconds=1.0)

    # Dropped after the revocation, so that nothing is added meanwhile.
    assert broker.owned_at_drop == [0]
    assert not assignment.owns(record)
    assert stage.ledger.unfinished() == 0
