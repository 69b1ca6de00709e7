"""What a stage needs from the worker it runs in. worker.py provides them with Faust, nexus_stream.testing without."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

from nexus_stream.delivery.received import Headers, TopicPartition

__all__ = ["BrokerPort"]


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

    async def commit(self, offsets: dict[TopicPartition, int]) -> bool:
        """Commit the next offset to read of each partition; False when the group has rebalanced meanwhile."""
        ...

    def partition_count(self, topic: str) -> int | None:
        """The topic's partitions as the consumer knows them; None before it does."""
        ...
