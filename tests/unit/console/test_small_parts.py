"""Masking, evidence in a conversation, filters in addresses, languages, vendored files."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

import nexus_stream.console.web
from nexus_stream.console.reading.filters import SessionFilter, list_url
from nexus_stream.console.web.conversation_text import shown_turns
from nexus_stream.console.web.export import _cell
from nexus_stream.console.web.masking import mask_email, mask_fingerprint, mask_name, mask_phone, mask_row, mask_url
from nexus_stream.console.web.rendering import duration, rate, usd
from nexus_stream.console.web.viewing import language_of

STATIC = Path(nexus_stream.console.__file__).parent / "web" / "static"


def test_vendored_files_are_those_of_the_packages() -> None:
    folder = STATIC / "vendor"
    listed = dict(reversed(line.split()) for line in (folder / "SHA256SUMS").read_text().splitlines())
    files = {path.name for path in folder.iterdir()} - {"SHA256SUMS", "README.md"}
    assert files == listed.keys()
    for name, expected in listed.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == expected, name
    assert {name for name in files if name.endswith("LICENSE.txt")} == {"htmx-LICENSE.txt", "uPlot-LICENSE.txt"}


@pytest.mark.parametrize(
    ("masked", "expected"),
    [
        (mask_name("Carlos Núñez"), "C••• N•••"),
        (mask_name("  "), ""),
        (mask_name(None), None),
        (mask_email("carlos@example.com"), "c•••@•••"),
        (mask_phone("+573005550102"), "•••02"),
        (mask_fingerprint("fp-secret-1"), "fp-s•••"),
        (mask_fingerprint("fp12"), "fp•••"),
        (mask_fingerprint("abc"), "a•••"),
        (mask_fingerprint("x"), "•••"),
        (mask_url("https://www.example.com/a?name=Carlos"), "www.example.com"),
        (mask_url("Carlos"), "•••"),
        (mask_url("https://["), "•••"),
    ],
)
def test_masks(masked: str | None, expected: str | None) -> None:
    assert masked == expected


def test_masked_row_has_no_state_and_no_search_words() -> None:
    row = mask_row({"nombre": "Ana", "state": b"Ana", "search_text": "ana", "turns": 3, "email": None})
    assert row == {"nombre": "A•••", "turns": 3, "email": None}


@given(
    content=st.text(max_size=40),
    signals=st.lists(
        st.fixed_dictionaries(
            {"turn": st.integers(0, 2), "start": st.integers(-2, 50), "end": st.integers(-2, 50), "name": st.text()}
        ),
        max_size=6,
    ),
)  # fmt: skip
def test_marking_evidence_changes_no_text(content: str, signals: list[dict[str, object]]) -> None:
    turns = shown_turns([("user", content), ("assistant", content)], signals)
    for turn in turns:
        assert "".join(piece.text for piece in turn.pieces) == content
    # The assistant's turns are never evidence.
    assert all(not piece.signals for piece in turns[1].pieces)


def test_overlapping_evidence_is_cut_at_every_end() -> None:
    signals = [
        {"turn": 0, "start": 0, "end": 6, "name": "nombre"},
        {"turn": 0, "start": 3, "end": 9, "name": "ocupacion"},
        {"turn": 7, "start": 0, "end": 2, "name": "email"},
        {"turn": "x", "start": None, "end": 2},
    ]
    (turn,) = shown_turns([("user", "abcdefghij")], signals)
    assert [(piece.text, piece.signals) for piece in turn.pieces] == [
        ("abc", ("nombre",)),
        ("def", ("nombre", "ocupacion")),
        ("ghi", ("ocupacion",)),
        ("j", ()),
    ]


def test_positions_are_code_points() -> None:
    (turn,) = shown_turns([("user", "😀 Ana")], [{"turn": 0, "start": 2, "end": 5, "name": "nombre"}])
    assert [piece.text for piece in turn.pieces if piece.signals] == ["Ana"]


@given(
    st.builds(
        SessionFilter,
        text=st.text(st.characters(codec="utf-8"), max_size=20).map(str.strip),
        status=st.sampled_from([None, "dead"]),
        momento=st.sampled_from([None, "caliente"]),
        objecion=st.sampled_from([None, "price"]),
        period=st.sampled_from([None, "24h"]),
        since=st.sampled_from([None, "2026-01-02", "2026-01-02T03:04:05+01:00"]),
    )
)
def test_a_filter_survives_its_address(wanted: SessionFilter) -> None:
    from yarl import URL

    assert SessionFilter.of_query(URL(list_url(wanted), encoded=True).query) == wanted


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "9999999-01-01"])
def test_a_malformed_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        SessionFilter.of_query({"since": text})


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, "en"),
        ({"Accept-Language": "es-CO,es;q=0.9,en;q=0.8"}, "es"),
        ({"Accept-Language": "de, en-GB;q=0.5, es;q=0.7"}, "es"),
        ({"Accept-Language": "es;q=0, fr"}, "en"),
        ({"Accept-Language": ";;;q=x,,"}, "en"),
        ({"Accept-Language": "es", "Cookie": "nexus_language=en"}, "en"),
        ({"Accept-Language": "en", "Cookie": "nexus_language=xx"}, "en"),
    ],
)
def test_language_is_the_one_chosen_else_the_browsers(headers: dict[str, str], expected: str) -> None:
    assert language_of(make_mocked_request("GET", "/", headers=CIMultiDict(headers))) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [("=1+1", "'=1+1"), ("+57300", "'+57300"), ("@x", "'@x"), ("-x", "'-x"), ("Ana", "Ana"), (None, ""), (-5, "-5"),
     (["price", "time"], "price time"), ("\ud800", "?")],
)  # fmt: skip
def test_a_cell_cannot_be_a_formula(value: object, expected: str) -> None:
    assert _cell(value) == expected


def test_figures_have_significant_digits() -> None:
    assert [rate(value) for value in (0, 0.034, 0.34, 12.34, 1234.5)] == ["0", "0.03", "0.3", "12.3", "1,234"]
    assert [duration(value) for value in (0.05, 1.26, 45, 300, 10_000, 900_000)] == [
        "50 ms", "1.3 s", "45 s", "5 min", "3 h", "10 d"
    ]  # fmt: skip
    assert [usd(value) for value in (0, 0.00042, 3.5)] == ["$0.00", "$0.0004", "$3.50"]
