"""The terminal output: no personal data by default, and no text that controls the terminal."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime

import orjson
import pytest

from nexus_stream.dead_letters.letter import Letter
from nexus_stream.dead_letters.marks import History, State
from nexus_stream.dead_letters.printing import LetterRow, described_letter, escaped, json_line, table
from nexus_stream.observability.logs import hashed

MakeLetter = Callable[..., Letter]

CONVERSATION = {
    "messages": [{"role": "user", "content": "me llamo Carlos Ruiz, 555-0142"}, {"role": "visitor", "content": "hola"}],
    "sessionId": "session-of-carlos",
    "fingerprint": "fp-77",
    "metadata": {"consent": True, "tenant_id": None, "carlos@example.com": 5550142},
}
PERSONAL = ["Carlos", "555-0142", "5550142", "session-of-carlos", "fp-77", "carlos@example.com", "visitor", "hola"]


def text_of(letter: Letter, *, reveal: bool = False, history: History | None = None) -> str:
    return "\n".join(described_letter(letter, history or History(), reveal=reveal))


def test_a_redacted_letter_shows_shape_and_no_text(make_letter: MakeLetter):
    letter = make_letter(
        orjson.dumps(CONVERSATION),
        key=b"session-of-carlos",
        headers=(("x-agent", b"Carlos"), ("correlation-id", b"hola")),
    )
    text = text_of(letter)
    for personal in PERSONAL:
        assert personal not in text
    assert "role: user" in text
    assert "content: text, 30 characters" in text
    assert "consent: true" in text
    assert hashed("session-of-carlos") in text
    assert "nexus-error: messages.0.role is missing" in text
    assert "x-agent: (6 bytes)" in text


def test_reveal_shows_everything(make_letter: MakeLetter):
    text = text_of(make_letter(orjson.dumps(CONVERSATION), key=b"session-of-carlos"), reveal=True)
    for personal in PERSONAL:
        assert personal in text


@pytest.mark.parametrize("reveal", [False, True])
@pytest.mark.parametrize(
    "value",
    [
        b"\x1b[2J\x1b]0;owned\x07",
        "\u202egnp.exe\u200b\u2028".encode(),
        orjson.dumps({"a\x1b[31m": "\x9b31m\u202e\u2066"}),
        b"\xff\xfe\x00\x1b",
        b"line one\r\nline two\x1b",
        None,
        b"",
    ],
)
def test_a_letter_cannot_control_the_terminal(make_letter: MakeLetter, value: bytes | None, reveal: bool):
    letter = make_letter(value, key=b"\x1bkey", headers=(("h\x1b", b"\x1b\x07"), ("nexus-trick", "\u202e".encode())))
    for line in described_letter(letter, History(last_by="\x1beva"), reveal=reveal):
        assert line == escaped(line)


def test_visible_text_is_left_as_it_is():
    assert escaped("José Muñoz — ¿qué tal? 你好") == "José Muñoz — ¿qué tal? 你好"
    assert escaped("a\tb\x7f\u00a0") == "a\\tb\\x7f\\xa0"


def test_deep_and_long_values_are_cut(make_letter: MakeLetter):
    deep = b"[" * 200 + b"]" * 200
    assert "nested deeper" in text_of(make_letter(deep))
    assert "and 980 more" in text_of(make_letter(orjson.dumps(list(range(1000)))))


def test_a_row_holds_no_personal_data(make_letter: MakeLetter):
    letter = make_letter(orjson.dumps(CONVERSATION), key=b"session-of-carlos")
    line = json_line(LetterRow.of(letter, History()))
    lines = "\n".join(table([LetterRow.of(letter, History())]))
    for personal in PERSONAL:
        assert personal not in line
        assert personal not in lines
    assert json.loads(line)["session"] == hashed("session-of-carlos")


def test_a_json_line_contains_the_state_of_the_letter(make_letter: MakeLetter):
    at = datetime(2026, 2, 1, tzinfo=UTC)
    row = json.loads(json_line(LetterRow.of(make_letter(), History(State.REDRIVEN, 2, "ana", at, 3))))
    assert row["state"] == "redriven"
    assert (row["redriven"], row["last_by"], row["copies"]) == (2, "ana", 3)
    assert row["last_at"] == "2026-02-01T00:00:00+00:00"
    assert row["id"] == "nexus-prospect-ingestion-3-41"


def test_the_state_line_names_operator_and_time(make_letter: MakeLetter):
    at = datetime(2026, 2, 1, tzinfo=UTC)
    text = text_of(make_letter(), history=History(State.REDRIVEN, 2, "ana@ops", at, 2))
    assert "redriven 2 times, last at 2026-02-01T00:00:00+00:00 by ana@ops" in text
    assert "copies       2" in text
