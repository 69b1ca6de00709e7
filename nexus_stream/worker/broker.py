"""The broker port of a worker: our own producer beside Faust's consumer.

Sends only while this worker's lease is valid. Commits use ``Consumer._commit_offsets``, a private part of Faust 0.15.3
(pinned; a test detects a change).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.protocol.produce import ProduceRequest
from faust.types import TP

from nexus_stream.contracts.headers import Headers
from nexus_stream.contracts.topics import max_record_bytes
from nexus_stream.delivery.received import TopicPartition
from nexus_stream.errors import BrokerUnavailableError
from nexus_stream.kafka.clients import batch_bytes, client_options

if TYPE_CHECKING:
    from faust.types import AppT

    from nexus_stream.delivery.lease import Lease
    from nexus_stream.kafka.access_watch import AccessWatch
    from nexus_stream.settings import Settings

__all__ = ["FaustBroker"]


class FaustBroker:
    """`BrokerPort` with a Faust app's consumer and our own producer.

    Not Faust's producer: its buffer costs a task switch per record, its wrapper costs a signal per record, and it has
    no room for a dead letter's headers. The producer is not idempotent: aiokafka keeps one batch per partition in
    flight, so retries keep the order, and a record that is sent twice has the same id.

    Args:
        app: The app whose consumer commits.
        settings: The broker, and the largest record.
        lease: Whether this worker is still a member of the group.
        access: Receives errors about permissions.
    """

    def __init__(self, app: AppT, settings: Settings, lease: Lease, access: AccessWatch) -> None:
        self._app = app
        self._settings = settings
        self._lease = lease
        self._access = access
        self._producer: AIOKafkaProducer | None = None
        # Batches that were being sent when their partitions were revoked.
        self._revoked: WeakSet[Any] = WeakSet()

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
        """See `BrokerPort.send`."""
        if key is None and value is None:
            # aiokafka requires a key or a value. Our readers treat an empty value as a missing one.
            value = b""
        if self._producer is None:
            raise BrokerUnavailableError("the worker is starting or stopping")
        try:
            sent: asyncio.Future[object] = await self._producer.send(
                topic, value, key=key, partition=partition, timestamp_ms=timestamp_ms, headers=list(headers)
            )
        except KafkaError as error:
            self._access.hint(error)
            raise
        sent.add_done_callback(self._access.hint_from)
        return sent

    async def start(self, *, max_batch_bytes: int) -> None:
        """Connect the producer."""
        settings = self._settings
        producer = AIOKafkaProducer(
            **client_options(settings),
            acks="all",
            # A stage sends groups of records at once, so a short wait fills batches: 1.5 times the throughput of 2 ms
            # and 16 KiB.
            linger_ms=5,
            max_batch_size=batch_bytes(settings, max_batch_bytes),
            max_request_size=max_record_bytes(settings),
        )
        await producer.start()
        self._fence(producer)
        self._send_no_revoked_batch_again(producer)
        self._producer = producer

    def _fence(self, producer: AIOKafkaProducer) -> None:
        """Refuse to send without a valid lease: a worker that was frozen may have lost its partitions.

        This check is the last one before the write to the socket. aiokafka does not retry this error. The stage does,
        if it still owns the records.
        """
        lease, send = self._lease, producer.client.send

        async def send_while_confirmed(node_id: int, request: Any, **options: Any) -> Any:
            if isinstance(request, ProduceRequest) and not lease.is_valid:
                raise KafkaError("the group was not heard from for too long")
            return await send(node_id, request, **options)

        producer.client.send = send_while_confirmed

    def drop_unsent(self) -> None:
        """See `BrokerPort.drop_unsent`. A batch in a socket cannot be called back, but it is not sent again."""
        if self._producer is None:
            return
        accumulator = self._producer._message_accumulator
        for tp in list(accumulator._batches):
            for batch in accumulator._batches.pop(tp):
                if batch.retry_count:
                    # A retried batch: aiokafka removes it from the pending ones at its end
                    # (MessageAccumulator._pop_batch).
                    accumulator._pending_batches.add(batch)
                _refuse(batch)
        self._revoked.update(accumulator._pending_batches)

    def _send_no_revoked_batch_again(self, producer: AIOKafkaProducer) -> None:
        """Refuse aiokafka's retries of batches of revoked partitions: another worker may own these records now."""
        accumulator = producer._message_accumulator
        reenqueue = accumulator.reenqueue

        def reenqueue_unless_revoked(batch: Any) -> None:
            if batch in self._revoked:
                _refuse(batch)
            else:
                reenqueue(batch)

        accumulator.reenqueue = reenqueue_unless_revoked

    async def stop(self) -> None:
        """Send pending records and disconnect."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.stop()

    async def commit(self, offsets: dict[TopicPartition, int]) -> bool:
        """See `BrokerPort.commit`."""
        consumer: Any = self._app.consumer
        committed = await consumer._commit_offsets({TP(*tp): offset for tp, offset in offsets.items()})
        return bool(committed)

    def partition_count(self, topic: str) -> int | None:
        """See `BrokerPort.partition_count`."""
        consumer: Any = self._app.consumer
        count: int | None = consumer.topic_partitions(topic)
        return count


def _refuse(batch: Any) -> None:
    """Fail a batch of aiokafka's producer, and the callers that wait to add to it."""
    batch.failure(KafkaError("its partitions were revoked before it was sent"))
    if batch._drain_waiter.done() and not batch._drain_waiter.cancelled():
        # Read the exception: if no caller waits, asyncio would log it as never retrieved.
        batch._drain_waiter.exception()
