"""Times as text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from nexus_stream.contracts.moments import iso_moment, iso_ms, parse_moment

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize("text", ["2026-01-31T12:00:00Z", "2026-01-31T13:00:00+01:00", "2026-01-31 12:00"])
def test_iso_8601_is_utc_unless_it_says_otherwise(text: str):
    assert iso_moment(text) == parse_moment(f" {text} ", datetime.now(UTC)) == NOON
    assert iso_ms(text) == NOON.timestamp() * 1000


@pytest.mark.parametrize("text", ["", "noon", "0001-01-01T00:00:00+12:00", None, 1_769_860_800_000])
def test_a_value_that_is_no_moment_has_no_milliseconds(text: Any):
    assert iso_ms(text) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", NOON - timedelta(seconds=90)),
        ("30m", NOON - timedelta(minutes=30)),
        (" 2h ", NOON - timedelta(hours=2)),
        ("7d", NOON - timedelta(days=7)),
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("2026-01-31T10:00:00Z", datetime(2026, 1, 31, 10, tzinfo=UTC)),
        ("2026-01-31T10:00:00-05:00", datetime(2026, 1, 31, 15, tzinfo=UTC)),
    ],
)
def test_as_an_operator_writes_it(text: str, expected: datetime):
    assert parse_moment(text, NOON) == expected


@pytest.mark.parametrize("text", ["", "2 h", "-2h", "2w", "soon", "2026-13-01", "0001-01-01T00:00:00+14:00"])
def test_what_is_no_moment_is_refused(text: str):
    with pytest.raises(ValueError, match="write a time as"):
        parse_moment(text, NOON)
