"""What the console must not forget when it stops: which alerts fire, and what it has not posted yet.

From and to: ``alerts.json`` in the console's data folder. It is written before anything is posted and after each post,
so a restart begins no alert twice, ends what ended meanwhile, and posts what was left. It holds nobody's data.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import orjson
import structlog

from nexus_stream.console.alerts.conditions import Alert, AlertKind
from nexus_stream.console.alerts.webhook import Message

__all__ = ["AlertStore"]

_log = structlog.get_logger(__name__)


class AlertStore:
    """Reads and writes the file; its methods block.

    Args:
        folder: The console's own.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "alerts.json"
        self._failed = False

    def load(self) -> tuple[list[Alert], list[Message]]:
        """What fired and what waited; nothing of a file that is missing, damaged or of another version."""
        try:
            stored = orjson.loads(self._path.read_bytes())
            firing = [Alert(**{**alert, "kind": AlertKind(alert["kind"])}) for alert in stored["firing"]]
            return firing, [Message(**message) for message in stored["pending"]]
        except FileNotFoundError:
            return [], []
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            _log.warning("alerts.json cannot be read, alerts that fire begin anew")
            return [], []

    def save(self, firing: Sequence[Alert], pending: Sequence[Message]) -> None:
        """Replace the file. A disk that is full costs what is remembered, and nothing else."""
        content = orjson.dumps({"firing": [asdict(one) for one in firing], "pending": [asdict(one) for one in pending]})
        unfinished = self._path.with_suffix(".new")
        try:
            with unfinished.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(self._path)
            self._failed = False
        except OSError as error:
            if not self._failed:
                _log.warning("alerts.json cannot be written", problem=error.strerror)
            self._failed = True
