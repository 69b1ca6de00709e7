"""Whatever does not fit reads as empty."""

from __future__ import annotations

import pytest

from nexus_stream.contracts.json_reading import json_object, number, text


@pytest.mark.parametrize("raw", [None, b"", "", b"null", b"[1]", b"{", b"\xff", '"text"', b"[" * 100_000])
def test_everything_but_an_object_is_an_empty_one(raw: bytes | str | None):
    assert json_object(raw) == {}


def test_an_object():
    assert json_object(b'{"a": [1, "b"]}') == json_object('{"a": [1, "b"]}') == {"a": [1, "b"]}


def test_a_boolean_is_no_number_and_an_empty_text_is_none():
    assert (number(True), number(1), number("1")) == (None, 1.0, None)
    assert (text(""), text(1), text("a")) == (None, None, "a")
