"""How far each partition of a topic has been read, and how current that makes the view.

From: offsets the indexer sees. To: read_model.py, which keeps them beside the rows; every page's head.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from nexus_stream.console.index.session_row import ChangelogRecord
from nexus_stream.console.index.topic_record import TopicRecord

__all__ = ["Freshness", "PartitionProgress", "RecordT", "advance_to", "advanced", "unread"]

RecordT = TypeVar("RecordT", ChangelogRecord, TopicRecord)


@dataclass(frozen=True, slots=True)
class PartitionProgress:
    """How far one partition of a topic has been read."""

    partition: int
    next_offset: int
    end_offset: int
    caught_up_at_ms: int

    @property
    def lag(self) -> int:
        """Records on the broker that the view does not show yet."""
        return max(0, self.end_offset - self.next_offset)


@dataclass(frozen=True, slots=True)
class Freshness:
    """How current the view is.

    ``problem`` names what keeps the view from the broker, None while it follows; ``caught_up_at_ms`` is the last moment
    at which nothing was missing in any partition, 0 for never.
    """

    partitions: tuple[PartitionProgress, ...]
    problem: str | None

    @property
    def lag(self) -> int:
        """Records behind, over all partitions."""
        return sum(partition.lag for partition in self.partitions)

    @property
    def caught_up_at_ms(self) -> int:
        """The oldest of the partitions' own."""
        return min((partition.caught_up_at_ms for partition in self.partitions), default=0)


def unread(
    records: Sequence[RecordT], progress: Mapping[int, PartitionProgress]
) -> tuple[list[RecordT], dict[int, PartitionProgress]]:
    """The records that were not applied before, and how far they lead."""
    fresh, reached = [], dict(progress)
    for record in records:
        known = reached.get(record.partition, PartitionProgress(record.partition, 0, 0, 0))
        if record.offset >= known.next_offset:
            fresh.append(record)
            reached[record.partition] = advanced(known, record.offset + 1)
    return fresh, reached


def advance_to(reached: dict[int, PartitionProgress], next_offsets: Mapping[int, int] | None) -> None:
    """Move on to positions past the last record, where there are any."""
    for number, position in (next_offsets or {}).items():
        if number in reached:
            reached[number] = advanced(reached[number], position)


def advanced(progress: PartitionProgress, next_offset: int) -> PartitionProgress:
    """The progress at that offset, never back."""
    if next_offset <= progress.next_offset:
        return progress
    return replace(progress, next_offset=next_offset, end_offset=max(progress.end_offset, next_offset))
