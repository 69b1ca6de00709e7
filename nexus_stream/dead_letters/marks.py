"""What became of each letter: the dead-letter topic, folded.

From: log.py, record by record. To: redriving.py and the list. Memory: 16 bytes and a set entry a letter,
more only for letters that were acted on or written twice; never a key or value.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from nexus_stream.dead_letters.letter import Action, Letter, Mark

__all__ = ["Histories", "History", "State"]


class State(StrEnum):
    """What stands at the end: the last mark decides."""

    OPEN = "open"
    REDRIVEN = "redriven"
    DISCARDED = "discarded"


_STATE_AFTER = {Action.REDRIVEN: State.REDRIVEN, Action.DISCARDED: State.DISCARDED}


@dataclass(frozen=True, slots=True)
class History:
    """One letter's past.

    Attributes:
        state: See `State`.
        redriven: How often it was sent back.
        last_by: Who acted last; empty while open.
        last_at: When.
        copies: How often it lies in the topic; a worker that crashed writes a letter twice.
    """

    state: State = State.OPEN
    redriven: int = 0
    last_by: str = ""
    last_at: datetime | None = None
    copies: int = 1


class Histories:
    """Folds letters and marks in the order of their partition; a mark may precede a late copy of its letter."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()
        self._extra_copies: dict[bytes, int] = {}
        self._marked: dict[bytes, History] = {}
        # Records that are neither: someone else writes to the topic.
        self.foreign = 0

    def add(self, entry: Letter | Mark | None) -> None:
        """Take the next record in."""
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
        """The past of a letter."""
        history = self._marked.get(letter.identity, History())
        copies = 1 + self._extra_copies.get(letter.identity, 0)
        return History(history.state, history.redriven, history.last_by, history.last_at, copies)
