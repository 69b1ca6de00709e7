"""The public fakes behave like the real parts, so that a user's test fails only because of the user's code."""

from __future__ import annotations

import asyncio
import time

import pytest
from aiokafka.partitioner import DefaultPartitioner

from nexus_stream.contracts.prospect import SignalName
from nexus_stream.delivery.clock import Clock, SystemClock
from nexus_stream.delivery.ports import BrokerPort
from nexus_stream.delivery.received import Assignment, Received
from nexus_stream.errors import BrokerUnavailableError, ModelUnavailableError, PartitionLostError, StateVersionError
from nexus_stream.extraction.extractor import Extractor, Turn
from nexus_stream.testing.broker import InMemoryBroker
from nexus_stream.testing.clock import FakeClock
from nexus_stream.testing.extractor import ScriptedExtractor
from nexus_stream.testing.sessions import InMemorySessionTable
from tables.session_state import SessionState, encode_state
from tables.sessions import SessionTablePort


async def test_each_fake_fits_its_protocol() -> None:
    """mypy checks this: the assignment to the protocol is an error if the fake differs from it."""
    clock: Clock = FakeClock()
    broker: BrokerPort = InMemoryBroker()
    table: SessionTablePort = InMemorySessionTable(broker, Assignment())
    extractor: Extractor = ScriptedExtractor()
    assert clock.time_ms() > 0
    assert broker.partition_count("any") == 1
    assert table.scan(0, None, 10) == []
    await extractor.close()


class TestFakeClock:
    async def test_it_stands_still(self) -> None:
        clock = FakeClock(time_ms=5000)
        before = clock.monotonic()
        await asyncio.sleep(0.01)
        assert (clock.monotonic(), clock.time_ms()) == (before, 5000)

    async def test_advancing_it_moves_both_times(self) -> None:
        clock = FakeClock(time_ms=5000)
        before = clock.monotonic()
        await clock.advance(2.5)
        assert clock.monotonic() == before + 2.5
        assert clock.time_ms() == 7500

    async def test_sleepers_wake_in_order_each_at_its_own_time(self) -> None:
        clock = FakeClock(time_ms=0)
        woken: list[tuple[str, int]] = []

        async def sleeper(name: str, seconds: float) -> None:
            await clock.sleep(seconds)
            woken.append((name, clock.time_ms()))

        async with asyncio.TaskGroup() as group:
            for name, seconds in (("late", 3), ("early", 1), ("also early", 1), ("now", 0)):
                group.create_task(sleeper(name, seconds))
            await clock.settle()
            assert woken == [("now", 0)]
            await clock.advance(2)
            assert woken == [("now", 0), ("early", 1000), ("also early", 1000)]
            await clock.advance(2)
        assert woken[-1] == ("late", 3000)
        assert clock.time_ms() == 4000

    async def test_a_sleeper_may_sleep_again_within_the_same_advance(self) -> None:
        clock = FakeClock(time_ms=0)
        ticks: list[int] = []

        async def ticking() -> None:
            while True:
                await clock.sleep(1)
                ticks.append(clock.time_ms())

        task = asyncio.create_task(ticking())
        await clock.advance(3.5)
        task.cancel()
        assert ticks == [1000, 2000, 3000]

    async def test_a_cancelled_sleeper_does_not_stop_the_clock(self) -> None:
        clock = FakeClock()
        task = asyncio.create_task(clock.sleep(1))
        await clock.settle()
        task.cancel()
        await clock.advance(5)
        assert task.cancelled()


