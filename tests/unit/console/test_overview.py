from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nexus_stream.console.alerts import AlertKind, Thresholds, alert_conditions
from nexus_stream.console.emissions import EmissionWriter
from nexus_stream.console.overview import Overview, OverviewQueries
from nexus_stream.console.processes import ProcessWriter
from nexus_stream.console.read_model import ReadModel
from nexus_stream.console.topic_record import TopicRecord
from nexus_stream.contracts.status import Latency, PartitionLag, ProcessStatus
from nexus_stream.observability.group_standing import GroupStanding, PartitionStanding

NOW_MS = 1_760_000_000_000


class Processes:
    """The status topic, as processes write it."""

    def __init__(self, model: ReadModel) -> None:
        self._model = model
        self._offset = 0

    def say(self, at_ms: int, process_id: str = "enricher-a", role: str = "enricher", **values: Any) -> None:
        base: dict[str, Any] = {
            "version": "1",
            "host": "h",
            "pid": 1,
            "state": "running",
            "since_ms": at_ms - 5000,
            "started_at_ms": NOW_MS - 3_600_000,
            "updated_at_ms": at_ms,
        }
        status = ProcessStatus(process_id=process_id, role=role, **(base | values))  # type: ignore[arg-type]
        self.send(process_id, status.model_dump_json(exclude_none=True).encode(), at_ms)

    def send(self, process_id: str, value: bytes | None, at_ms: int = NOW_MS) -> None:
        self._model.apply_beside("status", [TopicRecord(0, self._offset, at_ms, process_id.encode(), value)])
        self._offset += 1


@pytest.fixture
def model(tmp_path: Path) -> Iterator[ReadModel]:
    model = ReadModel(tmp_path, "topic", {"status": ProcessWriter(), "enriched": EmissionWriter(1000)})
    yield model
    model.close()


@pytest.fixture
def processes(model: ReadModel) -> Processes:
    return Processes(model)


@pytest.fixture
def queries(model: ReadModel) -> OverviewQueries:
    return OverviewQueries(model.path)


def kinds(overview: Overview) -> list[AlertKind]:
    """What holds with these figures."""
    return [one.kind for one in alert_conditions(overview, Thresholds(), stuck_seconds={}, view_problem=None)]


def test_nothing_known_is_no_process(queries: OverviewQueries) -> None:
    overview = queries.overview(NOW_MS)
    assert [role.state for role in overview.roles] == ["none"] * 3
    assert (overview.sessions, overview.usd_today, kinds(overview)) == (0, 0.0, [])


def test_rate_is_over_the_last_minute_and_errors_over_five(processes: Processes, queries: OverviewQueries) -> None:
    for seconds_ago, enriched, dead in ((400, 0, 0), (300, 100, 0), (60, 700, 60), (0, 1240, 60)):
        processes.say(NOW_MS - seconds_ago * 1000, outcomes={"enriched": enriched, "deadlettered": dead, "dropped": 5})
    enricher = queries.overview(NOW_MS).role("enricher")
    assert enricher.per_second == pytest.approx(540 / 60)
    assert (enricher.finished, enricher.failed) == (1200, 60)
    assert enricher.error_rate == pytest.approx(0.05)


def test_a_process_that_just_started_counts_from_zero(processes: Processes, queries: OverviewQueries) -> None:
    processes.say(NOW_MS - 1000, started_at_ms=NOW_MS - 11_000, outcomes={"enriched": 50})
    assert queries.overview(NOW_MS).role("enricher").per_second == pytest.approx(5.0)


def test_a_restart_is_no_negative_rate(processes: Processes, queries: OverviewQueries) -> None:
    processes.say(NOW_MS - 50_000, outcomes={"enriched": 100_000})
    processes.say(NOW_MS - 1000, started_at_ms=NOW_MS - 21_000, outcomes={"enriched": 40})
    enricher = queries.overview(NOW_MS).role("enricher")
    assert enricher.per_second == pytest.approx(2.0)
    assert enricher.finished == 40


def test_figures_of_all_processes_of_a_type_are_joined(processes: Processes, queries: OverviewQueries) -> None:
    for number, p95 in ((0, 100.0), (1, 900.0)):
        lag = PartitionLag(
            topic="t", partition=number, unread=10, settling=5, overdue=1 + number, oldest_age_seconds=3.0 + number
        )
        processes.say(NOW_MS, f"enricher-{number}", latency=Latency(p50_ms=10.0, p95_ms=p95), partitions=(lag,))
    enricher = queries.overview(NOW_MS).role("enricher")
    assert (enricher.running, enricher.unread, enricher.settling, enricher.overdue) == (2, 20, 10, 3)
    assert (enricher.p95_ms, enricher.age_seconds) == (900.0, 4.0)


def test_the_worst_state_shows(processes: Processes, queries: OverviewQueries) -> None:
    processes.say(NOW_MS, "sink-a", "sink")
    processes.say(NOW_MS, "sink-b", "sink", state="waiting", detail="Supabase", since_ms=NOW_MS - 60_000)
    overview = queries.overview(NOW_MS)
    assert overview.role("sink").state == "waiting"
    assert kinds(overview) == [AlertKind.PERSISTENCE, AlertKind.WAITING]


def test_a_killed_process_turns_silent_and_its_figures_are_left_out(
    processes: Processes, queries: OverviewQueries
) -> None:
    lag = PartitionLag(topic="t", partition=0, unread=5000)
    processes.say(NOW_MS - 60_000, outcomes={"enriched": 1000}, partitions=(lag,))
    overview = queries.overview(NOW_MS)
    assert kinds(overview) == [AlertKind.SILENT]
    assert overview.role("enricher").state == "none"
    assert (overview.role("enricher").unread, overview.role("enricher").per_second) == (0, 0.0)


