"""The session table: the state of each session, from which a result is emitted again after a crash.

Key: the session key (contracts/session_key.py). Value: `SessionState` (tables/session_state.py) as JSON. Changelog:
``<app id>-sessions-changelog``, compacted, with as many partitions as the ingestion topic. Only the enricher that owns
the key's partition writes it. Consoles read the changelog.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol
from weakref import ref

from faust.streams import _current_event
from faust.types import TP

from nexus_stream.delivery.ports import BrokerPort
from nexus_stream.delivery.received import Assignment, Received
from tables.session_state import SessionState, decode_state, encode_state

if TYPE_CHECKING:
    from faust.types import TableT

__all__ = ["STORE_OPTIONS", "SessionTable", "SessionTablePort"]

# RocksDB's bounds, for each partition's database. With Faust's own (three buffers of 64 MiB, a cache of 2 GiB) a worker
# with many partitions grows without end: see docs/reference/performance.md.
STORE_OPTIONS: dict[str, int] = {
    # Writes in memory: one buffer that fills, and one that is being written to a file.
    "write_buffer_size": 8 * 1024 * 1024,
    "max_write_buffer_number": 2,
    # Blocks that were read. A session is read once a snapshot, and few chats are active.
    "block_cache_size": 8 * 1024 * 1024,
}


class SessionTablePort(Protocol):
    """Port for the table. Every call names the record it acts for."""

    def get(self, record: Received, key: bytes) -> SessionState | None:
        """The state of a session on the record's partition.

        Raises:
            PartitionLostError: the partition was revoked.
            StateVersionError: a newer version wrote the state.
        """
        ...

    async def put(self, record: Received, key: bytes, state: SessionState | None) -> Awaitable[object]:
        """Begin to write a state, or to delete it (None).

        Returns:
            Done once the broker has the changelog record and, if the partition is still assigned, the local table has
            the state.

        Raises:
            PartitionLostError: the partition was revoked.
        """
        ...

    async def purge(self, record: Received, keys: Sequence[bytes]) -> None:
        """Remove the old values of these keys from the local files, as far as the store allows.

        Raises:
            PartitionLostError: the partition was revoked.
        """
        ...

    def scan(self, partition: int, after: bytes | None, limit: int) -> list[tuple[bytes, SessionState]]:
        """The next states of a partition in key order, after the key ``after``. Fewer than ``limit``: the end."""
        ...


class _PartitionEvent:
    """Stands in for Faust's current event. The stores read only its ``message.partition``."""

    def __init__(self, partition: int) -> None:
        self.message = self
        self.partition = partition


class SessionTable:
    """The Faust table behind `SessionTablePort`.

    Faust's stores take the partition from a context variable with a weak reference to "the current event". In a task
    that outlives the event, the reference is dead or names another partition (faust/stores/rocksdb.py, ``_set``). So
    this class names the partition itself. It refuses a revoked partition: a write after a revocation would re-open the
    RocksDB file and hold its lock against the next owner.
    """

    def __init__(
        self,
        table: TableT[bytes, bytes],
        broker: BrokerPort,
        assignment: Assignment,
        changelog: str,
        on_fatal: Callable[[BaseException], None],
    ) -> None:
        self._table = table
        self._on_fatal = on_fatal
        self._broker = broker
        self._assignment = assignment
        self._changelog = changelog
        # Kept alive here: the context variable holds only weak references.
        self._events: dict[int, _PartitionEvent] = {}

    def get(self, record: Received, key: bytes) -> SessionState | None:
        """See `SessionTablePort.get`."""
        self._assignment.require(record)
        with self._on_partition(record.partition):
            raw = self._store.get(key)
        return None if raw is None else decode_state(raw)

    async def put(self, record: Received, key: bytes, state: SessionState | None) -> Awaitable[object]:
        """See `SessionTablePort.put`."""
        self._assignment.require(record)
        value = None if state is None else encode_state(state)
        acknowledged = await self._broker.send(self._changelog, key, value, partition=record.partition)
        future = asyncio.ensure_future(acknowledged)
        # A callback runs before the awaiting code continues. It costs a tenth of a task.
        future.add_done_callback(lambda done: self._keep(record, key, value, done))
        return future

    def _keep(self, record: Received, key: bytes, value: bytes | None, done: asyncio.Future[Any]) -> None:
        if done.cancelled() or done.exception() is not None:
            return
        if not self._assignment.owns(record):
            # The next owner restores the state from the changelog. The local file must not be touched.
            return
        try:
            with self._on_partition(record.partition):
                if value is not None:
                    self._store[key] = value
                elif self._store.get(key) is not None:
                    del self._store[key]
                self._store.set_persisted_offset(TP(self._changelog, record.partition), done.result().offset)
        except Exception as error:
            # For example, the disk is full. With an old state, calls would be paid again and results merged wrongly.
            self._on_fatal(error)

    async def purge(self, record: Received, keys: Sequence[bytes]) -> None:
        """See `SessionTablePort.purge`.

        RocksDB overwrites nothing in place. An old value stays in the log and in older files until a compaction.
        """
        self._assignment.require(record)
        database = self._database(record.partition)
        if database is None:
            return

        def compact() -> None:
            # Write the newest value from memory to a file, then compact every file that may hold an older value. The
            # old log is deleted too. This takes about half a second for 200 MB, without the GIL (rocksdict).
            database.flush(True)
            for key in keys:
                database.compact_range(key, key)

        await asyncio.to_thread(compact)

    def scan(self, partition: int, after: bytes | None, limit: int) -> list[tuple[bytes, SessionState]]:
        """See `SessionTablePort.scan`. No iterator outlives the call: it would keep a revoked file open."""
        database = self._database(partition)
        if database is None:
            # The store in memory does not separate partitions: each seems to hold all keys.
            in_memory: dict[bytes, bytes] = getattr(self._store, "data", {})
            keys = sorted(key for key in in_memory if after is None or key > after)[:limit]
            return [(key, decode_state(in_memory[key])) for key in keys]
        found: list[tuple[bytes, SessionState]] = []
        for key, value in database.items(from_key=after):
            # Faust's own entries begin so. Session keys hold no control character.
            if key == after or key.startswith(b"__faust\0"):
                continue
            found.append((key, decode_state(value)))
            if len(found) == limit:
                break
        return found

    def _database(self, partition: int) -> Any:
        """The partition's RocksDB. None for the store in memory, which keeps no old values."""
        return getattr(self._store, "_dbs", {}).get(partition)

    @property
    def _store(self) -> Any:
        return self._table.data

    @contextmanager
    def _on_partition(self, partition: int) -> Iterator[None]:
        event = self._events.setdefault(partition, _PartitionEvent(partition))
        token = _current_event.set(ref(event))  # type: ignore[arg-type]  # see _PartitionEvent
        try:
            yield
        finally:
            _current_event.reset(token)
