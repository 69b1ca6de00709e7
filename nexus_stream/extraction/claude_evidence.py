"""Find the words a model quotes in what the user wrote.

From: a quote and the turns. To: the span as a `Signal` holds it, in code points of the original text. First exactly,
then with NFKC, case and white space made equal: models tidy these up when they copy. Nothing else is forgiven, since a
quote that does not stand in a user's turn is no evidence. Nor is one from text that means to instruct the extractor or
is pasted data (tampering.py): a model that obeyed it would quote just that.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from nexus_stream.extraction.extractor import Turn
from nexus_stream.extraction.tampering import tampered_spans
from nexus_stream.extraction.text import fold, user_turns

__all__ = ["Span", "UserWords"]

# Shorter digits are years, prices and house numbers.
_MIN_PHONE_DIGITS = 7


class Span(NamedTuple):
    """``turns[turn].content[start:end]``, counted in code points, end exclusive."""

    turn: int
    start: int
    end: int


class _Folded(NamedTuple):
    text: str
    starts: list[int]  # for each folded character, where what it came from starts
    ends: list[int]  # and ends


class UserWords:
    """What the user wrote, to look quotes up in; the assistant's turns are not there to be found."""

    def __init__(self, turns: Sequence[Turn]) -> None:
        self._contents = {index: turn.content for index, turn in enumerate(turns) if turn.role == "user"}
        self._tampered = {
            turn.index: [turn.span(start, end) for start, end in tampered_spans(fold(turn.text))]
            for turn in user_turns(turns)
        }
        # Kept, because an answer may hold dozens of quotes that a conversation at the size limit does not.
        self._folds: dict[int, _Folded] = {}

    def find_quote(self, quote: str, turn: int | None = None) -> Span | None:
        """Where the quote stands: in the turn it names or, if the number is wrong, in the newest that has it.

        A place inside a longer word ("Ana" in "mañana") is passed over; a blank quote stands nowhere.
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
        """Where a number's digits stand in the newest turn that has them, whatever separates them there."""
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
        return any(start < last and first < end for first, last in self._tampered[index])

    def _stands(self, index: int, start: int, end: int) -> bool:
        return not _cuts_word(self._contents[index], start, end) and not self._is_tampered(index, start, end)

    def _exact_place(self, index: int, quote: str) -> tuple[int, int] | None:
        for start in _occurrences(self._contents[index], quote):
            if self._stands(index, start, start + len(quote)):
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
            if self._stands(index, start, end):
                return start, end
        return None


def _occurrences(text: str, part: str) -> Iterator[int]:
    at = text.find(part)
    while at >= 0:
        yield at
        at = text.find(part, at + 1)


def _cuts_word(text: str, start: int, end: int) -> bool:
    def joined(left: int) -> bool:
        return 0 < left < len(text) and text[left - 1].isalpha() and (text[left].isalpha() or _is_mark(text[left]))

    return joined(start) or joined(end)


def _is_mark(character: str) -> bool:
    return unicodedata.category(character) in ("Mn", "Mc")


def _clusters(text: str) -> Iterable[tuple[int, int]]:
    """A character and the combining marks after it belong together: NFKC may make them one."""
    start = 0
    for index in range(1, len(text) + 1):
        if index == len(text) or not _is_mark(text[index]):
            yield start, index
            start = index


def _fold(text: str) -> _Folded:
    characters: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    for start, end in _clusters(text) if text else ():
        # Twice: casefolding can undo a composition.
        folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text[start:end]).casefold())
        for character in folded:
            if unicodedata.category(character) == "Cf":
                continue  # zero-width joiners and the like: invisible, and rarely copied
            if character.isspace():
                if characters and characters[-1] == " ":
                    ends[-1] = end
                    continue
                character = " "  # noqa: PLW2901 - every white space is one blank
            characters.append(character)
            starts.append(start)
            ends.append(end)
    return _Folded("".join(characters), starts, ends)
