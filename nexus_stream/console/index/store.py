"""The console's SQLite file: its tables, and how to open it.

The file is only a cache of topics. A file with another schema version, or a damaged file, is removed and built again
from the topics. The file contains personal data. So only its owner may read it, and deleted content is overwritten.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from nexus_stream.errors import ConfigurationError
from nexus_stream.host.file_lock import DirectoryInUseError, lock_file

__all__ = [
    "StoreLock",
    "deletes_securely_from_index",
    "is_damage",
    "is_damaged",
    "is_of_one_record",
    "note_damage",
    "open_reader",
    "open_writer",
    "reset_tables",
]

# Raise this number if a table, index or trigger below changes, or if records are converted to rows differently.
SCHEMA_VERSION = 3

_BUSY_TIMEOUT_SECONDS = 10.0
_MMAP_BYTES = 64 * 1024 * 1024
# FTS5 can overwrite deleted words since 3.42. Before, deleted words stay in the file until segments merge.
_FTS_SECURE_DELETE_SINCE = (3, 42, 0)

_DAMAGE_CODES = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_DAMAGE_SUFFIX = "-damaged"

_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

CREATE TABLE offsets (
    topic TEXT NOT NULL,
    partition INTEGER NOT NULL,
    next_offset INTEGER NOT NULL,
    end_offset INTEGER NOT NULL,
    caught_up_at_ms INTEGER NOT NULL,
    PRIMARY KEY (topic, partition)
) WITHOUT ROWID;

CREATE TABLE sessions (
    id INTEGER PRIMARY KEY,
    key BLOB NOT NULL UNIQUE,
    tenant_id TEXT NOT NULL,
    session_id TEXT NOT NULL,
    status TEXT NOT NULL,
    nombre TEXT,
    email TEXT,
    telefono TEXT,
    fingerprint TEXT,
    momento TEXT,
    arquetipo TEXT,
    objeciones TEXT NOT NULL,
    nivel_interes REAL,
    extractor TEXT,
    turns INTEGER NOT NULL,
    first_seen_ms INTEGER NOT NULL,
    last_seen_ms INTEGER NOT NULL,
    partition INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    recorded_at_ms INTEGER NOT NULL,
    state BLOB NOT NULL,
    search_text TEXT NOT NULL
);
CREATE INDEX sessions_by_time ON sessions (last_seen_ms DESC, key);
CREATE INDEX sessions_by_status ON sessions (status, last_seen_ms DESC, key);
CREATE INDEX sessions_by_momento ON sessions (momento, last_seen_ms DESC, key);
CREATE INDEX sessions_by_arquetipo ON sessions (arquetipo, last_seen_ms DESC, key);
CREATE INDEX sessions_by_extractor ON sessions (extractor, last_seen_ms DESC, key);
CREATE INDEX sessions_by_price ON sessions (last_seen_ms DESC, key) WHERE instr(objeciones, 'price');
CREATE INDEX sessions_by_time_objection ON sessions (last_seen_ms DESC, key) WHERE instr(objeciones, 'time');
CREATE INDEX sessions_by_trust ON sessions (last_seen_ms DESC, key) WHERE instr(objeciones, 'trust');
CREATE INDEX sessions_by_mlm ON sessions (last_seen_ms DESC, key) WHERE instr(objeciones, 'mlm');
CREATE INDEX sessions_by_email ON sessions (email) WHERE email IS NOT NULL;
CREATE INDEX sessions_by_telefono ON sessions (telefono) WHERE telefono IS NOT NULL;

-- All fingerprints of a session. The column above has the newest one.
CREATE TABLE session_fingerprints (
    id INTEGER NOT NULL,
    fingerprint TEXT NOT NULL,
    PRIMARY KEY (id, fingerprint)
) WITHOUT ROWID;
CREATE INDEX session_fingerprints_by_fingerprint ON session_fingerprints (fingerprint);
CREATE TRIGGER fingerprints_delete AFTER DELETE ON sessions BEGIN
    DELETE FROM session_fingerprints WHERE id = old.id;
END;

CREATE VIRTUAL TABLE sessions_fts USING fts5 (
    search_text, content='sessions', content_rowid='id', tokenize='trigram case_sensitive 1'
);
CREATE TRIGGER fts_insert AFTER INSERT ON sessions BEGIN
    INSERT INTO sessions_fts (rowid, search_text) VALUES (new.id, new.search_text);
END;
CREATE TRIGGER fts_delete AFTER DELETE ON sessions BEGIN
    INSERT INTO sessions_fts (sessions_fts, rowid, search_text) VALUES ('delete', old.id, old.search_text);
END;
CREATE TRIGGER fts_update AFTER UPDATE OF search_text ON sessions WHEN old.search_text IS NOT new.search_text BEGIN
    INSERT INTO sessions_fts (sessions_fts, rowid, search_text) VALUES ('delete', old.id, old.search_text);
    INSERT INTO sessions_fts (rowid, search_text) VALUES (new.id, new.search_text);
END;

CREATE TABLE facet_counts (
    facet TEXT NOT NULL,
    value TEXT NOT NULL,
    sessions INTEGER NOT NULL,
    PRIMARY KEY (facet, value)
) WITHOUT ROWID;
CREATE VIEW status_counts AS SELECT value AS status, sessions FROM facet_counts WHERE facet = 'status' AND sessions > 0;

-- The tables below contain no personal text. Pages look up names in the sessions.
CREATE TABLE emissions (
    -- A live view follows the ids: an id must not be used again after its row was erased.
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key BLOB NOT NULL,
    partition INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    recorded_at_ms INTEGER NOT NULL,
    event_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    momento TEXT,
    nivel_interes REAL,
    extractor TEXT,
    turns INTEGER NOT NULL,
    snapshot_at_ms INTEGER NOT NULL,
    enriched_at_ms INTEGER,
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    cost_usd REAL NOT NULL,
    latency_ms REAL NOT NULL,
    is_repeat INTEGER NOT NULL,
    UNIQUE (partition, offset)
);
CREATE INDEX emissions_by_key ON emissions (key, id);
CREATE TABLE usage_hours (
    hour_ms INTEGER PRIMARY KEY,
    records INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    cost_usd REAL NOT NULL
);

CREATE TABLE letters (
    identity BLOB PRIMARY KEY,
    id TEXT NOT NULL,
    partition INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    reason TEXT NOT NULL,
    error_class TEXT NOT NULL,
    error TEXT NOT NULL,
    origin_topic TEXT NOT NULL,
    session_key BLOB,
    failed_at_ms INTEGER NOT NULL,
    recorded_at_ms INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    redrives_before INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    copies INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX letters_by_time ON letters (failed_at_ms DESC, id);
CREATE INDEX letters_by_reason ON letters (reason, failed_at_ms DESC, id);
CREATE INDEX letters_by_session ON letters (session_key) WHERE session_key IS NOT NULL;
CREATE INDEX letters_by_id ON letters (id);
CREATE TABLE letter_marks (
    identity BLOB PRIMARY KEY,
    state TEXT NOT NULL,
    redriven INTEGER NOT NULL,
    by TEXT NOT NULL,
    at_ms INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE processes (
    process_id TEXT PRIMARY KEY,
    role TEXT NOT NULL,
    updated_at_ms INTEGER NOT NULL,
    record BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE samples (
    bucket_ms INTEGER NOT NULL,
    process_id TEXT NOT NULL,
    role TEXT NOT NULL,
    updated_at_ms INTEGER NOT NULL,
    started_at_ms INTEGER NOT NULL,
    finished INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    unread INTEGER NOT NULL,
    settling INTEGER NOT NULL,
    overdue INTEGER NOT NULL,
    age_seconds REAL NOT NULL,
    p50_ms REAL,
    p95_ms REAL,
    PRIMARY KEY (bucket_ms, process_id)
) WITHOUT ROWID;
"""

