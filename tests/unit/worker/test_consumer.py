"""Faust's consumer with our changes: no stream flows before its seek, and no seek is undone."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import IllegalGenerationError, UnknownMemberIdError
from aiokafka.protocol.group import JoinGroupRequest
from faust.types import TP

from nexus_stream.delivery.lease import Lease
from nexus_stream.worker import consumer as worker_consumer

STREAM, CHANGELOG = TP("conversations", 0), TP("app-sessions-changelog", 0)


class _Thread:
    def __init__(self) -> None:
        self.sought_to_start: list[Any] = []

    async def seek_to_start(self, partitions: list[Any]) -> None:
        self.sought_to_start.extend(partitions)


@pytest.fixture
def consumer(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The consumer without an app: only what decides about partitions."""
    one: Any = worker_consumer._Consumer.__new__(worker_consumer._Consumer)
    one._not_sought_yet, one.seeks = set(), 0
    one._active_partitions, one._paused_partitions = set(), {STREAM, CHANGELOG}
    one._read_offset, one._committed_offset, one._thread = {}, {}, _Thread()
    one.committed = {}
    monkeypatch.setattr(type(one), "_is_changelog_tp", lambda _, tp: tp == CHANGELOG)
    monkeypatch.setattr(type(one), "assignment", lambda _: {STREAM, CHANGELOG})

    async def seek_to_committed(_: Any) -> dict[TP, int | None]:
        return {STREAM: one.committed.get(STREAM), CHANGELOG: None}

    monkeypatch.setattr(type(one), "seek_to_committed", seek_to_committed)

    class _Event:
        def set(self) -> None: ...

        def clear(self) -> None: ...

    one.can_resume_flow, one.suspend_flow = _Event(), _Event()
    return one


def test_a_changelog_flows_at_once_and_a_stream_only_with_the_flow(consumer: Any):
    consumer.resume_partitions({STREAM, CHANGELOG})
    assert consumer._active_partitions == {CHANGELOG}
    consumer.resume_flow()
    assert consumer._active_partitions == {STREAM, CHANGELOG}


def test_a_paused_stream_is_not_resumed_by_the_flow(consumer: Any):
    consumer.resume_partitions({STREAM})
    consumer.pause_partitions({STREAM})
    consumer.resume_flow()
    assert STREAM not in consumer._active_partitions


async def test_a_stream_without_a_commit_is_read_from_its_start(consumer: Any):
    await consumer.perform_seek()
    assert [tuple(tp) for tp in consumer._thread.sought_to_start] == [tuple(STREAM)]


async def test_a_stream_with_a_commit_is_left_where_the_seek_put_it(consumer: Any):
    consumer.committed[STREAM] = 7
    await consumer.perform_seek()
    assert consumer._thread.sought_to_start == []
    assert consumer._read_offset[STREAM] == 7


class _Coordinator:
    """A member of a group, as `_ConsumerThread.on_start` finds it."""

    member_id = "member-1"

    def __init__(self) -> None:
        self.sent: list[Any] = []

    async def _do_commit_offsets(self, assignment: Any, offsets: Any) -> None:
        self.sent.append(offsets)

    async def _do_heartbeat(self) -> bool:
        return True

    async def _on_join_complete(self, *args: Any) -> None: ...

    def reset_generation(self) -> None: ...


@pytest.fixture
async def coordinator(monkeypatch: pytest.MonkeyPatch) -> _Coordinator:
    one = _Coordinator()

    async def nothing(_: Any) -> None: ...

    monkeypatch.setattr(worker_consumer.AIOKafkaConsumerThread, "on_start", nothing)
    thread: Any = worker_consumer._ConsumerThread.__new__(worker_consumer._ConsumerThread)
    thread.app = SimpleNamespace(lease=Lease(10), access=SimpleNamespace(hint=lambda error: None))
    thread._consumer = SimpleNamespace(_coordinator=one)
    await thread.on_start()
    return one


async def test_a_member_commits_for_the_assignment_it_has(coordinator: _Coordinator):
    await coordinator._do_commit_offsets(SimpleNamespace(active=True), {STREAM: 5})
    assert coordinator.sent == [{STREAM: 5}]


async def test_a_commit_for_an_older_assignment_is_refused(coordinator: _Coordinator):
    # After a rebalance aiokafka retries a commit with the new generation.
    with pytest.raises(IllegalGenerationError):
        await coordinator._do_commit_offsets(SimpleNamespace(active=False), {STREAM: 5})
    assert coordinator.sent == []


async def test_a_worker_that_is_not_a_member_does_not_commit(coordinator: _Coordinator):
    coordinator.member_id = JoinGroupRequest.UNKNOWN_MEMBER_ID
    with pytest.raises(UnknownMemberIdError):
        await coordinator._do_commit_offsets(SimpleNamespace(active=True), {STREAM: 5})
    assert coordinator.sent == []


@pytest.mark.parametrize("is_stopping", [False, True])
async def test_a_stage_learns_of_a_revocation_while_the_worker_stops(
    consumer: Any, monkeypatch: pytest.MonkeyPatch, is_stopping: bool
):
    told: list[str] = []

    async def give_up_partitions() -> None:
        told.append("stage")

    async def by_faust(_: Any, partitions: set[TP]) -> None:
        told.append("Faust")

    monkeypatch.setattr(worker_consumer.Consumer, "on_partitions_revoked", by_faust)
    consumer.app = SimpleNamespace(
        should_stop=is_stopping,
        give_up_partitions=give_up_partitions,
    )
    await consumer.on_partitions_revoked({STREAM})
    # While the worker runs, Faust itself calls the stage.
    assert told == (["stage", "Faust"] if is_stopping else ["Faust"])


async def test_the_group_is_left_once_and_on_the_loop_that_owns_the_sockets():
    left: list[asyncio.AbstractEventLoop] = []

    class Coordinator:
        async def close(self) -> None:
            left.append(asyncio.get_running_loop())

    loop = asyncio.new_event_loop()
    owner = threading.Thread(target=loop.run_forever)
    owner.start()
    try:
        thread: Any = worker_consumer._ConsumerThread.__new__(worker_consumer._ConsumerThread)
        thread.thread_loop = loop
        thread.app = SimpleNamespace(loop=asyncio.get_running_loop())
        thread._consumer = SimpleNamespace(_coordinator=Coordinator())
        thread.close()
        thread.close()
        await asyncio.wait_for(asyncio.wrap_future(thread._leaving), 10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        owner.join(10)
        loop.close()
    assert left == [loop]
