"""Find a model's quotes in the user's turns.

The result is a span as in `Signal`, in code points of the original text. The search is exact first, then it ignores
NFKC differences, case and white space, because models tidy these up when they copy. It allows no other difference: a
quote that is in no user's turn is no evidence. Tampering (an instruction to the extractor, or pasted data, see
tampering.py) is no evidence either: a model that obeyed it would quote exactly that text.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from nexus_stream.extraction.extractor import Turn
from nexus_stream.extraction.plain_text import MAX_MARKS
from nexus_stream.extraction.text import UserTurn, user_turns

__all__ = ["Span", "UserWords"]

# Fewer digits are years, prices and house numbers.
_MIN_PHONE_DIGITS = 7
# Places of a turn that are tried. If all are inside a word or tampered text, the quote is no evidence.
_MAX_PLACES = 25
_SPACES = re.compile(r"\s+")


class Span(NamedTuple):
    """``turns[turn].content[start:end]``, counted in code points, end exclusive."""

    turn: int
    start: int
    end: int


class _Folded(NamedTuple):
    text: str
    starts: Sequence[int]  # for each folded character, the start of its original characters
    ends: Sequence[int]  # and their end


class UserWords:
    """The user's turns, in which quotes are searched. The assistant's turns are left out."""

    def __init__(self, turns: Sequence[Turn]) -> None:
        self._contents = {index: turn.content for index, turn in enumerate(turns) if turn.role == "user"}
        self._turns = {turn.index: turn for turn in user_turns(turns)}
        # Cached: an answer may have dozens of wrong quotes, and each would fold a conversation at the size limit again.
        self._folds: dict[int, _Folded] = {}

    def place(self, span: Span) -> tuple[UserTurn, int, int]:
        """Return the prepared turn of a span, and the span's start and end in it."""
        turn = self._turns[span.turn]
        return turn, *turn.place(span.start, span.end)

    def find_quote(self, quote: str, turn: int | None = None) -> Span | None:
        """Find the quote in the given turn or, if it is not there, in the newest turn that has it.

        A place inside a longer word ("Ana" in "mañana") does not count. A blank quote is never found.
        """
        exact = quote.strip()
        folded = _fold(exact).text.strip()
        if not folded:
            return None
        for index in self._newest_first(turn):
            found = self._exact_place(index, exact) or self._folded_place(index, folded)
            if found is not None:
                return Span(index, *found)
        return None

    def find_phone(self, phone: str) -> Span | None:
        """Find a number's digits in the newest turn that has them, with up to three separators between digits."""
        digits = re.sub(r"\D", "", unicodedata.normalize("NFKC", phone))
        if len(digits) < _MIN_PHONE_DIGITS:
            return None
        pattern = re.compile(r"(?<!\d)" + r"[\s().+-]{0,3}".join(digits) + r"(?!\d)", re.ASCII)
        for index in self._newest_first():
            for match in pattern.finditer(self._contents[index]):
                if not self._is_tampered(index, *match.span()):
                    return Span(index, *match.span())
        return None

    def _is_tampered(self, index: int, start: int, end: int) -> bool:
        turn = self._turns[index]
        if not turn.tampered:
            return False
        first, last = turn.place(start, end)
        # The spans are sorted and do not touch: only the last span that starts before the end can overlap.
        before = bisect_left(turn.tampered, (last, -1))
        return before > 0 and first < turn.tampered[before - 1][1]

    def _is_valid_place(self, index: int, start: int, end: int) -> bool:
        return not _cuts_word(self._contents[index], start, end) and not self._is_tampered(index, start, end)

    def _exact_place(self, index: int, quote: str) -> tuple[int, int] | None:
        for start in _occurrences(self._contents[index], quote):
            if self._is_valid_place(index, start, start + len(quote)):
                return start, start + len(quote)
        return None

    def _newest_first(self, first: int | None = None) -> Iterator[int]:
        if first in self._contents:
            yield first
        yield from (index for index in reversed(self._contents) if index != first)

    def _folded_place(self, index: int, needle: str) -> tuple[int, int] | None:
        content = self._contents[index]
        if index not in self._folds:
            self._folds[index] = _fold(content)
        folded = self._folds[index]
        for at in _occurrences(folded.text, needle):
            start, end = folded.starts[at], folded.ends[at + len(needle) - 1]
            if self._is_valid_place(index, start, end):
                return start, end
        return None


def _occurrences(text: str, part: str) -> Iterator[int]:
    at = text.find(part)
    for _ in range(_MAX_PLACES):
        if at < 0:
            return
        yield at
        at = text.find(part, at + 1)


def _cuts_word(text: str, start: int, end: int) -> bool:
    def joined(left: int) -> bool:
        return 0 < left < len(text) and text[left - 1].isalpha() and (text[left].isalpha() or _is_mark(text[left]))

    return joined(start) or joined(end)


@lru_cache(maxsize=4096)
def _is_mark(character: str) -> bool:
    return unicodedata.category(character) in ("Mn", "Mc")


def _clusters(text: str) -> Iterable[tuple[int, int]]:
    """Yield each character with its combining marks: NFKC may compose them to one character."""
    start = 0
    for index in range(1, len(text) + 1):
        if index == len(text) or index - start >= MAX_MARKS or not _is_mark(text[index]):
            yield start, index
            start = index


def _fold(text: str) -> _Folded:
    if text.isascii():
        return _fold_ascii(text)
    characters: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    for start, end in _clusters(text):
        cluster = text[start:end]
        for character in _fold_character(cluster) if end - start == 1 else _fold_cluster(cluster):
            if character == " " and characters and characters[-1] == " ":
                ends[-1] = end
                continue
            characters.append(character)
            starts.append(start)
            ends.append(end)
    return _Folded("".join(characters), starts, ends)


def _fold_ascii(text: str) -> _Folded:
    lower = text.lower()
    starts: list[int] = []
    ends: list[int] = []
    pieces: list[str] = []
    copied = 0
    for space in _SPACES.finditer(text):
        pieces += [lower[copied : space.start()], " "]
        starts += range(copied, space.start() + 1)
        ends += range(copied + 1, space.start() + 1)
        ends.append(space.end())
        copied = space.end()
    starts += range(copied, len(text))
    ends += range(copied + 1, len(text) + 1)
    return _Folded("".join([*pieces, lower[copied:]]), starts, ends)


def _fold_cluster(cluster: str) -> str:
    # Twice: casefolding can undo a composition.
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", cluster).casefold())
    # Format characters, such as zero-width joiners, are invisible and rarely copied. Any white space becomes one blank.
    return "".join(
        " " if character.isspace() else character for character in folded if unicodedata.category(character) != "Cf"
    )


_fold_character = lru_cache(maxsize=8192)(_fold_cluster)
