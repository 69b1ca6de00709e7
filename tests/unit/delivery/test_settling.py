"""Settling: quiet time, maximum wait, one extraction at a time per session, content before arrival."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_stream.delivery.settling import Joined, Settling
from tests.unit.delivery.conftest import build_snapshot


@pytest.fixture
def settling() -> Settling:
    return Settling(settle_seconds=10, max_wait_seconds=60)


def test_a_session_is_taken_after_the_quiet_time(settling, snapshot):
    assert isinstance(settling.offer(snapshot(["hola"]), 0), Joined.Unknown)
    settling.add(snapshot(["hola"]), 0)
    assert settling.next_due() == 10
    assert settling.take(9.9, 10) == []
    (work,) = settling.take(10, 10)
    assert work.snapshot.turns == 1
    settling.finish(work)
    assert len(settling) == 0
    assert settling.next_due() is None


def test_a_longer_snapshot_replaces_the_pending_one_and_restarts_the_quiet_time(settling, snapshot):
    settling.add(snapshot(["a"], offset=1), 0)
    joined = settling.offer(snapshot(["a", "b"], offset=2), 8)
    assert isinstance(joined, Joined.Replaced)
    assert joined.superseded.record.offset == 1
    assert joined.dropped is None
    assert settling.take(17.9, 10) == []
    (work,) = settling.take(18, 10)
    assert work.snapshot.turns == 2
    # The first offset stays unfinished, and so protects the later ones.
    assert work.hold.offset == 1
    assert work.snapshots == 2


def test_a_busy_chat_is_taken_at_the_maximum_wait(settling, snapshot):
    turns = ["a"]
    settling.add(snapshot(turns), 0)
    for second in range(5, 60, 5):
        turns.append("más")
        settling.offer(snapshot(list(turns)), second)
    assert settling.take(59.9, 10) == []
    assert len(settling.take(60, 10)) == 1


def test_only_the_last_two_bodies_are_kept(settling, snapshot):
    settling.add(snapshot(["a"], offset=1), 0)
    settling.offer(snapshot(["a", "b"], offset=2), 1)
    joined = settling.offer(snapshot(["a", "b", "c"], offset=3), 2)
    assert joined.dropped.record.offset == 1
    assert joined.work.replaced.record.offset == 2


def test_an_equal_snapshot_is_a_duplicate_while_pending_and_in_flight(settling, snapshot):
    settling.add(snapshot(["a"]), 0)
    assert isinstance(settling.offer(snapshot(["a"], offset=5), 1), Joined.Duplicate)
    (work,) = settling.take(10, 1)
    assert isinstance(settling.offer(snapshot(["a"], offset=6, fingerprint="fp"), 11), Joined.Duplicate)
    assert work.fingerprints == ["fp"]


def test_a_shorter_snapshot_is_stale(settling, snapshot):
    settling.add(snapshot(["a", "b"]), 0)
    assert isinstance(settling.offer(snapshot(["a"], timestamp_ms=9_999_999), 1), Joined.Stale)


def test_a_session_runs_one_extraction_at_a_time(settling, snapshot):
    settling.add(snapshot(["a"]), 0)
    (first,) = settling.take(10, 10)
    assert isinstance(settling.offer(snapshot(["a", "b"], offset=1), 11), Joined.Added)
    assert settling.take(30, 10) == []
    settling.finish(first)
    (second,) = settling.take(30, 10)
    assert second.snapshot.turns == 2


def test_a_shortened_history_is_extracted_after_the_full_one(settling, snapshot):
    settling.add(snapshot(["a", "b", "c"], timestamp_ms=1), 0)
    assert isinstance(settling.offer(snapshot(["b", "c", "d"], timestamp_ms=2, offset=1), 1), Joined.Added)
    (first,) = settling.take(60, 10)
    assert first.snapshot.record.offset == 0
    settling.finish(first)
    (second,) = settling.take(60, 10)
    assert second.snapshot.record.offset == 1


def test_an_earlier_unrelated_snapshot_is_extracted_before_the_pending_one(settling, snapshot):
    settling.add(snapshot(["late"], timestamp_ms=5, offset=2), 0)
    settling.next_due()
    assert settling.ready(10) == 1
    earlier = snapshot(["early"], timestamp_ms=1, offset=1)
    assert isinstance(settling.offer(earlier, 10), Joined.Unknown)
    settling.add(earlier, 10)
    assert settling.take(10, 10) == []
    (first,) = settling.take(20, 10)
    assert first.snapshot.record.offset == 1
    settling.finish(first)
    (second,) = settling.take(20, 10)
    assert second.snapshot.record.offset == 2


def test_after_a_dead_letter_the_replaced_snapshot_is_extracted(settling, snapshot):
    settling.add(snapshot(["a"], offset=1), 0)
    settling.offer(snapshot(["a", "b"], offset=2), 1)
    (work,) = settling.take(60, 1)
    assert settling.fall_back(work).record.offset == 1
    (again,) = settling.take(60, 1)
    assert again is work
    assert work.snapshot.record.offset == 1
    assert settling.fall_back(work) is None


def test_another_consent_on_the_same_turns_counts_when_it_is_later(settling, snapshot):
    settling.add(snapshot(["a"], offset=1, consent=True), 0)
    joined = settling.offer(snapshot(["a"], offset=2, timestamp_ms=1, consent=False), 1)
    assert isinstance(joined, Joined.Replaced)
    assert joined.work.snapshot.conversation.metadata.consent is False
    # Also if the assistant has answered meanwhile.
    joined = settling.offer(snapshot(["a", "ok"], offset=3, consent=True), 2)
    assert isinstance(joined, Joined.Replaced)
    assert not joined.work.is_retold


def test_without_settling_a_session_is_taken_at_once(snapshot):
    settling = Settling(settle_seconds=0, max_wait_seconds=0)
    settling.add(snapshot(["a"]), 5)
    assert len(settling.take(5, 1)) == 1


@given(
    st.lists(
        st.tuples(
            st.integers(1, 3),  # session
            st.integers(1, 5),  # turns
            st.sampled_from(["full", "short"]),
            st.floats(0, 30),  # seconds until it arrives
            st.booleans(),  # whether something is taken and finished before
        ),
        max_size=40,
    )
)
def test_every_offset_is_finished_or_protected_and_one_extraction_runs_at_a_time(steps):
    settling = Settling(settle_seconds=10, max_wait_seconds=60)
    now = 0.0
    unfinished: set[int] = set()
    running: dict[bytes, object] = {}

    def finish_all(upto: float) -> None:
        for work in settling.take(upto, 100):
            assert work.key not in running
            running[work.key] = work
        for work in list(running.values()):
            settling.finish(work)
            unfinished.discard(work.hold.offset)
            del running[work.key]

    for offset, (session, turns, kind, seconds, finish) in enumerate(steps):
        now += seconds
        texts = [f"turno {index}" for index in range(turns)] if kind == "full" else [f"corte {turns}"]
        snap = build_snapshot(texts, session=f"s-{session}", offset=offset, timestamp_ms=round(now * 1000))
        unfinished.add(offset)
        joined = settling.offer(snap, now)
        if isinstance(joined, Joined.Unknown):
            settling.add(snap, now)
        elif not isinstance(joined, Joined.Added):
            # Protected by live work with a lower unfinished offset.
            assert any(work.hold.offset < offset for work in settling.works() if work.key == snap.conversation.key)
            unfinished.discard(offset)
        if finish:
            finish_all(now)
    for _ in range(200):
        if settling.next_due() is None:
            break
        now += 100
        finish_all(now)
    assert not unfinished
    assert len(settling) == 0
