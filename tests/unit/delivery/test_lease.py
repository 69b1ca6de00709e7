"""A worker without a valid lease sends nothing until the group confirms it, then only records that it still owns."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest

from nexus_stream.delivery.lease import Lease, now
from nexus_stream.delivery.received import Assignment, Received
from nexus_stream.delivery.stage import Stage, StageParts
from nexus_stream.testing.broker import InMemoryBroker
from nexus_stream.testing.clock import FakeClock

TOPIC = "conversations"


class _Observer:
    def outcome(self, *_: Any, **__: Any) -> None: ...

    def waiting(self, *_: Any) -> None: ...


class Worker:
    """A stage with one partition, and what it sent."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.lease = Lease(3.0, self.clock.monotonic)
        self.lease.renew(self.clock.monotonic())
        assignment = Assignment()
        assignment.lease = self.lease
        assignment.assign([(TOPIC, 0)])
        self.sent: list[int] = []
        self.stage = Stage(
            StageParts(
                broker=InMemoryBroker(),
                assignment=assignment,
                clock=self.clock,
                observer=_Observer(),
                on_fatal=lambda error: pytest.fail(str(error)),
            ),
            name="test",
            topic=TOPIC,
            commit_interval_seconds=1,
        )

    def record(self, offset: int) -> Received:
        record = self.stage.read(TOPIC, 0, offset, 0, b"key", b"value", ())
        assert record is not None
        return record

    async def send(self, record: Received) -> Awaitable[object]:
        self.sent.append(record.offset)
        acknowledged: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        acknowledged.set_result(None)
        return acknowledged

    def sending(self, *records: Received) -> asyncio.Task[list[Received]]:
        return asyncio.create_task(self.stage.until_acknowledged(records, lambda record: record, self.send))


async def _some_turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def test_a_lease_counts_from_the_send_time_of_a_confirmed_heartbeat():
    clock = FakeClock()
    lease = Lease(3.0, clock.monotonic)
    assert not lease.is_valid
    asked_at = clock.monotonic()
    lease.renew(asked_at)
    assert lease.is_valid
    lease.renew(asked_at - 3.0)
    assert not lease.is_valid
    lease.renew(asked_at)
    lease.lose()
    assert not lease.is_valid


def test_its_clock_grows():
    assert now() <= now()


async def test_nothing_is_sent_before_a_confirmed_heartbeat():
    worker = Worker()
    record = worker.record(5)
    worker.lease.lose()
    sending = worker.sending(record)
    await _some_turns()
    assert worker.sent == []
    assert worker.stage.state.startswith("waiting for broker")
    worker.lease.renew(worker.clock.monotonic())
    await worker.clock.advance(0.1)
    assert await asyncio.wait_for(sending, 5) == [record]
    assert (worker.sent, worker.stage.state) == ([5], "running")


async def test_a_frozen_workers_unsent_records_are_dropped_after_a_revocation():
    worker = Worker()
    record = worker.record(5)
    worker.lease.lose()
    sending, owning = worker.sending(record), asyncio.create_task(worker.stage.still_owns(record))
    await _some_turns()
    await asyncio.wait_for(worker.stage.revoked(drain_seconds=60), 5)
    worker.lease.renew(worker.clock.monotonic())
    await worker.stage.assigned([(TOPIC, 0)])
    await worker.clock.advance(0.1)
    assert await asyncio.wait_for(sending, 5) == []
    assert await asyncio.wait_for(owning, 5) is False
    assert worker.sent == []
