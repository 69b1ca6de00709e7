"""What operators did, for good: one JSON line an action, appended and flushed to disk before the answer.

From: actions and logins. To: ``NEXUS_DATA_DIR/console/audit.jsonl`` (only its owner reads it), the audit page, the log.
No personal data: who acted, what on (reasons, letter ids, hashed sessions), how many.
"""

from __future__ import annotations

import json
import os
import threading
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog

__all__ = ["FILE_NAME", "AuditLog"]

_log = structlog.get_logger(__name__)

FILE_NAME = "audit.jsonl"
# What a page can show; the file keeps everything.
_SHOWN = 500
_MAX_FILE_BYTES = 10 * 1024 * 1024


class AuditLog:
    """Appends to the file; safe to call from any thread."""

    def __init__(self, folder: Path) -> None:
        """Open the file under ``folder``, and read its newest lines."""
        self.path = folder / FILE_NAME
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._newest: deque[dict[str, Any]] = deque(self._read(), maxlen=_SHOWN)

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
            self._rotate()
            handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                os.write(handle, line.encode())
                os.fsync(handle)
            finally:
                os.close(handle)
            self._newest.append(entry)
        _log.info("console_action", **{f"audit_{name}": value for name, value in entry.items()})

    def newest(self, limit: int = 100) -> list[dict[str, Any]]:
        """The newest actions, the newest first."""
        with self._lock:
            return list(self._newest)[::-1][:limit]

    def _rotate(self) -> None:
        # One older file is kept beside it: failed logins must not fill the disk.
        if self.path.exists() and self.path.stat().st_size > _MAX_FILE_BYTES:
            self.path.replace(self.path.with_suffix(".jsonl.1"))

    def _read(self) -> list[dict[str, Any]]:
        try:
            lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()[-_SHOWN:]
        except FileNotFoundError:
            return []
        found = []
        for line in lines:
            try:
                entry = json.loads(line)
            except ValueError:
                # Cut off by a crash.
                continue
            if isinstance(entry, dict) and {"at", "who", "action"} <= entry.keys():
                found.append(entry)
        return found
