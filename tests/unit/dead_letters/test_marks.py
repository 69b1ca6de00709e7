"""The state from letters and marks, in any order of their partition."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from nexus_stream.dead_letters.letter import Action, Letter, Mark
from nexus_stream.dead_letters.marks import Histories, State

MakeLetter = Callable[..., Letter]
AT = datetime(2026, 2, 1, 9, 30, tzinfo=UTC)


def fold(*entries: Letter | Mark | None) -> Histories:
    histories = Histories()
    for entry in entries:
        histories.add(entry)
    return histories


def mark(letter: Letter, action: Action, by: str = "ana") -> Mark:
    return Mark(letter.identity, action, by, AT)


def test_a_letter_without_a_mark_is_open(make_letter: MakeLetter):
    letter = make_letter()
    history = fold(letter).of(letter)
    assert (history.state, history.redriven, history.copies, history.last_at) == (State.OPEN, 0, 1, None)


def test_the_last_mark_decides_and_redrives_are_counted(make_letter: MakeLetter):
    letter = make_letter()
    marks = [mark(letter, Action.REDRIVEN), mark(letter, Action.REDRIVEN, "eva"), mark(letter, Action.DISCARDED, "leo")]
    assert fold(letter, *marks[:2]).of(letter).state is State.REDRIVEN
    history = fold(letter, *marks).of(letter)
    assert (history.state, history.redriven, history.last_by, history.last_at) == (State.DISCARDED, 2, "leo", AT)


def test_a_copy_written_after_the_mark_stays_redriven(make_letter: MakeLetter):
    """A worker that crashed between letter and commit writes the letter again, maybe after it was redriven."""
    letter, copy = make_letter(at=(0, 7)), make_letter(at=(0, 9))
    history = fold(letter, mark(letter, Action.REDRIVEN), copy).of(copy)
    assert (history.state, history.copies) == (State.REDRIVEN, 2)


def test_a_mark_does_not_change_other_letters(make_letter: MakeLetter):
    letter, other = make_letter(offset=1), make_letter(offset=2)
    histories = fold(letter, other, mark(letter, Action.REDRIVEN))
    assert histories.of(other).state is State.OPEN


def test_foreign_records_are_counted(make_letter: MakeLetter):
    assert fold(make_letter(), None, None).foreign == 2
