"""A broker in memory: partitioned topics, committed offsets, and failures on demand."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable
from dataclasses import dataclass

from aiokafka.partitioner import murmur2

from nexus_stream.contracts.headers import Headers
from nexus_stream.delivery.received import TopicPartition
from nexus_stream.errors import BrokerUnavailableError

__all__ = ["InMemoryBroker", "StoredRecord"]


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A record as the broker stored it."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int | None


class InMemoryBroker:
    """A `BrokerPort` without a broker.

    Args:
        partitions: Number of partitions of every topic.

    Attributes:
        committed: Committed offsets, by topic and partition.
        failing: Topics whose sends fail at the moment.
    """

    def __init__(self, partitions: int = 1) -> None:
        self.partitions = partitions
        self.committed: dict[TopicPartition, int] = {}
        self.failing: set[str] = set()
        self._logs: dict[TopicPartition, list[StoredRecord]] = defaultdict(list)

    async def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        *,
        partition: int | None = None,
        timestamp_ms: int | None = None,
        headers: Headers = (),
    ) -> Awaitable[object]:
        """Store the record, or fail like a broker that does not answer."""
        if partition is None:
            partition = (murmur2(key or b"") & 0x7FFFFFFF) % self.partitions
        return self._store(topic, partition, key, value, headers, timestamp_ms)

    async def _store(
        self, topic: str, partition: int, key: bytes | None, value: bytes | None, headers: Headers, time_ms: int | None
    ) -> StoredRecord:
        if topic in self.failing:
            raise BrokerUnavailableError(f"{topic}: not acknowledged")
        log = self._logs[topic, partition]
        record = StoredRecord(topic, partition, len(log), key, value, tuple(headers), time_ms)
        log.append(record)
        return record

    def drop_unsent(self) -> None:
        """Do nothing: a sent record is stored or refused at once."""

    async def commit(self, offsets: dict[TopicPartition, int]) -> bool:
        """Store the offsets."""
        self.committed.update(offsets)
        return True

    def partition_count(self, topic: str) -> int | None:
        """Return the number of partitions, the same for every topic."""
        return self.partitions

    def records(self, topic: str) -> list[StoredRecord]:
        """Return a topic's records, partition by partition."""
        return [record for partition in range(self.partitions) for record in self._logs[topic, partition]]
