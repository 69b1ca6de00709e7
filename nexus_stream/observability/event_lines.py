"""Fast log lines for events that occur thousands of times a second: the outcome of each message.

A line costs a dictionary and one call of orjson, a tenth of the cost of the logging machinery. Lines are buffered for
at most a quarter of a second. An ordinary log record first writes the buffered lines, so the order stays. ``kill -9``
can lose the buffered lines.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

import orjson

from nexus_stream.contracts.message_id import is_ours

__all__ = ["EventHandler", "EventLines", "hashed", "shown_id"]

_FLUSH_SECONDS = 0.25
_MAX_LINES = 500


def hashed(identifier: str | bytes) -> str:
    """A stable hash of a session, fingerprint or tenant, for logs."""
    raw = identifier.encode("utf-8", "surrogatepass") if isinstance(identifier, str) else identifier
    return hashlib.sha256(raw).hexdigest()[:12]


def shown_id(correlation_id: bytes) -> str:
    """A correlation id as logs may show it: unchanged if our gateway made it, otherwise its hash.

    Any producer may write anything into the header.
    """
    if is_ours(correlation_id):
        return correlation_id.decode()
    return f"hash-{hashed(correlation_id)}"


class EventHandler(logging.StreamHandler[TextIO]):
    """The log handler of a process. It accepts log records and finished lines.

    Args:
        stream: Output.
        as_json: Whether lines are JSON.
        ordinary_level: Level of the events without a problem.
    """

    def __init__(self, stream: TextIO | None = None, *, as_json: bool, ordinary_level: int) -> None:
        super().__init__(stream or sys.stderr)
        self.as_json = as_json
        self.ordinary_level = ordinary_level
        self._lines: list[str] = []
        self._is_scheduled = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write the buffered lines, then a log record."""
        self._write_lines()
        super().emit(record)

    def line(self, text: str) -> None:
        """Buffer one line, to write it soon."""
        with self.lock or _NO_LOCK:
            self._lines.append(text)
            is_full = len(self._lines) >= _MAX_LINES
        if is_full:
            self._write_lines()
        elif not self._is_scheduled:
            try:
                asyncio.get_running_loop().call_later(_FLUSH_SECONDS, self._write_scheduled)
            except RuntimeError:
                self._write_lines()
            else:
                self._is_scheduled = True

    def flush(self) -> None:
        """Write the buffered lines; `logging` also calls this at shutdown."""
        self._write_lines()
        super().flush()

    def _write_scheduled(self) -> None:
        self._is_scheduled = False
        self._write_lines()

    def _write_lines(self) -> None:
        with self.lock or _NO_LOCK:
            if not self._lines:
                return
            text = "".join(self._lines)
            self._lines.clear()
            try:
                self.stream.write(text)
                self.stream.flush()
            except (OSError, ValueError):
                # The reader of the log is gone. That must not fail the processing of a message.
                return


class _NoLock:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


_NO_LOCK = _NoLock()


def _process_handler() -> EventHandler | None:
    for handler in logging.getLogger().handlers:
        if isinstance(handler, EventHandler):
            return handler
    return None


class EventLines:
    """Writes the fast lines of one logger. Create it after `configure_logs`, because it reads the levels once.

    Without `configure_logs` (a test, a command) the events go to the logger.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._logger = logging.getLogger(name)
        self._handler = _process_handler()
        level = logging.INFO if self._handler is None else self._handler.ordinary_level
        self._level = level
        self._level_name = logging.getLevelName(level).lower()
        self.is_on = self._logger.isEnabledFor(level)

    def write(self, event: str, fields: Mapping[str, Any]) -> None:
        """Write an event of the ordinary level. Check `is_on` before you build the fields.

        Args:
            event: A constant text.
            fields: Names and values without personal data; JSON values or StrEnum.
        """
        handler = self._handler
        if handler is None:
            self._logger.log(self._level, event, extra=dict(fields))
            return
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        if handler.as_json:
            line = {**fields, "event": event, "level": self._level_name, "logger": self._name, "timestamp": now}
            handler.line(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE).decode())
        else:
            shown = " ".join([f"{name}={value}" for name, value in fields.items()])
            handler.line(f"{now} [{self._level_name:<9}] {event:<30} [{self._name}] {shown}\n")
