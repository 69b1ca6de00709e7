"""The records of a fetch, one by one, also if a producer or a disk made a part of them unreadable.

aiokafka raises at the first record that it cannot read, and never gets past it: one header name that is no UTF-8, or
one damaged batch, ends a reader at every start. Here such a record has an `Unreadable` as its value, and the records
behind it follow. If nothing of a batch can be read, one record stands for its whole range of offsets. A timestamp that
cannot be right becomes the time of reading: see record_time.py.

`read_everything` replaces two classes in aiokafka/consumer/fetcher.py (0.14, which is pinned) for all consumers of the
process, also Faust's. tests/unit/kafka/test_fetched.py notices a change.
"""

from __future__ import annotations

import dataclasses
import struct
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatch, _DefaultRecordBatchPy
from aiokafka.record.legacy_records import LegacyRecordBatch
from aiokafka.record.util import decode_varint_py
from aiokafka.structs import ConsumerRecord

from nexus_stream.delivery.received import Unreadable
from nexus_stream.host.log import get_logger
from nexus_stream.kafka.record_time import received_ms

__all__ = ["read_everything"]

_log = get_logger(__name__)

# Kafka's protocol guide, "Record Batch": BaseOffset int64, Length int32, then that many bytes.
_PREFIX = struct.Struct(">qi")
_MAGIC_AT = 16
# The smallest message of any format: version 0, without key and value.
_MIN_FRAME_BYTES = _PREFIX.size + 14
# The format of Kafka 0.11 and later. Older ones have no headers and no range of offsets.
_NEWEST_MAGIC = 2
# LastOffsetDelta and the number of records, in the header of the newest format.
_INT32 = struct.Struct(">i")
_LAST_DELTA_AT = 23
_COUNT_AT = 57
_HEADER_BYTES = 61
# A larger number in a damaged header is no number of records.
_MAX_CLAIM = 1_000_000
_NO_TIMESTAMP = -1


class _Record(NamedTuple):
    """A record as aiokafka's `PartitionRecords` expects it."""

    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    checksum: None = None


