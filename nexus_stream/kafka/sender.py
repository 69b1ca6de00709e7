"""Send single records and wait until the broker has each: for commands, redrives and the console."""

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
    """Sending one record."""

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
            BrokerUnavailableError: not acknowledged; it may still have arrived.
            PermanentError: the broker does not take a record of this size.
        """
        ...


class Sender:
    """`SenderPort` on a producer; an async context manager.

    Args:
        settings: Broker and limits.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer: AIOKafkaProducer | None = None

    async def __aenter__(self) -> Self:
        # Not idempotent: the embedded broker knows no producer ids, and a record that a retry sends twice is absorbed
        # like any other redelivery.
        producer = AIOKafkaProducer(
            **client_options(self._settings),
            acks="all",
            # What a topic took once may go back: its limit, and room for the headers.
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
            # aiokafka asserts that a record has one; the readers take an empty value for none.
            value = b""
        try:
            await self._producer.send_and_wait(
                topic, value=value, key=key, partition=partition, timestamp_ms=timestamp_ms, headers=list(headers)
            )
        except (MessageSizeTooLargeError, RecordListTooLargeError) as error:
            raise PermanentError(f"{topic} takes no record of this size", reason=Reason.TOO_LARGE) from error
        except (KafkaError, TimeoutError) as error:
            raise BrokerUnavailableError(f"{topic}: not acknowledged ({type(error).__name__})") from error
