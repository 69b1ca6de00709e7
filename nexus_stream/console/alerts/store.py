"""Store the firing alerts and the unposted messages, so that they survive a restart of the console.

From and to: ``alerts.json`` in the console's data folder. The file is written before the first post and after each
post. So after a restart, no alert begins twice, alerts that are over end, and the remaining messages are posted. The
file contains no personal data.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import orjson

from nexus_stream.console.alerts.conditions import Alert, AlertKind
from nexus_stream.console.alerts.webhook import AlertMessage
from nexus_stream.host.log import get_logger

__all__ = ["AlertStore"]

_log = get_logger(__name__)


class AlertStore:
    """Read and write the file. The methods block.

    Args:
        folder: The console's data folder.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "alerts.json"
        self._failed = False

    def load(self) -> tuple[list[Alert], list[AlertMessage]]:
        """Return the firing alerts and the unposted messages. Both are empty if the file is missing or unreadable."""
        try:
            stored = orjson.loads(self._path.read_bytes())
            firing = [Alert(**{**alert, "kind": AlertKind(alert["kind"])}) for alert in stored["firing"]]
            return firing, [AlertMessage(**message) for message in stored["pending"]]
        except FileNotFoundError:
            return [], []
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            _log.warning("alerts.json cannot be read, firing alerts begin again")
            return [], []

    def save(self, firing: Sequence[Alert], pending: Sequence[AlertMessage]) -> None:
        """Replace the file. If the disk is full, only the stored state is lost."""
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
