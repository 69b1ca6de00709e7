"""Send bytes to a partition as one batch that no client would make: other producers' records, and damaged ones."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import for_code
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.util import calc_crc32c

from nexus_stream.kafka.clients import client_options
from nexus_stream.settings import Settings

__all__ = ["raw_batch", "raw_record", "send_raw"]

RawHeaders = Sequence[tuple[bytes, bytes | None]]


def _varint(value: int) -> bytes:
    value = (value << 1) ^ (value >> 63)
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _field(value: bytes | None) -> bytes:
    return _varint(-1) if value is None else _varint(len(value)) + value


def raw_record(
    delta: int,
    value: bytes | None,
    headers: RawHeaders = (),
    *,
    key: bytes | None = b"k",
    count: int | None = None,
    tail: bytes = b"",
) -> bytes:
    """One record of the newest format.

    Args:
        delta: Its offset minus the batch's.
        value: Its value.
        headers: Names and values as bytes.
        key: Its key.
        count: The number of headers that it claims to have.
        tail: Bytes behind its last field.
    """
    number = len(headers) if count is None else count
    body = b"".join([b"\0", _varint(0), _varint(delta), _field(key), _field(value), _varint(number)])
    body += b"".join(_field(name) + _field(text) for name, text in headers) + tail
    return _varint(len(body)) + body


def raw_batch(
    base: int,
    records: Sequence[bytes],
    codec: int = 0,
    payload: bytes | None = None,
    *,
    first_ms: int = 1000,
    is_damaged: bool = False,
) -> bytes:
    """A batch of the newest format (Kafka's protocol guide, "Record Batch").

    Args:
        base: The offset of its first record; a broker sets its own.
        records: The records.
        codec: 1 gzip, 2 snappy, 3 lz4, 4 zstd.
        payload: Sent instead of the records, for example compressed.
        first_ms: Record time of all records.
        is_damaged: Whether the checksum is wrong.
    """
    packed = b"".join(records) if payload is None else payload
    last = len(records) - 1
    checked = struct.pack(">hiqqqhii", codec, last, first_ms, first_ms, -1, -1, -1, len(records)) + packed
    behind = struct.pack(">ibI", 0, 2, calc_crc32c(checked) ^ is_damaged) + checked
    return struct.pack(">qi", base, len(behind)) + behind


async def send_raw(settings: Settings, topic: str, partition: int, data: bytes) -> str:
    """Send one batch. Returns the name of the broker's error, or an empty text if the broker took it."""
    producer = AIOKafkaProducer(**client_options(settings))
    await producer.start()
    try:
        await producer.partitions_for(topic)
        node = producer.client.cluster.leader_for_partition(TopicPartition(topic, partition))
        request = ProduceRequest(None, -1, 10_000, [(topic, [(partition, data)])])
        response = await producer.client.send(node, request)
        code = response.topics[0][1][0][1]
        return "" if code == 0 else str(for_code(code).__name__)
    finally:
        await producer.stop()
