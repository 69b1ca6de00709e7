"""A backfill's state on disk: the input, the batches, the answers and the sent items.

From and to: ``NEXUS_DATA_DIR/backfill/<name>/state.sqlite3``, readable only by its owner. The file has conversations
and answers, because a kill must lose neither. Each is overwritten when its record is on the topic, and the file is
deleted at the end of the run. Every change is one durable transaction, so the next start finds exactly one of the steps
that run.py names.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

from nexus_stream.backfill.records import Chunk, Counts, Item
from nexus_stream.errors import ConfigurationError
from nexus_stream.host.file_lock import DirectoryInUseError, lock_file

__all__ = ["RunStore"]

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS chunks (
    id INTEGER PRIMARY KEY,
    state TEXT NOT NULL,            -- intended, open, read, closed
    batch_id TEXT,
    requests INTEGER NOT NULL,
    reserved_usd REAL NOT NULL,
    intended_at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS items (
    id INTEGER PRIMARY KEY,
    session BLOB NOT NULL UNIQUE,
    value BLOB,
    headers TEXT NOT NULL,
    timestamp_ms INTEGER NOT NULL,
    fingerprint TEXT,
    state TEXT NOT NULL,            -- pending, batched, ready, sent, skipped
    outcome TEXT NOT NULL DEFAULT '',
    improves INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    problems TEXT,
    chunk INTEGER REFERENCES chunks (id),
    custom_id TEXT UNIQUE,
    answer BLOB,
    input_tokens INTEGER NOT NULL DEFAULT 0,
    output_tokens INTEGER NOT NULL DEFAULT 0,
    cache_read_tokens INTEGER NOT NULL DEFAULT 0,
    cost_usd REAL NOT NULL DEFAULT 0
);
-- Hashes of conversations that a model could not read, with its labels: they are not asked again.
CREATE TABLE IF NOT EXISTS left_over (hash TEXT PRIMARY KEY);
-- The same of answers on the topic that the enrichers have not read yet.
CREATE TABLE IF NOT EXISTS on_the_way (hash TEXT PRIMARY KEY);
CREATE INDEX IF NOT EXISTS items_by_state ON items (state, id);
CREATE INDEX IF NOT EXISTS items_by_chunk ON items (chunk, state);
"""
_FILE: Final = "state.sqlite3"
_LAST: Final = "last.json"


