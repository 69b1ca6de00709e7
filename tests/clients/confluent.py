"""Reading a topic as a consumer group of librdkafka, by confluent-kafka."""

from __future__ import annotations

import time
import uuid
from typing import NamedTuple

from confluent_kafka import Consumer, Message

__all__ = ["Read", "read"]


class Read(NamedTuple):
    """One record."""

    partition: int
    offset: int
    key: str
    value: bytes
    headers: tuple[tuple[str, str], ...]


def read(bootstrap: str, topic: str, count: int, timeout_seconds: float = 60.0) -> list[Read]:
    """The first ``count`` records of a topic, sorted."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"test-confluent-{uuid.uuid4().hex[:8]}",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "session.timeout.ms": 6000,
            "heartbeat.interval.ms": 1000,
        }
    )
    consumer.subscribe([topic])
    records: list[Read] = []
    deadline = time.monotonic() + timeout_seconds
    try:
        while len(records) < count:
            assert time.monotonic() < deadline, f"{len(records)} of {count} records in {timeout_seconds:.0f} s"
            message = consumer.poll(0.5)
            if message is None:
                continue
            assert message.error() is None
            partition, offset, key, value = message.partition(), message.offset(), message.key(), message.value()
            assert partition is not None
            assert offset is not None
            assert isinstance(key, bytes)
            assert isinstance(value, bytes)
            records.append(Read(partition, offset, key.decode(), value, _headers(message)))
        consumer.commit(asynchronous=False)
    finally:
        consumer.close()
    return sorted(records)


def _headers(message: Message) -> tuple[tuple[str, str], ...]:
    return tuple((name, content.decode()) for name, content in message.headers() or [])  # type: ignore[union-attr,str-unpack]
