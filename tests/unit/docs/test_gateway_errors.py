"""Both pages about the gateway's refusals explain every code, with its status, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nexus_stream.contracts.refusal_codes import RefusalCode

REFERENCE = Path(__file__).resolve().parents[3] / "docs" / "reference"
PAGES = {
    language: (REFERENCE / name).read_text(encoding="utf-8")
    for language, name in (("en", "gateway-errors.md"), ("es", "gateway-errors.es.md"))
}
ROW = re.compile(r"^\| `([a-z_]+)` \| (\d{3}) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
ROWS = {language: ROW.findall(text) for language, text in PAGES.items()}


@pytest.mark.parametrize("language", PAGES)
def test_every_code_is_explained_once_with_its_status(language: str) -> None:
    rows = [(code, int(status)) for code, status, _, _ in ROWS[language]]
    assert sorted(rows) == sorted((str(code), code.status) for code in RefusalCode)


@pytest.mark.parametrize("language", PAGES)
def test_every_row_says_what_it_means_and_what_to_change(language: str) -> None:
    for code, _, meaning, change in ROWS[language]:
        assert len(meaning.split()) >= 3, code
        assert len(change.split()) >= 3, code


def test_both_pages_have_the_same_order_and_name_the_same_things() -> None:
    english, spanish = ROWS["en"], ROWS["es"]
    assert [row[0] for row in english] == [row[0] for row in spanish]
    for one, other in zip(english, spanish, strict=True):
        # Settings, commands, fields and headers are not translated.
        named = [set(re.findall(r"`([^`]+)`", " ".join(row[2:]))) for row in (one, other)]
        assert named[0] == named[1], one[0]
        assert one[2:] != other[2:], one[0]
