from __future__ import annotations

import dataclasses
import json
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus_stream.console.index.read_model import ReadModel
from nexus_stream.console.index.session_row import UNREADABLE, ChangelogRecord
from nexus_stream.console.reading.queries import SessionQueries
from nexus_stream.errors import ConfigurationError

TOPIC = "nexus-enricher-sessions-changelog"
HOUR_MS = 3_600_000
NOW_MS = 1_760_000_000_000

MakeRecord = Callable[..., ChangelogRecord]


def content(path: Path) -> tuple[list[tuple[object, ...]], dict[str, int], list[str]]:
    """The content that a page can show: rows without row numbers, counts, words of the search index."""
    db = sqlite3.connect(path)
    columns = [row[1] for row in db.execute("PRAGMA table_info (sessions)") if row[1] != "id"]
    rows = db.execute(f"SELECT {', '.join(columns)} FROM sessions ORDER BY key").fetchall()  # noqa: S608
    counts = dict(db.execute("SELECT status, sessions FROM status_counts WHERE sessions > 0"))
    found = db.execute(
        "SELECT hex(sessions.key) FROM sessions_fts JOIN sessions ON sessions.id = sessions_fts.rowid ORDER BY 1"
    )
    words = [row[0] for row in found]
    # Compares the index with the rows it was made from, word by word.
    writable = sqlite3.connect(path)
    writable.execute("INSERT INTO sessions_fts (sessions_fts, rank) VALUES ('integrity-check', 1)")
    writable.rollback()
    writable.close()
    db.close()
    return rows, counts, words


def test_record_becomes_a_row_with_its_raw_state(model: ReadModel, make_record: MakeRecord) -> None:
    record = make_record("s-1", 7, partition=3, tenant_id="acme", nombre="Carlos", email="carlos@example.com")
    model.apply([record])
    db = sqlite3.connect(model.path)
    db.row_factory = sqlite3.Row
    row = db.execute("SELECT * FROM sessions").fetchone()
    assert (row["tenant_id"], row["session_id"], row["status"]) == ("acme", "s-1", "enriched")
    assert (row["nombre"], row["email"], row["momento"]) == ("Carlos", "carlos@example.com", "frio")
    assert (row["partition"], row["offset"]) == (3, 7)
    assert row["state"] == record.value
    db.close()


def test_tombstone_removes_row_count_and_search_words(model: ReadModel, make_record: MakeRecord) -> None:
    kept, gone = make_record("kept", 0, nombre="Ana"), make_record("gone", 1, nombre="Carlos")
    model.apply([kept, gone])
    model.apply([dataclasses.replace(gone, offset=2, value=None)])
    rows, counts, words = content(model.path)
    assert [row[2] for row in rows] == ["kept"]
    assert counts == {"enriched": 1}
    assert len(words) == 1
    db = sqlite3.connect(model.path)
    assert db.execute("SELECT count(*) FROM sessions_fts WHERE sessions_fts MATCH '\"carlos\"'").fetchone() == (0,)
    db.close()


def test_status_change_moves_the_count(model: ReadModel, make_record: MakeRecord) -> None:
    model.apply([make_record("s", 0), make_record("s", 1, status="dead"), make_record("t", 2)])
    assert content(model.path)[1] == {"dead": 1, "enriched": 1}


@pytest.mark.parametrize(
    "value",
    [b"", b"{", b"null", b"[1]", b"\xff\xfe", b'"text"', b'{"status": 7, "prospect": [], "turns": "many"}', b"9" * 400],
)
def test_a_value_that_is_not_a_state_is_kept_and_marked(model: ReadModel, value: bytes) -> None:
    model.apply([ChangelogRecord(0, 0, NOW_MS, b"\xffkey", value)])
    rows, counts, _ = content(model.path)
    assert counts == {UNREADABLE: 1}
    assert value in rows[0]


def test_numbers_beyond_sqlite_are_bounded(model: ReadModel) -> None:
    state = {"status": "enriched", "turns": 2**64 - 1, "last_seen_ms": 2**63, "first_seen_ms": -5}
    model.apply([ChangelogRecord(0, 0, NOW_MS, b"k", json.dumps(state).encode())])
    assert content(model.path)[1] == {"enriched": 1}


def test_a_failing_batch_leaves_nothing_and_can_be_applied_again(model: ReadModel, make_record: MakeRecord) -> None:
    good, bad = make_record("good", 0), make_record("bad", 1)
    with pytest.raises(OverflowError):  # SQLite's integers end at 2^63 - 1
        model.apply([good, dataclasses.replace(bad, offset=2**63)])
    assert content(model.path)[0] == []
    assert model.next_offset(0) is None
    model.apply([good, bad])
    assert len(content(model.path)[0]) == 2


# A log of a few sessions over two partitions: puts with changing content, and tombstones (None).
OPERATIONS = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.sampled_from(["a", "b", "c", "d:e", "Ñandú", "%_"]),
        st.one_of(
            st.none(),
            st.tuples(st.sampled_from(["Ana", "José Núñez", 'x"y', ""]), st.sampled_from(["enriched", "dead"])),
        ),
    ),
    max_size=40,
)


