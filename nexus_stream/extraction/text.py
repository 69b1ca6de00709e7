"""The user's turns, prepared for matching: plain, accents and case folded, positions kept, tampering blanked.

Every offline rule and grounding.py read these turns. Positions in ``UserTurn.folded`` and ``UserTurn.text`` are equal.
``UserTurn.span`` converts them to positions in the turn as received, and ``UserTurn.place`` converts them back.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nexus_stream.extraction.extractor import Turn
from nexus_stream.extraction.plain_text import plain
from nexus_stream.extraction.tampering import tampered_spans

__all__ = ["BLANK", "UserTurn", "clause_before", "fold", "last_match", "user_turns", "words_of"]

# Replaces each character of tampering: no rule matches across it.
BLANK = "\n"
# Letters of other alphabets that look like Latin ones: words written with them would hide from every pattern.
_LOOKALIKES = dict(zip("аеорсхуіјѕԁһАЕОРСХІКМТВНοαιρı", "aeopcxyijsdhaeopcxikmtbhoaipi", strict=True))
_PLAIN = {"‘": "'", "’": "'", "´": "'", "`": "'", "“": '"', "”": '"', "–": "-", "—": "-", "‑": "-", "−": "-"}
_WORD = re.compile(r"[a-z]+")


class _FoldTable(dict[int, str | int]):
    """Maps a code point to one folded character, computed at its first use."""

    def __missing__(self, code: int) -> str | int:
        folded = _fold_character(chr(code))
        self[code] = folded
        return folded


def _fold_character(character: str) -> str:
    if character in _PLAIN:
        return _PLAIN[character]
    if character in _LOOKALIKES:
        return _LOOKALIKES[character]
    bare = "".join(part for part in unicodedata.normalize("NFKD", character) if not unicodedata.combining(part)).lower()
    # One character for one, because otherwise positions would shift.
    return bare if len(bare) == 1 else character


_TABLE = _FoldTable({code: chr(code).lower() for code in range(128)})


def fold(text: str) -> str:
    """Lower the case and remove accents, width variants and typographic quotes; the length stays the same."""
    return text.translate(_TABLE)


def words_of(folded: str) -> list[str]:
    """The words of a folded text."""
    return _WORD.findall(folded)


@dataclass(frozen=True, slots=True)
class UserTurn:
    """One turn of the user.

    Attributes:
        index: Its position in the conversation.
        text: The content, plain (plain_text.py).
        folded: ``text``, folded, with tampering blanked. The rules match on it.
        asked: The assistant's turn before it, folded; empty if there is none.
        reply: The assistant's turn after it. It can confirm a reading, but it is never a source.
        echoed: The words of ``reply``.
        origins: Positions in the content as received, if they moved.
        tampered: The blanked spans, in order, as positions in ``text``.
    """

    index: int
    text: str
    folded: str
    asked: str = ""
    reply: str = ""
    echoed: frozenset[str] = frozenset()
    origins: tuple[int, ...] | None = None
    tampered: tuple[tuple[int, int], ...] = ()

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Convert positions in ``text`` to positions in the content as received."""
        if self.origins is None:
            return start, end
        return self.origins[start], self.origins[end]

    def place(self, start: int, end: int) -> tuple[int, int]:
        """Convert positions in the content as received to positions in ``text``."""
        if self.origins is None:
            return start, end
        return bisect_left(self.origins, start), bisect_left(self.origins, end)

    @property
    def shouted(self) -> bool:
        """Whether the whole turn is in capitals, so that a capital letter proves nothing."""
        return self.text.isupper()


def _blank(folded: str, spans: Iterable[tuple[int, int]]) -> str:
    pieces: list[str] = []
    copied = 0
    for start, end in spans:
        pieces += [folded[copied:start], BLANK * (end - start)]
        copied = end
    return "".join([*pieces, folded[copied:]])


def _joined(spans: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """The spans in order, with overlapping spans merged."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return tuple(joined)


def user_turns(turns: Sequence[Turn], *, first: int = 0) -> list[UserTurn]:
    """Prepare the user's turns, oldest first, each with the assistant's turns before and after it.

    Args:
        turns: The conversation.
        first: Skip turns before this index.
    """
    prepared: list[UserTurn] = []
    asked = ""
    for index, turn in enumerate(turns):
        if turn.role != "user":
            asked = fold(turn.content)
            continue
        if index < first:
            continue
        text, origins = plain(turn.content)
        folded = fold(text)
        answer = turns[index + 1] if index + 1 < len(turns) else None
        reply = answer.content if answer and answer.role != "user" else ""
        echoed = frozenset(words_of(fold(reply)))
        tampered = _joined(tampered_spans(folded))
        prepared.append(UserTurn(index, text, _blank(folded, tampered), asked, reply, echoed, origins, tampered))
    return prepared


def last_match(pattern: re.Pattern[str], folded: str) -> re.Match[str] | None:
    """Return the last match of a pattern."""
    return deque(pattern.finditer(folded), maxlen=1).pop() if pattern.search(folded) else None


_CLAUSE_END = re.compile(r"[.!?;\n](?=\s|$)|\n")


def clause_before(folded: str, position: int, *, limit_chars: int = 90) -> str:
    """The text before ``position`` in its sentence, at most ``limit_chars``."""
    window = folded[max(0, position - limit_chars) : position]
    last = 0
    for boundary in _CLAUSE_END.finditer(window):
        # Dots right before a dictated group of digits do not end a sentence.
        if boundary.end() < len(window.rstrip()):
            last = boundary.end()
    return window[last:]
