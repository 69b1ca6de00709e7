"""The letters that a filter selects."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import orjson
import pytest

from nexus_stream.dead_letters.filters import Filter, session_key_of
from nexus_stream.dead_letters.letter import Letter
from nexus_stream.errors import Reason

MakeLetter = Callable[..., Letter]
NOON = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


def test_an_empty_filter_means_every_letter(make_letter: MakeLetter):
    assert Filter().matches(make_letter(None, key=None))


def test_all_given_conditions_must_hold(make_letter: MakeLetter):
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
        ({"sessionId": [7]}, b"s-1", "s-1", True),
        ([1], b"s-1", "s-1", True),
    ],
)
def test_a_session_is_found_in_the_value_or_else_in_the_key(
    make_letter: MakeLetter, value: object, key: bytes | None, session: str, expected: bool
):
    assert Filter(session=session).matches(make_letter(orjson.dumps(value), key=key)) is expected


def test_a_session_may_be_a_number_or_the_id_of_use_chat(make_letter: MakeLetter):
    assert session_key_of(make_letter(b'{"sessionId": 1768478400123}')) == "1768478400123"
    assert session_key_of(make_letter(b'{"sessionId": null, "id": "chat-Xy12"}')) == "chat-Xy12"


def test_a_value_that_is_no_json_has_the_session_of_its_key(make_letter: MakeLetter):
    assert Filter(session="s-1").matches(make_letter(b"{", key=b"s-1"))
    assert session_key_of(make_letter(b"{", key=b"s-1")) is None
