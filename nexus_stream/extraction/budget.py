"""A hard cap on what Claude may cost, in USD an hour and a day, at list price.

From: claude_calls.py reserves before each call what it can cost at most, and settles afterwards by the answer's usage.
To: `BudgetExhaustedError`, so that consumption waits. The windows roll (the last 60 minutes, the last 24 hours). What
was spent survives a restart in a small file; a SIGKILL forgets at most the last second of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nexus_stream.errors import BudgetExhaustedError

__all__ = ["Budget"]

logger = logging.getLogger(__name__)

_MINUTE_SECONDS: Final = 60
_HOUR_MINUTES: Final = 60
_DAY_MINUTES: Final = 24 * 60
_SAVE_DELAY_SECONDS: Final = 1.0
_STATE_VERSION: Final = 1
# What is reserved is settled within a call's time; then there may be room again.
_SETTLING_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class _Cap:
    variable: str
    minutes: int
    usd: float


class Budget:
    """Spending by minute. Without caps it only counts.

    Args:
        usd_per_hour: None for no cap.
        usd_per_day: None for no cap.
        share: This worker's part of both.
        path: Where it survives a restart; one file a worker. None to forget.
        now: Unix seconds.
    """

    def __init__(
        self,
        *,
        usd_per_hour: float | None = None,
        usd_per_day: float | None = None,
        share: float = 1.0,
        path: Path | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        caps = (
            ("NEXUS_BUDGET_USD_PER_HOUR", _HOUR_MINUTES, usd_per_hour),
            ("NEXUS_BUDGET_USD_PER_DAY", _DAY_MINUTES, usd_per_day),
        )
        self._caps = tuple(_Cap(name, minutes, usd * share) for name, minutes, usd in caps if usd is not None)
        self._path = path
        self._now = now
        self._by_minute = self._load()
        self._reserved_usd = 0.0
        self._is_exhausted = False
        self._save_handle: asyncio.TimerHandle | None = None

    @property
    def has_caps(self) -> bool:
        """Whether anything can be exhausted."""
        return bool(self._caps)

    @property
    def caps_usd(self) -> dict[int, float]:
        """This worker's caps by the minutes they span: 60 for an hour, 1440 for a day."""
        return {cap.minutes: cap.usd for cap in self._caps}

    def spent_usd(self, minutes: int = _DAY_MINUTES) -> float:
        """Spent in the last minutes; up to one more, because whole minutes are kept and a cap is a cap."""
        first = self._minute() - minutes
        return sum(usd for minute, usd in self._by_minute.items() if minute >= first)

    def reserve(self, usd: float) -> None:
        """Set aside what a call can cost at most; `settle` ends it.

        Raises:
            BudgetExhaustedError: the call could break a cap; carries when to come back.
        """
        for cap in self._caps:
            spent_usd = self.spent_usd(cap.minutes)
            if spent_usd + usd > cap.usd:
                self._note_exhausted(cap, spent_usd)
                raise BudgetExhaustedError(
                    f"{cap.variable}: {spent_usd:.4f} of {cap.usd:.4f} USD are spent",
                    retry_after_seconds=self._seconds_until(cap, usd),
                    is_general=True,
                )
            if spent_usd + self._reserved_usd + usd > cap.usd:
                raise BudgetExhaustedError(
                    f"{cap.variable}: the rest of {cap.usd:.4f} USD is reserved by calls under way",
                    retry_after_seconds=_SETTLING_SECONDS,
                    is_general=True,
                )
        if self._is_exhausted:
            self._is_exhausted = False
            logger.info("the budget has room again", extra={"event": "budget_available"})
        self._reserved_usd += usd

    def settle(self, reserved_usd: float, spent_usd: float) -> None:
        """End a reservation with what the call cost."""
        self._reserved_usd = max(0.0, self._reserved_usd - reserved_usd)
        if spent_usd <= 0:
            return
        minute = self._minute()
        self._by_minute[minute] = self._by_minute.get(minute, 0.0) + spent_usd
        for old in [key for key in self._by_minute if key < minute - _DAY_MINUTES]:
            del self._by_minute[old]
        self._save_soon()

    def close(self) -> None:
        """Write what was not written yet."""
        if self._save_handle is not None:
            self._save_handle.cancel()
            self._save()

    def _note_exhausted(self, cap: _Cap, spent_usd: float) -> None:
        if not self._is_exhausted:
            self._is_exhausted = True
            logger.error(
                "the budget is used up",
                extra={
                    "event": "budget_exhausted",
                    "cap": cap.variable,
                    "cap_usd": cap.usd,
                    "spent_usd": round(spent_usd, 6),
                },
            )

    def _seconds_until(self, cap: _Cap, usd: float) -> float:
        """When enough has left the window; a cap that no call fits under is looked at again after its whole length."""
        spent_usd = self.spent_usd(cap.minutes)
        first = self._minute() - cap.minutes
        for minute in sorted(key for key in self._by_minute if key >= first):
            spent_usd -= self._by_minute[minute]
            if spent_usd + usd <= cap.usd:
                return (minute + cap.minutes + 1) * _MINUTE_SECONDS - self._now()
        return float(cap.minutes * _MINUTE_SECONDS)

    def _minute(self) -> int:
        return int(self._now() // _MINUTE_SECONDS)

    # Surviving

    def _load(self) -> dict[int, float]:
        if self._path is None:
            return {}
        try:
            state = json.loads(self._path.read_text())
            return {int(minute): float(usd) for minute, usd in state["minutes"].items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            logger.error(  # noqa: TRY400 - the kind of error is all there is to say
                "what was spent before cannot be read, counting from 0",
                extra={"event": "budget_state_unreadable", "problem": type(error).__name__},
            )
            return {}

    def _save_soon(self) -> None:
        if self._path is None or self._save_handle is not None:
            return
        self._save_handle = asyncio.get_running_loop().call_later(_SAVE_DELAY_SECONDS, self._save)

    def _save(self) -> None:
        self._save_handle = None
        if self._path is None:
            return
        temporary = self._path.with_suffix(".tmp")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("w") as file:
                json.dump({"version": _STATE_VERSION, "minutes": self._by_minute}, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path)
        except OSError as error:
            # A full disk must not stop the work; the cap still holds in this process.
            logger.error(  # noqa: TRY400 - the kind of error is all there is to say
                "what was spent cannot be written",
                extra={"event": "budget_state_unwritable", "problem": error.strerror},
            )
            with contextlib.suppress(OSError):
                temporary.unlink()
