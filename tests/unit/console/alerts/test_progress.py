from __future__ import annotations

from nexus_stream.console.alerts.progress import ProgressWatch
from nexus_stream.console.reading.overview import RoleFigures
from nexus_stream.kafka.group_offsets import GroupStanding, PartitionStanding


def role(late: int = 5, *states: str) -> RoleFigures:
    return RoleFigures("enricher", len(states), 0.0, 0, 0, None, None, late, 0, 0, 0.0, states)


def standing(*committed: int) -> dict[str, GroupStanding | None]:
    partitions = tuple(PartitionStanding(number, offset, 1000) for number, offset in enumerate(committed))
    return {"enricher": GroupStanding("g", "t", partitions)}


def test_time_without_progress_grows_with_lag_and_no_commit() -> None:
    watch = ProgressWatch(60)
    assert watch.observe([role()], standing(1, 2), 0) == {"enricher": 0}
    # The offsets may have been unchanged before the first observation.
    assert watch.unknown == {"enricher"}
    assert watch.observe([role()], standing(1, 2), 50) == {"enricher": 50}
    assert watch.observe([role()], standing(1, 2), 70) == {"enricher": 70}
    assert watch.unknown == set()
    watch.observe([role()], standing(1, 3), 80)
    assert watch.observe([role()], standing(1, 3), 90) == {"enricher": 10}
    assert watch.unknown == set()


def test_a_commit_on_any_partition_is_progress() -> None:
    watch = ProgressWatch(60)
    watch.observe([role()], standing(1, 2), 0)
    assert watch.observe([role()], standing(1, 3), 50) == {}
    assert watch.observe([role()], standing(1, 3), 60) == {"enricher": 10}


def test_without_lag_no_progress_is_expected() -> None:
    watch = ProgressWatch(60)
    watch.observe([role(0)], standing(1), 0)
    assert watch.observe([role(0)], standing(1), 500) == {}
    # The time since the last commit does not count for a record that has just arrived.
    assert watch.observe([role(5)], standing(1), 501) == {"enricher": 1}


def test_a_waiting_process_is_not_stuck() -> None:
    watch = ProgressWatch(60)
    watch.observe([role(5, "running")], standing(1), 0)
    assert watch.observe([role(5, "running", "waiting")], standing(1), 100) == {}
    assert watch.observe([role(5, "running")], standing(1), 110) == {"enricher": 10}


def test_a_rebalance_or_a_recovery_is_excused_for_a_while() -> None:
    watch = ProgressWatch(60)
    watch.observe([role(5, "running")], standing(1), 0)
    assert watch.observe([role(5, "recovering")], standing(1), 300) == {}
    assert watch.unknown == {"enricher"}
    assert watch.observe([role(5, "rebalancing")], standing(1), 600) == {}
    # A worker that never finishes starting makes no progress.
    assert watch.observe([role(5, "recovering")], standing(1), 601) == {"enricher": 601}
    assert watch.unknown == set()


def test_starting_again_and_again_is_no_excuse() -> None:
    watch = ProgressWatch(60)
    watch.observe([role(5, "starting")], standing(1), 0)
    assert watch.observe([role(5, "starting")], standing(1), 61) == {"enricher": 61}


def test_nothing_is_known_if_the_broker_does_not_answer() -> None:
    watch = ProgressWatch(60)
    watch.observe([role()], standing(1), 0)
    assert watch.observe([role()], {"enricher": None}, 100) == {}
    assert watch.observe([role()], standing(1), 200) == {"enricher": 0}
