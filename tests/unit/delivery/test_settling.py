"""Settling: quiet time, maximum wait, one extraction at a time per session, content before arrival."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_stream.delivery.ordering import MAX_STEPS
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
    joined = settling.offer(snapshot(["a", "b", "c"], offset=2), 8)
    assert isinstance(joined, Joined.Replaced)
    assert joined.superseded.record.offset == 1
    assert joined.dropped is None
    assert settling.take(17.9, 10) == []
    (work,) = settling.take(18, 10)
    assert work.snapshot.turns == 3
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
    settling.offer(snapshot(["a", "b", "c"], offset=2), 1)
    joined = settling.offer(snapshot(["a", "b", "c", "d", "e"], offset=3), 2)
    assert joined.dropped.record.offset == 1
    assert joined.work.replaced.record.offset == 2


def test_an_equal_snapshot_is_a_duplicate_while_pending_and_in_flight(settling, snapshot):
    settling.add(snapshot(["a"]), 0)
    assert isinstance(settling.offer(snapshot(["a"], offset=5), 1), Joined.Duplicate)
    (work,) = settling.take(10, 1)
    assert isinstance(settling.offer(snapshot(["a"], offset=6, fingerprint="fp"), 11), Joined.Duplicate)
    assert work.fingerprints == ["fp"]


def test_a_shorter_snapshot_is_stale(settling, snapshot):
    settling.add(snapshot(["a", "b", "c"]), 0)
    assert isinstance(settling.offer(snapshot(["a"], timestamp_ms=9_999_999), 1), Joined.Stale)


def test_an_older_telling_of_the_same_words_brings_its_fingerprint(settling, snapshot):
    work = settling.add(snapshot(["a", "b"], offset=1, fingerprint="fp-1"), 0)
    assert isinstance(settling.offer(snapshot(["a"], offset=0, fingerprint="fp-2"), 1), Joined.Duplicate)
    assert work.fingerprints == ["fp-1", "fp-2"]


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
    settling.offer(snapshot(["a", "b", "c"], offset=2), 1)
    # An answer that grows meanwhile keeps the snapshot to fall back to: it would fail for the same words.
    joined = settling.offer(snapshot(["a", "b", "c", "d"], offset=3), 2)
    assert joined.dropped.record.offset == 2
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


def test_an_answer_that_grows_replaces_the_pending_snapshot(settling, snapshot):
    settling.add(snapshot(["hola", "Claro"], offset=1), 0)
    for offset in range(2, 20):
        joined = settling.offer(snapshot(["hola", "Claro" * offset], offset=offset), offset / 10)
        assert isinstance(joined, Joined.Replaced)
    (work,) = settling.take(60, 10)
    assert (work.snapshot.record.offset, work.hold.offset, work.snapshots) == (19, 1, 19)
    assert settling.take(60, 10) == []


def test_words_that_are_being_read_are_told_again_later_without_a_wait_for_new_words(settling, snapshot):
    settling.add(snapshot(["hola"], offset=1), 0)
    (reading,) = settling.take(10, 1)
    joined = settling.offer(snapshot(["hola", "Claro"], offset=2), 11)
    assert isinstance(joined, Joined.Added)
    assert joined.work.is_retold
    assert joined.work.may_be_read
    # The user goes on: the waiting work is the one for the new words.
    joined = settling.offer(snapshot(["hola", "Claro", "soy Ana"], offset=3), 12)
    assert isinstance(joined, Joined.Replaced)
    assert not joined.work.is_retold
    settling.finish(reading)
    assert settling.take(21.9, 1) == []
    assert len(settling.take(22, 1)) == 1


def test_without_a_settling_time_a_growing_answer_still_settles(snapshot):
    settling = Settling(settle_seconds=0, max_wait_seconds=0)
    settling.add(snapshot(["hola", "C"], offset=1), 0, is_retold=True)
    for tenths in range(1, 30):
        settling.offer(snapshot(["hola", "C" * tenths], offset=1 + tenths), tenths / 10)
    assert settling.take(3, 1) == []
    (work,) = settling.take(2.9 + 2, 1)
    assert work.snapshot.record.offset == 30
    # New words do not wait for that.
    settling.finish(work)
    settling.add(snapshot(["hola", "C"], offset=40), 10, is_retold=True)
    settling.offer(snapshot(["hola", "C", "soy Ana"], offset=41), 10.5)
    assert len(settling.take(10.5, 1)) == 1


def test_a_window_that_slides_takes_the_unread_turns_along(settling, snapshot):
    chat = [f"turno {index}" for index in range(14)]
    settling.add(snapshot(chat[:6], offset=1), 0)
    joined = settling.offer(snapshot(chat[2:8], offset=2), 1)
    joined = settling.offer(snapshot(chat[6:12], offset=3), 2)
    assert isinstance(joined, Joined.Replaced)
    assert [message.content for message in joined.work.snapshot.messages] == chat[:12]
    assert joined.work.snapshot.turns == 6
    assert joined.work.snapshot.size_bytes > snapshot(chat[6:12]).size_bytes
    # The full history again is what is waiting, not something older or newer.
    assert isinstance(settling.offer(snapshot(chat[:10], offset=4), 3), Joined.Stale)
    # If the newest window cannot be read, the one before has its turns too.
    (work,) = settling.take(60, 1)
    assert [message.content for message in settling.fall_back(work).messages] == chat[:8]


def test_turns_too_many_to_be_read_at_once_are_read_one_after_the_other(settling, snapshot):
    chat = [f"turno {index}" for index in range(2 * MAX_STEPS)]
    settling.add(snapshot(chat[:200], offset=1), 0)
    joined = settling.offer(snapshot(chat[100:300], offset=2), 1)
    assert isinstance(joined, Joined.Added)
    assert joined.work.may_be_read


def test_a_retelling_of_a_history_that_ended_is_a_duplicate(settling, snapshot):
    settling.add(snapshot(["hola"], offset=1), 0)
    settling.add(snapshot(["otra cosa"], offset=2), 0, place=1)
    assert isinstance(settling.offer(snapshot(["hola", "Claro"], offset=3), 1), Joined.Duplicate)


def test_what_the_state_has_is_no_new_work(settling, snapshot):
    settling.add(snapshot(["otra cosa"], offset=2), 0)
    assert isinstance(settling.offer(snapshot(["hola"], offset=3), 1, is_known=True), Joined.Unknown)
    assert isinstance(settling.offer(snapshot(["hola"], offset=3), 1), Joined.Added)


def test_an_identity_that_comes_later_is_not_lost(settling, snapshot):
    settling.add(snapshot(["hola"], offset=1), 0)
    joined = settling.offer(snapshot(["hola"], offset=2, identity="u-1"), 1)
    assert isinstance(joined, Joined.Replaced)
    assert joined.work.snapshot.conversation.metadata.identity == "u-1"
    assert isinstance(settling.offer(snapshot(["hola"], offset=3), 2), Joined.Duplicate)


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
