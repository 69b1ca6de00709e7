"""The spending of a budget on disk: after a restart or a kill, the cap continues from the same amount.

There are two small files a worker. ``<slot>.budget.json`` has the spending by minute and is written about once a
second. ``<slot>.budget.under-way`` has one number, written before and after each call: the maximum cost of the calls
under way, plus the spending since the first file was written. An orderly end deletes the second file. If it exists at
the start, a process was killed. The number then counts as spent, because the billed amount is unknown.

A kill loses nothing that was written. A power cut loses writes that the system had not yet flushed: for the second
file, some seconds.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from nexus_stream.host.log import get_logger

__all__ = ["BudgetFile"]

_log = get_logger(__name__)

_STATE_VERSION: Final = 1
_UNDER_WAY_SUFFIX: Final = ".under-way"
# Fixed length for any amount. One write overwrites it in place, so that a kill leaves the old or the new number.
_AMOUNT_CHARS: Final = 32


class BudgetFile:
    """Reads and writes both files. A disk that cannot be written is logged and stops nothing.

    Args:
        path: The path of ``<slot>.budget.json``.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._under_way = path.with_suffix(_UNDER_WAY_SUFFIX)

    def load(self) -> dict[int, float]:
        """Read the spending: USD by minute of Unix time."""
        try:
            state = json.loads(self._path.read_text())
            return {int(minute): float(usd) for minute, usd in state["minutes"].items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            _log.error("budget_state_unreadable", problem=type(error).__name__)
            return {}

    def load_under_way(self) -> float:
        """Read the USD that a killed process may have spent."""
        try:
            return max(0.0, float(self._under_way.read_text()))
        except (OSError, ValueError):
            return 0.0

    def save(self, by_minute: Mapping[int, float]) -> bool:
        """Write the spending; return whether that worked."""
        temporary = self._path.with_suffix(".tmp")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("w") as file:
                json.dump({"version": _STATE_VERSION, "minutes": by_minute}, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path)
        except OSError as error:
            # A full disk must not stop the work. The cap still applies in this process.
            _report(error)
            with contextlib.suppress(OSError):
                temporary.unlink()
            return False
        return True

    def save_under_way(self, usd: float) -> bool:
        """Write the maximum cost of calls under way; return whether that worked. A kill loses nothing without fsync."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(self._under_way, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                os.pwrite(file, f"{usd:.9f}".ljust(_AMOUNT_CHARS).encode(), 0)
            finally:
                os.close(file)
        except OSError as error:
            _report(error)
            return False
        return True

    def clear_under_way(self) -> None:
        """Delete the second file: an orderly end, no call is under way."""
        with contextlib.suppress(OSError):
            self._under_way.unlink(missing_ok=True)


def _report(error: OSError) -> None:
    _log.error("budget_state_unwritable", problem=error.strerror)
