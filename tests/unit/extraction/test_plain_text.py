"""What the eye does not see is removed from a turn, and every character keeps its place in the turn as received."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_stream.extraction.extractor import Turn
from nexus_stream.extraction.plain_text import plain
from nexus_stream.extraction.text import user_turns


@pytest.mark.parametrize(
    ("received", "shown"),
    [
        ("3\ufe0f\u20e30\ufe0f\u20e30\ufe0f\u20e3 555", "300 555"),
        ("ana\u200b.lo\u00adpez@example.com", "ana.lopez@example.com"),
        ("\u202a+57 300 555 0102\u202c", "+57 300 555 0102"),
        ("ana&#64;example&period;com", "ana@example.com"),
        ("300&nbsp;555&amp;nbsp;0102", "300\xa0555\xa00102"),
        ("Me llamo **Ana Torres**, _contadora_ y ~libre~", "Me llamo Ana Torres, contadora y libre"),
        ("*300 555 0102*", "300 555 0102"),
        ("`ana@example.com`", "ana@example.com"),
        ("ana\\_lopez@example.com", "ana_lopez@example.com"),
        ("<p>Soy <strong>Ana</strong><br/>de Cali</p>", "\nSoy Ana\nde Cali\n"),
        ("Andre\u0301s **Guzma\u0301n**", "Andrés Guzmán"),
        ("\U000e0041Ana\U000e0042", "Ana"),
    ],
)
def test_the_text_is_what_a_reader_sees(received, shown):
    assert plain(received)[0] == shown


@pytest.mark.parametrize(
    "content",
    ["ana_lopez@example.com y luis_", "300***0102", "snake_case_name", "2 * 3 * 4", "AT&T, R&D;", "a < b > c", ">:("],
)
def test_marks_that_belong_to_the_words_stay(content):
    assert plain(content) == (content, None)


@given(st.text(alphabet="ab1@.*_~`\\&#64;amp<>br/\u200b\ufe0f\u20e3e\u0301\n", max_size=60))
def test_every_character_keeps_its_place(content):
    text, origins = plain(content)
    if origins is None:
        assert text == content
        return
    assert len(origins) == len(text) + 1
    assert list(origins) == sorted(origins)
    assert origins[-1] == len(content)


def test_a_span_covers_the_characters_as_received():
    content = "mi cel es 3\ufe0f\u20e30\ufe0f\u20e30\ufe0f\u20e3 ok"
    (turn,) = user_turns([Turn("user", content)])
    start = turn.folded.index("300")
    first, last = turn.span(start, start + 3)
    assert content[first:last] == "3\ufe0f\u20e30\ufe0f\u20e30\ufe0f\u20e3"
    assert turn.place(first, last) == (start, start + 3)


@pytest.mark.parametrize("fragment", ["_a ", "**a ", "&amp;", "<p ", "\u200b", "a\u0301", "~a`b", "*a*"])
def test_a_hostile_body_takes_bounded_time(fragment):
    started = time.process_time()
    plain(fragment * (262_144 // len(fragment.encode())))
    assert time.process_time() - started < 2
