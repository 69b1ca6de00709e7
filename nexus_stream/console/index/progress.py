"""The read progress of each partition of a topic, and how current the view is."""

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
    """The read progress of one partition."""

    partition: int
    next_offset: int
    end_offset: int
    caught_up_at_ms: int

    @property
    def lag(self) -> int:
        """The number of records on the broker that the view does not show yet."""
        return max(0, self.end_offset - self.next_offset)


@dataclass(frozen=True, slots=True)
class Freshness:
    """How current the view is.

    ``problem`` names the reason why the view cannot follow the broker; None if it follows. ``caught_up_at_ms`` is the
    last time at which all partitions were complete; 0 means never.
    """

    partitions: tuple[PartitionProgress, ...]
    problem: str | None

    @property
    def lag(self) -> int:
        """The lag in records, summed over all partitions."""
        return sum(partition.lag for partition in self.partitions)

    @property
    def caught_up_at_ms(self) -> int:
        """The earliest such time of all partitions."""
        return min((partition.caught_up_at_ms for partition in self.partitions), default=0)


def unread(
    records: Sequence[RecordT], progress: Mapping[int, PartitionProgress]
) -> tuple[list[RecordT], dict[int, PartitionProgress]]:
    """Return the records that were not applied before, and the progress after them."""
    fresh, reached = [], dict(progress)
    for record in records:
        known = reached.get(record.partition, PartitionProgress(record.partition, 0, 0, 0))
        if record.offset >= known.next_offset:
            fresh.append(record)
            reached[record.partition] = advanced(known, record.offset + 1)
    return fresh, reached


def advance_to(reached: dict[int, PartitionProgress], next_offsets: Mapping[int, int] | None) -> None:
    """Advance the progress to positions past the last record, if any are given."""
    for number, position in (next_offsets or {}).items():
        if number in reached:
            reached[number] = advanced(reached[number], position)


def advanced(progress: PartitionProgress, next_offset: int) -> PartitionProgress:
    """Return the progress at this offset. Progress never goes back."""
    if next_offset <= progress.next_offset:
        return progress
    return replace(progress, next_offset=next_offset, end_offset=max(progress.end_offset, next_offset))
