"""A batch sends each session's newest record, and rejects unsendable records by index."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from nexus_stream.contracts.prospect import EnrichedProspect
from nexus_stream.supabase.rows import columns, newest_rows


def _record(session_id: str, snapshot_at_ms: int, enriched_at: str, **changes: Any) -> EnrichedProspect:
    return EnrichedProspect.model_validate(
        {
            "session_id": session_id,
            "prospect": {"nombre": "Ana"},
            "conversation": {"turns": 1, "digest": "d"},
            "extraction": {"extractor": "offline-rules-v1"},
            "snapshot_at_ms": snapshot_at_ms,
            "enriched_at": enriched_at,
            "source": {"topic": "t", "partition": 0, "offset": 7},
            **changes,
        }
    )


def test_the_newest_of_a_session_wins_whatever_the_order() -> None:
    versions = [
        _record("a", 1, "2026-01-01T00:00:00.000Z"),
        _record("a", 2, "2026-01-01T00:00:00.000Z"),
        # Later by the clock although it sorts first as text: another offset.
        _record("a", 2, "2025-12-31T23:30:00.000-02:00"),
    ]
    for order in itertools.permutations(versions):
        rows, rejected = newest_rows(order)
        assert not rejected
        assert [order[row.index] for row in rows] == [versions[2]]


def test_different_records_of_one_version_are_all_sent() -> None:
    one = _record("a", 1, "2026-01-01T00:00:00Z")
    other = _record("a", 1, "2026-01-01T00:00:00Z", prospect={"nombre": "Eva"})
    rows, _ = newest_rows([one, other, one, _record("a", 0, "2026-01-01T00:00:00Z")])
    assert [row.index for row in rows] == [0, 1]


def test_rows_are_sorted_by_tenant_and_session() -> None:
    batch = [
        _record("b", 1, "2026-01-01T00:00:00Z"),
        _record("a", 1, "2026-01-01T00:00:00Z", tenant_id="t"),
        _record("a", 1, "2026-01-01T00:00:00Z"),
    ]
    rows, _ = newest_rows(batch)
    assert [(row.tenant_id, row.session_id, row.index) for row in rows] == [("", "a", 2), ("", "b", 0), ("t", "a", 1)]
    assert columns(rows)[:2] == (["", "", "t"], ["a", "b", "a"])


@pytest.mark.parametrize(
    ("changes", "sqlstate"),
    [({"enriched_at": "yesterday"}, "22007"), ({"prospect": {"nombre": "A\ud800na"}}, "22021")],
)
def test_an_unsendable_record_is_rejected_by_index(changes: dict[str, Any], sqlstate: str) -> None:
    good = _record("a", 1, "2026-01-01T00:00:00Z")
    bad = good.model_copy(
        update={key: type(good.prospect)(**value) if key == "prospect" else value for key, value in changes.items()}
    )
    rows, rejected = newest_rows([good, bad])
    assert [row.index for row in rows] == [0]
    assert [(refused.index, refused.sqlstate) for refused in rejected] == [(1, sqlstate)]
    assert "yesterday" not in rejected[0].message
