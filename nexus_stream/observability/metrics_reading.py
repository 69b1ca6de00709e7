"""Metrics of reading conversations: what was ignored, left out and cut, from a process's `Facts`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from nexus_stream.contracts.message_forms import LEFT_OUT_KINDS
from nexus_stream.contracts.plain_form import IGNORED_FIELDS, WHYS
from nexus_stream.delivery.facts import CUT_PARTS, Facts

__all__ = ["ReadingCollector", "ignored_by_field"]


class ReadingCollector(Collector):
    """Every series exists from the start, so that the first of its kind counts as an increase.

    Args:
        stage: The label: ``gateway`` or ``enricher``.
        facts: The counts.
    """

    def __init__(self, stage: str, facts: Facts) -> None:
        self._stage = stage
        self._facts = facts

    def describe(self) -> Iterator[Metric]:
        """Only the names, for the registry's check."""
        yield from self._families()

    def collect(self) -> Iterator[Metric]:
        """The counts since the process started."""
        ignored, left_out, cut = self._families()
        for field in IGNORED_FIELDS:
            for why in WHYS:
                ignored.add_metric([self._stage, field, why], self._facts.ignored[field, why])
        for kind in LEFT_OUT_KINDS:
            left_out.add_metric([self._stage, kind], self._facts.left_out[kind])
        for what in CUT_PARTS:
            cut.add_metric([self._stage, what], self._facts.cut[what])
        yield ignored
        yield left_out
        yield cut

    @staticmethod
    def _families() -> tuple[CounterMetricFamily, CounterMetricFamily, CounterMetricFamily]:
        return (
            CounterMetricFamily(
                "nexus_fields_ignored", "Ids and fields that were read as missing", labels=["stage", "field", "why"]
            ),
            CounterMetricFamily(
                "nexus_left_out", "Turns and parts that were not read, in every message again", labels=["stage", "kind"]
            ),
            CounterMetricFamily(
                "nexus_cut",
                "Conversations that were over a limit and lost turns or characters",
                labels=["stage", "what"],
            ),
        )


def ignored_by_field(ignored: Mapping[tuple[str, str], int]) -> dict[str, int]:
    """The placeholders among the ignored ids, by field: what the status report and the console show."""
    return {field: count for (field, why), count in ignored.items() if why == "placeholder" and count}
