"""What a stage needs from its worker: worker/broker.py provides it with Faust, nexus_stream.testing without."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from nexus_stream.contracts.headers import Headers
from nexus_stream.delivery.received import Received, TopicPartition

__all__ = ["BrokerPort", "TracePort"]


class TracePort(Protocol):
    """Following records through a stage; a stage without one follows none."""

    def begin(self, record: Received) -> None:
        """A record was read."""
        ...

    def extracting(self, record: Received) -> AbstractContextManager[None]:
        """What runs inside is the extraction of the record's snapshot."""
        ...

    def outgoing(self, record: Received, topic: str, headers: Headers) -> Headers:
        """The headers of a record that is sent because of this one."""
        ...

    def wrote(self, records: Sequence[Received], began_ns: int, table: str) -> None:
        """A batch is in the database; writing it began then (Unix time in nanoseconds)."""
        ...

    def drop_all(self) -> None:
        """The partitions were revoked."""
        ...


class BrokerPort(Protocol):
    """Sending and committing."""

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
        """Hand a record to the producer; sends started in order stay in order.

        Returns:
            What to await for the broker's acknowledgement (``acks=all``).

        Raises:
            KafkaError: here or from the returned awaitable; `Stage.until_acknowledged` sends again.
            RetryableError: likewise.
        """
        ...

    def drop_unsent(self) -> None:
        """The partitions were revoked: what was handed over and is not on its way yet is not sent, now or later.

        Whoever awaits it gets an error, as from a broker that refuses.
        """
        ...

    async def commit(self, offsets: dict[TopicPartition, int]) -> bool:
        """Commit the next offset to read of each partition; False when the group has rebalanced meanwhile."""
        ...

    def partition_count(self, topic: str) -> int | None:
        """The topic's partitions as the consumer knows them; None before it does."""
        ...