@pytest.mark.parametrize("clock", [FakeClock(), SystemClock()], ids=["fake", "real"])
class TestAnyClock:
    """The fake and the real clock behave alike."""

    async def test_waiting_for_a_set_event_takes_no_time(self, clock: Clock) -> None:
        event = asyncio.Event()
        event.set()
        assert await clock.wait(event, 60.0)

    async def test_waiting_ends_with_the_event(self, clock: Clock) -> None:
        event = asyncio.Event()
        waiting = asyncio.create_task(clock.wait(event, 60.0))
        await asyncio.sleep(0)
        event.set()
        assert await asyncio.wait_for(waiting, 5)

    async def test_waiting_ends_at_its_timeout(self, clock: Clock) -> None:
        waiting = asyncio.create_task(clock.wait(asyncio.Event(), 0.02))
        if isinstance(clock, FakeClock):
            await clock.advance(0.02)
        assert not await asyncio.wait_for(waiting, 5)

    async def test_without_a_timeout_only_the_event_ends_it(self, clock: Clock) -> None:
        event = asyncio.Event()
        waiting = asyncio.create_task(clock.wait(event, None))
        if isinstance(clock, FakeClock):
            await clock.advance(100_000)
        await asyncio.sleep(0)
        assert not waiting.done()
        event.set()
        assert await asyncio.wait_for(waiting, 5)


async def test_the_real_clock_sleeps() -> None:
    clock = SystemClock()
    before = time.monotonic()
    await clock.sleep(0.01)
    assert clock.monotonic() - before >= 0.009
    assert abs(clock.time_ms() / 1000 - time.time()) < 5


class TestInMemoryBroker:
    async def test_a_key_decides_the_partition_as_kafkas_clients_do(self) -> None:
        broker = InMemoryBroker(partitions=5)
        for number in range(20):
            key = f"s-{number}".encode()
            await (await broker.send("t", key, b"v"))
            (record,) = [record for record in broker.records("t") if record.key == key]
            assert record.partition == DefaultPartitioner()(key, list(range(5)), list(range(5)))

    async def test_offsets_count_up_in_each_partition(self) -> None:
        broker = InMemoryBroker(partitions=2)
        for partition in (0, 1, 0):
            await (await broker.send("t", b"k", b"v", partition=partition))
        assert [(record.partition, record.offset) for record in broker.records("t")] == [(0, 0), (0, 1), (1, 0)]

    async def test_the_stored_record_is_the_sent_record(self) -> None:
        broker = InMemoryBroker()
        await (await broker.send("t", None, None, timestamp_ms=7, headers=(("a", b"1"), ("a", b"2"))))
        (record,) = broker.records("t")
        assert (record.key, record.value, record.timestamp_ms) == (None, None, 7)
        assert record.headers == (("a", b"1"), ("a", b"2"))

    async def test_a_failing_topic_stores_nothing_until_it_works_again(self) -> None:
        broker = InMemoryBroker()
        broker.failing.add("t")
        acknowledged = await broker.send("t", b"k", b"v")
        with pytest.raises(BrokerUnavailableError):
            await acknowledged
        assert broker.records("t") == []
        broker.failing.clear()
        await (await broker.send("t", b"k", b"v"))
        assert len(broker.records("t")) == 1

    async def test_commits_are_stored(self) -> None:
        broker = InMemoryBroker()
        assert await broker.commit({("t", 0): 3})
        assert await broker.commit({("t", 1): 1})
        assert broker.committed == {("t", 0): 3, ("t", 1): 1}


