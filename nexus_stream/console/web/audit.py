"""The permanent audit log of operators' actions: one JSON line per action, flushed to disk before the response.

To: ``NEXUS_DATA_DIR/console/audit.jsonl`` (readable only by its owner), the audit page, the log. Failed logins go to a
separate file. Anyone can cause failed logins, so only this file is rotated. A line contains no personal data: the
operator, the objects (reasons, letter ids, hashed sessions), and counts.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections import deque
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from nexus_stream.contracts.json_reading import json_object
from nexus_stream.host.log import get_logger

__all__ = ["FAILED_LOGINS_FILE_NAME", "FILE_NAME", "LOGIN_FAILED", "AuditLog"]

_log = get_logger(__name__)

FILE_NAME = "audit.jsonl"
FAILED_LOGINS_FILE_NAME = "failed-logins.jsonl"
LOGIN_FAILED = "login_failed"
# Entries of each action that a page can show. The file keeps all entries.
_SHOWN = 500
_MAX_FILE_BYTES = 10 * 1024 * 1024


class AuditLog:
    """Append to the files. Any thread may call the methods."""

    def __init__(self, folder: Path) -> None:
        """Open the files under ``folder``, and read their newest lines."""
        self.path = folder / FILE_NAME
        self.failed_logins_path = folder / FAILED_LOGINS_FILE_NAME
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        # By action, so that many entries of one action do not hide other actions.
        self._newest: dict[str, deque[tuple[int, dict[str, Any]]]] = {}
        self._count = 0
        found = [entry for path in (self.path, self.failed_logins_path) for entry in _tail_of_each_action(path)]
        for entry in sorted(found, key=lambda entry: str(entry["at"])):
            self._remember(entry)

    def note(self, who: str, role: str, action: str, **details: object) -> None:
        """Record one action. The line is on disk when this method returns."""
        entry: dict[str, object] = {
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "who": who,
            "role": role,
            "action": action,
        }
        entry |= {name: value for name, value in details.items() if value is not None}
        line = json.dumps(entry, ensure_ascii=False) + "\n"
        with self._lock:
            if action == LOGIN_FAILED:
                _rotate(self.failed_logins_path)
                _append(self.failed_logins_path, line)
            else:
                _append(self.path, line)
            self._remember(entry)
        _log.info("console_action", **{f"audit_{name}": value for name, value in entry.items()})

    async def write_down(self, who: str, role: str, action: str, **details: object) -> None:
        """Run `note` in a thread. The line is written even if the waiting request is cancelled."""
        written = asyncio.get_running_loop().run_in_executor(None, partial(self.note, who, role, action, **details))
        # Without the shield, a cancellation would remove the job from the threads' queue.
        await asyncio.shield(written)

    def newest(self, limit: int = 100, actions: Collection[str] | None = None) -> list[dict[str, Any]]:
        """Return the newest entries, newest first. ``actions`` limits them to these actions."""
        with self._lock:
            kept = [
                numbered
                for action, entries in self._newest.items()
                if actions is None or action in actions
                for numbered in entries
            ]
        kept.sort(key=lambda numbered: numbered[0], reverse=True)
        return [entry for _, entry in kept[:limit]]

    def _remember(self, entry: dict[str, Any]) -> None:
        self._count += 1
        self._newest.setdefault(str(entry["action"]), deque(maxlen=_SHOWN)).append((self._count, entry))


def _append(path: Path, line: str) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(handle, line.encode("utf-8", "replace"))
        os.fsync(handle)
    finally:
        os.close(handle)


def _rotate(path: Path) -> None:
    # Keep only one older file: failed logins must not fill the disk.
    if path.exists() and path.stat().st_size > _MAX_FILE_BYTES:
        path.replace(path.with_suffix(".jsonl.1"))


def _tail_of_each_action(path: Path) -> list[dict[str, Any]]:
    newest: dict[str, deque[dict[str, Any]]] = {}
    for entry in _entries(path):
        newest.setdefault(str(entry["action"]), deque(maxlen=_SHOWN)).append(entry)
    return [entry for entries in newest.values() for entry in entries]


def _entries(path: Path) -> Iterator[dict[str, Any]]:
    try:
        lines = path.open(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return
    with lines:
        for line in lines:
            # A line may be cut off by a crash.
            entry = json_object(line)
            if {"at", "who", "action"} <= entry.keys():
                yield entry
