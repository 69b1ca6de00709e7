"""A hard cap on what Claude may cost, in USD an hour and a day, at list price.

From: claude/calls.py reserves before each call what it can cost at most, and settles afterwards by the answer's usage.
To: `BudgetExhaustedError`, so that consumption waits. The windows roll (the last 60 minutes, the last 24 hours). What
was spent survives a restart, and what calls under way can cost survives a kill: budget_file.py.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nexus_stream.errors import BudgetExhaustedError, BudgetReservedError, ConfigurationError, OverBudgetError
from nexus_stream.extraction.claude.budget_file import BudgetFile

__all__ = ["Budget"]

logger = logging.getLogger(__name__)

_MINUTE_SECONDS: Final = 60
_HOUR_MINUTES: Final = 60
_DAY_MINUTES: Final = 24 * 60
_SAVE_DELAY_SECONDS: Final = 1.0
_DUST_USD: Final = 1e-9
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
        counts_killed: Whether a call under way when the process is killed counts as spent. Not for a caller that knows
            its calls after a kill, and reserves for them again.
        now: Unix seconds.
    """

    def __init__(
        self,
        *,
        usd_per_hour: float | None = None,
        usd_per_day: float | None = None,
        share: float = 1.0,
        path: Path | None = None,
        counts_killed: bool = False,
        now: Callable[[], float] = time.time,
    ) -> None:
        caps = (
            ("NEXUS_BUDGET_USD_PER_HOUR", _HOUR_MINUTES, usd_per_hour),
            ("NEXUS_BUDGET_USD_PER_DAY", _DAY_MINUTES, usd_per_day),
        )
        self._caps = tuple(_Cap(name, minutes, usd * share) for name, minutes, usd in caps if usd is not None)
        self._file = None if path is None else BudgetFile(path)
        self._now = now
        self._by_minute = {} if self._file is None else self._file.load()
        self._reserved_usd = 0.0
        self._unsaved_usd = 0.0
        # Without a cap there is nothing to pass, so no call has to be noted before it is made.
        self._notes_calls = counts_killed and bool(self._caps)
        # The most that was refused since there was room; 0 while there is.
        self._refused_usd = 0.0
        self._save_handle: asyncio.TimerHandle | None = None
        if counts_killed:
            self._count_killed()

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

    def require_room_for(self, usd: float) -> None:
        """Refuse caps under which not even an ordinary call fits.

        Args:
            usd: What one can cost at most.

        Raises:
            ConfigurationError: names the cap.
        """
        for cap in self._caps:
            if usd > cap.usd:
                raise ConfigurationError(
                    f"{cap.variable}: this worker's part of it (NEXUS_CLAUDE_SHARE) is {cap.usd:.6f} USD, and one "
                    f"ordinary call can cost {usd:.6f}, so nothing could ever be read. Raise it, or unset it."
                )

    def reserve(self, usd: float) -> None:
        """Set aside what a call can cost at most; `settle` ends it.

        Raises:
            OverBudgetError: it could cost more than a whole cap.
            BudgetExhaustedError: with what is spent it could break a cap; carries when to come back.
            BudgetReservedError: only with what calls under way can cost it could break one.
        """
        for cap in self._caps:
            if usd > cap.usd:
                raise OverBudgetError(
                    f"{cap.variable}: one call could cost {usd:.4f} USD, this worker's part of the cap "
                    f"(NEXUS_CLAUDE_SHARE) is {cap.usd:.4f}"
                )
        for cap in self._caps:
            spent_usd = self.spent_usd(cap.minutes)
            if spent_usd + usd > cap.usd:
                self._note_exhausted(cap, spent_usd, usd)
                raise BudgetExhaustedError(
                    f"{cap.variable}: {spent_usd:.4f} of {cap.usd:.4f} USD are spent, a call could cost {usd:.4f}",
                    retry_after_seconds=self._seconds_until(cap, usd),
                    is_general=True,
                )
            if spent_usd + self._reserved_usd + usd > cap.usd:
                raise BudgetReservedError(
                    f"{cap.variable}: the rest of {cap.usd:.4f} USD is reserved by calls under way",
                    retry_after_seconds=_SETTLING_SECONDS,
                    is_general=True,
                )
        self._note_room()
        self._reserved_usd += usd
        self._note_calls()

    def settle(self, reserved_usd: float, spent_usd: float) -> None:
        """End a reservation with what the call cost."""
        left_usd = self._reserved_usd - reserved_usd
        # What sums of fractions leave over is no call's.
        self._reserved_usd = left_usd if left_usd > _DUST_USD else 0.0
        if spent_usd > 0:
            self._add(spent_usd)
            self._unsaved_usd += spent_usd
            self._save_soon()
        self._note_calls()

    def close(self) -> None:
        """Write what was not written yet."""
        if self._save_handle is not None:
            self._save_handle.cancel()
            self._save()
        if self._notes_calls and self._file is not None and self._reserved_usd + self._unsaved_usd == 0:
            self._file.clear_under_way()

    def _add(self, usd: float) -> None:
        minute = self._minute()
        self._by_minute[minute] = self._by_minute.get(minute, 0.0) + usd
        for old in [key for key in self._by_minute if key < minute - _DAY_MINUTES]:
            del self._by_minute[old]

    def _note_exhausted(self, cap: _Cap, spent_usd: float, usd: float) -> None:
        if not self._refused_usd:
            logger.error(
                "the budget is used up",
                extra={
                    "event": "budget_exhausted",
                    "cap": cap.variable,
                    "cap_usd": cap.usd,
                    "spent_usd": round(spent_usd, 6),
                },
            )
        self._refused_usd = max(self._refused_usd, usd)

    def _note_room(self) -> None:
        # For the dearest call that was refused: a cheaper one that still fits is no sign of room.
        if self._refused_usd and all(self.spent_usd(cap.minutes) + self._refused_usd <= cap.usd for cap in self._caps):
            self._refused_usd = 0.0
            logger.info("the budget has room again", extra={"event": "budget_available"})

    def _seconds_until(self, cap: _Cap, usd: float) -> float:
        """When enough has left the window."""
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

    def _count_killed(self) -> None:
        usd = 0.0 if self._file is None else self._file.load_under_way()
        if usd:
            logger.warning(
                "calls were under way when this worker was killed; they count as spent",
                extra={"event": "budget_killed_calls", "usd": round(usd, 6)},
            )
            self._add(usd)
            self._unsaved_usd = usd
            self._save()
            if self._file is not None and not self._notes_calls and not self._unsaved_usd:
                # Without a cap no call is noted, and nothing else would overwrite what has been counted now.
                self._file.clear_under_way()

    def _note_calls(self) -> None:
        if self._notes_calls and self._file is not None:
            self._file.save_under_way(self._reserved_usd + self._unsaved_usd)

    def _save_soon(self) -> None:
        if self._file is not None and self._save_handle is None:
            self._save_handle = asyncio.get_running_loop().call_later(_SAVE_DELAY_SECONDS, self._save)

    def _save(self) -> None:
        self._save_handle = None
        if self._file is not None and self._file.save(self._by_minute):
            self._unsaved_usd = 0.0
            self._note_calls()