_FTS_SECURE_DELETE = "INSERT INTO sessions_fts (sessions_fts, rank) VALUES ('secure-delete', 1);"

_DROP = """
DROP VIEW IF EXISTS status_counts;
DROP TABLE IF EXISTS sessions_fts;
DROP TABLE IF EXISTS sessions;
DROP TABLE IF EXISTS session_fingerprints;
DROP TABLE IF EXISTS facet_counts;
DROP TABLE IF EXISTS emissions;
DROP TABLE IF EXISTS usage_hours;
DROP TABLE IF EXISTS letters;
DROP TABLE IF EXISTS letter_marks;
DROP TABLE IF EXISTS processes;
DROP TABLE IF EXISTS samples;
DROP TABLE IF EXISTS offsets;
DROP TABLE IF EXISTS meta;
"""


class StoreLock:
    """A lock on the folder for one console. The kernel releases the lock when the process ends, even after a kill."""

    def __init__(self, folder: Path) -> None:
        """Take the lock.

        Raises:
            ConfigurationError: another console uses the folder, or the folder cannot be written.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._file = lock_file(folder / "lock")
        except DirectoryInUseError as error:
            raise ConfigurationError(
                f"NEXUS_DATA_DIR: another console ({error.owner}) uses {folder}. Stop it, or give this one a folder of "
                "its own."
            ) from error
        except OSError as error:
            raise ConfigurationError(f"NEXUS_DATA_DIR: {folder} cannot be written ({error.strerror}).") from error

    def release(self) -> None:
        """Release the lock."""
        self._file.close()


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the error means that the file is damaged, so that a retry would not help."""
    return (getattr(error, "sqlite_errorcode", 0) & 0xFF) in _DAMAGE_CODES


