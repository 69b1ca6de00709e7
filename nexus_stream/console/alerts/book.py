"""Turn lasting conditions into alerts: a short blip begins no alert, and a short pause ends none.

This module reads no clock: the caller passes the time.
An alert begins after its condition held for a minimum time without a gap. It ends after the condition was absent for a
minimum time without a gap. So at least both times pass between two begins of the same alert: it cannot flap faster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from nexus_stream.console.alerts.conditions import Alert, AlertKind
from nexus_stream.settings import Settings

__all__ = ["AlertBook", "AlertEvent", "Timing", "timings_of"]

_Identity = tuple[AlertKind, str]

# These conditions already contain a time (waiting, stuck), or they count something that cannot decrease.
_AT_ONCE = frozenset({AlertKind.WAITING, AlertKind.NO_PROGRESS, AlertKind.DEAD_LETTERS, AlertKind.BUDGET})


@dataclass(frozen=True, slots=True)
class Timing:
    """The minimum times in seconds for which a condition must hold, and must be absent."""

    for_seconds: float
    clear_seconds: float


def timings_of(settings: Settings) -> dict[AlertKind, Timing]:
    """Return the times of every kind of alert."""
    return {
        kind: Timing(0.0 if kind in _AT_ONCE else settings.alert_for_seconds, settings.alert_clear_seconds)
        for kind in AlertKind
    }


@dataclass(frozen=True, slots=True)
class AlertEvent:
    """An alert began or ended.

    Attributes:
        state: Whether the alert began or ended.
        alert: The alert as last observed.
        at_ms: The time, Unix milliseconds.
    """

    state: Literal["firing", "resolved"]
    alert: Alert
    at_ms: int


@dataclass(slots=True)
class _Entry:
    """One condition, from its first observation until it ends."""

    alert: Alert
    held_since: float
    fires: bool = False
    gone_since: float | None = None


class AlertBook:
    """Keep conditions between observations.

    Args:
        timings: The times of every kind.
        firing: The alerts that fired when the console last stopped. They continue and do not begin again.
    """

    def __init__(self, timings: Mapping[AlertKind, Timing], firing: Iterable[Alert] = ()) -> None:
        self._timings = timings
        self._entries = {alert.identity: _Entry(alert, 0.0, fires=True) for alert in firing}

    @property
    def firing(self) -> tuple[Alert, ...]:
        """The firing alerts, critical ones first."""
        alerts = [entry.alert for entry in self._entries.values() if entry.fires]
        return tuple(sorted(alerts, key=lambda alert: (not alert.is_critical, alert.since_ms)))

    def observe(
        self,
        conditions: Sequence[Alert],
        now: float,
        now_ms: int,
        unknown: Callable[[_Identity], bool] = lambda identity: False,
    ) -> list[AlertEvent]:
        """Process the present conditions. Return the alerts that began and ended.

        Args:
            conditions: The conditions that hold.
            now: Seconds, monotonic.
            now_ms: Unix milliseconds.
            unknown: Whether a condition cannot be judged now. Then a firing alert continues, and no alert begins.
        """
        holding = {alert.identity: alert for alert in conditions if not unknown(alert.identity)}
        events: list[AlertEvent] = []
        for identity, alert in holding.items():
            entry = self._entries.get(identity)
            if entry is None:
                entry = self._entries[identity] = _Entry(replace(alert, since_ms=now_ms), now)
            entry.alert = replace(alert, since_ms=entry.alert.since_ms)
            entry.gone_since = None
            if not entry.fires and now - entry.held_since >= self._timings[alert.kind].for_seconds:
                entry.fires = True
                events.append(AlertEvent("firing", entry.alert, now_ms))
        for identity, entry in list(self._entries.items()):
            if identity in holding:
                continue
            if not entry.fires:
                # If the condition comes back, its minimum time starts again.
                del self._entries[identity]
            elif unknown(identity):
                entry.gone_since = None
            elif entry.gone_since is None:
                entry.gone_since = now
            if entry.gone_since is not None and now - entry.gone_since >= self._timings[identity[0]].clear_seconds:
                del self._entries[identity]
                events.append(AlertEvent("resolved", entry.alert, now_ms))
        return events
