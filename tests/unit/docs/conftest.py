"""The project's Markdown files and their code blocks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
_EXCLUDED = {".venv", ".nexus", ".git", "node_modules", "vendor", "build", "dist"}
_FENCE = re.compile(r"^[ ]*(```+)(\w*)[^\n]*\n(.*?)^[ ]*\1[ ]*$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`]+)`")


@dataclass(frozen=True)
class Page:
    path: Path
    text: str

    @property
    def name(self) -> str:
        return str(self.path.relative_to(ROOT))

    def blocks(self, language: str) -> list[str]:
        """The fenced blocks of this language."""
        return [match[3] for match in _FENCE.finditer(self.text) if match[2] == language]

    @property
    def prose(self) -> str:
        """The text without fenced blocks. Line numbers do not change."""
        return _FENCE.sub(lambda match: "\n" * match[0].count("\n"), self.text)

    def code(self) -> Iterator[str]:
        """Every line of the fenced blocks and every inline code. Wrapped code is joined."""
        for match in _FENCE.finditer(self.text):
            yield from match[3].replace("\\\n", " ").splitlines()
        for match in _INLINE.finditer(self.prose):
            yield " ".join(match[1].split())


def pages() -> list[Page]:
    paths = [path for path in ROOT.rglob("*.md") if not _EXCLUDED.intersection(path.relative_to(ROOT).parts)]
    return [Page(path, path.read_text(encoding="utf-8")) for path in sorted(paths)]


_PAGES = pages()


@pytest.fixture(params=_PAGES, ids=[page.name for page in _PAGES])
def page(request: pytest.FixtureRequest) -> Page:
    """One page per test case."""
    found: Page = request.param
    return found


@pytest.fixture
def root() -> Path:
    """The checkout."""
    return ROOT
