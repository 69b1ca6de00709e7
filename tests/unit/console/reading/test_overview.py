from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from nexus_stream.console.alerts.book import AlertBook, AlertEvent, timings_of
from nexus_stream.console.alerts.conditions import Alert, AlertKind, Thresholds, alert_conditions
from nexus_stream.console.index.emissions import EmissionWriter
from nexus_stream.console.index.processes import ProcessWriter
from nexus_stream.console.index.read_model import ReadModel
from nexus_stream.console.index.topic_record import TopicRecord
from nexus_stream.console.reading.overview import Overview, OverviewQueries
from nexus_stream.contracts.status import MAX_COUNT, Latency, PartitionLag, ProcessStatus
from nexus_stream.kafka.group_offsets import GroupStanding, PartitionStanding
from nexus_stream.settings import Settings

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
    model = ReadModel(tmp_path, "topic", {"status": ProcessWriter("status"), "enriched": EmissionWriter(1000)})
    yield model
    model.close()


@pytest.fixture
def processes(model: ReadModel) -> Processes:
    return Processes(model)


@pytest.fixture
def queries(model: ReadModel) -> OverviewQueries:
    return OverviewQueries(model.path)


def conditions(overview: Overview) -> list[Alert]:
    """The conditions that hold with these figures."""
    return alert_conditions(overview, Thresholds(), stuck_seconds={}, view_problem=None)


def kinds(overview: Overview) -> list[AlertKind]:
    """The kinds of these conditions."""
    return [one.kind for one in conditions(overview)]


def test_an_empty_index_has_no_processes(queries: OverviewQueries) -> None:
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
def test_a_malformed_status_is_ignored(processes: Processes, queries: OverviewQueries, value: bytes) -> None:
    processes.send("enricher-a", value)
    assert queries.overview(NOW_MS).processes == ()


def test_a_status_with_the_key_of_another_process_is_ignored(processes: Processes, queries: OverviewQueries) -> None:
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
    """The enrichers' offsets: partition, lag and time of the oldest record."""
    partitions = tuple(PartitionStanding(number, 100, 100 + lag, oldest_ms) for number, lag, oldest_ms in places)
    return {"enricher": GroupStanding("nexus-enricher", "t", partitions)}


def test_partitions_without_a_report_use_the_brokers_offsets(processes: Processes, queries: OverviewQueries) -> None:
    lag = PartitionLag(topic="t", partition=0, unread=1, settling=50, overdue=2, oldest_age_seconds=3.0)
    processes.say(NOW_MS, partitions=(lag,))
    broker = standing((0, 90, NOW_MS - 20_000), (1, 40, NOW_MS - 60_000), (2, 0, None))
    enricher = queries.overview(NOW_MS, broker).role("enricher")
    # The reader of partition 0 knows its settling and finished records. Partition 1 has no reader.
    assert (enricher.unread, enricher.settling, enricher.overdue, enricher.late) == (41, 50, 2, 43)
    assert enricher.age_seconds == pytest.approx(60.0)


def test_lag_is_known_if_every_worker_is_dead(processes: Processes, queries: OverviewQueries) -> None:
    processes.say(NOW_MS - 60_000, partitions=(PartitionLag(topic="t", partition=0),))
    overview = queries.overview(NOW_MS, standing((0, 5000, NOW_MS - 40 * 3_600_000)))
    assert overview.role("enricher").late == 5000
    assert kinds(overview) == [AlertKind.OLD_MESSAGES, AlertKind.SILENT, AlertKind.LAG]


def test_a_worker_without_end_offsets_gets_the_brokers_lag(processes: Processes, queries: OverviewQueries) -> None:
    lag = PartitionLag(topic="t", partition=0, settling=5, overdue=2)
    processes.say(NOW_MS, partitions=(lag,), lag_known=False)
    assert queries.overview(NOW_MS, standing((0, 100, NOW_MS))).role("enricher").unread == 93


def test_settling_chats_alone_are_no_old_messages(processes: Processes, queries: OverviewQueries) -> None:
    processes.say(NOW_MS, partitions=(PartitionLag(topic="t", partition=0, settling=5),))
    assert queries.overview(NOW_MS, standing((0, 5, NOW_MS - 50_000))).role("enricher").age_seconds == 0.0


def test_a_process_type_is_missing_until_one_process_is_back(processes: Processes, queries: OverviewQueries) -> None:
    processes.say(NOW_MS, "gateway-a", "gateway")
    processes.send("gateway-a", None)
    assert kinds(queries.overview(NOW_MS + 29_000)) == []
    overview = queries.overview(NOW_MS + 45_000)
    assert [(alert.kind, alert.where) for alert in conditions(overview)] == [(AlertKind.SILENT, "gateway")]
    # A type that never reported is not missing.
    assert overview.absent_seconds == {"gateway": 45.0}
    processes.say(NOW_MS + 46_000, "gateway-b", "gateway")
    assert kinds(queries.overview(NOW_MS + 47_000)) == []


def test_a_process_that_stopped_normally_is_not_missing(processes: Processes, queries: OverviewQueries) -> None:
    processes.say(NOW_MS, "sink-a", "sink")
    processes.send("sink-a", None)
    processes.say(NOW_MS + 60_000, "sink-b", "sink")
    assert kinds(queries.overview(NOW_MS + 60_000)) == []


