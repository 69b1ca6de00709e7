"""What operators did, for good: one JSON line an action, appended and flushed to disk before the answer.

From: actions and logins. To: ``NEXUS_DATA_DIR/console/audit.jsonl`` (only its owner reads it), the audit page, the log.
Failed logins have a file of their own beside it: anyone can cause those, so it alone is cut. No personal data: who
acted, what on (reasons, letter ids, hashed sessions), how many.
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

import structlog

from nexus_stream.common.json_reading import json_object

__all__ = ["FAILED_LOGINS_FILE_NAME", "FILE_NAME", "LOGIN_FAILED", "AuditLog"]

_log = structlog.get_logger(__name__)

FILE_NAME = "audit.jsonl"
FAILED_LOGINS_FILE_NAME = "failed-logins.jsonl"
LOGIN_FAILED = "login_failed"
# Of each action what a page can show; the file keeps everything.
_SHOWN = 500
_MAX_FILE_BYTES = 10 * 1024 * 1024


class AuditLog:
    """Appends to the files; safe to call from any thread."""

    def __init__(self, folder: Path) -> None:
        """Open the files under ``folder``, and read their newest lines."""
        self.path = folder / FILE_NAME
        self.failed_logins_path = folder / FAILED_LOGINS_FILE_NAME
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        # By action, so that many of one kind hide none of another.
        self._newest: dict[str, deque[tuple[int, dict[str, Any]]]] = {}
        self._count = 0
        found = [entry for path in (self.path, self.failed_logins_path) for entry in _tail_of_each_action(path)]
        for entry in sorted(found, key=lambda entry: str(entry["at"])):
            self._remember(entry)

    def note(self, who: str, role: str, action: str, **details: object) -> None:
        """Write one action down; on disk when this returns."""
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
        """`note` from a thread. Once called it is written, also when the request that waits for it is cancelled."""
        written = asyncio.get_running_loop().run_in_executor(None, partial(self.note, who, role, action, **details))
        # Cancelled itself, it would take its job out of the threads' queue.
        await asyncio.shield(written)

    def newest(self, limit: int = 100, actions: Collection[str] | None = None) -> list[dict[str, Any]]:
        """The newest entries, the newest first; of those actions alone, if any are named."""
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
    # One older file is kept beside it: failed logins must not fill the disk.
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
