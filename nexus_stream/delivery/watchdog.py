"""The progress watchdog: notices a worker that has records to read, no reason to wait, and moves nothing.

From: worker.py tells it every few seconds where the partitions stand. To: readiness, one log event, and the exit code
if configured. Faust's own lag is read-based and stands still exactly while a worker is stalled, so end offsets are
asked from the broker by a separate client (observability/end_offsets.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nexus_stream.delivery.received import TopicPartition

__all__ = ["Progress", "Standing"]


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a stage stands at one moment.

    Attributes:
        positions: Per owned partition the offset below which all is finished.
        read: Per owned partition the next offset to read.
        end_offsets: Per partition of the topic one past the last record; empty when the broker does not answer.
        excused: Waiting for Claude, Supabase or the broker, rebalancing, recovering, or owning nothing.
    """

    positions: Mapping[TopicPartition, int]
    read: Mapping[TopicPartition, int]
    end_offsets: Mapping[TopicPartition, int]
    excused: bool

    @property
    def unread(self) -> int:
        """Records on owned partitions that were not read yet."""
        return sum(max(0, self.end_offsets.get(tp, 0) - position) for tp, position in self.read.items())

    @property
    def lag(self) -> int:
        """Records on owned partitions that are not finished: high watermark minus what can be committed."""
        return sum(max(0, self.end_offsets.get(tp, 0) - position) for tp, position in self.positions.items())


class Progress:
    """Remembers when anything last moved.

    Args:
        stalled_after_seconds: Above the longest a healthy record may take: maximum wait plus retries.
        now: Seconds, monotonic.
    """

    def __init__(self, *, stalled_after_seconds: float, now: float) -> None:
        self._stalled_after_seconds = stalled_after_seconds
        self._moved_at = now
        self._last: tuple[Mapping[TopicPartition, int], Mapping[TopicPartition, int]] = ({}, {})
        self.standing = Standing({}, {}, {}, excused=True)

    def observe(self, standing: Standing, now: float) -> float | None:
        """Take a new standing in.

        Returns:
            Seconds without any movement if that is too long, else None.
        """
        seen = (dict(standing.positions), dict(standing.read))
        if standing.excused or seen != self._last or standing.lag == 0:
            self._moved_at = now
        self._last = seen
        self.standing = standing
        still = now - self._moved_at
        return still if still >= self._stalled_after_seconds else None
