"""What was ignored, left out and cut is counted, with bounded labels."""

from __future__ import annotations

from collections import Counter

from prometheus_client import CollectorRegistry, generate_latest

from nexus_stream.contracts.cutting import Cut
from nexus_stream.contracts.plain_form import Noticed
from nexus_stream.delivery.facts import Facts
from nexus_stream.observability.metrics_reading import ReadingCollector, ignored_by_field


def test_each_conversation_is_counted_and_every_series_exists_from_the_start() -> None:
    facts, registry = Facts(), CollectorRegistry()
    registry.register(ReadingCollector("gateway", facts))
    before = generate_latest(registry).decode()
    facts.noticed(
        Noticed(Counter({"system": 2, "tool": 1}), {"fingerprint": "placeholder", "metadata": "invalid"}, Cut(turns=7))
    )
    facts.refused("session_id_placeholder")
    facts.refused("session_id_required")
    facts.refused(None)
    after = generate_latest(registry).decode()
    assert len(after.splitlines()) == len(before.splitlines())
    changed = set(after.splitlines()) - set(before.splitlines())
    assert changed == {
        'nexus_left_out_total{kind="system",stage="gateway"} 2.0',
        'nexus_left_out_total{kind="tool",stage="gateway"} 1.0',
        'nexus_fields_ignored_total{field="fingerprint",stage="gateway",why="placeholder"} 1.0',
        'nexus_fields_ignored_total{field="metadata",stage="gateway",why="invalid"} 1.0',
        'nexus_fields_ignored_total{field="session_id",stage="gateway",why="placeholder"} 1.0',
        'nexus_cut_total{stage="gateway",what="turns"} 1.0',
    }
    assert ignored_by_field(facts.ignored) == {"fingerprint": 1, "session_id": 1}
