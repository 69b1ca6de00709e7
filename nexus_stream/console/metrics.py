"""The console's metrics: the lag of each group, and the firing alerts.

To: Prometheus's registry. The metrics are computed at each scrape, so a removed partition or an ended alert has no
series.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from nexus_stream.console.alerts.lag_monitor import LagMonitor
from nexus_stream.console.alerts.watch import AlertWatch

__all__ = ["ConsoleCollector"]

_PLACE = ("group", "topic", "partition")


class ConsoleCollector(Collector):
    """A Prometheus collector. It reads the current values of the lag monitor and the alert watch from memory."""

    def __init__(self, lag: LagMonitor, alerts: AlertWatch) -> None:
        self._lag = lag
        self._alerts = alerts

    def collect(self) -> Iterator[Metric]:
        """See `Collector.collect`."""
        now_ms = time.time_ns() // 1_000_000
        known = GaugeMetricFamily("nexus_group_lag_known", "1 if the broker reports its offsets", labels=["group"])
        lag = GaugeMetricFamily("nexus_group_lag_records", "End offset minus committed offset", labels=_PLACE)
        oldest = GaugeMetricFamily(
            "nexus_group_oldest_age_seconds", "Age of the record at the committed offset; 0 if none", labels=_PLACE
        )
        for role, group in self._lag.groups.items():
            standing = self._lag.standings[role]
            known.add_metric([group], 0 if standing is None else 1)
            for place in standing.partitions if standing is not None else ():
                labels = [group, standing.topic if standing is not None else "", str(place.partition)]
                age_seconds = 0.0 if place.oldest_ms is None else max(0.0, (now_ms - place.oldest_ms) / 1000)
                lag.add_metric(labels, place.lag)
                oldest.add_metric(labels, age_seconds)
        firing = GaugeMetricFamily("nexus_alert_firing", "1 while the alert fires", labels=["alert", "where"])
        for alert in self._alerts.firing:
            firing.add_metric([alert.kind.value, alert.where], 1)
        failures = CounterMetricFamily(
            "nexus_alert_webhook_failures", "Posts of alerts that failed", self._alerts.webhook_failures
        )
        yield from (known, lag, oldest, firing, failures)
