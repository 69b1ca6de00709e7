"""Counters of record outcomes, through the observer that the stages call."""

from __future__ import annotations

from prometheus_client import REGISTRY

from nexus_stream.delivery.outcomes import DeadLettered, Enriched, Stored
from nexus_stream.delivery.received import Received
from nexus_stream.errors import Reason
from nexus_stream.observability.outcomes import OutcomeObserver, counted_dead_letters, counted_outcomes

RECORD = Received("conversations", 0, 7, 1_760_000_000_000, b"key", b"value", (), epoch=1)


def value(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


def test_each_outcome_counts_once_under_its_name():
    observer = OutcomeObserver("enricher")
    before = value("nexus_records_total", stage="enricher", outcome="enriched") or 0
    letters = value("nexus_dead_letters_total", stage="enricher", reason="not_json") or 0
    for _ in range(3):
        observer.outcome(RECORD, Enriched())
    observer.outcome(RECORD, DeadLettered(Reason.NOT_JSON))
    assert value("nexus_records_total", stage="enricher", outcome="enriched") == before + 3
    assert value("nexus_dead_letters_total", stage="enricher", reason="not_json") == letters + 1
    assert counted_outcomes("enricher")["enriched"] == before + 3
    assert counted_dead_letters("enricher")["not_json"] == letters + 1


def test_series_exist_before_the_first_record_and_zeros_are_not_in_the_status():
    OutcomeObserver("sink")
    assert value("nexus_records_total", stage="sink", outcome="dropped") is not None
    assert value("nexus_dead_letters_total", stage="sink", reason="row_rejected") is not None
    # A sink extracts nothing.
    assert value("nexus_records_total", stage="sink", outcome="superseded") is None
    assert 0 not in counted_outcomes("sink").values()


def test_an_unexpected_outcome_is_counted_too():
    before = value("nexus_records_total", stage="enricher", outcome="stored") or 0
    OutcomeObserver("enricher").outcome(RECORD, Stored())
    assert value("nexus_records_total", stage="enricher", outcome="stored") == before + 1


def test_dropped_values_are_counted_by_field_and_unknown_fields_make_no_label():
    observer = OutcomeObserver("enricher")
    fields = ("nombre", "email", "objeciones", "intencion", "other")

    def counted() -> list[float]:
        return [value("nexus_dropped_fields_total", field=field) or 0.0 for field in fields]

    before = counted()
    observer.outcome(RECORD, Enriched(dropped_fields=("nombre", "email")))
    observer.outcome(RECORD, Enriched(dropped_fields=("email", "me llamo Carlos", "intencion")))
    observer.outcome(RECORD, Enriched())
    assert [now - then for now, then in zip(counted(), before, strict=True)] == [1, 2, 0, 1, 1]
    # A field without a dropped value is shown too. An unknown field is never a label.
    assert value("nexus_dropped_fields_total", field="ocupacion") is not None
    assert value("nexus_dropped_fields_total", field="me llamo Carlos") is None


def test_the_waiting_metric_is_a_time_and_then_zero():
    observer = OutcomeObserver("sink")
    observer.waiting("Supabase", 1_760_000_000_500)
    assert value("nexus_waiting_since_seconds", stage="sink", what="Supabase") == 1_760_000_000.5
    observer.waiting("Supabase", None)
    assert value("nexus_waiting_since_seconds", stage="sink", what="Supabase") == 0
