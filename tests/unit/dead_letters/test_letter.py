"""How records of the dead-letter topic are parsed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from nexus_stream.contracts.headers import Headers
from nexus_stream.dead_letters.letter import Action, Letter, Mark, mark_headers, read_record

MakeLetter = Callable[..., Letter]
AT = datetime(2026, 2, 1, 9, 30, tzinfo=UTC)


def test_a_letter_is_read_as_the_worker_wrote_it(make_letter: MakeLetter):
    letter = make_letter()
    assert letter.id == "nexus-prospect-ingestion-3-41"
    assert (letter.reason, letter.error_class, letter.attempts) == ("wrong_shape", "PermanentError", 2)
    assert letter.origin_topic == "nexus-prospect-ingestion"
    assert letter.origin_timestamp_ms == 1_769_850_000_000
    assert letter.failed_at == datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
    assert letter.redrives_before == 0


def test_a_mark_is_read_back_and_belongs_to_its_letter(make_letter: MakeLetter):
    letter = make_letter()
    headers = mark_headers(letter, Action.REDRIVEN, by="ana@ops", at=AT)
    mark = read_record(0, 8, 0, letter.id.encode(), None, headers)
    assert mark == Mark(identity=letter.identity, action=Action.REDRIVEN, by="ana@ops", at=AT)


def test_a_mark_is_not_that_of_another_record_with_the_same_id(make_letter: MakeLetter):
    """A topic that was deleted and made again counts its offsets from zero."""
    before, after = make_letter(b"one"), make_letter(b"two")
    assert before.id == after.id
    mark = read_record(0, 8, 0, None, None, mark_headers(before, Action.DISCARDED, by="ana", at=AT))
    assert isinstance(mark, Mark)
    assert mark.identity == before.identity != after.identity


def test_null_and_empty_values_are_different_letters(make_letter: MakeLetter):
    assert make_letter(None).digest != make_letter(b"").digest
    assert make_letter(b"b", key=b"a").digest != make_letter(b"", key=b"ab").digest


def test_a_sender_cannot_make_its_letter_look_like_a_mark(make_letter: MakeLetter):
    letter = make_letter(headers=(("nexus-marker", b"discarded"), ("nexus-id", b"another"), ("nexus-reason", b"x")))
    assert letter.id == "nexus-prospect-ingestion-3-41"
    assert letter.reason == "wrong_shape"


@pytest.mark.parametrize(
    "headers",
    [
        (),
        (("nexus-reason", b"not_json"),),
        (("nexus-id", b"a-0-1"),),
        (("nexus-id", b"a-0-1"), ("nexus-marker", b"lost")),
        (("nexus-id", b""), ("nexus-reason", b"not_json")),
    ],
)
def test_other_records_are_neither_letters_nor_marks(headers: Headers):
    assert read_record(0, 0, 0, b"k", b"v", headers) is None


def test_malformed_headers_are_read_as_unknown():
    headers = (
        ("nexus-id", b"a-0-1"),
        ("nexus-reason", b"of_a_newer_version"),
        ("nexus-attempts", b"9" * 5000),
        ("nexus-redrive", b"-3"),
        ("nexus-origin-timestamp", "٣".encode()),
        ("nexus-failed-at", b"yesterday"),
        ("nexus-error", b"\xff"),
    )
    letter = read_record(0, 0, 1_700_000_000_000, None, b"v", headers)
    assert isinstance(letter, Letter)
    assert letter.reason == "of_a_newer_version"
    assert (letter.attempts, letter.redrives_before) == (0, 0)
    assert letter.failed_at == datetime.fromtimestamp(1_700_000_000, UTC)
    assert letter.origin_timestamp_ms == 1_700_000_000_000


def test_a_letters_repr_does_not_contain_its_value(make_letter: MakeLetter):
    assert "s-1" not in repr(make_letter(b'{"sessionId":"s-1"}'))