class RunStore:
    """The state of one run; a context manager.

    Args:
        connection: An open database.
        lock: Held while the store is open, so that no second process works on a run here.
    """

    def __init__(self, connection: sqlite3.Connection, lock: IO[str] | None = None) -> None:
        self._db = connection
        self._lock = lock
        self._db.isolation_level = None
        self._db.row_factory = sqlite3.Row
        # secure_delete: deleted and overwritten data is personal, so it is zeroed. FULL: a power cut must not lose an
        # ``intended`` chunk.
        self._db.executescript("PRAGMA secure_delete = ON; PRAGMA synchronous = FULL;" + _SCHEMA)
        if self.get("run_id") is None:
            with self.transaction():
                self.put("run_id", secrets.token_hex(5))
                self.put("secret", secrets.token_hex(32))

    @classmethod
    def open(cls, directory: Path) -> RunStore:
        """Open a run's state, or create it.

        Raises:
            ConfigurationError: the directory cannot be written, or another backfill is under way.
        """
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            directory.chmod(0o700)
            # One lock for all runs, because they share the budget file.
            lock = lock_file(directory.parent / "lock")
        except DirectoryInUseError as error:
            raise ConfigurationError(
                f"Another backfill uses {directory.parent}: {error.owner}. Wait until it ends."
            ) from None
        except OSError as error:
            raise ConfigurationError(f"NEXUS_DATA_DIR: {directory} cannot be written ({error.strerror}).") from error
        path = directory / _FILE
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        return cls(sqlite3.connect(path), lock)

    @classmethod
    def in_memory(cls) -> RunStore:
        """Create a store in memory, for a dry run."""
        return cls(sqlite3.connect(":memory:"))

    @staticmethod
    def exists(directory: Path) -> bool:
        """Whether there is an unfinished run."""
        return (directory / _FILE).exists()

    def remember_last(self, directory: Path) -> None:
        """Take over what the last run of this name could not read."""
        try:
            last = json.loads((directory / _LAST).read_text())
            hashes = [(str(one),) for one in last.get("left_over", [])]
        except (OSError, ValueError, AttributeError, TypeError):
            return
        self._db.executemany("INSERT OR IGNORE INTO left_over VALUES (?)", hashes)

    def finish(self, directory: Path, summary: dict[str, Any]) -> None:
        """Delete the state of a finished run. Its counts, and hashes of what was left, stay in ``last.json``."""
        hashes = [row[0] for row in self._db.execute("SELECT hash FROM left_over ORDER BY hash")]
        path = directory / _LAST
        path.touch(mode=0o600)
        path.write_text(json.dumps({**summary, **({"left_over": hashes} if hashes else {})}, indent=2) + "\n")
        RunStore.discard(directory)

    def leave(self, digest: str, label: str) -> None:
        """Remember that a model could not read a conversation."""
        self._db.execute("INSERT OR IGNORE INTO left_over VALUES (?)", (_left_hash(digest, label),))

    def was_left(self, digest: str, label: str) -> bool:
        """Whether that model could not read the conversation."""
        found = self._db.execute("SELECT 1 FROM left_over WHERE hash = ?", (_left_hash(digest, label),))
        return found.fetchone() is not None

    def put_on_the_way(self, digest: str, label: str) -> None:
        """Remember that a model's answer for a conversation is on the topic, and that no enricher has read it yet."""
        self._db.execute("INSERT OR IGNORE INTO on_the_way VALUES (?)", (_left_hash(digest, label),))

    def is_on_the_way(self, digest: str, label: str) -> bool:
        """Whether the enrichers will find that model's answer for the conversation on the topic."""
        found = self._db.execute("SELECT 1 FROM on_the_way WHERE hash = ?", (_left_hash(digest, label),))
        return found.fetchone() is not None

    @staticmethod
    def discard(directory: Path) -> None:
        """Delete the state of a run."""
        for name in (_FILE, f"{_FILE}-journal"):
            (directory / name).unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and release the lock."""
        self._db.close()
        if self._lock is not None:
            self._lock.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit all changes of the block to disk, or none."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    # Facts of the run

    def get(self, name: str) -> str | None:
        """Read a fact of the run."""
        row = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def put(self, name: str, value: str) -> None:
        """Store a fact of the run."""
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    def add_to(self, name: str, amount: int = 1) -> None:
        """Add to a counter."""
        self.put(name, str(self.count_of(name) + amount))

    def count_of(self, name: str) -> int:
        """Read a counter of `add_to`."""
        return int(self.get(name) or 0)

    # Items

    def find(self, session: bytes) -> Item | None:
        """Read a session's item."""
        row = self._db.execute("SELECT * FROM items WHERE session = ?", (session,)).fetchone()
        return None if row is None else _item(row)

    def put_snapshot(
        self,
        session: bytes,
        value: bytes,
        headers: Iterable[tuple[str, bytes]],
        timestamp_ms: int,
        fingerprint: str | None,
    ) -> None:
        """Store a session's snapshot, in place of an earlier one."""
        text = _headers_text(headers)
        self._db.execute(
            "INSERT INTO items (session, value, headers, timestamp_ms, fingerprint, state)"
            " VALUES (?, ?, ?, ?, ?, 'pending') ON CONFLICT (session) DO UPDATE SET value = excluded.value,"
            " headers = excluded.headers, timestamp_ms = excluded.timestamp_ms, fingerprint = excluded.fingerprint",
            (session, value, text, timestamp_ms, fingerprint),
        )

    def drop(self, session: bytes) -> None:
        """Delete a session's item."""
        self._db.execute("DELETE FROM items WHERE session = ?", (session,))

    def items(self, state: str, *, chunk: int | None = None, after: int = 0, limit: int = 500) -> list[Item]:
        """Read the items of a state, by id, starting after the id ``after``."""
        where = "" if chunk is None else " AND chunk = :chunk"
        rows = self._db.execute(
            f"SELECT * FROM items WHERE state = :state AND id > :after{where} ORDER BY id LIMIT :limit",  # noqa: S608
            {"state": state, "after": after, "chunk": chunk, "limit": limit},
        )
        return [_item(row) for row in rows]

    def all_items(self, state: str) -> Iterator[Item]:
        """Yield every item of a state. The caller may change items during the iteration."""
        last = 0
        while page := self.items(state, after=last):
            yield from page
            last = page[-1].id

    def skip(self, item: Item, outcome: str) -> None:
        """Mark an item as skipped, and delete its conversation."""
        self._db.execute(
            "UPDATE items SET state = 'skipped', outcome = ?, value = NULL, headers = '[]' WHERE id = ?",
            (outcome, item.id),
        )

    def set_improves(self, item: Item, improves: bool) -> None:
        """Store whether the item's answer improves a record."""
        self._db.execute("UPDATE items SET improves = ? WHERE id = ?", (int(improves), item.id))

    def ready(self, item: Item, outcome: str, answer: bytes | None) -> None:
        """Mark an item as ready to send, with or without an answer."""
        self._db.execute(
            "UPDATE items SET state = 'ready', outcome = ?, answer = ?, problems = NULL WHERE id = ?",
            (outcome, answer, item.id),
        )

    def set_headers(self, item: Item, headers: Iterable[tuple[str, bytes]]) -> None:
        """Replace the headers with which an item is sent."""
        self._db.execute("UPDATE items SET headers = ? WHERE id = ?", (_headers_text(headers), item.id))

    def again(self, item: Item, problems: str | None, *, counts: bool) -> None:
        """Put an item into the next batch; with ``counts`` False the last batch does not count as an attempt."""
        self._db.execute(
            "UPDATE items SET state = 'pending', problems = ?, attempts = attempts - ? WHERE id = ?",
            (problems, 0 if counts else 1, item.id),
        )

    def spent(self, item: Item, *, tokens: tuple[int, int, int], cost_usd: float) -> Item:
        """Add an answer's cost to an item. Return the updated item."""
        self._db.execute(
            "UPDATE items SET input_tokens = input_tokens + ?, output_tokens = output_tokens + ?,"
            " cache_read_tokens = cache_read_tokens + ?, cost_usd = cost_usd + ? WHERE id = ?",
            (*tokens, cost_usd, item.id),
        )
        return _item(self._db.execute("SELECT * FROM items WHERE id = ?", (item.id,)).fetchone())

    def sent(self, items: Iterable[Item]) -> None:
        """Mark items as sent, and delete their conversations and answers."""
        self._db.executemany(
            "UPDATE items SET state = 'sent', value = NULL, answer = NULL, headers = '[]' WHERE id = ?",
            [(item.id,) for item in items],
        )

    # Chunks

    def intend(self, items: list[Item], reserved_usd: float) -> Chunk:
        """Store the intent to create a batch with these items."""
        with self.transaction():
            cursor = self._db.execute(
                "INSERT INTO chunks (state, requests, reserved_usd, intended_at) VALUES ('intended', ?, ?, ?)",
                (len(items), reserved_usd, time.time()),
            )
            number = int(cursor.lastrowid or 0)
            self._db.executemany(
                "UPDATE items SET state = 'batched', chunk = ?, custom_id = ?, attempts = attempts + 1 WHERE id = ?",
                [(number, self.custom_id(number, item.session), item.id) for item in items],
            )
        return self.chunks("intended")[-1]

    def intend_again(self, chunk: Chunk) -> Chunk:
        """Store a new attempt to create a batch that was not created."""
        with self.transaction():
            self._db.execute("UPDATE chunks SET intended_at = ? WHERE id = ?", (time.time(), chunk.id))
        return self.chunks("intended")[-1]

    def set_chunk(self, chunk: Chunk, state: str, *, batch_id: str | None = None) -> None:
        """Set a chunk's state."""
        self._db.execute(
            "UPDATE chunks SET state = ?, batch_id = coalesce(?, batch_id) WHERE id = ?", (state, batch_id, chunk.id)
        )

    def chunks(self, state: str) -> list[Chunk]:
        """Read the chunks of a state, oldest first."""
        rows = self._db.execute("SELECT * FROM chunks WHERE state = ? ORDER BY id", (state,))
        return [Chunk(**dict(row)) for row in rows]

    def has_asked(self) -> bool:
        """Whether the run has created a batch, or tried to."""
        return self._db.execute("SELECT 1 FROM chunks LIMIT 1").fetchone() is not None

    def batch_ids(self) -> set[str]:
        """The ids of this run's batches."""
        return {row[0] for row in self._db.execute("SELECT batch_id FROM chunks WHERE batch_id IS NOT NULL")}

    def prefix(self, chunk: int) -> str:
        """The prefix of a chunk's custom ids: it identifies a batch."""
        return f"nx-{self.get('run_id')}-{chunk}-"

    def custom_id(self, chunk: int, session: bytes) -> str:
        """A stable id for a session in a chunk. Without the run's secret it reveals nothing about the session."""
        secret = (self.get("secret") or "").encode()
        return self.prefix(chunk) + hmac.new(secret, session, hashlib.sha256).hexdigest()[:24]

    def by_custom_id(self, chunk: Chunk) -> dict[str, int]:
        """A chunk's item ids by custom id."""
        rows = self._db.execute("SELECT custom_id, id FROM items WHERE chunk = ?", (chunk.id,))
        return {row[0]: row[1] for row in rows}

    def item(self, number: int) -> Item:
        """Read an item by its id."""
        return _item(self._db.execute("SELECT * FROM items WHERE id = ?", (number,)).fetchone())

    def committed_usd(self) -> float:
        """What the run has cost, and what its open batches may cost."""
        open_usd = self._db.execute(
            "SELECT coalesce(sum(reserved_usd), 0) FROM chunks WHERE state IN ('intended', 'open')"
        ).fetchone()[0]
        return float(open_usd) + self.counts().cost_usd

    def counts(self) -> Counts:
        """Count the items, outcomes and open batches."""
        states = dict(self._db.execute("SELECT state, count(*) FROM items GROUP BY state").fetchall())
        outcomes = dict(
            self._db.execute("SELECT outcome, count(*) FROM items WHERE outcome != '' GROUP BY outcome").fetchall()
        )
        cost = self._db.execute("SELECT coalesce(sum(cost_usd), 0) FROM items").fetchone()[0]
        batches = self._db.execute("SELECT count(*) FROM chunks WHERE state IN ('intended', 'open')").fetchone()[0]
        return Counts(states, outcomes, int(batches), float(cost))


def _headers_text(headers: Iterable[tuple[str, bytes]]) -> str:
    return json.dumps([(name, raw.decode("latin-1")) for name, raw in headers])


def _left_hash(digest: str, label: str) -> str:
    return hashlib.sha256(f"{digest} {label}".encode()).hexdigest()[:32]


def _item(row: sqlite3.Row) -> Item:
    return Item(
        id=row["id"],
        session=row["session"],
        value=row["value"] or b"",
        headers=tuple((name, text.encode("latin-1")) for name, text in json.loads(row["headers"])),
        timestamp_ms=row["timestamp_ms"],
        fingerprint=row["fingerprint"],
        state=row["state"],
        attempts=row["attempts"],
        problems=row["problems"],
        improves=bool(row["improves"]),
        answer=row["answer"],
        input_tokens=row["input_tokens"],
        output_tokens=row["output_tokens"],
        cache_read_tokens=row["cache_read_tokens"],
        cost_usd=row["cost_usd"],
    )