def is_of_one_record(error: Exception) -> bool:
    """Whether the error may concern the stored record, and not the file or the disk."""
    if isinstance(error, sqlite3.Error):
        return not (isinstance(error, sqlite3.OperationalError) or is_damage(error))
    return not isinstance(error, OSError | MemoryError)


def note_damage(path: Path) -> None:
    """Mark the file as damaged. The writer of this process, or of the next one, then recreates the file."""
    _mark(path).touch(mode=0o600)


def is_damaged(path: Path) -> bool:
    """Whether the file is marked as damaged."""
    return _mark(path).exists()


def _mark(path: Path) -> Path:
    return path.with_name(path.name + _DAMAGE_SUFFIX)


def open_writer(path: Path) -> sqlite3.Connection:
    """Open the file for the only writer. Create or recreate a file that is missing, damaged or of another version."""
    connection: sqlite3.Connection | None = None
    try:
        connection = _connect(path)
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        # This query reads every page of the schema. So a damaged header shows here and not in a page request.
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if version == SCHEMA_VERSION and not is_damaged(path):
            # The writer reads this table first.
            connection.execute("SELECT * FROM offsets").fetchall()
            return connection
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise
    if connection is not None:
        connection.close()
    for suffix in ("", "-wal", "-shm", _DAMAGE_SUFFIX):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    connection = _connect(path)
    reset_tables(connection)
    return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """Open the file for reading. Any thread may use the connection, but only one at a time."""
    connection = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_SECONDS, check_same_thread=False, isolation_level=None)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA query_only = ON")
    connection.execute(f"PRAGMA mmap_size = {_MMAP_BYTES}")
    return connection


def deletes_securely_from_index() -> bool:
    """Whether this SQLite version overwrites deleted words of the search index."""
    return sqlite3.sqlite_version_info >= _FTS_SECURE_DELETE_SINCE


def reset_tables(connection: sqlite3.Connection) -> None:
    """Drop and create all tables in one transaction. A reader sees either the old or the new state.

    Dropping tables is faster than deleting every row.
    """
    secure = _FTS_SECURE_DELETE if deletes_securely_from_index() else ""
    connection.executescript(f"BEGIN; {_DROP} {_TABLES} {secure} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")


def _connect(path: Path) -> sqlite3.Connection:
    # Create the file with its mode first: SQLite gives its side files the same mode.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    connection = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_SECONDS, check_same_thread=False, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    # A power cut may lose the newest batches. Rows and offsets are lost together, so the records are read again.
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute("PRAGMA journal_size_limit = 67108864")
    return connection
