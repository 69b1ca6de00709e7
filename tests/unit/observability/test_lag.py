"""The lag of partitions by kind, also of partitions of which no record was read yet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest
from prometheus_client import CollectorRegistry

from nexus_stream.contracts.status import PartitionLag
from nexus_stream.delivery.ledger import OffsetLedger
from nexus_stream.delivery.outcomes import Stored
from nexus_stream.delivery.received import Assignment, TopicPartition
from nexus_stream.delivery.stage import Stage, StageParts
from nexus_stream.observability.lag import StageLag, partition_lags
from nexus_stream.observability.metrics import shown
from nexus_stream.observability.metrics_stage import LagCollector
from nexus_stream.observability.outcomes import OutcomeObserver
from nexus_stream.settings import load_settings
from nexus_stream.testing.broker import InMemoryBroker
from nexus_stream.testing.clock import FakeClock

NOW_MS = 1_760_000_000_000
T0, T1 = ("conversations", 0), ("conversations", 1)
LAG = "nexus_partition_lag_records"


def test_lag_is_split_by_kind() -> None:
    ledger = OffsetLedger()
    for offset, age_seconds in ((10, 90), (11, 40), (12, 5)):
        ledger.begin(T0, offset, NOW_MS - age_seconds * 1000)
    ledger.begin(T1, 3, NOW_MS)
    ledger.done(T1, 3)
    (first, second) = partition_lags(
        ledger.positions(),
        ledger.read_positions(),
        {T0: 20, T1: 4},
        ledger.unfinished_times(),
        frozenset({(T0, 10), (T0, 12)}),
        NOW_MS,
    )
    # Read up to 13 of 20. Three records are unfinished, two of them settle. The oldest overdue record is 40 s old.
    assert first == PartitionLag(
        topic="conversations", partition=0, unread=7, settling=2, overdue=1, oldest_age_seconds=40.0
    )
    assert second == PartitionLag(topic="conversations", partition=1)


def test_without_an_answer_of_the_broker_lag_is_not_negative() -> None:
    positions: Mapping[TopicPartition, int] = {T0: 13}
    (lag,) = partition_lags(positions, positions, {}, {}, frozenset(), NOW_MS)
    assert (lag.unread, lag.overdue, lag.oldest_age_seconds) == (0, 0, 0.0)


@pytest.fixture
def stage() -> Stage:
    return Stage(
        StageParts(
            broker=InMemoryBroker(2),
            assignment=Assignment(),
            clock=FakeClock(),
            observer=OutcomeObserver("enricher"),
            on_fatal=lambda error: None,
        ),
        name="enrich",
        topic="conversations",
        commit_interval_seconds=1,
    )


class Answered:
    """A lag whose broker answered just now."""

    def __init__(self, lag: StageLag, ends: dict[TopicPartition, int], committed: dict[TopicPartition, int]) -> None:
        lag.note_answer(ends, committed)
        self.registry = CollectorRegistry()
        self.collector = LagCollector("enricher", lag)

    def value(self, tp: TopicPartition, kind: str) -> float | None:
        labels = {"stage": "enricher", "topic": tp[0], "partition": str(tp[1]), "kind": kind}
        return self.registry.get_sample_value(LAG, labels)

    def known(self) -> float | None:
        return self.registry.get_sample_value("nexus_lag_known", {"stage": "enricher"})


@pytest.fixture
def lag(stage: Stage) -> StageLag:
    return StageLag(load_settings(environ={}), stage, "nexus-enricher")


@pytest.fixture
def answered(lag: StageLag) -> Iterator[Answered]:
    one = Answered(lag, {T0: 20, T1: 9}, {T1: 4})
    with shown(one.collector, registry=one.registry):
        yield one


async def test_a_scrape_shows_the_current_lag_of_owned_partitions(stage: Stage, answered: Answered):
    await stage.assigned([T0, T1, ("some-changelog", 0)])
    first, _ = [stage.read(*T0, offset, NOW_MS, b"k", b"v", ()) for offset in (10, 11)]
    assert first is not None
    stage.finish(first, Stored())
    assert (answered.value(T0, "unread"), answered.value(T0, "overdue"), answered.value(T0, "settling")) == (8, 1, 0)
    # No record of it was read: its lag is end minus committed offset, which only the broker knows.
    assert answered.value(T1, "unread") == 5
    assert answered.value(("some-changelog", 0), "unread") is None
    assert answered.known() == 1


async def test_a_revoked_partition_has_no_series(stage: Stage, answered: Answered):
    await stage.assigned([T0, T1])
    assert answered.value(T1, "unread") == 5
    await stage.revoked(drain_seconds=0.1)
    assert answered.value(T1, "unread") is None
    await stage.assigned([T0])
    # Other workers may have committed meanwhile, so the committed offset is read again.
    assert answered.value(T1, "unread") is None
    assert answered.value(T0, "unread") is None


async def test_without_end_offsets_no_unread_number_is_shown(stage: Stage, lag: StageLag):
    registry = CollectorRegistry()
    await stage.assigned([T0])
    stage.read(*T0, 10, NOW_MS, b"k", b"v", ())
    with shown(LagCollector("enricher", lag), registry=registry):
        labels = {"stage": "enricher", "topic": T0[0], "partition": "0"}
        assert registry.get_sample_value("nexus_lag_known", {"stage": "enricher"}) == 0
        assert registry.get_sample_value(LAG, {**labels, "kind": "unread"}) is None
        assert registry.get_sample_value(LAG, {**labels, "kind": "overdue"}) == 1
