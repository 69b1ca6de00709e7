"""Where a topic's partitions end, and where a group has committed, asked by a client that joins nothing.

A worker's own consumer knows the ends only from its fetches, and a stalled worker does not fetch; of a partition from
which nothing was read yet it knows nothing at all.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection

from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.errors import KafkaError

from nexus_stream.delivery.received import TopicPartition
from nexus_stream.kafka.clients import client_options, stop_consumer
from nexus_stream.settings import Settings

__all__ = ["GroupOffsets"]

INTERVAL_SECONDS = 2.0
_ANSWER_SECONDS = 5.0
# What was said that long ago is no longer known: the broker may be away, or the loop may hang.
_KNOWN_FOR_SECONDS = 15.0


class GroupOffsets:
    """Asks for the ends of one topic, and for committed offsets where they are wanted; keeps the last answer.

    Args:
        settings: Broker and number of partitions.
        topic: Which topic.
        group: Whose committed offsets. It is not joined.
        wanted: The partitions whose committed offset is needed now, because nothing was read from them.

    Attributes:
        ends: Per partition one past the last record; the last answer.
        committed: Of the wanted partitions where reading begins: the committed offset, or the first there is.
    """

    def __init__(
        self, settings: Settings, topic: str, group: str, wanted: Callable[[], Collection[TopicPartition]]
    ) -> None:
        self._settings = settings
        self._group = group
        self._wanted = wanted
        self._partitions = [KafkaPartition(topic, number) for number in range(settings.topic_partitions)]
        self._consumer: AIOKafkaConsumer | None = None
        self._asked_at: float | None = None
        self.ends: dict[TopicPartition, int] = {}
        self.committed: dict[TopicPartition, int] = {}

    @property
    def is_known(self) -> bool:
        """Whether the broker answered lately."""
        return self._asked_at is not None and time.monotonic() - self._asked_at < _KNOWN_FOR_SECONDS

    @property
    def known_ends(self) -> dict[TopicPartition, int]:
        """The ends if they are known, else none."""
        return self.ends if self.is_known else {}

    def forget_committed(self) -> None:
        """The group has rebalanced: others may have committed."""
        self.committed = {}

    async def run(self) -> None:
        """Ask every two seconds, until cancelled."""
        try:
            while True:
                await self.ask()
                await asyncio.sleep(INTERVAL_SECONDS)
        finally:
            await self.close()

    async def ask(self) -> bool:
        """Ask once; connects when needed, and again after an outage. False when there was no answer in time."""
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                consumer = await self._connected()
                ends = await consumer.end_offsets(self._partitions)
                self.ends = {(tp.topic, tp.partition): offset for tp, offset in ends.items()}
                await self._ask_committed(consumer)
        except (KafkaError, OSError, TimeoutError):
            await self.close()
            return False
        self.note_answer()
        return True

    def note_answer(self) -> None:
        """What is kept is the broker's word of now."""
        self._asked_at = time.monotonic()

    async def _ask_committed(self, consumer: AIOKafkaConsumer) -> None:
        # Once: while a partition is ours and nothing of it was read, nobody commits.
        wanted = self._wanted()
        # This one: a rebalance while the broker answers begins another, and the answer is not for that.
        committed = self.committed
        missing = [KafkaPartition(*tp) for tp in wanted if tp not in committed]
        if not missing:
            return
        first = await consumer.beginning_offsets(missing)
        for tp in missing:
            # Below the first record there is nothing to read, whatever was committed.
            committed[tp.topic, tp.partition] = max(await consumer.committed(tp) or 0, first[tp])

    async def _connected(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            # Neither subscribed nor assigned: it fetches nothing and is no member.
            self._consumer = AIOKafkaConsumer(
                **client_options(self._settings), group_id=self._group, enable_auto_commit=False
            )
            await self._consumer.start()
        return self._consumer

    async def close(self) -> None:
        """Let the connection go."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await stop_consumer(consumer)
