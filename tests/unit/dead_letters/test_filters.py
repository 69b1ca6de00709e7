"""Which letters a filter means."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import orjson
import pytest

from nexus_stream.dead_letters.filters import Filter, parse_moment, session_key_of
from nexus_stream.dead_letters.letter import Letter
from nexus_stream.errors import Reason

MakeLetter = Callable[..., Letter]
NOON = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


def test_an_empty_filter_means_every_letter(make_letter: MakeLetter):
    assert Filter().matches(make_letter(None, key=None))


def test_all_that_is_given_must_hold(make_letter: MakeLetter):
    letter = make_letter(reason=Reason.NOT_JSON, offset=41)
    assert Filter(reasons=frozenset({"not_json", "empty"})).matches(letter)
    assert Filter(reasons=frozenset({"not_json"}), ids=frozenset({letter.id})).matches(letter)
    assert not Filter(reasons=frozenset({"empty"}), ids=frozenset({letter.id})).matches(letter)
    assert not Filter(reasons=frozenset({"not_json"}), ids=frozenset({"other"})).matches(letter)
    assert not Filter(origin_topics=frozenset({"prospects-enriched"})).matches(letter)


def test_since_is_inclusive_and_until_is_not(make_letter: MakeLetter):
    letter = make_letter(failed_at=NOON)
    assert Filter(since=NOON, until=NOON + timedelta(seconds=1)).matches(letter)
    assert not Filter(until=NOON).matches(letter)
    assert not Filter(since=NOON + timedelta(seconds=1)).matches(letter)


@pytest.mark.parametrize(
    ("value", "key", "session", "expected"),
    [
        ({"sessionId": "s-1", "messages": []}, b"random", "s-1", True),
        ({"sessionId": "s-1", "metadata": {"tenant_id": "acme"}}, None, "acme:s-1", True),
        ({"sessionId": "s-1", "metadata": {"tenant_id": "acme"}}, None, "other:s-1", False),
        ({"session_id": "s-1", "tenant_id": "acme"}, b"acme:s-1", "acme:s-1", True),
        ({"sessionId": "s-2"}, b"s-1", "s-1", False),
        ({"sessionId": 7}, b"s-1", "s-1", True),
        ([1], b"s-1", "s-1", True),
    ],
)
def test_a_session_is_found_in_the_value_or_else_in_the_key(
    make_letter: MakeLetter, value: object, key: bytes | None, session: str, expected: bool
):
    assert Filter(session=session).matches(make_letter(orjson.dumps(value), key=key)) is expected


def test_a_value_that_is_no_json_has_the_session_of_its_key(make_letter: MakeLetter):
    assert Filter(session="s-1").matches(make_letter(b"{", key=b"s-1"))
    assert session_key_of(make_letter(b"{", key=b"s-1")) is None


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
def test_moments(text: str, expected: datetime):
    assert parse_moment(text, NOON) == expected


@pytest.mark.parametrize("text", ["", "2 h", "-2h", "2w", "soon", "2026-13-01", "0001-01-01T00:00:00+14:00"])
def test_what_is_no_moment_is_refused(text: str):
    with pytest.raises(ValueError, match="write a time as"):
        parse_moment(text, NOON)
