"""The console's copy of the session table and of other topics. This is the only writer of the SQLite file.

From: records of the sessions changelog and of the other topics (indexer.py). To: table ``sessions``, the tables of each
`TopicWriter`, and ``offsets``. Each batch is one transaction. So after a kill, reading resumes without a gap or a
repeat.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path

from nexus_stream.console.index.progress import Freshness, PartitionProgress, RecordT, advance_to, advanced, unread
from nexus_stream.console.index.session_row import ChangelogRecord, SessionRow, facets
from nexus_stream.console.index.store import (
    StoreLock,
    deletes_securely_from_index,
    is_damaged,
    is_of_one_record,
    open_writer,
    reset_tables,
)
from nexus_stream.console.index.topic_record import LEFT_OUT, TopicRecord, TopicWriter
from nexus_stream.host.log import get_logger

__all__ = ["FILE_NAME", "Freshness", "PartitionProgress", "ReadModel"]

_log = get_logger(__name__)

FILE_NAME = "sessions.sqlite3"

# A compacted topic keeps a tombstone for one day (delete.retention.ms). A view that was stopped for longer may have
# missed a tombstone, so it starts over. Half a day leaves a margin for clocks and slow starts.
MAX_ABSENCE_SECONDS = 12 * 3600.0
# If nothing arrives, the file stores "caught up" at this interval. The pages use the value in memory.
_PROGRESS_WRITE_SECONDS = 60.0
# If SQLite cannot delete securely from the search index, the index is rewritten. A larger index takes longer.
_OPTIMIZE_SECONDS = 600.0
_ERASED = "erased"

_COLUMNS = tuple(field.name for field in fields(SessionRow) if field.name != "fingerprints")
_UPSERT = (
    f"INSERT INTO sessions ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))}) ON CONFLICT (key) "  # noqa: S608 - our own column names
    f"DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in _COLUMNS if name != 'key')} RETURNING id"
)
_FORGET_FINGERPRINTS = (
    "DELETE FROM session_fingerprints WHERE id = ? AND fingerprint NOT IN (SELECT value FROM json_each(?))"
)
_ADD_FINGERPRINTS = "INSERT OR IGNORE INTO session_fingerprints SELECT ?, value FROM json_each(?)"
_DELETE = "DELETE FROM sessions WHERE key = ?"
_FACETS_BEFORE = "SELECT status, momento, arquetipo, extractor, objeciones FROM sessions WHERE key = ?"
_COUNT = "INSERT INTO facet_counts VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET sessions = sessions + excluded.sessions"
# For an erased session. Emissions contain no name, but they show that the session existed.
_DELETE_EMISSIONS = "DELETE FROM emissions WHERE key = ?"
_PRUNE_SECONDS = 60.0
_SET_PROGRESS = "INSERT OR REPLACE INTO offsets VALUES (?, ?, ?, ?, ?)"


class ReadModel:
    """Apply the topics' records to the file. The methods block. Any thread may call them, one at a time."""

    def __init__(self, folder: Path, topic: str, writers: Mapping[str, TopicWriter] | None = None) -> None:
        """Open or create the file under ``folder``.

        Args:
            folder: The folder of the file and its lock.
            topic: The sessions changelog.
            writers: The writer of each other topic.

        Raises:
            ConfigurationError: another console uses the folder, or the folder cannot be written.
        """
        self._lock = threading.Lock()
        self._store_lock = StoreLock(folder)
        self.path = folder / FILE_NAME
        self._topic = topic
        self._db = open_writer(self.path)
        self._problem: str | None = "starting"
        # After an erasure, former content may remain in the write-ahead log and in the search index.
        self._scrub_log = True
        self._scrub_index = not deletes_securely_from_index()
        self._index_scrubbed_at_ms = 0
        self._written_at_ms = 0
        self._pruned_at_ms = 0
        self._writers = dict(writers or {})
        # Grows with each batch, so that live views can detect a change.
        self.version = 0
        # The same, for the sessions only.
        self.sessions_version = 0
        self._progress: dict[int, PartitionProgress] = self._read_progress(topic)
        self._beside = {name: self._read_progress(name) for name in self._writers}
        for name in self.topics:
            # Make the metric exist with the value 0.
            LEFT_OUT.labels(name)

    def close(self) -> None:
        """Close the file and release the folder."""
        with self._lock:
            self._db.close()
            self._store_lock.release()

    def remake_if_damaged(self) -> bool:
        """Start over with an empty file if the file is marked as damaged. Return whether this happened."""
        with self._lock:
            if not is_damaged(self.path):
                return False
            _log.error("console_view_reset", reason="the file is damaged")
            self._db.close()
            self._db = open_writer(self.path)
            self._progress = {}
            self._beside = {name: {} for name in self._writers}
            self._request_scrub()
            self.version += 1
            self.sessions_version += 1
        return True

    @property
    def topics(self) -> tuple[str, ...]:
        """All topics to follow. The changelog is the first."""
        return (self._topic, *self._writers)

    def next_offset(self, partition: int, topic: str | None = None) -> int | None:
        """Return the next offset to read, or None for a partition that was never read."""
        of_topic = self._progress if topic in {None, self._topic} else self._beside[topic or ""]
        progress = of_topic.get(partition)
        return None if progress is None else progress.next_offset

    def lag_beside(self, topic: str) -> int:
        """Return the lag of a topic other than the changelog, in records."""
        return sum(progress.lag for progress in self._beside[topic].values())

    def freshness(self) -> Freshness:
        """Return the freshness as last observed, without any query."""
        progress = self._progress
        return Freshness(tuple(progress[number] for number in sorted(progress)), self._problem)

    def bind(
        self, cluster_id: str | None, beginning_offsets: Mapping[int, int], end_offsets: Mapping[int, int], now_ms: int
    ) -> bool:
        """Compare the stored progress with the topic. Start over if they do not belong together.

        Reasons: another cluster or topic; the topic ends below the read position (the embedded broker keeps nothing);
        the topic begins above the read position (records were deleted unread); a missing partition; or an absence in
        which the view may have missed a tombstone.

        Returns:
            Whether the view was emptied.
        """
        with self._lock:
            reason = self._reason_to_start_over(cluster_id, beginning_offsets, end_offsets, now_ms)
            if reason is not None:
                _log.info("console_view_reset", reason=reason)
                reset_tables(self._db)
                self._progress = {}
                self._beside = {name: {} for name in self._writers}
            known = self._progress
            progress = {
                number: known.get(number, PartitionProgress(number, beginning_offsets[number], end, 0))
                for number, end in end_offsets.items()
            }
            with self._transaction():
                self._db.executemany(
                    "INSERT OR IGNORE INTO meta VALUES (?, ?)",
                    [("topic", self._topic), ("cluster_id", cluster_id or ""), ("started_at_ms", str(now_ms))],
                )
                self._write(self._topic, progress)
            self._progress = progress
            self.version += 1
            self.sessions_version += 1
        self.observe(end_offsets, now_ms)
        return reason is not None

    def full_period_ms(self, topic: str) -> int:
        """Return the period (ms) of a topic that is always loaded in full."""
        return self._writers[topic].full_period_ms

    def bind_beside(
        self,
        topic: str,
        beginning_offsets: Mapping[int, int],
        end_offsets: Mapping[int, int],
        full_from: Mapping[int, int] | None = None,
    ) -> None:
        """Like `bind`, for a topic other than the changelog. Call `bind` first.

        Args:
            topic: The topic.
            beginning_offsets: The beginning offset of each partition.
            end_offsets: The end offset of each partition.
            full_from: The offset at which the period of `full_period_ms` begins, for partitions with records in it.
        """
        writer = self._writers[topic]
        with self._lock:
            known = self._beside[topic]
            is_another = any(end_offsets.get(number, -1) < known[number].next_offset for number in known)
            with self._transaction():
                if is_another:
                    _log.info("console_topic_reset", topic=topic)
                    writer.clear(self._db)
                    known = {}
                progress = {}
                for number, end in end_offsets.items():
                    first = beginning_offsets[number]
                    if number in known:
                        # Retention may have removed unread records.
                        progress[number] = advanced(known[number], first)
                        continue
                    if writer.newest_only is not None:
                        newest = end - writer.newest_only // len(end_offsets)
                        first = max(first, min(newest, (full_from or {}).get(number, newest)))
                    progress[number] = PartitionProgress(number, first, end, 0)
                self._write(topic, progress)
            self._beside[topic] = progress
            self.version += 1

    def apply(self, records: Sequence[ChangelogRecord], next_offsets: Mapping[int, int] | None = None) -> None:
        """Write a batch and its offsets in one transaction. Skip records that are already applied.

        Args:
            records: The records, in offset order within a partition.
            next_offsets: Positions past the last record, if compaction removed the records before them.
        """
        with self._lock:
            fresh, reached = unread(records, self._progress)
            advance_to(reached, next_offsets)
            with self._transaction():
                self._store(self._topic, fresh, self._apply_sessions)
                self._write(self._topic, reached)
            self._progress = reached
            self.version += 1
            self.sessions_version += bool(records)

    def _apply_sessions(self, records: Sequence[ChangelogRecord]) -> None:
        counts: Counter[tuple[str, str]] = Counter()
        for record in records:
            self._apply_one(record, counts)
        self._db.executemany(_COUNT, [(*facet, change) for facet, change in counts.items() if change])

    def _apply_one(self, record: ChangelogRecord, counts: Counter[tuple[str, str]]) -> None:
        before = self._db.execute(_FACETS_BEFORE, (record.key,)).fetchone()
        if before is not None:
            counts.subtract(facets(*before))
        if record.value is None:
            self._db.execute(_DELETE, (record.key,))
            self._db.execute(_DELETE_EMISSIONS, (record.key,))
            self._request_scrub()
            return
        row = SessionRow.from_record(record)
        (row_id,) = self._db.execute(_UPSERT, [getattr(row, name) for name in _COLUMNS]).fetchone()
        listed = row_id, json.dumps(row.fingerprints)
        self._db.execute(_FORGET_FINGERPRINTS, listed)
        self._db.execute(_ADD_FINGERPRINTS, listed)
        if row.status == _ERASED:
            self._db.execute(_DELETE_EMISSIONS, (record.key,))
            self._request_scrub()
        counts.update(row.facets)

    def apply_beside(
        self, topic: str, records: Sequence[TopicRecord], next_offsets: Mapping[int, int] | None = None
    ) -> None:
        """Like `apply`, for a topic other than the changelog."""
        with self._lock:
            fresh, reached = unread(records, self._beside[topic])
            advance_to(reached, next_offsets)
            writer = self._writers[topic]
            with self._transaction():
                self._store(topic, fresh, lambda some: writer.apply(self._db, some))
                self._write(topic, reached)
            self._beside[topic] = reached
            self.version += 1

    def _store(self, topic: str, records: Sequence[RecordT], store: Callable[[Sequence[RecordT]], None]) -> None:
        """Store records. Skip and log a record that cannot be stored, so that it does not block the others."""
        try:
            with self._savepoint():
                store(records)
        except Exception as error:
            if not records or not is_of_one_record(error):
                raise
            if len(records) == 1:
                left_out = records[0]
                # Do not log the error's text: it may quote the record.
                _log.error(
                    "console_record_left_out",
                    topic=topic,
                    partition=left_out.partition,
                    offset=left_out.offset,
                    error=type(error).__name__,
                )
                LEFT_OUT.labels(topic).inc()
                return
            middle = len(records) // 2
            self._store(topic, records[:middle], store)
            self._store(topic, records[middle:], store)

    def observe_beside(self, topic: str, end_offsets: Mapping[int, int]) -> None:
        """Record the end offsets of a topic other than the changelog."""
        with self._lock:
            observed = dict(self._beside[topic])
            for number in end_offsets.keys() & observed.keys():
                observed[number] = replace(observed[number], end_offset=end_offsets[number])
            self._beside[topic] = observed

    def prune(self, now_ms: int) -> None:
        """Let each writer prune its tables. This runs at most once a minute, however often it is called."""
        if now_ms - self._pruned_at_ms < _PRUNE_SECONDS * 1000:
            return
        with self._lock, self._transaction():
            for writer in self._writers.values():
                writer.prune(self._db, now_ms)
        self._pruned_at_ms = now_ms

    def observe(self, end_offsets: Mapping[int, int], now_ms: int) -> None:
        """Record the end offsets of the changelog, and clear the problem: the broker answers."""
        with self._lock:
            observed = dict(self._progress)
            for number in end_offsets.keys() & observed.keys():
                progress, end = observed[number], end_offsets[number]
                caught_up_at_ms = now_ms if end <= progress.next_offset else progress.caught_up_at_ms
                observed[number] = replace(progress, end_offset=end, caught_up_at_ms=caught_up_at_ms)
            if now_ms - self._written_at_ms >= _PROGRESS_WRITE_SECONDS * 1000:
                with self._transaction():
                    self._write(self._topic, observed)
                self._written_at_ms = now_ms
            self._progress = observed
            self._problem = None
            self._scrub(now_ms)

    def _request_scrub(self) -> None:
        self._scrub_log = True
        self._scrub_index = not deletes_securely_from_index()

    def _scrub(self, now_ms: int) -> None:
        """Remove erased content from the write-ahead log and the search index. The tables overwrite it themselves."""
        if self._scrub_index and now_ms - self._index_scrubbed_at_ms >= _OPTIMIZE_SECONDS * 1000:
            self._db.execute("INSERT INTO sessions_fts (sessions_fts) VALUES ('optimize')")
            self._scrub_index, self._index_scrubbed_at_ms = False, now_ms
            self._scrub_log = True
        if self._scrub_log:
            # The checkpoint is busy while a page reads the file. Then try again next time.
            busy, _, _ = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            self._scrub_log = bool(busy)

    def set_problem(self, problem: str) -> None:
        """Record why the view cannot follow the broker. The shown data does not change."""
        self._problem = problem

    def _reason_to_start_over(
        self, cluster_id: str | None, beginnings: Mapping[int, int], ends: Mapping[int, int], now_ms: int
    ) -> str | None:
        meta = dict(self._db.execute("SELECT name, value FROM meta").fetchall())
        if not meta:
            return None
        if meta.get("topic") != self._topic:
            return "another topic"
        if meta.get("cluster_id") != (cluster_id or ""):
            return "another cluster"
        for number, progress in self._progress.items():
            if number not in ends:
                return "a partition is missing"
            if ends[number] < progress.next_offset:
                return "the topic ends below the read position"
            if beginnings[number] > progress.next_offset:
                return "the topic begins above the read position"
            complete_at_ms = progress.caught_up_at_ms or int(meta.get("started_at_ms", "0"))
            if complete_at_ms < now_ms - MAX_ABSENCE_SECONDS * 1000:
                return "stopped for longer than a tombstone is kept"
        return None

    def _read_progress(self, topic: str) -> dict[int, PartitionProgress]:
        rows = self._db.execute(
            "SELECT partition, next_offset, end_offset, caught_up_at_ms FROM offsets WHERE topic = ?", (topic,)
        )
        return {row[0]: PartitionProgress(*row) for row in rows}

    def _write(self, topic: str, progress: Mapping[int, PartitionProgress]) -> None:
        self._db.executemany(
            _SET_PROGRESS,
            [(topic, p.partition, p.next_offset, p.end_offset, p.caught_up_at_ms) for p in progress.values()],
        )

    @contextmanager
    def _savepoint(self) -> Iterator[None]:
        self._db.execute("SAVEPOINT records")
        try:
            yield
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK TO records")
                self._db.execute("RELEASE records")
            raise
        self._db.execute("RELEASE records")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            # On a full disk, SQLite has already rolled back.
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