class _Frames:
    """The batches of one partition in a fetch's answer, still as bytes, with the methods that the fetcher calls."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def size_in_bytes(self) -> int:
        """Bytes of the answer."""
        return len(self._data)

    def has_next(self) -> bool:
        """Whether a batch follows. A broker may cut off the last batch of an answer, but not the first."""
        return bool(self._data) if self._at == 0 else self._whole_bytes() is not None

    def next_batch(self) -> bytes:
        """The next batch; if its length is damaged, all bytes that are left."""
        end = self._at + (self._whole_bytes() or len(self._data))
        frame, self._at = bytes(self._data[self._at : end]), min(end, len(self._data))
        return frame

    def _whole_bytes(self) -> int | None:
        remaining = len(self._data) - self._at
        if remaining < _MIN_FRAME_BYTES:
            return None
        size = _PREFIX.size + int(_PREFIX.unpack_from(self._data, self._at)[1])
        return size if _MIN_FRAME_BYTES <= size <= remaining else None


class _PartitionRecords(fetcher.PartitionRecords):  # type: ignore[misc]
    """Reads every batch to its end. Our consumers read uncommitted, so no transaction is left out."""

    next_fetch_offset: int
    _now_ms = 0

    def _unpack_records(self) -> Iterator[ConsumerRecord]:
        while self._records.has_next():
            self._now_ms = time.time_ns() // 1_000_000
            batch = _Batch(self._records.next_batch(), self.next_fetch_offset)
            for record in batch.records():
                # A fetch in the middle of a batch returns the whole batch.
                if record.offset < self.next_fetch_offset:
                    continue
                made = self._consumer_record(self._tp, record)
                self.next_fetch_offset = record.offset + 1
                yield made
            # Compaction may have removed the last records of a batch.
            self.next_fetch_offset = max(self.next_fetch_offset, batch.next_offset)

    def _consumer_record(self, tp: Any, record: Any) -> ConsumerRecord:
        made: ConsumerRecord = super()._consumer_record(tp, record)
        if isinstance(made.value, Unreadable):
            _log.error("records_unreadable", problem=made.value.describe(tp.topic, tp.partition, made.offset))
        received = received_ms(made.timestamp, made.timestamp_type, self._now_ms)
        for _, value in made.headers:
            if value is None:
                break
        else:
            if received == made.timestamp:
                return made
        # A header without a value is as a missing one: all our readers expect bytes.
        kept = tuple((name, value) for name, value in made.headers if value is not None)
        return dataclasses.replace(made, timestamp=received, headers=kept)


class _Batch:
    """One batch.

    Args:
        frame: Its bytes.
        position: The offset that was asked for.

    Attributes:
        next_offset: The first offset behind the batch; always past ``position`` if the batch is damaged.
    """

    def __init__(self, frame: bytes, position: int) -> None:
        self._frame = frame
        self._position = position
        self._problem: Exception | None = None
        try:
            self._parsed = _parsed(frame)
            self.next_offset = int(self._parsed.next_offset)
        except Exception as error:
            self._problem = error
            self.next_offset = 1 + max(position, self._claimed_last())

    def records(self) -> Iterator[Any]:
        """Its records, the damaged ones too."""
        if self._problem is not None:
            yield self._range(self._problem)
            return
        if self._parsed.is_control_batch:
            return
        before, count = self._base_offset() - 1, 0
        try:
            for record in self._parsed:
                self._require_between(before, record.offset)
                before, count = record.offset, count + 1
                self._position = max(self._position, before + 1)
                yield record
        except Exception as error:
            # The slow way, only for the rest of a damaged batch.
            yield from self._rest(error, before, count)

    def _rest(self, error: Exception, before: int, count: int) -> Iterator[_Record]:
        """What follows the batch's first ``count`` records, the last of which has the offset ``before``."""
        if self._position >= self.next_offset:
            return
        if self._frame[_MAGIC_AT] < _NEWEST_MAGIC:
            yield self._range(error)
            return
        plain = _DefaultRecordBatchPy(self._frame)
        try:
            plain._maybe_uncompress()
        except Exception as whole:
            yield self._range(whole)
            return
        buffer, at = bytes(plain._buffer), plain._pos
        for number in range(plain._num_records):
            try:
                begin, at = _bounds(buffer, at)
                if number < count:
                    continue
                record = _record(plain, buffer[begin:at])
                self._require_between(before, record.offset)
            except Exception as broken:
                # Where the next record begins is not known either.
                yield self._range(broken, self._position)
                return
            before = record.offset
            self._position = max(self._position, before + 1)
            yield record

    def _require_between(self, before: int, offset: int) -> None:
        # A record with another record's offset would be left out as read before.
        if not before < offset < self.next_offset:
            raise CorruptRecordException("a record's offset is wrong")

    def _range(self, error: Exception, first: int | None = None) -> _Record:
        """The record that stands for all that cannot be read, by default the whole batch."""
        first = self._first_offset() if first is None else first
        value = Unreadable.of(b"", problem=_text(error), first_offset=first)
        return _Record(self.next_offset - 1, _NO_TIMESTAMP, 0, None, value, [])

    def _first_offset(self) -> int:
        """The batch's first offset: the same at each reading, also if reading begins in its middle."""
        base = self._base_offset()
        return base if self._has_header() and 0 <= base <= self._position < self.next_offset else self._position

    def _claimed_last(self) -> int:
        """The last offset by a damaged header, if its two numbers of records agree."""
        if not self._has_header():
            return -1
        last_delta, count = (int(_INT32.unpack_from(self._frame, at)[0]) for at in (_LAST_DELTA_AT, _COUNT_AT))
        is_plausible = last_delta == count - 1 and 0 <= last_delta < _MAX_CLAIM
        base = self._base_offset()
        # A base past the position would leave out offsets in silence.
        return base + last_delta if is_plausible and 0 <= base <= self._position else -1

    def _base_offset(self) -> int:
        # In the older formats this is the offset of the last message.
        return int(_PREFIX.unpack_from(self._frame)[0]) if self._has_header() else 0

    def _has_header(self) -> bool:
        return len(self._frame) >= _HEADER_BYTES and self._frame[_MAGIC_AT] == _NEWEST_MAGIC


