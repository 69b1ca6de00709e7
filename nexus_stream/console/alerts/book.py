"""Alerts of conditions that last: a blip begins none, a lull ends none. Pure, with the time handed in.

From: alerts.py's conditions, again and again. To: what fires, and an event for each begin and each end. An alert begins
once its condition held for its time without a gap, and ends once the condition was gone for its time without a gap.
So between two begins of the same alert at least both times pass: it cannot flap faster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from nexus_stream.console.alerts.conditions import Alert, AlertKind
from nexus_stream.settings import Settings

__all__ = ["AlertBook", "AlertEvent", "Timing", "timings_of"]

_Identity = tuple[AlertKind, str]

# Their condition has a time of its own (so long waiting, stuck), or counts what does not go away again.
_AT_ONCE = frozenset({AlertKind.WAITING, AlertKind.NO_PROGRESS, AlertKind.DEAD_LETTERS, AlertKind.BUDGET})


@dataclass(frozen=True, slots=True)
class Timing:
    """For how long a condition has to hold, and to be gone, in seconds."""

    for_seconds: float
    clear_seconds: float


def timings_of(settings: Settings) -> dict[AlertKind, Timing]:
    """The times of every kind."""
    return {
        kind: Timing(0.0 if kind in _AT_ONCE else settings.alert_for_seconds, settings.alert_clear_seconds)
        for kind in AlertKind
    }


@dataclass(frozen=True, slots=True)
class AlertEvent:
    """An alert began or ended.

    Attributes:
        state: Which of both.
        alert: As it was last seen.
        at_ms: When, Unix milliseconds.
    """

    state: Literal["firing", "resolved"]
    alert: Alert
    at_ms: int


@dataclass(slots=True)
class _Entry:
    """One condition: seen before it fires, and kept until it ends."""

    alert: Alert
    held_since: float
    fires: bool = False
    gone_since: float | None = None


class AlertBook:
    """Remembers conditions between looks.

    Args:
        timings: Of every kind.
        firing: What fired when the console last stopped: it goes on firing, and begins no second time.
    """

    def __init__(self, timings: Mapping[AlertKind, Timing], firing: Iterable[Alert] = ()) -> None:
        self._timings = timings
        self._entries = {alert.identity: _Entry(alert, 0.0, fires=True) for alert in firing}

    @property
    def firing(self) -> tuple[Alert, ...]:
        """What fires now, what is critical first."""
        alerts = [entry.alert for entry in self._entries.values() if entry.fires]
        return tuple(sorted(alerts, key=lambda alert: (not alert.is_critical, alert.since_ms)))

    def observe(
        self,
        conditions: Sequence[Alert],
        now: float,
        now_ms: int,
        unknown: Callable[[_Identity], bool] = lambda identity: False,
    ) -> list[AlertEvent]:
        """Take in what holds now; returns what began and what ended.

        Args:
            conditions: What holds.
            now: Seconds, monotonic.
            now_ms: Unix milliseconds.
            unknown: Of which alerts nobody can tell now: what fires goes on, and what does not cannot begin.
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
                # Its time begins anew when the condition comes back.
                del self._entries[identity]
            elif unknown(identity):
                entry.gone_since = None
            elif entry.gone_since is None:
                entry.gone_since = now
            if entry.gone_since is not None and now - entry.gone_since >= self._timings[identity[0]].clear_seconds:
                del self._entries[identity]
                events.append(AlertEvent("resolved", entry.alert, now_ms))
        return events