@settings(max_examples=40, deadline=None)
@given(operations=OPERATIONS, batch=st.integers(1, 7), cuts=st.sets(st.integers(0, 40), max_size=4))
def test_any_log_in_any_batches_with_restarts_and_redelivery_gives_the_same_content(
    tmp_path_factory: pytest.TempPathFactory,
    operations: list[tuple[int, str, tuple[str, str] | None]],
    batch: int,
    cuts: set[int],
) -> None:
    folder = tmp_path_factory.mktemp("model")
    log = _log(operations)

    whole = ReadModel(folder / "whole", TOPIC)
    whole.apply(log)
    whole.close()

    pieces = ReadModel(folder / "pieces", TOPIC)
    for start in range(0, len(log), batch):
        if start in cuts:
            pieces.close()
            pieces = ReadModel(folder / "pieces", TOPIC)
        # Repeat the last records, as after a lost position: applied records must be skipped.
        pieces.apply(log[max(0, start - 3) : start + batch])
    pieces.close()

    assert content(folder / "pieces" / "sessions.sqlite3") == content(folder / "whole" / "sessions.sqlite3")
    last = {record.key + bytes([record.partition]): record for record in log}
    survivors = {record.key for record in last.values() if record.value is not None}
    assert {row[0] for row in content(folder / "whole" / "sessions.sqlite3")[0]} == survivors


def _log(operations: list[tuple[int, str, tuple[str, str] | None]]) -> list[ChangelogRecord]:
    log, offsets = [], {0: 0, 1: 0}
    for partition, session, put in operations:
        value = None
        if put is not None:
            name, status = put
            state = {"state_version": 1, "status": status, "prospect": {"nombre": name}, "last_seen_ms": len(log)}
            value = json.dumps(state).encode()
        # A key lives on one partition only.
        log.append(ChangelogRecord(partition, offsets[partition], NOW_MS, f"{partition}-{session}".encode(), value))
        offsets[partition] += 1
    return log


def test_resumes_where_the_last_transaction_ended(tmp_path: Path, make_record: MakeRecord) -> None:
    first = ReadModel(tmp_path, TOPIC)
    assert first.bind("cluster-a", {0: 0, 1: 5}, {0: 3, 1: 9}, NOW_MS) is False
    first.apply([make_record("s", 0), make_record("t", 1), make_record("u", 8, partition=1)])
    first.close()

    second = ReadModel(tmp_path, TOPIC)
    assert second.bind("cluster-a", {0: 0, 1: 5}, {0: 3, 1: 9}, NOW_MS + HOUR_MS) is False
    assert (second.next_offset(0), second.next_offset(1)) == (2, 9)
    assert len(content(second.path)[0]) == 3
    second.close()


@pytest.mark.parametrize(
    ("cluster", "beginnings", "ends", "later_ms"),
    [
        ("cluster-b", {0: 0}, {0: 9}, 0),
        (None, {0: 0}, {0: 9}, 0),
        ("cluster-a", {0: 0}, {0: 1}, 0),
        ("cluster-a", {0: 3}, {0: 9}, 0),
        ("cluster-a", {1: 0}, {1: 9}, 0),
        # A tombstone may have come and been removed in the meantime.
        ("cluster-a", {0: 0}, {0: 9}, 13 * HOUR_MS),
    ],
    ids=["another cluster", "cluster unknown", "end below", "begins above", "partition gone", "long absence"],
)
def test_another_log_starts_over(
    model: ReadModel,
    make_record: MakeRecord,
    cluster: str | None,
    beginnings: dict[int, int],
    ends: dict[int, int],
    later_ms: int,
) -> None:
    model.bind("cluster-a", {0: 0}, {0: 2}, NOW_MS)
    model.apply([make_record("s", 0), make_record("t", 1)])
    assert model.bind(cluster, beginnings, ends, NOW_MS + later_ms) is True
    assert content(model.path) == ([], {}, [])
    assert {p.partition: p.next_offset for p in model.freshness().partitions} == beginnings
    # From then on, it is the same log.
    assert model.bind(cluster, beginnings, ends, NOW_MS + later_ms) is False


def test_another_topic_starts_over(tmp_path: Path, make_record: MakeRecord) -> None:
    first = ReadModel(tmp_path, TOPIC)
    first.bind("cluster-a", {0: 0}, {0: 1}, NOW_MS)
    first.apply([make_record("s", 0)])
    first.close()
    second = ReadModel(tmp_path, "another-sessions-changelog")
    assert second.bind("cluster-a", {0: 0}, {0: 1}, NOW_MS) is True
    assert content(second.path)[0] == []
    second.close()


