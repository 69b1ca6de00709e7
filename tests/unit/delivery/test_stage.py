"""What a stage drops when its partitions are revoked or the worker stops, and what a range of offsets holds."""

from __future__ import annotations

import pytest

from nexus_stream.delivery.outcomes import DeadLettered, Duplicate
from nexus_stream.delivery.received import Assignment, Unreadable
from nexus_stream.delivery.stage import Stage, StageParts
from nexus_stream.errors import DecodeError, Reason
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


def _stage(assignment: Assignment, broker: InMemoryBroker) -> Stage:
    return Stage(
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


async def test_a_range_that_cannot_be_read_holds_its_first_offset_until_its_letter_is_acknowledged():
    stage = _stage(Assignment(), InMemoryBroker())
    await stage.assigned([(TOPIC, 0)])
    before = stage.read(TOPIC, 0, 9, 0, b"key", b"value", ())
    value = Unreadable.of(b"", problem="the checksum is wrong", first_offset=10)
    damaged = stage.read(TOPIC, 0, 14, 0, None, value, ())
    behind = stage.read(TOPIC, 0, 15, 0, b"key", b"value", ())
    assert before is not None
    assert damaged is not None
    assert behind is not None
    with pytest.raises(
        DecodeError, match="ingestion-0, offset 10 to 14, cannot be read: the checksum is wrong"
    ) as told:
        damaged.require_readable()
    assert told.value.reason is Reason.UNREADABLE
    stage.finish(before, Duplicate())
    stage.finish(behind, Duplicate())
    assert stage.ledger.committable() == {(TOPIC, 0): 10}
    stage.finish(damaged, DeadLettered(Reason.UNREADABLE))
    assert stage.ledger.committable() == {(TOPIC, 0): 16}


@pytest.mark.parametrize("how", ["revoked", "stop"])
async def test_unsent_records_are_dropped_after_the_revocation(how: str):
    assignment = Assignment()
    broker = _Broker(assignment)
    stage = _stage(assignment, broker)
    await stage.assigned([(TOPIC, 0)])
    record = stage.read(TOPIC, 0, 7, 0, b"key", b"value", ())
    assert record is not None

    await getattr(stage, how)(drain_seconds=1.0)

    # Dropped after the revocation, so that nothing is added meanwhile.
    assert broker.owned_at_drop == [0]
    assert not assignment.owns(record)
    assert stage.ledger.unfinished() == 0
