"""Emissions and dead letters in the index: which data is stored, and for how long."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from nexus_stream.console.index.emissions import EmissionWriter
from nexus_stream.console.index.letters import LetterWriter
from nexus_stream.console.index.read_model import ReadModel
from nexus_stream.console.index.session_row import ChangelogRecord
from nexus_stream.console.index.topic_record import TopicRecord
from nexus_stream.console.reading.activity import ActivityQueries, LetterFilter
from nexus_stream.dead_letters.letter import Action, Letter, mark_headers, read_record

NOW_MS = 1_760_000_000_000
HOUR_MS = 3_600_000

MakeRecord = Callable[..., ChangelogRecord]


@pytest.fixture
def model(tmp_path: Path) -> Iterator[ReadModel]:
    model = ReadModel(tmp_path, "topic", {"enriched": EmissionWriter(100), "dlq": LetterWriter(50, 24)})
    yield model
    model.close()


@pytest.fixture
def activity(model: ReadModel) -> ActivityQueries:
    return ActivityQueries(model.path)


def emission(offset: int, key: bytes = b"s-1", snapshot: int | None = None, **extraction: Any) -> TopicRecord:
    value = {
        "prospect": {
            "nombre": "Carlos",
            "email": "carlos@example.com",
            "momento_optimo": "tibio",
            "nivel_interes": 5.5,
        },
        "conversation": {"turns": 3},
        "extraction": {"extractor": "claude", "input_tokens": 100, "output_tokens": 10, "cost_usd": 0.25} | extraction,
        "snapshot_at_ms": offset if snapshot is None else snapshot,
        "enriched_at": "2026-01-02T03:04:05.678+00:00",
    }
    headers = (("ce_type", b"nexus.prospect.enriched.v1"), ("ce_id", b"id-%d" % offset))
    return TopicRecord(0, offset, NOW_MS + offset, key, json.dumps(value).encode(), headers)


def usage(model: ReadModel) -> tuple[int, int, float]:
    db = sqlite3.connect(model.path)
    row: tuple[int, int, float] = db.execute(
        "SELECT coalesce(sum(records), 0), coalesce(sum(input_tokens), 0), coalesce(sum(cost_usd), 0) FROM usage_hours"
    ).fetchone()
    db.close()
    return row


def test_an_emission_is_stored_without_personal_text(model: ReadModel, activity: ActivityQueries) -> None:
    model.apply_beside("enriched", [emission(7)])
    (row,) = activity.timeline(b"s-1")
    assert (row["kind"], row["momento"], row["turns"], row["cost_usd"]) == ("enriched", "tibio", 3, 0.25)
    assert row["event_id"] == "id-7"
    assert b"carlos" not in model.path.read_bytes().lower()
    assert "Carlos" not in "".join(str(tuple(row)))


def test_a_repeated_emission_is_counted_once_as_cost(model: ReadModel, activity: ActivityQueries) -> None:
    # The third is the same snapshot with a fingerprint; the fourth came from the cache; the fifth is another snapshot.
    records = [emission(0, snapshot=1), emission(1, snapshot=1), emission(2, snapshot=1)]
    records += [emission(3, snapshot=2, cached=True), emission(4, snapshot=3)]
    model.apply_beside("enriched", records)
    assert usage(model) == (2, 200, 0.5)
    assert [bool(row["is_repeat"]) for row in activity.timeline(b"s-1")] == [False, False, True, True, False]


def test_reading_again_after_a_kill_counts_nothing_twice(model: ReadModel, activity: ActivityQueries) -> None:
    model.apply_beside("enriched", [emission(0), emission(1)])
    model.apply_beside("enriched", [emission(0), emission(1), emission(2)])
    assert usage(model)[0] == 3
    assert len(activity.timeline(b"s-1")) == 3


def test_a_kill_between_restart_and_next_batch_resumes(tmp_path: Path) -> None:
    def opened() -> ReadModel:
        return ReadModel(tmp_path, "topic", {"enriched": EmissionWriter(100)})

    first = opened()
    first.apply_beside("enriched", [emission(0), emission(1)])
    first.close()
    second = opened()
    assert second.next_offset(0, "enriched") == 2
    second.close()


def test_only_the_newest_emissions_are_kept(
    model: ReadModel, activity: ActivityQueries, make_record: MakeRecord
) -> None:
    model.apply([make_record("s-1", 0)])
    model.apply_beside("enriched", [emission(number) for number in range(250)])
    model.prune(NOW_MS)
    rows = activity.tail(0, 1000)
    assert [row["offset"] for row in rows] == list(range(150, 250))
    # The spending stays.
    assert usage(model)[0] == 250


def test_emissions_of_deleted_sessions_are_pruned(
    model: ReadModel, activity: ActivityQueries, make_record: MakeRecord
) -> None:
    model.apply([make_record("s-1", 0), make_record("s-2", 1, status="erased")])
    model.apply_beside("enriched", [emission(0), emission(1, b"s-2"), emission(2, b"nobody")])
    model.prune(NOW_MS)
    assert len(activity.tail(0, 10)) == 3
    model.prune(NOW_MS + 10 * 60_000)
    assert [bytes(row["key"]) for row in activity.tail(0, 10)] == [b"s-1"]


def test_a_long_topic_is_begun_near_its_end(model: ReadModel) -> None:
    model.bind("c", {0: 0}, {0: 0}, NOW_MS)
    model.bind_beside("enriched", {0: 0, 1: 5}, {0: 1_000_000, 1: 20})
    assert (model.next_offset(0, "enriched"), model.next_offset(1, "enriched")) == (999_950, 5)
    # All letters count: an open one may be old.
    model.bind_beside("dlq", {0: 3}, {0: 1_000_000})
    assert model.next_offset(0, "dlq") == 3


def test_all_of_the_last_day_is_counted_however_many(model: ReadModel) -> None:
    model.bind("c", {0: 0}, {0: 0}, NOW_MS)
    assert model.full_period_ms("enriched") == 24 * HOUR_MS
    # The day begins far before the newest hundred in one, after them in another; a third has nothing so young.
    ends = {0: 1_000_000, 1: 1_000_000, 2: 1_000_000}
    model.bind_beside("enriched", {0: 100, 1: 0, 2: 0}, ends, {0: 400_000, 1: 999_990})
    found = [model.next_offset(number, "enriched") for number in range(3)]
    assert found == [400_000, 999_967, 999_967]
    model.bind_beside("dlq", {0: 3}, {0: 10})


def test_a_topic_made_again_is_read_from_its_beginning(model: ReadModel, activity: ActivityQueries) -> None:
    model.bind_beside("enriched", {0: 0}, {0: 2})
    model.apply_beside("enriched", [emission(0), emission(1)])
    model.bind_beside("enriched", {0: 0}, {0: 1})
    assert model.next_offset(0, "enriched") == 0
    assert (activity.emissions(0, 10), usage(model)[0]) == ([], 0)


def test_records_deleted_unread_are_skipped(model: ReadModel, activity: ActivityQueries) -> None:
    model.bind_beside("enriched", {0: 0}, {0: 2})
    model.apply_beside("enriched", [emission(0), emission(1)])
    model.bind_beside("enriched", {0: 90}, {0: 100})
    assert model.next_offset(0, "enriched") == 90
    assert len(activity.timeline(b"s-1")) == 2


def test_an_erased_session_deletes_its_emissions(
    model: ReadModel, activity: ActivityQueries, make_record: MakeRecord
) -> None:
    model.apply([make_record("s-1", 0, nombre="Carlos")])
    model.apply_beside("enriched", [emission(0), emission(1, b"s-2")])
    assert [row["nombre"] for row in activity.tail(0, 10)] == ["Carlos", None]
    model.apply([ChangelogRecord(0, 1, NOW_MS, b"s-1", None)])
    assert [bytes(row["key"]) for row in activity.tail(0, 10)] == [b"s-2"]


def test_ids_of_erased_emissions_are_not_reused(
    model: ReadModel, activity: ActivityQueries, make_record: MakeRecord
) -> None:
    model.apply([make_record("s-1", 0)])
    model.apply_beside("enriched", [emission(0, b"s-2"), emission(1)])
    followed_to = activity.newest_emission()
    model.apply([ChangelogRecord(0, 1, NOW_MS, b"s-1", None)])
    assert activity.newest_emission() == followed_to
    model.apply_beside("enriched", [emission(2, b"s-3")])
    # A live view that has shown the erased emission also shows the next one.
    assert [bytes(row["key"]) for row in activity.tail(followed_to, 10)] == [b"s-3"]


def test_erased_emissions_are_not_counted_as_skipped(
    model: ReadModel, activity: ActivityQueries, make_record: MakeRecord
) -> None:
    model.apply([make_record("s-1", 0)])
    model.apply_beside("enriched", [emission(number, b"s-1" if number % 2 else b"s-2") for number in range(10)])
    model.apply([ChangelogRecord(0, 1, NOW_MS, b"s-1", None)])
    shown = activity.tail(0, 2)
    assert [row["id"] for row in shown] == [7, 9]
    assert activity.count_emissions(0, shown[0]["id"]) == 3
    assert activity.count_emissions(1, shown[0]["id"]) == 2
    assert activity.count_emissions(7, 9) == 0


def test_emissions_after_an_id_are_the_next_ones(model: ReadModel, activity: ActivityQueries) -> None:
    model.apply_beside("enriched", [emission(number) for number in range(25)])
    seen: list[int] = []
    while page := activity.emissions(seen[-1] if seen else 0, 7):
        seen += [row["id"] for row in page]
    assert seen == list(range(1, 26))


def test_a_record_that_cannot_be_stored_is_left_out(
    model: ReadModel, activity: ActivityQueries, caplog: pytest.LogCaptureFixture
) -> None:
    # A number out of SQLite's range, and text without a UTF-8 form.
    bad = dataclasses.replace(emission(3), timestamp_ms=2**80)
    worse = dataclasses.replace(emission(11), headers=(("ce_type", b"x"), ("ce_id", "\ud800")))  # type: ignore[arg-type]
    before = left_out()
    records = [bad if number == 3 else worse if number == 11 else emission(number) for number in range(20)]
    model.apply_beside("enriched", records)
    assert [row["offset"] for row in activity.emissions(0, 100)] == [n for n in range(20) if n not in {3, 11}]
    assert usage(model)[0] == 18
    assert model.next_offset(0, "enriched") == 20
    logged = [vars(record) for record in caplog.records if record.getMessage() == "console_record_left_out"]
    assert len(logged) == 2
    assert left_out() == before + 2
    assert logged[0]["error"] == "OverflowError"
    assert "carlos" not in str(logged).lower()


def left_out() -> float:
    value = REGISTRY.get_sample_value("nexus_console_left_out_total", {"topic": "enriched"})
    assert value is not None
    return value


NAMES = ("prospect", "extraction", "conversation", "cost_usd", "turns", "input_tokens", "snapshot_at_ms", "enriched_at")
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5)),
    lambda inner: st.dictionaries(st.sampled_from(NAMES), inner, max_size=5) | st.lists(inner, max_size=3),
    max_leaves=12,
)


@given(value=st.one_of(st.none(), st.binary(max_size=50), JSON.map(lambda value: json.dumps(value).encode())))
@settings(max_examples=60, deadline=None)
def test_any_record_of_the_topic_is_accepted(tmp_path_factory: pytest.TempPathFactory, value: bytes | None) -> None:
    writers = {"enriched": EmissionWriter(10), "dlq": LetterWriter(10, 1)}
    model = ReadModel(tmp_path_factory.mktemp("model"), "topic", writers)
    headers = (("nexus-id", value or b""), ("nexus-reason", value or b""))
    record = TopicRecord(0, 0, NOW_MS, b"k", value, headers)
    for topic in writers:
        model.apply_beside(topic, [record])
        assert model.next_offset(0, topic) == 1
    model.close()


def letter(offset: int, reason: str = "not_json", session: str | None = None, hours_ago: float = 0) -> TopicRecord:
    at_ms = int(NOW_MS - hours_ago * HOUR_MS) + offset
    value = json.dumps({"sessionId": session}).encode() if session else b"{ broken"
    values = {
        "nexus-id": f"conversations-0-{offset}",
        "nexus-reason": reason,
        "nexus-error": "why",
        "nexus-attempts": "2",
        "nexus-origin-topic": "conversations",
        "nexus-failed-at": datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(),
    }
    headers = tuple((name, text.encode()) for name, text in values.items())
    return TopicRecord(0, offset, at_ms, b"key", value, headers)


def mark(of: TopicRecord, offset: int, action: Action) -> TopicRecord:
    entry = read_record(of.partition, of.offset, of.timestamp_ms, of.key, of.value, of.headers)
    assert isinstance(entry, Letter)
    at = datetime.fromtimestamp(NOW_MS / 1000, UTC)
    return TopicRecord(0, offset, NOW_MS, b"", None, mark_headers(entry, action, by="Ana", at=at))


def test_letters_are_grouped_and_marks_change_their_state(model: ReadModel, activity: ActivityQueries) -> None:
    letters = [letter(0), letter(1), letter(2, "wrong_shape", "s-1")]
    model.apply_beside("dlq", letters)
    model.apply_beside("dlq", [mark(letters[0], 3, Action.REDRIVEN), mark(letters[0], 4, Action.REDRIVEN)])
    groups = {(group.reason, group.state): group.count for group in activity.letter_groups()}
    assert groups == {("not_json", "open"): 1, ("wrong_shape", "open"): 1, ("not_json", "redriven"): 1}
    (redriven,) = activity.letters(LetterFilter(state="redriven"), 10)
    assert (redriven["redriven"], redriven["marked_by"], redriven["attempts"]) == (2, "Ana", 2)
    (of_session,) = activity.letters(LetterFilter(state=None, session_key=b"s-1"), 10)
    assert of_session["reason"] == "wrong_shape"
    assert len(activity.letters(LetterFilter(), 10)) == 2


def test_a_letter_written_twice_is_one(model: ReadModel, activity: ActivityQueries) -> None:
    first, again = letter(0), letter(0)
    second = TopicRecord(0, 1, again.timestamp_ms, again.key, again.value, again.headers)
    model.apply_beside("dlq", [first, second])
    (row,) = activity.letters(LetterFilter(), 10)
    assert row["copies"] == 2


def test_letters_page_on_by_time_and_id(model: ReadModel, activity: ActivityQueries) -> None:
    model.apply_beside("dlq", [letter(number, hours_ago=number % 3) for number in range(40)])
    seen: list[str] = []
    after: tuple[int, str] | None = None
    while rows := activity.letters(LetterFilter(), 7, after):
        seen += [row["id"] for row in rows]
        after = (rows[-1]["failed_at_ms"], rows[-1]["id"])
    assert len(seen) == len(set(seen)) == 40


def test_no_bytes_of_a_letter_are_stored(model: ReadModel) -> None:
    record = letter(0)
    secret = TopicRecord(0, 0, NOW_MS, b"secret-key", b"secret-value", (*record.headers, ("x", b"secret-header")))
    model.apply_beside("dlq", [secret])
    model.close()
    assert b"secret" not in model.path.read_bytes()


def test_letters_end_with_their_topics_retention_and_number(model: ReadModel, activity: ActivityQueries) -> None:
    model.apply_beside("dlq", [letter(0, hours_ago=25), *(letter(number) for number in range(1, 80))])
    model.prune(NOW_MS)
    rows = activity.letters(LetterFilter(), 200)
    assert [row["id"] for row in rows] == [f"conversations-0-{number}" for number in range(79, 29, -1)]
