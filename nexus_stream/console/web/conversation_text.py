"""Mark the evidence in a conversation: cut each turn into pieces at the ends of the signals. Pure functions.

The signals' positions are in code points. Signals may overlap, lie outside the text or name a missing turn. Signals
without a valid position are ignored.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Piece", "ShownTurn", "shown_turns"]


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of text. ``signals`` names the signals for which it is evidence."""

    text: str
    signals: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ShownTurn:
    """One turn."""

    number: int
    role: str
    pieces: tuple[Piece, ...]

    @property
    def text(self) -> str:
        """The text of the turn."""
        return "".join(piece.text for piece in self.pieces)

    @property
    def evidence(self) -> tuple[Piece, ...]:
        """The pieces with at least one signal."""
        return tuple(piece for piece in self.pieces if piece.signals)


def shown_turns(messages: Sequence[tuple[str, str]], signals: Iterable[Mapping[str, Any]]) -> list[ShownTurn]:
    """Mark the evidence in (role, content) pairs."""
    by_turn: dict[int, list[tuple[int, int, str]]] = {}
    for signal in signals:
        turn, start, end = (signal.get(name) for name in ("turn", "start", "end"))
        if isinstance(turn, int) and isinstance(start, int) and isinstance(end, int) and 0 <= start < end:
            by_turn.setdefault(turn, []).append((start, end, str(signal.get("name", ""))))
    return [
        ShownTurn(number, role, _pieces(content, by_turn.get(number, []) if role == "user" else []))
        for number, (role, content) in enumerate(messages)
    ]


def _pieces(content: str, marks: list[tuple[int, int, str]]) -> tuple[Piece, ...]:
    cuts = sorted({0, len(content), *(min(place, len(content)) for mark in marks for place in mark[:2])})
    pieces = []
    for start, end in itertools.pairwise(cuts):
        names = tuple(dict.fromkeys(name for first, last, name in marks if first <= start and end <= last))
        pieces.append(Piece(content[start:end], names))
    return tuple(pieces) or (Piece("", ()),)