def test_a_state_lasts_as_long_as_it_was_reported(processes: Processes, queries: OverviewQueries) -> None:
    processes.say(NOW_MS - 9000, state="rebalancing", since_ms=NOW_MS - 10_000)
    (process,) = queries.overview(NOW_MS).processes
    assert process.state_seconds == pytest.approx(3.0)


def test_a_process_that_stopped_in_order_is_gone(processes: Processes, queries: OverviewQueries) -> None:
    processes.say(NOW_MS)
    processes.send("enricher-a", None)
    assert queries.overview(NOW_MS).processes == ()


@pytest.mark.parametrize("value", [b"", b"{", b"[]", b'{"status_version": 2}', b"\xff"])
def test_what_is_no_status_is_left_alone(processes: Processes, queries: OverviewQueries, value: bytes) -> None:
    processes.send("enricher-a", value)
    assert queries.overview(NOW_MS).processes == ()


def test_a_key_that_names_another_process_is_left_alone(processes: Processes, queries: OverviewQueries) -> None:
    processes.say(NOW_MS)
    processes.send("sink-a", b'{"process_id": "enricher-a"}')
    assert [process.process_id for process in queries.overview(NOW_MS).processes] == ["enricher-a"]


def test_series_has_rates_and_gaps(processes: Processes, queries: OverviewQueries) -> None:
    start = NOW_MS // 10_000 * 10_000 - 100_000
    for step in range(4):
        processes.say(start + step * 10_000 + 500, outcomes={"enriched": 100 + step * 50})
    series = queries.series(NOW_MS, 10)
    rates = series.curves["enricher_per_second"]
    assert series.step_seconds == 10
    assert [rate for rate in rates if rate is not None] == [5.0, 5.0, 5.0]
    assert rates[-1] is None
    assert len(series.times) == len(rates) == 61


@pytest.mark.parametrize(("minutes", "points"), [(60, 361), (180, 361), (1440, 393)])
def test_series_has_few_hundred_points_whatever_the_time(queries: OverviewQueries, minutes: int, points: int) -> None:
    assert len(queries.series(NOW_MS, minutes).times) == pytest.approx(points, abs=1)


def test_samples_and_processes_are_forgotten_after_a_day(
    model: ReadModel, processes: Processes, queries: OverviewQueries
) -> None:
    processes.say(NOW_MS - 25 * 3_600_000)
    model.prune(NOW_MS)
    assert all(value is None for curve in queries.series(NOW_MS, 1440).curves.values() for value in curve)
    assert queries.overview(NOW_MS).processes == ()


def standing(*places: tuple[int, int, int | None]) -> dict[str, GroupStanding | None]:
    """Of the enrichers: partition, lag and time of the oldest record."""
    partitions = tuple(PartitionStanding(number, 100, 100 + lag, oldest_ms) for number, lag, oldest_ms in places)
    return {"enricher": GroupStanding("nexus-enricher", "t", partitions)}


def test_of_partitions_that_nobody_reports_the_broker_tells(processes: Processes, queries: OverviewQueries) -> None:
    lag = PartitionLag(topic="t", partition=0, unread=1, settling=50, overdue=2, oldest_age_seconds=3.0)
    processes.say(NOW_MS, partitions=(lag,))
    broker = standing((0, 90, NOW_MS - 20_000), (1, 40, NOW_MS - 60_000), (2, 0, None))
    enricher = queries.overview(NOW_MS, broker).role("enricher")
    # Of partition 0 its reader knows what settles and what is done behind it; nobody reads partition 1.
    assert (enricher.unread, enricher.settling, enricher.overdue, enricher.late) == (41, 50, 2, 43)
    assert enricher.age_seconds == pytest.approx(60.0)


def test_all_lag_is_told_while_every_worker_is_dead(processes: Processes, queries: OverviewQueries) -> None:
    processes.say(NOW_MS - 60_000, partitions=(PartitionLag(topic="t", partition=0),))
    overview = queries.overview(NOW_MS, standing((0, 5000, NOW_MS - 40 * 3_600_000)))
    assert overview.role("enricher").late == 5000
    assert kinds(overview) == [AlertKind.OLD_MESSAGES, AlertKind.SILENT, AlertKind.LAG]


def test_a_worker_that_cannot_ask_for_ends_is_completed_by_the_broker(
    processes: Processes, queries: OverviewQueries
) -> None:
    lag = PartitionLag(topic="t", partition=0, settling=5, overdue=2)
    processes.say(NOW_MS, partitions=(lag,), lag_known=False)
    assert queries.overview(NOW_MS, standing((0, 100, NOW_MS))).role("enricher").unread == 93


def test_settling_chats_alone_are_no_old_messages(processes: Processes, queries: OverviewQueries) -> None:
    processes.say(NOW_MS, partitions=(PartitionLag(topic="t", partition=0, settling=5),))
    assert queries.overview(NOW_MS, standing((0, 5, NOW_MS - 50_000))).role("enricher").age_seconds == 0.0


def test_spending_of_the_last_hour_counts_the_clocks_hours_by_share(model: ReadModel, queries: OverviewQueries) -> None:
    hour_ms = 3_600_000
    start = NOW_MS // hour_ms * hour_ms
    with sqlite3.connect(model.path) as db:
        for hours_ago, usd in ((0, 1.0), (1, 4.0), (2, 100.0)):
            db.execute("INSERT INTO usage_hours VALUES (?, 1, 0, 0, ?)", (start - hours_ago * hour_ms, usd))
    db.close()
    assert queries.overview(start + hour_ms // 4).usd_hour == pytest.approx(1.0 + 4.0 * 0.75)
