"""Cut what only grows: long turns and long histories. Pure, and a function of the turns alone.

So two snapshots of one chat still compare after a cut, and cutting again changes nothing. The user's turns matter
more than the assistant's, because only they hold facts about the person.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Annotated, NamedTuple, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Cut", "CutTurn", "Spoken", "cut_turns", "shortened"]

# Between the beginning and the end of a shortened turn, so that no two words or numbers join.
_GAP = "\n…\n"
# A shortened turn does not end within a word of at most this many characters, nor within a number.
_FIRST_WORD = re.compile(r"\S{0,100}(?=\s)")
_LAST_WORD = re.compile(r"(?<=\s)\S{0,100}\Z")
_NUMBER_CHARS = "0123456789 +-().\t"


class Spoken(Protocol):
    """A turn."""

    @property
    def role(self) -> str:
        """``user`` or ``assistant``."""

    @property
    def content(self) -> str:
        """The text."""


SpokenT = TypeVar("SpokenT", bound=Spoken)


class CutTurn(NamedTuple):
    """A turn that stays: its position before the cut, and its text."""

    position: int
    content: str


class Cut(BaseModel):
    """What was cut from a conversation, so that it fits the limits."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    turns: Annotated[int, Field(ge=0, le=2**53, description="turns that were dropped")] = 0
    characters: Annotated[int, Field(ge=0, le=2**53, description="characters dropped from turns that stayed")] = 0
    until: Annotated[
        int, Field(ge=0, le=2**53, description="turns may be missing right before each of the first ones, so many")
    ] = 0

    def __bool__(self) -> bool:
        return bool(self.turns or self.characters or self.until)

    def joined(self, later: Cut, kept: Sequence[CutTurn]) -> Cut:
        """This cut and a later one, which left ``kept`` of the turns that this one left."""
        return Cut(
            turns=self.turns + later.turns,
            characters=self.characters + later.characters,
            until=max(later.until, sum(turn.position < self.until for turn in kept)),
        )


def cut_turns(
    turns: Sequence[SpokenT],
    *,
    max_turns: int,
    max_chars: int,
    max_bytes: int | None = None,
    size_of: Callable[[SpokenT, str], int] = lambda turn, content: len(content),
) -> tuple[list[CutTurn], Cut]:
    """Make a conversation fit.

    1. A turn over ``max_chars`` is shortened.
    2. Over ``max_turns`` or ``max_bytes``: the oldest turns of the assistant are dropped, then the oldest of the user.
    3. If the last turn alone is over ``max_bytes``, it is shortened.

    Args:
        turns: In order.
        max_turns: Limit on turns.
        max_chars: Limit on the characters of a turn.
        max_bytes: Limit on the sum of ``size_of``; None: no limit.
        size_of: Bytes of a turn with this text. A character takes at most six.

    Returns:
        The turns that stay, and what was cut.
    """
    contents = [shortened(turn.role, turn.content, max_chars) for turn in turns]
    sizes = (
        None if max_bytes is None else [size_of(turn, content) for turn, content in zip(turns, contents, strict=True)]
    )
    dropped = _dropped(turns, sizes, max_turns, max_bytes)
    kept = [CutTurn(index, content) for index, content in enumerate(contents) if index not in dropped]
    if sizes is not None and max_bytes is not None and len(kept) == 1 and sizes[kept[0].position] > max_bytes:
        index, content = kept[0]
        room = max(1, (max_bytes - size_of(turns[index], "")) // 6)
        kept = [CutTurn(index, shortened(turns[index].role, content, room))]
    characters = sum(len(turns[index].content) - len(content) for index, content in kept)
    return kept, Cut(turns=len(dropped), characters=characters, until=_until(kept, dropped))


def shortened(role: str, content: str, max_chars: int) -> str:
    """A turn's text within the limit.

    An assistant's turn keeps its beginning: while an answer grows past the limit, it stays equal. A user's turn keeps
    its beginning and its end, because contact data often comes last.
    """
    if len(content) <= max_chars:
        return content
    if not content[:max_chars].strip():
        # Cut to its spaces, the turn would be blank.
        return shortened(role, content.strip(), max_chars)
    half = (max_chars - len(_GAP)) // 2
    if role != "user" or half < 1:
        return content[:max_chars]
    return _whole_end(content[:half]) + _GAP + _whole_start(content[len(content) - half :])


def _whole_end(text: str) -> str:
    """Without the word at its end, which may be half a word, and without half a number: that would be a wrong one."""
    word = _LAST_WORD.search(text)
    if word is None:
        return text.rstrip(_NUMBER_CHARS)
    before = text[: word.start()]
    return before if word[0].strip(_NUMBER_CHARS) else before.rstrip(_NUMBER_CHARS)


def _whole_start(text: str) -> str:
    word = _FIRST_WORD.match(text)
    if word is None:
        return text.lstrip(_NUMBER_CHARS)
    after = text[word.end() :]
    return after if word[0].strip(_NUMBER_CHARS) else after.lstrip(_NUMBER_CHARS)


def _dropped(turns: Sequence[Spoken], sizes: Sequence[int] | None, max_turns: int, max_bytes: int | None) -> set[int]:
    count, total = len(turns), sum(sizes or ())
    dropped: set[int] = set()
    if count <= max_turns and (max_bytes is None or total <= max_bytes):
        return dropped
    oldest_first = [index for index, turn in enumerate(turns) if turn.role != "user"]
    oldest_first += [index for index, turn in enumerate(turns) if turn.role == "user"]
    for index in oldest_first:
        if count <= max_turns and (max_bytes is None or total <= max_bytes):
            break
        if count == 1:
            break
        dropped.add(index)
        count -= 1
        total -= 0 if sizes is None else sizes[index]
    return dropped


def _until(kept: Sequence[CutTurn], dropped: set[int]) -> int:
    """The position behind the first kept turn that follows the newest dropped one."""
    newest = max(dropped, default=-1)
    return min(len(kept), sum(turn.position < newest for turn in kept) + 1) if dropped else 0