def test_new_partitions_are_added_without_starting_over(model: ReadModel, make_record: MakeRecord) -> None:
    model.bind("cluster-a", {0: 0}, {0: 1}, NOW_MS)
    model.apply([make_record("s", 0)])
    assert model.bind("cluster-a", {0: 0, 1: 0}, {0: 1, 1: 4}, NOW_MS) is False
    assert len(content(model.path)[0]) == 1
    assert model.freshness().lag == 4


def test_freshness_counts_records_behind_and_remembers_when_it_was_complete(
    model: ReadModel, make_record: MakeRecord
) -> None:
    assert model.freshness().problem == "starting"
    model.bind("c", {0: 0, 1: 0}, {0: 2, 1: 0}, NOW_MS)
    assert (model.freshness().lag, model.freshness().caught_up_at_ms) == (2, 0)
    model.apply([make_record("s", 0), make_record("t", 1)])
    model.observe({0: 2, 1: 0}, NOW_MS + 50)
    assert (model.freshness().lag, model.freshness().caught_up_at_ms) == (0, NOW_MS + 50)
    model.observe({0: 5, 1: 0}, NOW_MS + 100)
    assert (model.freshness().lag, model.freshness().caught_up_at_ms) == (3, NOW_MS + 50)
    model.set_problem("broker_unreachable")
    assert model.freshness().problem == "broker_unreachable"
    model.observe({0: 5, 1: 0}, NOW_MS + 200)
    assert model.freshness().problem is None


def test_position_past_compacted_offsets_catches_up(model: ReadModel, make_record: MakeRecord) -> None:
    model.bind("c", {0: 0}, {0: 10}, NOW_MS)
    model.apply([make_record("s", 3)])
    model.apply([], {0: 10})
    model.observe({0: 10}, NOW_MS)
    assert model.freshness().lag == 0
    assert model.next_offset(0) == 10


@pytest.mark.parametrize("damage", ["garbage", "older schema"])
def test_an_unusable_file_is_recreated(tmp_path: Path, make_record: MakeRecord, damage: str) -> None:
    first = ReadModel(tmp_path, TOPIC)
    first.bind("c", {0: 0}, {0: 1}, NOW_MS)
    first.apply([make_record("s", 0)])
    first.close()
    path = tmp_path / "sessions.sqlite3"
    if damage == "garbage":
        path.write_bytes(b"this is no database" * 1000)
    else:
        db = sqlite3.connect(path)
        db.execute("PRAGMA user_version = 9999")
        db.close()
    second = ReadModel(tmp_path, TOPIC)
    assert second.next_offset(0) is None
    assert content(path)[0] == []
    second.close()


def overwrite(path: Path, table: str) -> None:
    """Damage a table after the schema pages, as a faulty disk may do."""
    db = sqlite3.connect(path)
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    page_bytes = db.execute("PRAGMA page_size").fetchone()[0]
    page = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchone()[0]
    db.close()
    with path.open("r+b") as file:
        file.seek((page - 1) * page_bytes)
        file.write(b"\xa5" * page_bytes)


@pytest.mark.parametrize("table", ["sessions", "offsets"])
def test_damage_after_the_schema_recreates_the_file(tmp_path: Path, make_record: MakeRecord, table: str) -> None:
    first = ReadModel(tmp_path, TOPIC)
    first.bind("c", {0: 0}, {0: 1}, NOW_MS)
    first.apply([make_record("s", 0)])
    first.close()
    path = tmp_path / "sessions.sqlite3"
    overwrite(path, table)
    second = ReadModel(tmp_path, TOPIC)
    if table == "sessions":
        # A reader finds the damage. The writer of this process or of the next one recreates the file.
        with pytest.raises(sqlite3.OperationalError, match="damaged"):
            SessionQueries(path).session(b"s")
        assert second.remake_if_damaged()
        assert not second.remake_if_damaged()
    assert second.next_offset(0) is None
    second.bind("c", {0: 0}, {0: 1}, NOW_MS)
    second.apply([make_record("s", 0)])
    assert len(content(path)[0]) == 1
    second.close()


def test_damage_marked_before_a_restart_recreates_the_file(tmp_path: Path, make_record: MakeRecord) -> None:
    first = ReadModel(tmp_path, TOPIC)
    first.apply([make_record("s", 0)])
    first.close()
    path = tmp_path / "sessions.sqlite3"
    overwrite(path, "sessions")
    with pytest.raises(sqlite3.OperationalError, match="damaged"):
        SessionQueries(path).session(b"s")
    second = ReadModel(tmp_path, TOPIC)
    assert second.next_offset(0) is None
    assert content(path)[0] == []
    assert not second.remake_if_damaged()
    second.close()


def test_only_its_owner_may_read_the_files(model: ReadModel, make_record: MakeRecord) -> None:
    model.apply([make_record("s", 0)])
    for path in model.path.parent.glob("sessions.sqlite3*"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name


def test_second_console_on_one_folder_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    first = ReadModel(tmp_path, TOPIC)
    with pytest.raises(ConfigurationError, match="another console"):
        ReadModel(tmp_path, TOPIC)
    first.close()
    ReadModel(tmp_path, TOPIC).close()
