"""Repeat warnings and errors from the processes' log files in the terminal, each with the process's name.

The processes write their own files, so that no line is lost and no process blocks when ``nexus dev`` ends. This module
only reads the new lines.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from nexus_stream.contracts.json_reading import json_object

__all__ = ["LogEcho"]

_SHOWN_LEVELS = {"warning", "warn", "error", "critical", "fatal", "panic"}
# `2026-01-31 12:00:00 [warning  ] ...`, `[2026-01-31 12:00:00] [4711] [WARNING] ...`, `... ERROR: ...`, `... WARN ...`
_LEVEL = re.compile(r"(?:^|[\s\[])(WARNING|WARN|ERROR|CRITICAL|FATAL|PANIC|warning|error|critical)\s*(?:[\]:\s]|$)")
_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
# Lines that the broker always logs: for a producer that requests idempotence, which the broker does not support (the
# gateway then works without it), and for a query about a group without commits.
_EXPECTED = re.compile(r'producer=None epoch=None$|NotFound \{ path: "clusters/[^"]*/groups/consumers/')
_TRACEBACK = "Traceback (most recent call last):"
# The level is near the start of a line. After that, the word is part of the message.
_LEVEL_WITHIN_CHARS = 80
_MAX_LINES_A_READ = 20
_MAX_READ_BYTES = 1_000_000


class LogEcho:
    """Follows log files and shows their warnings, errors and tracebacks."""

    def __init__(self, show: Callable[[str, str], None]) -> None:
        """Start with no files.

        Args:
            show: Called with the process's name and a line.
        """
        self._show = show
        self._positions: dict[str, tuple[Path, int]] = {}
        self._in_traceback: set[str] = set()

    def follow(self, name: str, path: Path) -> None:
        """Follow a file from its current end."""
        self._positions[name] = (path, path.stat().st_size if path.exists() else 0)

    def read(self) -> None:
        """Read the lines added since the last call and show the important ones. Call it regularly."""
        for name, (path, position) in list(self._positions.items()):
            added, end = _whole_lines(path, position)
            self._positions[name] = (path, end)
            important = list(self._important(name, added))
            for line in important[:_MAX_LINES_A_READ]:
                self._show(name, line)
            if len(important) > _MAX_LINES_A_READ:
                self._show(name, f"... and {len(important) - _MAX_LINES_A_READ} more lines in {path}")

    def _important(self, name: str, lines: list[str]) -> Iterator[str]:
        for raw in lines:
            line = _ESCAPES.sub("", raw).rstrip()
            if name in self._in_traceback:
                yield line
                # The first line without indentation is the exception: the traceback ends there.
                if line and not line.startswith(" "):
                    self._in_traceback.discard(name)
            elif line.endswith(_TRACEBACK):
                self._in_traceback.add(name)
                yield line
            elif _is_important(line):
                yield line


def _whole_lines(path: Path, position: int) -> tuple[list[str], int]:
    """Return the complete lines after a position, and the position after them."""
    try:
        with path.open("rb") as log:
            size = log.seek(0, 2)
            # The file is shorter than the position, so it was emptied: start again.
            log.seek(0 if size < position else position)
            start = log.tell()
            content = log.read(_MAX_READ_BYTES)
    except OSError:
        return [], position
    end = content.rfind(b"\n") + 1
    if end == 0 and len(content) == _MAX_READ_BYTES:
        end = len(content)
    return content[:end].decode("utf-8", errors="replace").splitlines(), start + end


def _is_important(line: str) -> bool:
    if line.startswith("{"):
        record = json_object(line)
        if record:
            return str(record.get("level", "")).lower() in _SHOWN_LEVELS
    return _LEVEL.search(line[:_LEVEL_WITHIN_CHARS]) is not None and _EXPECTED.search(line) is None
