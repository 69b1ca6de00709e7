"""What the metrics of every process share: its version, its state, and how a collector is shown and taken away again.

To: Prometheus's registry, served by exposition.py (gateway, console) and by worker.py. docs/reference/metrics.md lists
every metric with its labels; a test holds page and code together. No label holds anything of a person's.
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

# One series less for each counter and histogram: when a process began is process_start_time_seconds.
disable_created_metrics()  # type: ignore[no-untyped-call]

# From a millisecond to the longest a caller waits. Alerts compare with 5 s, which is a bound for that reason.
LATENCY_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

_BUILD = Gauge("nexus_build_info", "The version of a process; always 1", ["role", "version"])


def announce_build(role: str) -> None:
    """Say which version runs as ``role`` here."""
    _BUILD.labels(role, __version__).set(1)


class ProcessStateCollector(Collector):
    """The state of one process, asked when it is scraped: right also while whatever else would report it hangs.

    Args:
        role: The process type.
        state: Which state it is in now.
    """

    def __init__(self, role: str, state: Callable[[], ProcessState]) -> None:
        self._role = role
        self._state = state

    def describe(self) -> Iterator[Metric]:
        """The names alone, for the registry's check."""
        yield self._family()

    def collect(self) -> Iterator[Metric]:
        """One series a state, 1 for the one it is in."""
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
    """Show what collectors ask of living objects for as long as those live."""
    for collector in collectors:
        registry.register(collector)
    try:
        yield
    finally:
        for collector in collectors:
            registry.unregister(collector)
