"""Store the state of each process, now and over the last day: states, lag, rates, latencies.

From: ``nexus-status``. To: tables ``processes`` (the newest record of each process) and ``samples`` (one row per
process and ten seconds, kept for a day). The overview and the charts read both.

A row of ``processes`` stays until a tombstone for its key arrives. A process writes its tombstone when it stops
normally. An operator writes one for a process that will not come back (``nexus status forget``). Until then, a dead
process counts as missing. Each process type also has a row under its own name, without a record: the time of the last
report of any process of this type.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

from pydantic import ValidationError

from nexus_stream.console.index.topic_record import LEFT_OUT, TopicRecord
from nexus_stream.contracts.status import MAX_COUNT, ProcessStatus

__all__ = ["BUCKET_MS", "ROLES", "ProcessWriter"]

ROLES = ("gateway", "enricher", "sink")

BUCKET_MS = 10_000
_DAY_MS = 24 * 3_600_000
_MAX_PROCESSES = 500
# Outcomes that count as errors.
_FAILURES = ("deadlettered", "failed")
# Outcomes that do not count as work: the next owner of the partition processes the record again.
_NO_WORK = ("dropped",)


class ProcessWriter:
    """`TopicWriter` of the status topic.

    Args:
        topic: The topic's name.
    """

    def __init__(self, topic: str) -> None:
        self._left_out = LEFT_OUT.labels(topic)
        self.newest_only: int | None = 50_000
        self.full_period_ms = 0

    def apply(self, db: sqlite3.Connection, records: Sequence[TopicRecord]) -> None:
        """See `TopicWriter.apply`."""
        for record in records:
            process_id = record.key.decode("utf-8", "replace")
            if record.value is None:
                db.execute("DELETE FROM processes WHERE process_id = ?", (process_id,))
                continue
            try:
                status = ProcessStatus.model_validate_json(record.value)
            except ValidationError:
                # The record has a newer version, exceeds a bound, or comes from another program.
                self._left_out.inc()
                continue
            if status.process_id == process_id and process_id not in ROLES:
                self._store(db, status, record.value)
            else:
                self._left_out.inc()

    def _store(self, db: sqlite3.Connection, status: ProcessStatus, raw: bytes) -> None:
        db.execute(
            "INSERT OR REPLACE INTO processes VALUES (?, ?, ?, ?)",
            (status.process_id, status.role, status.updated_at_ms, raw),
        )
        if status.state != "failed":
            db.execute(
                "INSERT INTO processes VALUES (?1, ?1, ?2, x'') ON CONFLICT (process_id) "
                "DO UPDATE SET updated_at_ms = max(updated_at_ms, excluded.updated_at_ms)",
                (status.role, status.updated_at_ms),
            )
        outcomes = status.outcomes
        lags = status.partitions
        db.execute(
            "INSERT OR REPLACE INTO samples VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                status.updated_at_ms // BUCKET_MS * BUCKET_MS,
                status.process_id,
                status.role,
                status.updated_at_ms,
                status.started_at_ms,
                _total(count for outcome, count in outcomes.items() if outcome not in _NO_WORK),
                _total(outcomes.get(outcome, 0) for outcome in _FAILURES),
                _total(lag.unread for lag in lags),
                _total(lag.settling for lag in lags),
                _total(lag.overdue for lag in lags),
                max((lag.oldest_age_seconds for lag in lags), default=0.0),
                status.latency.p50_ms,
                status.latency.p95_ms,
            ),
        )

    def prune(self, db: sqlite3.Connection, now_ms: int) -> None:
        """See `TopicWriter.prune`."""
        db.execute("DELETE FROM samples WHERE bucket_ms < ?", (now_ms - _DAY_MS,))
        db.execute(
            "DELETE FROM processes WHERE process_id <> role AND process_id NOT IN "
            "(SELECT process_id FROM processes WHERE process_id <> role ORDER BY updated_at_ms DESC LIMIT ?)",
            (_MAX_PROCESSES,),
        )

    def clear(self, db: sqlite3.Connection) -> None:
        """See `TopicWriter.clear`."""
        db.execute("DELETE FROM processes")
        db.execute("DELETE FROM samples")


def _total(counts: Iterable[int]) -> int:
    """Return the sum, limited to SQLite's range."""
    return min(sum(counts), MAX_COUNT)