def _parsed(frame: bytes) -> Any:
    if len(frame) < _MIN_FRAME_BYTES or _PREFIX.unpack_from(frame)[1] != len(frame) - _PREFIX.size:
        raise CorruptRecordException("the batch is cut off, or its length is wrong")
    magic = frame[_MAGIC_AT]
    if magic > _NEWEST_MAGIC:
        raise CorruptRecordException(f"format {magic} is not known")
    if magic == _NEWEST_MAGIC and len(frame) < _HEADER_BYTES:
        raise CorruptRecordException("the batch has no whole header")
    batch = DefaultRecordBatch(frame) if magic == _NEWEST_MAGIC else LegacyRecordBatch(frame, magic)
    if not batch.validate_crc():
        raise CorruptRecordException("the checksum is wrong")
    return batch


def _bounds(buffer: bytes, at: int) -> tuple[int, int]:
    """Where the record at this place begins and ends, behind its length."""
    length, begin = decode_varint_py(buffer, at)
    end = begin + length
    if length <= 0 or end > len(buffer):
        raise CorruptRecordException("a record's length is wrong")
    return begin, end


def _record(plain: _DefaultRecordBatchPy, body: bytes) -> _Record:
    """Read one record. Bytes of a header name that are no UTF-8 become escapes: no header of ours has such a name.

    Raises:
        CorruptRecordException: not even its offset can be read.
    """
    fields = _Fields(body)
    delta, offset = fields.number(), plain.base_offset + fields.number()
    is_broker_time = plain.timestamp_type == plain.LOG_APPEND_TIME
    moment = plain.max_timestamp if is_broker_time else plain.first_timestamp + delta
    key: bytes | None = None
    value: bytes | None = None
    headers: list[tuple[str, bytes | None]] = []
    try:
        key, value = fields.nullable(), fields.nullable()
        headers.extend((fields.text(), fields.nullable()) for _ in range(fields.number()))
        fields.require_end()
    except CorruptRecordException as error:
        value = Unreadable.of(value or b"", problem=_text(error), first_offset=offset)
    return _Record(offset, moment, plain.timestamp_type, key, value, headers)


class _Fields:
    """Reads the fields of a record, and never past its end."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        # The record's attributes are one byte, of which Kafka uses no bit.
        self._at = 1

    def number(self) -> int:
        try:
            value, self._at = decode_varint_py(self._body, self._at)
        except (IndexError, ValueError) as error:
            raise CorruptRecordException("a number is cut off or too long") from error
        return int(value)

    def nullable(self) -> bytes | None:
        size = self.number()
        end = self._at + size
        if size < 0:
            return None
        if end > len(self._body):
            raise CorruptRecordException("a field is longer than its record")
        field, self._at = self._body[self._at : end], end
        return field

    def text(self) -> str:
        field = self.nullable()
        if field is None:
            raise CorruptRecordException("a header without a name")
        return field.decode("utf-8", "backslashreplace")

    def require_end(self) -> None:
        if self._at != len(self._body):
            raise CorruptRecordException("bytes behind the last field")


def _text(error: Exception) -> str:
    # A decompressor's message could quote bytes of the record.
    is_told = isinstance(error, CorruptRecordException) and error.args
    return str(error.args[0]) if is_told else type(error).__name__


def read_everything() -> None:
    """Let every consumer of this process read as this module's docstring says."""
    fetcher.MemoryRecords = _Frames
    fetcher.PartitionRecords = _PartitionRecords
