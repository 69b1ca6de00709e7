"""Newest wins, by content before clocks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_stream.delivery.ordering import (
    MAX_CLOCK_AHEAD_MS,
    MAX_CLOCK_BEHIND_MS,
    MAX_STEPS,
    Relation,
    joined,
    missing_steps,
    relate,
    snapshot_time_ms,
)
from nexus_stream.delivery.settling import Snapshot
from tests.unit.delivery.conftest import build_snapshot


def test_a_snapshot_that_begins_with_all_turns_is_newer_whatever_its_clock_says(snapshot):
    known = snapshot(["hola", "¿sí?"], timestamp_ms=9_000_000, offset=9)
    longer = snapshot(["hola", "¿sí?", "me llamo Ana"], timestamp_ms=1)
    assert relate(longer, known) is Relation.EXTENDS
    assert relate(known, longer) is Relation.PREFIX


def test_equal_turns_are_equal_whatever_else_differs(snapshot):
    assert relate(snapshot(["a"], offset=1), snapshot(["a"], offset=9, fingerprint="f")) is Relation.EQUAL


@pytest.mark.parametrize("clock_ms", [-1, 1, 999_999, 1_000_001, 1_700_000_000_000_000])
def test_unrelated_snapshots_are_ordered_by_offset_whatever_the_clocks_say(snapshot, clock_ms):
    first, second = snapshot(["a", "b", "c"], offset=1), snapshot(["d"], offset=2, timestamp_ms=clock_ms)
    assert relate(second, first) is Relation.LATER
    assert relate(first, second) is Relation.EARLIER


def test_a_record_that_returned_to_the_topic_is_ordered_by_time_then_turns_then_offset(snapshot):
    early, late = snapshot(["a"], origin_ms=1, offset=9), snapshot(["c"], timestamp_ms=2)
    assert relate(late, early) is Relation.LATER
    assert relate(early, late) is Relation.EARLIER
    # What is written behind its return is later, whatever its clock says.
    behind = snapshot(["d"], timestamp_ms=-1, offset=10)
    assert relate(behind, early) is Relation.LATER
    assert relate(early, behind) is Relation.EARLIER
    fewer, more = snapshot(["a"], origin_ms=1), snapshot(["b", "c"], origin_ms=1)
    assert relate(more, fewer) is Relation.LATER
    first, second = snapshot(["a"], origin_ms=1, offset=1), snapshot(["b"], origin_ms=1, offset=2)
    assert relate(second, first) is Relation.LATER


def test_the_whole_history_is_recognised_up_to_the_limit_on_turns(snapshot):
    turns = [f"turno {index}" for index in range(200)]
    known = snapshot(turns)
    assert len(turns) < MAX_STEPS
    assert relate(snapshot(turns[:3]), known) is Relation.PREFIX


@pytest.mark.parametrize(
    ("enqueued_at_ms", "expected"),
    [
        (None, 1_000_000),
        (999_000, 999_000),
        (1_002_000, 1_002_000),
        (9_000_000, 1_000_000 + MAX_CLOCK_AHEAD_MS),
        (1_000, 1_000_000 - MAX_CLOCK_BEHIND_MS),
    ],
)
def test_a_producers_clock_is_bounded_by_the_brokers(enqueued_at_ms, expected):
    assert snapshot_time_ms(enqueued_at_ms, 1_000_000) == expected
    if enqueued_at_ms is not None and enqueued_at_ms < 1_000_000:
        # An old history, which a backfill writes now.
        assert snapshot_time_ms(enqueued_at_ms, 1_000_000, is_old=True) == enqueued_at_ms


CHAT = [f"turno {index}" for index in range(12)]


@pytest.mark.parametrize(
    ("new", "relation"),
    [
        (CHAT[:8], Relation.RETOLD),
        (CHAT[4:8], Relation.RETOLD),
        (CHAT[4:7], Relation.RETOLD),
        (CHAT[4:9], Relation.EXTENDS),
        (CHAT[:6], Relation.PREFIX),
        (CHAT[2:5], Relation.PREFIX),
        (CHAT[8:], Relation.LATER),
        ([CHAT[0], "otra respuesta", *CHAT[2:7]], Relation.LATER),
        ([*CHAT[:6], "otra cosa"], Relation.LATER),
    ],
)
def test_a_later_snapshot_beside_one_that_knows_seven_turns(snapshot, new, relation):
    known = snapshot(CHAT[:7], offset=1)
    assert relate(snapshot(new, offset=2), known) is relation


def test_a_snapshot_that_begins_before_a_known_one(snapshot):
    known = snapshot(CHAT[4:9], offset=1)
    assert relate(snapshot(CHAT[:9], offset=2), known) is Relation.EXTENDS
    assert relate(snapshot(CHAT[:7], offset=2), known) is Relation.PRECEDES
    assert joined(known.said, snapshot(CHAT[:7]).said) == joined((), snapshot(CHAT[:9]).said)


def test_before_the_user_said_a_word_there_is_nothing_to_read(snapshot):
    greeting, other = snapshot(["Hola"], first="assistant"), snapshot(["Buenas"], first="assistant", offset=1)
    assert relate(other, greeting) is Relation.RETOLD
    assert relate(snapshot(["Hola", "soy Ana"], first="assistant", offset=2), other) is Relation.EXTENDS
    assert relate(other, snapshot(["soy Ana"])) is Relation.PREFIX


@given(chat=st.lists(st.sampled_from("abcdefgh"), min_size=2, max_size=12), window=st.integers(1, 6))
def test_a_window_that_slides_over_a_chat_hides_no_word(chat, window):
    """Also where the user repeats words. Each window tells more, or only words that are known."""
    size = 2 * window
    known: Snapshot | None = None
    said = joined((), ())
    for end in range(1, len(chat) + 1, 2):
        turns = chat[max(0, end - size) : end]
        newest = build_snapshot(turns, offset=end, first="user" if end <= size else "assistant")
        if known is not None and (relation := relate(newest, known)) not in {Relation.EXTENDS, Relation.LATER}:
            assert relation in {Relation.EQUAL, Relation.RETOLD, Relation.PREFIX}
            assert missing_steps(newest.said, known.said) is not None
            assert len(newest.said) <= len(known.said)
        if len(set(chat)) == len(chat):
            said = joined(said, newest.said)
            assert len(said) == (end + 1) // 2 if window > 1 else True
        known = newest
