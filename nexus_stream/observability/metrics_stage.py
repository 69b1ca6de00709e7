"""Metrics of a worker: durations of its work, lag of its partitions, rebalances.

Lag is not a stored gauge: each scrape computes it from the owned partitions, so a revoked partition has no series.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import Counter, Histogram
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from nexus_stream.observability.lag import StageLag

__all__ = ["LagCollector", "RebalanceMetrics", "StageTimings"]

_SETTLE = Histogram(
    "nexus_settle_seconds",
    "From the first snapshot of a session to the moment it was due to be read",
    buckets=(0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 300.0),
)
_DONE = Histogram(
    "nexus_done_seconds",
    "From due (enricher: settled, sink: emitted) to durable",
    ["stage"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0),
)
_END_TO_END = Histogram(
    "nexus_end_to_end_seconds",
    "From taken by the gateway to the row's commit, settling included",
    buckets=(
        0.05,
        0.1,
        0.25,
        0.5,
        1.0,
        2.5,
        5.0,
        10.0,
        15.0,
        20.0,
        30.0,
        45.0,
        60.0,
        90.0,
        120.0,
        300.0,
        900.0,
        3600.0,
    ),
)
_REBALANCES = Counter("nexus_rebalances_total", "Rebalances of the worker's group", ["stage"])
_GROUP_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0)
_REBALANCE_SECONDS = Histogram(
    "nexus_rebalance_seconds",
    "From the group's call to give partitions up until records flow again, recovery included",
    ["stage"],
    buckets=_GROUP_BUCKETS,
)
_RECOVERY_SECONDS = Histogram(
    "nexus_recovery_seconds",
    "From the assignment until the local table has caught up with its changelog",
    ["stage"],
    buckets=_GROUP_BUCKETS,
)

_PARTITION_LABELS = ["stage", "topic", "partition"]


class StageTimings:
    """The `Timings` of a worker. Its methods are the histograms' own methods, which saves a lookup and a call."""

    def __init__(self, stage: str) -> None:
        self.settled = _SETTLE.observe
        self.done = _DONE.labels(stage).observe
        self.arrived = _END_TO_END.observe


class RebalanceMetrics:
    """Measures rebalances of a worker's group. Thread-safe, because each time is stored with one assignment.

    Args:
        stage: The label.
    """

    def __init__(self, stage: str) -> None:
        self._count = _REBALANCES.labels(stage)
        self._rebalance_seconds = _REBALANCE_SECONDS.labels(stage)
        self._recovery_seconds = _RECOVERY_SECONDS.labels(stage)
        self._began: float | None = None
        self._assigned: float | None = None

    def began(self) -> None:
        """A rebalance began. If the previous one has not ended, this one counts too, and the time continues."""
        self._count.inc()
        if self._began is None:
            self._began = time.monotonic()

    def assigned(self) -> None:
        """Partitions were assigned."""
        self._assigned = time.monotonic()

    def recovered(self) -> None:
        """The local table has caught up with its changelog."""
        assigned, self._assigned = self._assigned, None
        if assigned is not None:
            self._recovery_seconds.observe(time.monotonic() - assigned)

    def ended(self) -> None:
        """Records flow again."""
        began, self._began = self._began, None
        if began is not None:
            self._rebalance_seconds.observe(time.monotonic() - began)


class LagCollector(Collector):
    """Lag of the owned partitions, computed at each scrape.

    Args:
        stage: The label.
        lag: Computes the lag.
    """

    def __init__(self, stage: str, lag: StageLag) -> None:
        self._stage = stage
        self._lag = lag

    def describe(self) -> Iterator[Metric]:
        """Only the names, for the registry's check."""
        yield from self._families()

    def collect(self) -> Iterator[Metric]:
        """Lag by kind, age, and whether the broker reported the end offsets."""
        records, known, age = self._families()
        known.add_metric([self._stage], float(self._lag.is_known))
        for partition in self._lag.partitions():
            place = [self._stage, partition.topic, str(partition.partition)]
            for kind in ("unread", "settling", "overdue"):
                if kind == "unread" and not self._lag.is_known:
                    # No number is better than a wrong one: 0 would mean that no record is unread.
                    continue
                records.add_metric([*place, kind], getattr(partition, kind))
            age.add_metric(place, partition.oldest_age_seconds)
        yield records
        yield known
        yield age

    @staticmethod
    def _families() -> tuple[GaugeMetricFamily, GaugeMetricFamily, GaugeMetricFamily]:
        return (
            GaugeMetricFamily(
                "nexus_partition_lag_records",
                "Unfinished records of an owned partition, by kind",
                labels=[*_PARTITION_LABELS, "kind"],
            ),
            GaugeMetricFamily("nexus_lag_known", "1 if the broker said where partitions end", labels=["stage"]),
            GaugeMetricFamily(
                "nexus_oldest_unprocessed_age_seconds",
                "Age of the oldest record that was read, is due and not finished; 0 if there is none",
                labels=_PARTITION_LABELS,
            ),
        )
