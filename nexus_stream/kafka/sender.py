"""Send single records, and wait for the broker's acknowledgement of each: for commands, redrives and the console."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, RecordListTooLargeError

from nexus_stream.contracts.headers import Headers
from nexus_stream.errors import BrokerUnavailableError, PermanentError, Reason
from nexus_stream.kafka.clients import client_options, unavailable
from nexus_stream.settings import Settings

__all__ = ["Sender", "SenderPort"]


class SenderPort(Protocol):
    """Port that sends one record."""

    async def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        *,
        partition: int | None = None,
        timestamp_ms: int | None = None,
        headers: Headers = (),
    ) -> None:
        """Return once all in-sync replicas have the record.

        Raises:
            BrokerUnavailableError: not acknowledged; the record may still have arrived.
            PermanentError: the broker does not accept a record of this size.
        """
        ...


class Sender:
    """`SenderPort` with a Kafka producer; an async context manager.

    Args:
        settings: Broker and limits.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer: AIOKafkaProducer | None = None

    async def __aenter__(self) -> Self:
        # Not idempotent: the embedded broker has no producer ids. If a retry sends a record twice, the readers drop the
        # second, like any other redelivery.
        producer = AIOKafkaProducer(
            **client_options(self._settings),
            acks="all",
            # A record from any topic can be sent back: the topics' size limit, and room for the headers.
            max_request_size=max(1_048_588, 2 * self._settings.max_body_bytes) + 65_536,
        )
        self._producer = producer
        try:
            await producer.start()
        except (KafkaError, TimeoutError) as error:
            await producer.stop()
            raise unavailable(self._settings, error) from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._producer is not None:
            await self._producer.stop()

    async def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        *,
        partition: int | None = None,
        timestamp_ms: int | None = None,
        headers: Headers = (),
    ) -> None:
        """See `SenderPort.send`."""
        assert self._producer is not None  # noqa: S101 - entered
        if key is None and value is None:
            # aiokafka requires a key or a value. The readers treat an empty value as a missing one.
            value = b""
        try:
            await self._producer.send_and_wait(
                topic, value=value, key=key, partition=partition, timestamp_ms=timestamp_ms, headers=list(headers)
            )
        except (MessageSizeTooLargeError, RecordListTooLargeError) as error:
            raise PermanentError(f"{topic} accepts no record of this size", reason=Reason.TOO_LARGE) from error
        except (KafkaError, TimeoutError) as error:
            raise BrokerUnavailableError(f"{topic}: not acknowledged ({type(error).__name__})") from error
