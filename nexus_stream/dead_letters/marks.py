"""Compute the state of each letter from the records of the dead-letter topic.

Memory: 16 bytes and a set entry per letter, and more only for letters with a mark or with copies. Keys and values are
not kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from nexus_stream.dead_letters.letter import Action, Letter, Mark

__all__ = ["Histories", "History", "State"]


class State(StrEnum):
    """The state of a letter. The last mark decides."""

    OPEN = "open"
    REDRIVEN = "redriven"
    DISCARDED = "discarded"


_STATE_AFTER = {Action.REDRIVEN: State.REDRIVEN, Action.DISCARDED: State.DISCARDED}


@dataclass(frozen=True, slots=True)
class History:
    """The history of one letter.

    Attributes:
        state: See `State`.
        redriven: How often the letter was redriven.
        last_by: The operator of the last action. Empty if the letter is open.
        last_at: The time of the last action.
        copies: The number of copies in the topic. A worker that crashes may write a letter twice.
    """

    state: State = State.OPEN
    redriven: int = 0
    last_by: str = ""
    last_at: datetime | None = None
    copies: int = 1


class Histories:
    """Collect letters and marks in the order of their partition. A late copy of a letter may follow its mark."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()
        self._extra_copies: dict[bytes, int] = {}
        self._marked: dict[bytes, History] = {}
        # Records that are neither letters nor marks. Another program wrote them.
        self.foreign = 0

    def add(self, entry: Letter | Mark | None) -> None:
        """Add the next record."""
        match entry:
            case Letter(identity=identity) if identity in self._seen:
                self._extra_copies[identity] = self._extra_copies.get(identity, 0) + 1
            case Letter(identity=identity):
                self._seen.add(identity)
            case Mark(identity=identity, action=action):
                before = self._marked.get(identity, History())
                self._marked[identity] = History(
                    state=_STATE_AFTER[action],
                    redriven=before.redriven + (action is Action.REDRIVEN),
                    last_by=entry.by,
                    last_at=entry.at,
                )
            case None:
                self.foreign += 1

    def of(self, letter: Letter) -> History:
        """Return the history of a letter."""
        history = self._marked.get(letter.identity, History())
        copies = 1 + self._extra_copies.get(letter.identity, 0)
        return History(history.state, history.redriven, history.last_by, history.last_at, copies)
