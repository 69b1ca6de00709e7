"""One record as it was read from a topic, and whether this worker may still act on it.

From: the agents, which make a `Received` of each Faust event. To: every step of a stage.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

from nexus_stream.contracts.headers import Headers
from nexus_stream.delivery.lease import Lease
from nexus_stream.errors import PartitionLostError

__all__ = ["Assignment", "Received", "TopicPartition"]

TopicPartition = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Received:
    """A record, and the epoch of the assignment it was read under. ``timestamp_ms``: Kafka's record time."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    epoch: int

    @property
    def tp(self) -> TopicPartition:
        """Topic and partition."""
        return self.topic, self.partition

    def header(self, name: str) -> bytes | None:
        """The last header of that name, as Kafka reads repeated headers."""
        for header_name, value in reversed(self.headers):
            if header_name == name:
                return value
        return None

    def __repr__(self) -> str:
        # Never the key or value: they are a person's.
        return f"<record {self.topic}-{self.partition}-{self.offset}>"


class Assignment:
    """Which partitions this worker owns.

    Every revocation starts a new epoch. Work begun in an older one is dropped before it touches the table, a topic or
    an offset: the partition's next owner reads the record again.

    Attributes:
        lease: How long that may be believed without hearing from the group; None: for ever.
    """

    lease: Lease | None = None

    def __init__(self) -> None:
        self._epochs = itertools.count(1)
        self._epoch = next(self._epochs)
        self._owned: frozenset[TopicPartition] = frozenset()

    @property
    def epoch(self) -> int:
        """The current epoch; grows at each revocation."""
        return self._epoch

    @property
    def partitions(self) -> frozenset[TopicPartition]:
        """What is owned now."""
        return self._owned

    @property
    def is_confirmed(self) -> bool:
        """Whether the group is known to hold this worker still; see `Lease`."""
        return self.lease is None or self.lease.is_valid

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        """Own exactly these partitions from now on."""
        self._owned = frozenset(partitions)

    def revoke(self) -> None:
        """Own nothing. Rebalances are eager: all partitions go, and may come back in a new epoch."""
        self._owned = frozenset()
        self._epoch = next(self._epochs)

    def owns(self, record: Received) -> bool:
        """Whether the record may still have effects."""
        return record.epoch == self._epoch and record.tp in self._owned

    def require(self, record: Received) -> None:
        """Raise unless the record may still have effects.

        Raises:
            PartitionLostError: the partition was revoked since the record was read.
        """
        if not self.owns(record):
            raise PartitionLostError(f"{record!r}: the partition was revoked; its next owner reads the record again")
