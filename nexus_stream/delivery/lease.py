"""The lease: how long a worker may assume that it still owns its partitions, without an answer from its group.

From: the group's answers to heartbeats (worker/consumer.py, in the consumer's thread). To: every step of a stage that
sends a record or costs money, through `Assignment.lease`.

A worker may be frozen (SIGSTOP, a suspended machine, a hanging disk) past its session timeout. When it wakes, it has
lost its partitions but does not know yet. Its timers are due and its answers have arrived, and no broker refuses a
record because of its sender. A state that it sends then comes after the new owner's state in the changelog, and wins.
Therefore a worker without a valid lease waits for the next heartbeat. The group's answer renews the lease or ends it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Lease", "now"]

# CLOCK_BOOTTIME, if the system has it, also counts the time while the machine is suspended.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now() -> float:
    """Monotonic seconds; they also grow while this process is stopped or the machine is suspended."""
    return time.clock_gettime(_CLOCK)


class Lease:
    """Valid for some time after each confirmed heartbeat. One thread writes it, others read it.

    Args:
        valid_seconds: Well below the session timeout: a send that has begun must arrive before the group reassigns the
            partitions.
        clock: See `now`.
    """

    def __init__(self, valid_seconds: float, clock: Callable[[], float] = now) -> None:
        self._valid_seconds = valid_seconds
        self._clock = clock
        self._confirmed_at: float | None = None

    @property
    def is_valid(self) -> bool:
        """Whether the group cannot have given this worker's partitions to another worker yet."""
        confirmed_at = self._confirmed_at
        return confirmed_at is not None and self._clock() - confirmed_at < self._valid_seconds

    def renew(self, asked_at: float) -> None:
        """Note a confirmed heartbeat; ``asked_at`` is its send time by the lease's clock."""
        self._confirmed_at = asked_at

    def lose(self) -> None:
        """Note that this worker is no longer a member of the group."""
        self._confirmed_at = None
