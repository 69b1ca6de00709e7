"""A hard cap on the cost of Claude, in USD per hour and per day, at list price.

claude/calls.py reserves each call's maximum cost before the call, and settles it afterwards from the answer's usage.
At the cap, `BudgetExhaustedError` makes consumption wait. The windows roll (the last 60 minutes, the last 24 hours).
The spending survives a restart, and the maximum cost of calls under way survives a kill (budget_file.py).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nexus_stream.errors import BudgetExhaustedError, BudgetReservedError, ConfigurationError, OverBudgetError
from nexus_stream.extraction.claude.budget_file import BudgetFile
from nexus_stream.host.log import get_logger

__all__ = ["Budget"]

_log = get_logger(__name__)

_MINUTE_SECONDS: Final = 60
_HOUR_MINUTES: Final = 60
_DAY_MINUTES: Final = 24 * 60
_SAVE_DELAY_SECONDS: Final = 1.0
_DUST_USD: Final = 1e-9
# Wait for room: the calls that reserved the rest settle soon.
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
        share: This worker's part of both caps.
        path: File that keeps the spending across a restart, one a worker; None to keep it in memory.
        counts_killed: Count calls that were under way at a kill as spent. Leave off if the caller restores its own
            reservations.
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
        # Without a cap nothing can be exceeded, so no call must be written down before it is made.
        self._notes_calls = counts_killed and bool(self._caps)
        # The largest amount refused since the budget ran out; 0 while there is room.
        self._refused_usd = 0.0
        self._save_handle: asyncio.TimerHandle | None = None
        if counts_killed:
            self._count_killed()

    @property
    def has_caps(self) -> bool:
        """Whether there is any cap."""
        return bool(self._caps)

    @property
    def caps_usd(self) -> dict[int, float]:
        """This worker's caps by their window in minutes: 60 for an hour, 1440 for a day."""
        return {cap.minutes: cap.usd for cap in self._caps}

    def spent_usd(self, minutes: int = _DAY_MINUTES) -> float:
        """Return the spending of the last ``minutes``.

        Spending is kept by whole minutes. To be safe, up to one minute more is included.
        """
        first = self._minute() - minutes
        return sum(usd for minute, usd in self._by_minute.items() if minute >= first)

    def require_room_for(self, usd: float) -> None:
        """Reject a cap that is smaller than one ordinary call.

        Args:
            usd: Maximum cost of an ordinary call.

        Raises:
            ConfigurationError: the message names the cap.
        """
        for cap in self._caps:
            if usd > cap.usd:
                raise ConfigurationError(
                    f"{cap.variable}: this worker's part of the cap (NEXUS_CLAUDE_SHARE) is {cap.usd:.6f} USD. One "
                    f"ordinary call can cost {usd:.6f} USD, so no call would be possible. Raise the cap, or unset it."
                )

    def reserve(self, usd: float) -> None:
        """Reserve a call's maximum cost; `settle` ends the reservation.

        Raises:
            OverBudgetError: the call could cost more than a whole cap.
            BudgetExhaustedError: the spending plus the call could exceed a cap. The error has the time to wait.
            BudgetReservedError: the call could exceed a cap only because of the other calls under way.
        """
        for cap in self._caps:
            if usd > cap.usd:
                raise OverBudgetError(
                    f"{cap.variable}: one call could cost {usd:.4f} USD, but this worker's part of the cap "
                    f"(NEXUS_CLAUDE_SHARE) is {cap.usd:.4f} USD"
                )
        for cap in self._caps:
            spent_usd = self.spent_usd(cap.minutes)
            if spent_usd + usd > cap.usd:
                self._note_exhausted(cap, spent_usd, usd)
                raise BudgetExhaustedError(
                    f"{cap.variable}: {spent_usd:.4f} of {cap.usd:.4f} USD are spent, and a call could cost {usd:.4f}",
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
        """End a reservation and count the call's real cost."""
        left_usd = self._reserved_usd - reserved_usd
        # A tiny rest is a rounding error, not a call.
        self._reserved_usd = left_usd if left_usd > _DUST_USD else 0.0
        if spent_usd > 0:
            self._add(spent_usd)
            self._unsaved_usd += spent_usd
            self._save_soon()
        self._note_calls()

    def close(self) -> None:
        """Write the spending that is not yet on disk."""
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
            _log.error("budget_exhausted", cap=cap.variable, cap_usd=cap.usd, spent_usd=round(spent_usd, 6))
        self._refused_usd = max(self._refused_usd, usd)

    def _note_room(self) -> None:
        # There is room when the largest refused call fits. A cheaper call that fits proves nothing.
        if self._refused_usd and all(self.spent_usd(cap.minutes) + self._refused_usd <= cap.usd for cap in self._caps):
            self._refused_usd = 0.0
            _log.info("budget_available")

    def _seconds_until(self, cap: _Cap, usd: float) -> float:
        """Seconds until enough spending has left the window."""
        spent_usd = self.spent_usd(cap.minutes)
        first = self._minute() - cap.minutes
        for minute in sorted(key for key in self._by_minute if key >= first):
            spent_usd -= self._by_minute[minute]
            if spent_usd + usd <= cap.usd:
                return (minute + cap.minutes + 1) * _MINUTE_SECONDS - self._now()
        return float(cap.minutes * _MINUTE_SECONDS)

    def _minute(self) -> int:
        return int(self._now() // _MINUTE_SECONDS)

    # Files

    def _count_killed(self) -> None:
        usd = 0.0 if self._file is None else self._file.load_under_way()
        if usd:
            _log.warning("budget_killed_calls", usd=round(usd, 6))
            self._add(usd)
            self._unsaved_usd = usd
            self._save()
            if self._file is not None and not self._notes_calls and not self._unsaved_usd:
                # Without a cap no call is written down, so nothing else would overwrite the amount counted here.
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
