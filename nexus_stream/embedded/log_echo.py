"""Repeat the warnings and errors of the processes' log files in the terminal, each with its process's name.

The processes write to their files themselves, so that nothing is lost and no process blocks when ``nexus dev`` ends;
this only reads what was added.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from nexus_stream.common.json_reading import json_object

__all__ = ["LogEcho"]

_WORTH_TELLING = {"warning", "warn", "error", "critical", "fatal", "panic"}
# `2026-01-31 12:00:00 [warning  ] ...`, `[2026-01-31 12:00:00] [4711] [WARNING] ...`, `... ERROR: ...`, `... WARN ...`
_LEVEL = re.compile(r"(?:^|[\s\[])(WARNING|WARN|ERROR|CRITICAL|FATAL|PANIC|warning|error|critical)\s*(?:[\]:\s]|$)")
_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
# The broker's words for a producer that asks for idempotence, which it does not have (the gateway then does without),
# and for a question about a group that has not committed anything yet.
_EXPECTED = re.compile(r'producer=None epoch=None$|NotFound \{ path: "clusters/[^"]*/groups/consumers/')
_TRACEBACK = "Traceback (most recent call last):"
# The level stands near the start of a line; further on the word is part of a message.
_LEVEL_WITHIN_CHARS = 80
_MAX_LINES_A_READ = 20
_MAX_READ_BYTES = 1_000_000


class LogEcho:
    """Follows log files and tells what matters in them."""

    def __init__(self, tell: Callable[[str, str], None]) -> None:
        """Start with no files.

        Args:
            tell: Called with the process's name and a line.
        """
        self._tell = tell
        self._positions: dict[str, tuple[Path, int]] = {}
        self._in_traceback: set[str] = set()

    def follow(self, name: str, path: Path) -> None:
        """Tell what is added to this file from now on."""
        self._positions[name] = (path, path.stat().st_size if path.exists() else 0)

    def read(self) -> None:
        """Read what was added since the last time and tell what matters; call it now and then."""
        for name, (path, position) in list(self._positions.items()):
            added, end = _whole_lines(path, position)
            self._positions[name] = (path, end)
            worth = list(self._worth_telling(name, added))
            for line in worth[:_MAX_LINES_A_READ]:
                self._tell(name, line)
            if len(worth) > _MAX_LINES_A_READ:
                self._tell(name, f"... and {len(worth) - _MAX_LINES_A_READ} more lines in {path}")

    def _worth_telling(self, name: str, lines: list[str]) -> Iterator[str]:
        for raw in lines:
            line = _ESCAPES.sub("", raw).rstrip()
            if name in self._in_traceback:
                yield line
                # The first line that is not indented is the exception itself: the end, unless another one follows.
                if line and not line.startswith(" "):
                    self._in_traceback.discard(name)
            elif line.endswith(_TRACEBACK):
                self._in_traceback.add(name)
                yield line
            elif _is_worth_telling(line):
                yield line


def _whole_lines(path: Path, position: int) -> tuple[list[str], int]:
    """The complete lines after a position, and the position behind them."""
    try:
        with path.open("rb") as log:
            size = log.seek(0, 2)
            # Shorter than where we were: somebody emptied it.
            log.seek(0 if size < position else position)
            start = log.tell()
            content = log.read(_MAX_READ_BYTES)
    except OSError:
        return [], position
    end = content.rfind(b"\n") + 1
    if end == 0 and len(content) == _MAX_READ_BYTES:
        end = len(content)
    return content[:end].decode("utf-8", errors="replace").splitlines(), start + end


def _is_worth_telling(line: str) -> bool:
    if line.startswith("{"):
        record = json_object(line)
        if record:
            return str(record.get("level", "")).lower() in _WORTH_TELLING
    return _LEVEL.search(line[:_LEVEL_WITHIN_CHARS]) is not None and _EXPECTED.search(line) is None
