"""Histograms of a worker, filled by a stage's own code path."""

from __future__ import annotations

from prometheus_client import REGISTRY

from nexus_stream.delivery.facts import Facts
from nexus_stream.observability.metrics_stage import RebalanceMetrics, StageTimings


def count(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"{name}_count", labels) or 0.0


def test_finished_work_is_in_the_histogram_and_in_the_percentiles():
    facts = Facts(StageTimings("enricher"))
    below = {"stage": "enricher", "le": "5.0"}
    before = count("nexus_done_seconds", stage="enricher")
    before_below = REGISTRY.get_sample_value("nexus_done_seconds_bucket", below) or 0.0
    for seconds in (0.2, 4.9, 30.0):
        facts.took(seconds, now=100.0)
    assert count("nexus_done_seconds", stage="enricher") == before + 3
    # 5 s is the alert's threshold, so it is a bucket's bound.
    assert REGISTRY.get_sample_value("nexus_done_seconds_bucket", below) == before_below + 2
    assert facts.percentiles((0.5,), since=0) == (4.9,)
    # 0.2 s before 100: the latest due time of finished work.
    assert facts.newest_due_done == 99.8


def test_a_repeated_rebalance_counts_twice_and_is_timed_once():
    metrics = RebalanceMetrics("enricher")
    total = REGISTRY.get_sample_value("nexus_rebalances_total", {"stage": "enricher"}) or 0.0
    rebalances, recoveries = (count(f"nexus_{name}_seconds", stage="enricher") for name in ("rebalance", "recovery"))
    metrics.began()
    metrics.began()
    metrics.assigned()
    metrics.recovered()
    # Faust calls it twice if a table was recovered.
    metrics.recovered()
    metrics.ended()
    metrics.ended()
    assert REGISTRY.get_sample_value("nexus_rebalances_total", {"stage": "enricher"}) == total + 2
    assert count("nexus_rebalance_seconds", stage="enricher") == rebalances + 1
    assert count("nexus_recovery_seconds", stage="enricher") == recoveries + 1
