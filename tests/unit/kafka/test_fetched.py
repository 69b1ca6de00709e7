"""Records that aiokafka cannot read: each is told, and the records behind it are read."""

from __future__ import annotations

import gzip
import itertools
import random
import struct
from collections.abc import Sequence

import cramjam
import pytest
from aiokafka.consumer import fetcher
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.structs import ConsumerRecord, TopicPartition

import nexus_stream.kafka.clients  # noqa: F401 - the import lets every consumer read everything
from nexus_stream.delivery.received import Unreadable
from tests.support.raw_produce import raw_batch, raw_record

NONE, GZIP, SNAPPY, LZ4, ZSTD = range(5)
PLACE = TopicPartition("ingestion", 3)


def read(data: bytes, position: int = 0) -> tuple[list[ConsumerRecord], int]:
    """What a consumer gets of one fetch's answer, and its next position."""
    frames = fetcher.MemoryRecords(data)
    assert frames.has_next()
    records = fetcher.PartitionRecords(PLACE, frames, [], position, None, None, True, fetcher.READ_UNCOMMITTED)
    return list(records), records.next_fetch_offset


def seen(records: Sequence[ConsumerRecord]) -> list[tuple[int, bytes | str]]:
    return [
        (
            one.offset,
            f"{one.value.first_offset}: {one.value.problem}" if isinstance(one.value, Unreadable) else one.value,
        )
        for one in records
    ]


GOOD = [raw_record(0, b"a"), raw_record(1, b"b"), raw_record(2, b"c")]


@pytest.mark.parametrize("codec", [NONE, GZIP, SNAPPY, LZ4, ZSTD])
def test_every_codec_is_read(codec: int):
    builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, -1, 1 << 20)
    for offset in range(3):
        builder.append(offset, 1000, b"k", b"x" * 2000, [("name", b"text")])
    found, position = read(bytes(builder.build()))
    assert seen(found) == [(offset, b"x" * 2000) for offset in range(3)]
    assert position == 3
    assert found[0].headers == (("name", b"text"),)


def test_a_header_without_a_value_is_as_a_missing_one():
    found, _ = read(raw_batch(0, [raw_record(0, b"a", [(b"correlation-id", None), (b"other", b"1")])]))
    assert found[0].headers == (("other", b"1"),)


@pytest.mark.parametrize("name", [b"\xff\xfe", b"caf\xe9", b"\xed\xa0\x80"])
def test_a_header_name_that_is_no_utf8_is_escaped_and_the_record_is_read(name: bytes):
    found, position = read(
        raw_batch(5, [raw_record(0, b"a"), raw_record(1, b"b", [(name, b"1"), (b"x", b"2")]), raw_record(2, b"c")]), 5
    )
    assert seen(found) == [(5, b"a"), (6, b"b"), (7, b"c")]
    assert position == 8
    assert found[1].headers[1] == ("x", b"2")
    assert "\\x" in found[1].headers[0][0]


def test_a_header_with_an_empty_name_is_read():
    found, _ = read(raw_batch(0, [raw_record(0, b"a", [(b"", b"1")])]))
    assert found[0].headers == (("", b"1"),)


def test_one_damaged_record_is_told_and_the_next_is_read():
    damaged = raw_record(1, b"b", count=3)
    found, position = read(raw_batch(0, [raw_record(0, b"a"), damaged, raw_record(2, b"c")]))
    assert seen(found) == [(0, b"a"), (1, "1: a number is cut off or too long"), (2, b"c")]
    # What could be read of it is kept.
    assert found[1].value == b"b"
    assert position == 3


def test_bytes_behind_a_records_fields():
    found, _ = read(raw_batch(0, [raw_record(0, b"a", tail=b"??"), raw_record(1, b"b")]))
    assert seen(found) == [(0, "0: bytes behind the last field"), (1, b"b")]


def test_if_a_records_length_is_wrong_the_rest_of_the_batch_is_told():
    found, position = read(raw_batch(10, [GOOD[0], b"\x88\x0ex", GOOD[2]]) + raw_batch(13, [raw_record(0, b"d")]), 10)
    assert seen(found) == [(10, b"a"), (12, "11: a record's length is wrong"), (13, b"d")]
    assert position == 14


@pytest.mark.parametrize("codec", [GZIP, SNAPPY, LZ4, ZSTD, 5, 7])
def test_a_batch_that_cannot_be_decompressed_is_told_as_one_range(codec: int):
    data = raw_batch(20, GOOD, codec, payload=b"not compressed at all") + raw_batch(23, [raw_record(0, b"d")])
    found, position = read(data, 20)
    assert [one.offset for one in found] == [22, 23]
    assert isinstance(found[0].value, Unreadable)
    assert (found[0].value.first_offset, found[0].value, found[1].value) == (20, b"", b"d")
    assert position == 24


