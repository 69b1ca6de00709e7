"""One record as it was read from a topic, and whether this worker may still process it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

from nexus_stream.contracts.headers import ANSWER_HEADER, ORIGIN_TIMESTAMP_HEADER, REDRIVE_HEADER, Headers
from nexus_stream.delivery.lease import Lease
from nexus_stream.errors import DecodeError, PartitionLostError, Reason

__all__ = ["Assignment", "Received", "TopicPartition", "Unreadable"]

TopicPartition = tuple[str, int]
# Of Unix milliseconds, with room for the next 200,000 years.
_MAX_DIGITS = 16


class Unreadable(bytes):
    """The value of a record that cannot be read; it stands for a range of records if nothing of a batch can be read.

    The bytes are the record's value, if that much could be read. kafka/fetched.py makes it. The record's own offset is
    the last one of the range.

    Attributes:
        problem: Why; holds nothing of the record.
        first_offset: The first offset of the range.
    """

    problem: str
    first_offset: int

    @classmethod
    def of(cls, value: bytes, *, problem: str, first_offset: int) -> Unreadable:
        """Make the value of a record or range that cannot be read."""
        one = cls(value)
        one.problem, one.first_offset = problem, first_offset
        return one

    def describe(self, topic: str, partition: int, last_offset: int) -> str:
        """Which records cannot be read, and why."""
        offsets = str(last_offset) if self.first_offset == last_offset else f"{self.first_offset} to {last_offset}"
        return f"{topic}-{partition}, offset {offsets}, cannot be read: {self.problem}"


@dataclass(frozen=True, slots=True)
class Received:
    """A record, and the epoch of the assignment in which it was read.

    Attributes:
        timestamp_ms: Kafka's time of the record.
        is_brokers_time: Whether that is the broker's time of receipt, not the producer's claim.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    epoch: int
    is_brokers_time: bool = True

    @property
    def tp(self) -> TopicPartition:
        """Topic and partition."""
        return self.topic, self.partition

    def header(self, name: str) -> bytes | None:
        """The value of the last header with that name, as in Kafka's own clients."""
        for header_name, value in reversed(self.headers):
            if header_name == name:
                return value
        return None

    @property
    def origin_ms(self) -> int | None:
        """The first time of a record that came back to the topic; None for every other record.

        A redrive, a backfill and a reroute say it. Under ``LogAppendTime`` Kafka's time is that of the return.
        """
        origin = self.header(ORIGIN_TIMESTAMP_HEADER)
        if origin is not None and origin.isdigit() and len(origin) <= _MAX_DIGITS:
            return min(int(origin), self.timestamp_ms)
        is_returned = any(self.header(name) is not None for name in (REDRIVE_HEADER, ANSWER_HEADER))
        return self.timestamp_ms if is_returned else None

    def require_readable(self) -> None:
        """Raise if the record, or the batch it stands for, cannot be read.

        Raises:
            DecodeError: with the offsets and the problem.
        """
        if isinstance(self.value, Unreadable):
            raise DecodeError(self.value.describe(self.topic, self.partition, self.offset), reason=Reason.UNREADABLE)

    def __repr__(self) -> str:
        # Never the key or the value: they hold personal data.
        return f"<record {self.topic}-{self.partition}-{self.offset}>"


class Assignment:
    """The partitions that are assigned to this worker.

    Every revocation starts a new epoch. Work of an older epoch is dropped before it changes the table, a topic or an
    offset: the partition's next owner reads the record again.

    Attributes:
        lease: Limits the assignment's validity without an answer from the group; None: no limit.
    """

    lease: Lease | None = None

    def __init__(self) -> None:
        self._epochs = itertools.count(1)
        self._epoch = next(self._epochs)
        self._owned: frozenset[TopicPartition] = frozenset()

    @property
    def epoch(self) -> int:
        """The current epoch; each revocation increases it."""
        return self._epoch

    @property
    def partitions(self) -> frozenset[TopicPartition]:
        """The partitions owned now."""
        return self._owned

    @property
    def is_confirmed(self) -> bool:
        """Whether this worker is certainly still a member of the group; see `Lease`."""
        return self.lease is None or self.lease.is_valid

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        """Own exactly these partitions from now on."""
        self._owned = frozenset(partitions)

    def revoke(self) -> None:
        """Own no partition. Rebalances are eager: all partitions are revoked, and may return in a new epoch."""
        self._owned = frozenset()
        self._epoch = next(self._epochs)

    def owns(self, record: Received) -> bool:
        """Whether this worker may still process the record."""
        return record.epoch == self._epoch and record.tp in self._owned

    def require(self, record: Received) -> None:
        """Raise unless this worker may still process the record.

        Raises:
            PartitionLostError: the partition was revoked since the record was read.
        """
        if not self.owns(record):
            raise PartitionLostError(f"{record!r}: the partition was revoked; its next owner reads the record again")
