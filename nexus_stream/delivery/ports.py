"""Ports of a stage to its worker: worker/broker.py implements them with Faust, nexus_stream.testing without."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from nexus_stream.contracts.headers import Headers
from nexus_stream.delivery.received import Received, TopicPartition

__all__ = ["BrokerPort", "TracePort"]


class TracePort(Protocol):
    """Traces records through a stage; optional."""

    def begin(self, record: Received) -> None:
        """A record was read."""
        ...

    def extracting(self, record: Received) -> AbstractContextManager[None]:
        """A context around the extraction of the record's snapshot."""
        ...

    def outgoing(self, record: Received, topic: str, headers: Headers) -> Headers:
        """The headers of a record that is sent because of ``record``."""
        ...

    def wrote(self, records: Sequence[Received], began_ns: int, table: str) -> None:
        """A batch was written to the database; ``began_ns`` is the start of the write, Unix nanoseconds."""
        ...

    def drop_all(self) -> None:
        """The partitions were revoked."""
        ...


class BrokerPort(Protocol):
    """Sends records and commits offsets."""

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
        """Give a record to the producer. Records keep the order of the calls.

        Returns:
            An awaitable for the broker's acknowledgement (``acks=all``).

        Raises:
            KafkaError: from this call or from the returned awaitable; `Stage.until_acknowledged` sends again.
            RetryableError: likewise.
        """
        ...

    def drop_unsent(self) -> None:
        """After a revocation: drop the records that the producer has not sent yet.

        Their awaitables raise an error, like a refusal by the broker.
        """
        ...

    async def commit(self, offsets: dict[TopicPartition, int]) -> bool:
        """Commit the next offset to read of each partition; False if the group has rebalanced meanwhile."""
        ...

    def partition_count(self, topic: str) -> int | None:
        """Number of the topic's partitions; None until the consumer knows it."""
        ...