class TestInMemorySessionTable:
    @pytest.fixture
    def broker(self) -> InMemoryBroker:
        return InMemoryBroker()

    @pytest.fixture
    def assignment(self) -> Assignment:
        assignment = Assignment()
        assignment.assign([("ingestion", 0)])
        return assignment

    @pytest.fixture
    def table(self, broker: InMemoryBroker, assignment: Assignment) -> InMemorySessionTable:
        return InMemorySessionTable(broker, assignment, "log")

    @staticmethod
    def record(assignment: Assignment) -> Received:
        return Received("ingestion", 0, 0, 0, b"s-1", b"{}", (), epoch=assignment.epoch)

    async def test_a_state_is_visible_when_the_changelog_has_it(
        self, table: InMemorySessionTable, broker: InMemoryBroker, assignment: Assignment
    ) -> None:
        record, state = self.record(assignment), SessionState(session_id="s-1")
        acknowledged = await table.put(record, b"s-1", state)
        assert table.get(record, b"s-1") is None
        await acknowledged
        assert table.get(record, b"s-1") == table.state(b"s-1") == state
        assert [entry.value for entry in broker.records("log")] == [encode_state(state)]

    async def test_a_state_that_the_broker_refuses_is_not_visible(
        self, table: InMemorySessionTable, broker: InMemoryBroker, assignment: Assignment
    ) -> None:
        broker.failing.add("log")
        record = self.record(assignment)
        acknowledged = await table.put(record, b"s-1", SessionState(session_id="s-1"))
        with pytest.raises(BrokerUnavailableError):
            await acknowledged
        assert table.get(record, b"s-1") is None

    async def test_deleting_leaves_a_tombstone(
        self, table: InMemorySessionTable, broker: InMemoryBroker, assignment: Assignment
    ) -> None:
        record = self.record(assignment)
        await (await table.put(record, b"s-1", SessionState(session_id="s-1")))
        await (await table.put(record, b"s-1", None))
        assert table.get(record, b"s-1") is None
        assert broker.records("log")[-1].value is None
        with pytest.raises(KeyError):
            table.state(b"s-1")

    async def test_a_revoked_partition_is_refused(self, table: InMemorySessionTable, assignment: Assignment) -> None:
        record = self.record(assignment)
        begun = await table.put(record, b"s-1", SessionState(session_id="s-1"))
        assignment.revoke()
        with pytest.raises(PartitionLostError):
            await begun
        assert table.values == {}
        with pytest.raises(PartitionLostError):
            table.get(record, b"s-1")
        with pytest.raises(PartitionLostError):
            await table.put(record, b"s-1", None)
        with pytest.raises(PartitionLostError):
            await table.purge(record, [b"s-1"])

    async def test_a_newer_state_is_refused_as_by_the_real_table(
        self, table: InMemorySessionTable, assignment: Assignment
    ) -> None:
        table.values[b"s-1"] = b'{"state_version": 99, "session_id": "s-1"}'
        with pytest.raises(StateVersionError):
            table.get(self.record(assignment), b"s-1")

    async def test_scanning_continues_after_a_key(self, table: InMemorySessionTable, assignment: Assignment) -> None:
        record = self.record(assignment)
        for name in ("b", "a", "c"):
            await (await table.put(record, name.encode(), SessionState(session_id=name)))
        first = table.scan(0, None, 2)
        assert [key for key, _ in first] == [b"a", b"b"]
        assert [state.session_id for _, state in table.scan(0, first[-1][0], 2)] == ["c"]

    async def test_purged_keys_are_recorded(self, table: InMemorySessionTable, assignment: Assignment) -> None:
        await table.purge(self.record(assignment), [b"s-1", b"s-2"])
        assert table.purged == {b"s-1", b"s-2"}


class TestScriptedExtractor:
    async def test_it_finds_a_name_and_its_span(self) -> None:
        turns = [Turn("assistant", "me llamo Bot"), Turn("user", "Hola, me llamo Ana Ruiz")]
        findings = await ScriptedExtractor().extract(turns)
        (signal,) = findings.signals
        assert (findings.nombre, signal.name) == ("Ana Ruiz", SignalName.NOMBRE)
        assert turns[signal.turn].content[signal.start : signal.end] == "Ana Ruiz"
        assert findings.usage.cost_usd > 0

    async def test_it_finds_nothing_without_a_name(self) -> None:
        findings = await ScriptedExtractor().extract([Turn("assistant", "me llamo Bot")])
        assert (findings.nombre, findings.signals) == (None, ())

    async def test_the_script_may_fail_and_every_call_counts(self) -> None:
        failures = [ModelUnavailableError("busy"), None]

        def script(turns: object) -> None:
            failure = failures.pop(0)
            if failure is not None:
                raise failure

        extractor = ScriptedExtractor(script)
        turns = (Turn("user", "hola"),)
        with pytest.raises(ModelUnavailableError):
            await extractor.extract(turns)
        await extractor.extract(turns)
        assert extractor.calls == [turns, turns]

    async def test_calls_wait_while_the_gate_is_closed(self) -> None:
        extractor = ScriptedExtractor()
        extractor.gate.clear()
        call = asyncio.create_task(extractor.extract([Turn("user", "hola")]))
        await asyncio.sleep(0)
        assert not call.done()
        assert len(extractor.calls) == 1
        extractor.gate.set()
        await asyncio.wait_for(call, 5)
