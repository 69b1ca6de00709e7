"""Recovery in large steps: the same table as with Faust's own recovery, and no write after a rebalance began."""

from __future__ import annotations

import inspect
from collections import Counter
from pathlib import Path
from typing import Any

import faust
import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.structs import ConsumerRecord
from faust.tables.recovery import Recovery
from faust.types import TP

from nexus_stream.settings import load_settings
from nexus_stream.worker import recovery as worker_recovery

CHANGELOG = TP("app-sessions-changelog", 0)


def _record(offset: int, key: bytes, value: bytes | None) -> ConsumerRecord:
    return ConsumerRecord(
        topic=CHANGELOG.topic,
        partition=0,
        offset=offset,
        timestamp=0,
        timestamp_type=0,
        key=key,
        value=value,
        checksum=None,
        serialized_key_size=len(key),
        serialized_value_size=len(value or b""),
        headers=(),
    )


RECORDS = [_record(3, b"ana", b'{"v":1}'), _record(5, b"eva", b'{"v":1}'), _record(6, b"ana", b'{"v":2}')]
RECORDS.append(_record(9, b"eva", None))


class _Reader:
    """A consumer that returns the records from its position on, two at a time."""

    def __init__(self, app: Any, rebalances_at: int | None) -> None:
        self._app, self._rebalances_at = app, rebalances_at
        self.sought: dict[TopicPartition, int] = {}
        self.stopped = False

    async def start(self) -> None: ...

    async def stop(self) -> None:
        self.stopped = True

    def assign(self, partitions: list[TopicPartition]) -> None: ...

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self.sought[partition] = offset

    async def position(self, partition: TopicPartition) -> int:
        return self.sought[partition]

    async def getmany(self, *partitions: TopicPartition, timeout_ms: int, max_records: int) -> dict[Any, Any]:
        begin = self.sought[partitions[0]]
        found = [record for record in RECORDS if record.offset >= begin][:2]
        if self._rebalances_at is not None and found[0].offset >= self._rebalances_at:
            self._app.rebalancing_count += 1
        self.sought[partitions[0]] = found[-1].offset + 1
        return {partitions[0]: found}


class Restoring:
    """A table of a store, its recovery, and the reader it will use."""

    def __init__(self, store: str, folder: Path, monkeypatch: pytest.MonkeyPatch, rebalances_at: int | None) -> None:
        app: Any = faust.App("app", store=store, datadir=str(folder), broker="kafka://127.0.0.1:9")
        app.nexus, app.rebalancing_count = load_settings(environ={}), 1
        self.table: Any = app.Table("sessions", key_type=bytes, value_type=bytes, partitions=1)
        self.recovery = worker_recovery._Recovery(app, app.tables)
        self.recovery.tp_to_table[CHANGELOG] = self.table
        self.reader = _Reader(app, rebalances_at)
        monkeypatch.setattr(worker_recovery, "AIOKafkaConsumer", lambda **_: self.reader)
        monkeypatch.setattr(worker_recovery, "_WORTH_IT_RECORDS", 0)

    async def read_ahead(self, begin: int | None, end: int) -> Counter[TP]:
        offsets: Counter[TP] = Counter()
        offsets[CHANGELOG] = begin  # type: ignore[assignment]  # Faust's own word for "none yet"
        self.recovery.active_highwaters[CHANGELOG] = end
        await self.recovery._read_ahead({CHANGELOG}, offsets)
        return offsets

    def value(self, key: bytes) -> bytes | None:
        store = self.table.data
        return store._db_for_partition(0).get(key) if hasattr(store, "_db_for_partition") else store.data.get(key)


@pytest.mark.parametrize("store", ["memory://", "rocksdb://"])
async def test_each_key_has_its_newest_value_and_deleted_keys_are_gone(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    restoring = Restoring(store, tmp_path, monkeypatch, None)
    offsets = await restoring.read_ahead(None, 9)
    assert (restoring.value(b"ana"), restoring.value(b"eva")) == (b'{"v":2}', None)
    assert offsets[CHANGELOG] == 9
    assert restoring.reader.sought == {TopicPartition(*CHANGELOG): 10}
    assert restoring.reader.stopped


async def test_recovery_continues_after_the_stored_offset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    restoring = Restoring("rocksdb://", tmp_path, monkeypatch, None)
    await restoring.read_ahead(5, 9)
    assert restoring.value(b"ana") == b'{"v":2}'
    assert restoring.table.data.persisted_offset(CHANGELOG) == 9


async def test_a_rebalance_stops_reading_ahead_before_the_next_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    restoring = Restoring("rocksdb://", tmp_path, monkeypatch, 6)
    offsets = await restoring.read_ahead(None, 9)
    assert restoring.value(b"ana") == b'{"v":1}'
    assert offsets[CHANGELOG] == 5
    assert restoring.reader.stopped


async def test_faust_itself_reads_a_small_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    restoring = Restoring("memory://", tmp_path, monkeypatch, None)
    monkeypatch.setattr(worker_recovery, "_WORTH_IT_RECORDS", 500)
    assert (await restoring.read_ahead(None, 9))[CHANGELOG] is None
    assert restoring.reader.sought == {}


def test_fausts_private_parts_are_unchanged():
    """Faust 0.15.3 and aiokafka 0.14 are pinned: an upgrade has to look at worker/recovery.py and the lease again."""
    assert list(inspect.signature(Recovery._seek_offsets).parameters) == ["self", "consumer", "tps", "offsets", "title"]
    source = inspect.getsource(Recovery._restart_recovery.fun)
    assert source.index("_build_highwaters") < source.index("_build_offsets") < source.index("_seek_offsets")
    assert source.index("_seek_offsets") < source.index("self.need_recovery()")
    for name in ("_do_heartbeat", "_on_join_complete", "reset_generation"):
        assert f"self.{name}(" in inspect.getsource(GroupCoordinator)
