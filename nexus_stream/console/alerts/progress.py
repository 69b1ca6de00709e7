"""Measure how long each group had records to process but committed nothing. No clock: the caller passes the time.

The alert ``no_progress`` uses this. It covers two problems that no process can report itself: all processes are dead,
or a process is alive but stuck.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nexus_stream.console.reading.overview import RoleFigures
from nexus_stream.kafka.group_offsets import GroupStanding

__all__ = ["ProgressWatch"]

# States without progress that are normal for a limited time. A worker that never leaves them makes no progress.
_PASSING_STATES = ("rebalancing", "recovering")
_ALLOWED_FACTOR = 10


@dataclass(slots=True)
class _Stuck:
    """Unchanged committed offsets, and the start of this time.

    Attributes:
        start_unknown: Whether the offsets may have been unchanged before the first observation.
    """

    committed: Mapping[int, int]
    since: float
    start_unknown: bool


class ProgressWatch:
    """Keep each role's committed offsets, and the time since their last change.

    Args:
        no_progress_seconds: The alert's threshold. A rebalance or a recovery may take ten times as long.

    Attributes:
        unknown: Roles whose progress cannot be judged yet: they are still starting, or were not observed long enough.
    """

    def __init__(self, no_progress_seconds: float) -> None:
        self._threshold_seconds = no_progress_seconds
        self._stuck: dict[str, _Stuck] = {}
        self.unknown: frozenset[str] = frozenset()

    def observe(
        self, roles: Sequence[RoleFigures], standings: Mapping[str, GroupStanding | None], now: float
    ) -> dict[str, float]:
        """Return the seconds without progress of each role with known progress.

        Args:
            roles: The figures.
            standings: The offsets of each role's group. None if the broker does not answer.
            now: Seconds, monotonic.
        """
        found: dict[str, float] = {}
        unknown = set()
        for role in roles:
            standing = standings.get(role.role)
            if standing is None:
                self._stuck.pop(role.role, None)
                continue
            committed = {partition.partition: partition.committed for partition in standing.partitions}
            stuck = self._stuck.get(role.role)
            if stuck is None:
                stuck = self._stuck[role.role] = _Stuck(committed, now, start_unknown=True)
            # A process that waits for Claude or the database reports this: another alert covers it. Without lag, no
            # progress is expected.
            if committed != stuck.committed or not role.late or "waiting" in role.states:
                self._stuck[role.role] = _Stuck(committed, now, start_unknown=False)
                continue
            seconds = now - stuck.since
            is_passing = any(state in _PASSING_STATES for state in role.states)
            if is_passing and seconds <= _ALLOWED_FACTOR * self._threshold_seconds:
                unknown.add(role.role)
                continue
            if stuck.start_unknown and seconds <= self._threshold_seconds:
                unknown.add(role.role)
            found[role.role] = seconds
        self.unknown = frozenset(unknown)
        return found
