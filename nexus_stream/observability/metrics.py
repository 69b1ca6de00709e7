"""Metrics of every process: its version and state, and the registration of collectors.

To: Prometheus's registry, served by exposition.py (gateway, console) and by worker/app.py. docs/reference/metrics.md
lists every metric with its labels; a test compares the page with the code. No label holds personal data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, get_args

from prometheus_client import REGISTRY, CollectorRegistry, Gauge, disable_created_metrics
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from nexus_stream import __version__
from nexus_stream.contracts.status import ProcessState

__all__ = ["LATENCY_BUCKETS", "ProcessStateCollector", "announce_build", "shown"]

# This saves one series per counter and histogram: process_start_time_seconds shows the start of the process.
disable_created_metrics()  # type: ignore[no-untyped-call]

# From a millisecond to the longest wait of a caller. Alerts compare with 5 s, so 5 s must be a bound.
LATENCY_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

_BUILD = Gauge("nexus_build_info", "The version of a process; always 1", ["role", "version"])


def announce_build(role: str) -> None:
    """Show the version of this process in the metrics."""
    _BUILD.labels(role, __version__).set(1)


class ProcessStateCollector(Collector):
    """The state of one process, read at each scrape: correct also while other parts of the process hang.

    Args:
        role: The process type.
        state: Returns the current state.
    """

    def __init__(self, role: str, state: Callable[[], ProcessState]) -> None:
        self._role = role
        self._state = state

    def describe(self) -> Iterator[Metric]:
        """Only the names, for the registry's check."""
        yield self._family()

    def collect(self) -> Iterator[Metric]:
        """One series per state; 1 for the current state."""
        family = self._family()
        now = self._state()
        for state in get_args(ProcessState):
            family.add_metric([self._role, state], float(state == now))
        yield family

    @staticmethod
    def _family() -> GaugeMetricFamily:
        return GaugeMetricFamily("nexus_process_state", "1 for the state a process is in", labels=["role", "state"])


@contextmanager
def shown(*collectors: Collector, registry: CollectorRegistry = REGISTRY) -> Iterator[None]:
    """Register collectors while the context is open."""
    for collector in collectors:
        registry.register(collector)
    try:
        yield
    finally:
        for collector in collectors:
            registry.unregister(collector)