def test_a_range_is_the_same_if_reading_begins_in_its_middle():
    data = raw_batch(20, GOOD, ZSTD, payload=b"garbage")
    for position in (20, 21, 22):
        found, after = read(data, position)
        assert isinstance(found[0].value, Unreadable)
        assert ([one.offset for one in found], found[0].value.first_offset, after) == ([22], 20, 23)


def test_a_wrong_checksum():
    data = bytearray(raw_batch(20, GOOD))
    data[-1] ^= 0xFF
    found, position = read(bytes(data) + raw_batch(23, [raw_record(0, b"d")]), 20)
    assert seen(found) == [(22, "20: the checksum is wrong"), (23, b"d")]
    assert position == 24


@pytest.mark.parametrize("claimed", [(2**31 - 1, 2**31 - 1), (-5, -4), (50, 3)])
def test_a_damaged_header_does_not_move_the_position_past_other_records(claimed: tuple[int, int]):
    data = bytearray(raw_batch(20, GOOD))
    struct.pack_into(">i", data, 23, claimed[0])
    struct.pack_into(">i", data, 57, claimed[1])
    found, position = read(bytes(data), 20)
    assert seen(found) == [(20, "20: the checksum is wrong")]
    assert position == 21


@pytest.mark.parametrize("length", [-1, 0, 5, 10**8])
def test_a_damaged_length(length: int):
    data = bytearray(raw_batch(20, GOOD))
    struct.pack_into(">i", data, 8, length)
    found, position = read(bytes(data), 20)
    assert [one.offset for one in found] == [22]
    assert isinstance(found[0].value, Unreadable)
    assert position == 23


@pytest.mark.parametrize("delta", [99, 0, -1])
def test_an_offset_that_is_not_the_records_own(delta: int):
    found, position = read(raw_batch(0, [raw_record(0, b"a"), raw_record(delta, b"b")]))
    assert seen(found) == [(0, b"a"), (1, "1: a record's offset is wrong")]
    assert position == 2


def test_a_batch_that_the_broker_cut_off_is_left_for_the_next_fetch():
    whole = raw_batch(0, GOOD)
    found, position = read(whole + raw_batch(3, GOOD)[:-4])
    assert (len(found), position) == (3, 3)


def test_control_batches_are_passed():
    found, position = read(raw_batch(0, [raw_record(0, b"\0\0\0\0")], 0x20) + raw_batch(1, [raw_record(0, b"a")]))
    assert seen(found) == [(1, b"a")]
    assert position == 2


def test_messages_of_the_older_formats():
    for magic in (0, 1):
        builder = LegacyRecordBatchBuilder(magic, 0, 1 << 16)
        builder.append(4, 1000, b"k", b"old")
        good = bytes(builder.build())
        found, position = read(good, 4)
        assert (seen(found), position) == ([(4, b"old")], 5)
        bad = bytearray(good)
        bad[-1] ^= 0xFF
        found, position = read(bytes(bad), 4)
        assert (seen(found), position) == ([(4, "4: the checksum is wrong")], 5)


@pytest.mark.parametrize("seed", range(4))
def test_whatever_the_bytes_are_reading_goes_on_and_nothing_is_left_out(seed: int):
    """1,000 damaged batches with right checksums: each offset is read or is in a range that is told."""
    dice = random.Random(seed)  # noqa: S311 - no secret
    compress = [bytes, gzip.compress, cramjam.snappy.compress_raw, cramjam.lz4.compress, cramjam.zstd.compress]
    for _ in range(250):
        codec = dice.randrange(5)
        packed = bytearray(b"".join([raw_record(n, dice.randbytes(20), [(b"n", dice.randbytes(4))]) for n in range(5)]))
        payload = bytearray(bytes(compress[codec](bytes(packed))))
        for _ in range(dice.randrange(1, 4)):
            payload[dice.randrange(len(payload))] = dice.randrange(256)
        found, position = read(
            raw_batch(100, [b""] * 5, codec, bytes(payload)) + raw_batch(105, [raw_record(0, b"d")]), 100
        )
        assert found[-1].value == b"d"
        assert position == 106
        covered = itertools.chain.from_iterable(
            range(one.value.first_offset if isinstance(one.value, Unreadable) else one.offset, one.offset + 1)
            for one in found
        )
        assert len(found) <= 6
        # An offset that was damaged upwards leaves a gap, as compaction does. No record is left out.
        assert set(covered) <= set(range(100, 106))
        assert len(found) == 6 or any(isinstance(one.value, Unreadable) for one in found)
