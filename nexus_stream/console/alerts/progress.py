"""For how long each group had something to do and committed nothing. Pure, with the time handed in.

From: the lag monitor's committed offsets and overview.py's figures. To: the alert ``no_progress``. It tells what no
process can tell of itself: that all are dead, or that one is alive and moves nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nexus_stream.console.reading.overview import RoleFigures
from nexus_stream.kafka.group_offsets import GroupStanding

__all__ = ["ProgressWatch"]

# Excused for a while: a worker that is always about to begin makes no progress either.
_PASSING_STATES = ("rebalancing", "recovering")
_EXCUSED_TIMES = 10


@dataclass(slots=True)
class _Stuck:
    """Since when offsets stand still.

    Attributes:
        began_unseen: They may have stood still before we first looked.
    """

    committed: Mapping[int, int]
    since: float
    began_unseen: bool


class ProgressWatch:
    """Remembers each role's committed offsets, and since when they stand still.

    Args:
        no_progress_seconds: The alert's threshold. A rebalance or a recovery may take ten times as long.

    Attributes:
        unknown: Roles of which nobody can tell yet whether they make progress: those that are about to begin, and all
            that were not watched for long enough.
    """

    def __init__(self, no_progress_seconds: float) -> None:
        self._threshold_seconds = no_progress_seconds
        self._stuck: dict[str, _Stuck] = {}
        self.unknown: frozenset[str] = frozenset()

    def observe(
        self, roles: Sequence[RoleFigures], standings: Mapping[str, GroupStanding | None], now: float
    ) -> dict[str, float]:
        """Seconds without progress, for each role of which something is known.

        Args:
            roles: The figures.
            standings: Of each role's group; None while the broker does not answer.
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
                stuck = self._stuck[role.role] = _Stuck(committed, now, began_unseen=True)
            # What waits for Claude or the database says so: that is another alert. And without lag nothing is due.
            if committed != stuck.committed or not role.late or "waiting" in role.states:
                self._stuck[role.role] = _Stuck(committed, now, began_unseen=False)
                continue
            seconds = now - stuck.since
            begins = any(state in _PASSING_STATES for state in role.states)
            if begins and seconds <= _EXCUSED_TIMES * self._threshold_seconds:
                unknown.add(role.role)
                continue
            if stuck.began_unseen and seconds <= self._threshold_seconds:
                unknown.add(role.role)
            found[role.role] = seconds
        self.unknown = frozenset(unknown)
        return found