@pytest.mark.parametrize("names", [("sink-a", "sink"), ("sink", "sink-a")])
def test_a_forgotten_process_is_no_longer_missing(
    processes: Processes, queries: OverviewQueries, names: tuple[str, str]
) -> None:
    processes.say(NOW_MS, "sink-a", "sink")
    assert kinds(queries.overview(NOW_MS + 45_000)) == [AlertKind.SILENT]
    for name in names:
        processes.send(name, None)
    assert kinds(queries.overview(NOW_MS + 45_000)) == []


def test_a_failed_process_shows_its_error_and_its_type_is_missing(
    processes: Processes, queries: OverviewQueries
) -> None:
    processes.say(NOW_MS - 1000, "sink-a", "sink")
    processes.say(NOW_MS, "sink-a", "sink", state="failed", detail="Supabase", since_ms=NOW_MS)
    overview = queries.overview(NOW_MS + 1000)
    assert kinds(overview) == [AlertKind.SILENT, AlertKind.PERSISTENCE]
    assert (overview.role("sink").running, overview.processes[0].detail) == (0, "Supabase")
    processes.say(NOW_MS + 2000, "sink-a", "sink")
    assert kinds(queries.overview(NOW_MS + 2000)) == []


def test_a_dead_process_is_missing_until_it_is_forgotten(
    model: ReadModel, processes: Processes, queries: OverviewQueries
) -> None:
    """The alert ends if the process stops normally, returns or is forgotten. It does not end with time."""
    processes.say(NOW_MS, "gateway-a", "gateway")
    book = AlertBook(timings_of(Settings()))
    events = []
    now_ms = NOW_MS
    for minutes in (0, 0.5, 1, 59, 61, 62, 23 * 60, 25 * 60, 25 * 60 + 1, 9 * 24 * 60, 9 * 24 * 60 + 1):
        now_ms = NOW_MS + round(minutes * 60_000)
        model.prune(now_ms)
        events += look(book, queries.overview(now_ms), now_ms)
    assert [(event.state, event.alert.where) for event in events] == [("firing", "gateway-a")]
    # The operator forgets two names: this process, and its type.
    processes.send("gateway-a", None)
    processes.send("gateway", None)
    for seconds in (1, 30):
        events += look(book, queries.overview(now_ms + seconds * 1000), now_ms + seconds * 1000)
    assert [event.state for event in events] == ["firing", "resolved"]


def test_a_process_that_died_long_ago_begins_no_alert(processes: Processes, queries: OverviewQueries) -> None:
    processes.say(NOW_MS, "gateway-a", "gateway")
    book = AlertBook(timings_of(Settings()))
    for hours in (25, 26):
        now_ms = NOW_MS + hours * 3_600_000
        assert look(book, queries.overview(now_ms), now_ms) == []


def test_the_budget_is_that_of_living_workers(processes: Processes, queries: OverviewQueries) -> None:
    standing = {"period": "day", "cap_usd": 1.25, "spent_usd": 1.2}
    processes.say(NOW_MS, "enricher-a", budgets=(standing,), budget_usd_per_day=5.0)
    processes.say(NOW_MS - 60_000, "enricher-b", budgets=(standing | {"spent_usd": 1.25},))
    overview = queries.overview(NOW_MS)
    assert [(name, of.spent_usd) for name, of in overview.budgets] == [("enricher-a", 1.2)]
    assert overview.budget_usd_per_day == 5.0


@pytest.mark.parametrize(
    "values",
    [
        {"pid": 2**63},
        {"updated_at_ms": 2**70},
        {"outcomes": {"enriched": 2**64}},
        {"outcomes": {f"outcome-{number}": 1 for number in range(65)}},
        {"outcomes": {"o" * 65: 1}},
        {"partitions": [{"topic": "t", "partition": 0, "unread": 2**64}]},
        {"latency": {"p95_ms": -1.0}},
        {"detail": "d" * 256},
    ],
)
def test_a_record_beyond_its_bounds_is_left_out_and_counted(
    processes: Processes, queries: OverviewQueries, values: dict[str, Any]
) -> None:
    before = left_out()
    record = {"process_id": "sink-a", "role": "sink", "version": "1", "host": "h", "pid": 1, "state": "running"}
    record |= {"since_ms": NOW_MS, "started_at_ms": NOW_MS, "updated_at_ms": NOW_MS} | values
    processes.send("sink-a", json.dumps(record).encode())
    processes.say(NOW_MS, "sink-b", "sink")
    assert [process.process_id for process in queries.overview(NOW_MS).processes] == ["sink-b"]
    assert left_out() == before + 1


def test_numbers_at_their_bounds_are_stored(processes: Processes, queries: OverviewQueries) -> None:
    lags = [PartitionLag(topic="t", partition=number, unread=MAX_COUNT, overdue=MAX_COUNT) for number in range(2000)]
    outcomes = {f"outcome-{number}": MAX_COUNT for number in range(64)}
    processes.say(NOW_MS, "sink-a", "sink", partitions=tuple(lags), outcomes=outcomes, started_at_ms=NOW_MS)
    assert queries.overview(NOW_MS).role("sink").finished == MAX_COUNT
    assert queries.series(NOW_MS, 60).curves["sink_lag"]


def left_out() -> float:
    """How many status records the console could not show."""
    value = REGISTRY.get_sample_value("nexus_console_left_out_total", {"topic": "status"})
    assert value is not None
    return value


def look(book: AlertBook, overview: Overview, now_ms: int) -> list[AlertEvent]:
    """One check, as the alert watch does it."""
    return book.observe(conditions(overview), now_ms / 1000, now_ms, lambda identity: identity[1] in overview.forgotten)
