"""Readiness, liveness and state of a worker, with a real stage and a fake clock."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from prometheus_client import CollectorRegistry

from nexus_stream.delivery.outcomes import Stored
from nexus_stream.delivery.received import Assignment
from nexus_stream.delivery.stage import Stage, StageParts
from nexus_stream.errors import StalledError
from nexus_stream.observability.metrics import ProcessStateCollector, shown
from nexus_stream.observability.outcomes import OutcomeObserver
from nexus_stream.settings import load_settings
from nexus_stream.testing.broker import InMemoryBroker
from nexus_stream.testing.clock import FakeClock
from nexus_stream.worker.health import WorkerHealth
from nexus_stream.worker.status import state_of

T0, T1 = ("enriched", 0), ("enriched", 1)


@dataclass
class Bench:
    """A sink's stage with two partitions, and its health."""

    watchdog_exit: bool = False
    faust_says: str | None = None
    fatal: list[BaseException] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ends: dict[tuple[str, int], int] = {}
        self.clock = FakeClock()
        self.stage = Stage(
            StageParts(
                broker=InMemoryBroker(2),
                assignment=Assignment(),
                clock=self.clock,
                observer=OutcomeObserver("sink"),
                on_fatal=self.fatal.append,
            ),
            name="sink",
            topic="enriched",
            commit_interval_seconds=1,
        )
        self.stage.assignment.assign([T0, T1])
        self.health = WorkerHealth(
            load_settings(environ={"NEXUS_WATCHDOG_EXIT": str(self.watchdog_exit).lower()}),
            "sink",
            self.stage,
            group="nexus-sink",
            not_reading_because=lambda: self.faust_says,
            needs=("broker", "Supabase"),
            on_fatal=self.fatal.append,
        )

    def read(self, tp: tuple[str, int], offset: int, *, end: int) -> None:
        """Read one record of a partition that ends there, and finish it."""
        record = self.stage.read(*tp, offset, self.clock.time_ms(), b"k", b"v", ())
        assert record is not None
        self.stage.finish(record, Stored())
        self.ends[tp] = end

    async def watch(self, seconds: int) -> None:
        """Let time pass while the broker answers and partition 1 moves."""
        for _ in range(0, seconds, 5):
            self.health.lag.note_answer(self.ends)
            self.health.observe()
            await self.clock.advance(5)
            self.read(T1, self.stage.ledger.read_positions().get(T1, 0), end=10_000)


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.mark.parametrize("needed", ["broker", "Supabase"])
def test_a_worker_that_waits_for_a_need_is_live_but_not_ready(bench: Bench, needed: str):
    assert bench.health.not_ready_because() is None
    bench.stage.waits_for(needed)
    assert bench.health.not_ready_because() == f"waiting for {needed}"
    # The worker waits; that is not its fault.
    assert bench.health.not_processing_because() is None
    assert bench.health.not_live_because() is None
    bench.stage.waits_no_longer(needed)
    assert bench.health.not_ready_because() is None


def test_waiting_for_claude_is_ready(bench: Bench):
    bench.stage.waits_for("claude")
    assert bench.health.not_ready_because() is None


@pytest.mark.parametrize("reason", ["rebalancing", "recovering the table", "stopping"])
def test_a_worker_in_a_rebalance_or_recovery_is_live_but_not_ready(bench: Bench, reason: str):
    bench.faust_says = reason
    assert bench.health.not_ready_because() == reason
    assert bench.health.not_live_because() is None


async def test_one_stalled_partition_is_detected_while_the_other_moves(bench: Bench):
    bench.read(T0, 0, end=5)
    bench.read(T1, 0, end=10_000)
    await bench.watch(170)
    assert bench.health.not_live_because() is None
    await bench.watch(30)
    assert "no progress for" in (bench.health.not_live_because() or "")
    assert "(partition 0)" in (bench.health.not_live_because() or "")
    assert bench.health.not_ready_because() == bench.health.not_live_because()
    assert state_of(bench.stage, bench.health.not_processing_because()).state == "stalled"
    assert not bench.fatal
    bench.read(T0, 1, end=5)
    await bench.watch(10)
    assert bench.health.not_live_because() is None


async def test_a_partition_that_was_never_read_is_detected_too(bench: Bench):
    bench.read(T1, 0, end=10_000)
    bench.ends[T0] = 7
    bench.health.lag.note_answer(bench.ends, {T0: 3})
    await bench.watch(200)
    assert "(partition 0)" in (bench.health.not_live_because() or "")


async def test_nothing_to_read_is_not_a_stall(bench: Bench):
    bench.read(T0, 0, end=1)
    bench.read(T1, 0, end=10_000)
    await bench.watch(400)
    assert bench.health.not_live_because() is None


async def test_waiting_is_not_a_stall(bench: Bench):
    bench.read(T0, 0, end=5)
    bench.read(T1, 0, end=10_000)
    bench.stage.waits_for("Supabase")
    await bench.watch(400)
    assert bench.health.not_live_because() is None


async def test_a_stalled_worker_ends_if_the_setting_says_so():
    bench = Bench(watchdog_exit=True)
    bench.read(T0, 0, end=5)
    bench.read(T1, 0, end=10_000)
    await bench.watch(200)
    assert isinstance(bench.fatal[0], StalledError)


def test_exactly_one_state_is_shown(bench: Bench):
    registry = CollectorRegistry()
    collector = ProcessStateCollector(
        "sink", lambda: state_of(bench.stage, bench.health.not_processing_because()).state
    )

    def states() -> set[str]:
        return {
            sample.labels["state"]
            for family in registry.collect()
            for sample in family.samples
            if sample.name == "nexus_process_state" and sample.value == 1
        }

    with shown(collector, registry=registry):
        assert states() == {"running"}
        bench.stage.waits_for("Supabase")
        assert states() == {"waiting"}
        bench.faust_says = "rebalancing"
        assert states() == {"rebalancing"}
        bench.faust_says = "no partitions assigned yet"
        assert states() == {"starting"}
    assert list(registry.collect()) == []
