"""Every relative link leads to an existing file and, if it has an anchor, to a heading of that file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

LINK = re.compile(r"(?<!!)\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^()\s]+(?:\([^()]*\))?)\)")
HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)
FENCE = re.compile(r"^[ ]*```.*?^[ ]*```[ ]*$", re.MULTILINE | re.DOTALL)


def anchors(text: str) -> set[str]:
    """The anchors of the headings, as on GitHub: lower case, no punctuation, a dash for each space."""
    found: set[str] = set()
    for heading in HEADING.findall(FENCE.sub("", text)):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        anchor = re.sub(r"[^\w\- ]", "", shown.strip().lower()).replace(" ", "-")
        number = 1
        unique = anchor
        while unique in found:
            unique, number = f"{anchor}-{number}", number + 1
        found.add(unique)
    return found


def test_every_relative_link_resolves(page: Any) -> None:
    broken = []
    for target in LINK.findall(page.prose):
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            continue
        file_part, _, anchor = unquote(target).partition("#")
        file: Path = (page.path.parent / file_part).resolve() if file_part else page.path
        if not file.exists():
            broken.append(f"{target}: no such file")
        elif anchor and file.suffix == ".md" and anchor not in anchors(file.read_text(encoding="utf-8")):
            broken.append(f"{target}: no such heading")
    assert broken == []


def test_pages_and_headings_named_in_the_code_exist(root: Path) -> None:
    """Messages and docstrings name pages. One message also names a heading."""
    sources = [path for folder in ("nexus_stream", "agents", "tables") for path in (root / folder).rglob("*.py")]
    named = {name for path in sources for name in re.findall(r"docs/[a-z/_-]+\.md", path.read_text(encoding="utf-8"))}
    assert "docs/reference/topics.md" in named
    assert [name for name in sorted(named) if not (root / name).is_file()] == []
    topics = (root / "docs" / "reference" / "topics.md").read_text(encoding="utf-8")
    assert "changing-the-partition-count" in anchors(topics)


def test_anchors_are_made_as_on_github() -> None:
    headings = ("# A worker answers 503, not ready", "## `nexus dev`", "## Once, and once more", "## `nexus dev`")
    assert anchors("\n".join((*headings, "```", "# no heading", "```", ""))) == {
        "a-worker-answers-503-not-ready",
        "nexus-dev",
        "once-and-once-more",
        "nexus-dev-1",
    }
