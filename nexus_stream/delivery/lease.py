"""How long a worker may take its partitions for its own without hearing from its group.

From: the group's answers to heartbeats (worker/consumer.py, in the consumer's thread). To: every step of a stage that
sends or pays, through `Assignment.lease`.

A worker that is frozen (SIGSTOP, a suspended machine, a disk that hangs) past its session timeout has lost its
partitions when it wakes, and does not know: its timers are due and its answers are there, and no broker refuses a
record because of who sends it. A state it sends then lies in the changelog behind the new owner's and wins. So what is
not confirmed waits for the next heartbeat: that either confirms it or says that we are nobody.
"""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Lease", "now"]

# Goes on while the machine is suspended, where there is one that does.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now() -> float:
    """Seconds that only grow, also while this process or its machine stands still."""
    return time.clock_gettime(_CLOCK)


class Lease:
    """Valid for some time after each confirmed heartbeat. Written by one thread, read by others.

    Args:
        valid_seconds: Well below the session timeout: what was begun must also arrive before the group gives us up.
        clock: See `now`.
    """

    def __init__(self, valid_seconds: float, clock: Callable[[], float] = now) -> None:
        self._valid_seconds = valid_seconds
        self._clock = clock
        self._confirmed_at: float | None = None

    @property
    def is_valid(self) -> bool:
        """Whether the group cannot have given our partitions to another yet."""
        confirmed_at = self._confirmed_at
        return confirmed_at is not None and self._clock() - confirmed_at < self._valid_seconds

    def renew(self, asked_at: float) -> None:
        """The group knew us; ``asked_at`` is when the question was sent, by the lease's clock."""
        self._confirmed_at = asked_at

    def lose(self) -> None:
        """The group does not know us any more."""
        self._confirmed_at = None
