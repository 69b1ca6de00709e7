"""Whether the user wrote a claimed name: side by side, spelled letter by letter, or over neighbouring turns.

Letters never come from inside other words, and words never from two people: a name that stands in two places needs a
correction, the word surname, or turns that say nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from nexus_stream.extraction.evidence.spoken import (
    Place,
    Written,
    announces_correction,
    corrects_to,
    short_turns,
    spelled_words,
    tokens_of,
)
from nexus_stream.extraction.rules.lexicon import COMMON_WORDS
from nexus_stream.extraction.rules.name_cues import ASKS_SURNAME, FILLER_SURNAME
from nexus_stream.extraction.rules.name_words import PARTICLES, is_plausible_name, proper_case
from nexus_stream.extraction.rules.ownership import RELATIONS
from nexus_stream.extraction.text import UserTurn, clause_before, fold, words_of

__all__ = ["key_words", "written_name"]

MAX_NAME_CHARS = 120
# Bounds on turns that give a surname or correct a name, and on places in one turn. More is an attack on CPU time.
_MAX_ADDED_TURNS = 8
_MAX_PLACES = 20

_WORD = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*")
_ADDRESS = re.compile(r"\S+@\S+")
# Between a first name and a surname in one sentence: "Ana, y mi apellido es Ruiz".
_SURNAME_WORDS = frozenset({"apellido", "apellidos", "sobrenome", "surname", "last"})
_BETWEEN = _SURNAME_WORDS | {"y", "e", "and", "mi", "meu", "my", "el", "o", "es", "is", "name", "de", "son", "primer"}
_OF_RELATIVE = re.compile(rf"\b(?:mis?|sus?|un|una|el|la|minha|meu|my|de|con) (?:[a-z]+ )?{RELATIONS}\b")
_ABBREVIATED_CHARS = 3


class _Word(NamedTuple):
    folded: str
    written: str
    start: int
    end: int


def key_words(name: str) -> list[str]:
    """The folded words of a name, without particles."""
    return [word for word in words_of(fold(name)) if word not in PARTICLES]


def written_name(claimed: str, turns: Sequence[UserTurn]) -> Written | None:
    """Find the name in the user's turns. Return it in the user's own spelling, with capitals; None if it is not there.

    A correction is read from the words alone. A model that says that there is one may lie.
    """
    if not claimed.strip() or len(claimed) > MAX_NAME_CHARS or not is_plausible_name(claimed):
        return None
    wanted = [match.group() for match in _WORD.finditer(fold(claimed))]
    short = short_turns(turns)
    known = {turn.index for turn in short}
    typed = [turn for turn in turns if turn.index in known or any(word in turn.folded for word in wanted)]
    readings = [(turn, words) for turn in typed for words in _words(turn, spelled=turn.index in known)]
    for find in (_side_by_side, _bare_pieces):
        found = list(find(wanted, readings))
        if found:
            return _best(claimed, found)
    added = [turn.index for turn in short if FILLER_SURNAME.search(turn.folded) or ASKS_SURNAME.search(turn.asked)]
    added = added[-_MAX_ADDED_TURNS:]
    found = list(_in_two_places(wanted, readings, added)) or list(_corrected(wanted, claimed, readings, short))
    return _best(claimed, found) if found else None


_Found = tuple[list[str], tuple[Place, ...]]  # the words as written
_Readings = Sequence[tuple[UserTurn, list[_Word]]]


def _best(claimed: str, found: Sequence[_Found]) -> Written:
    """The user's own spelling, accents included. If there are several, the extractor's."""
    same = [each for each in found if [word.lower() for word in each[0]] == _WORD.findall(claimed.lower())]
    words, places = (same or found)[0]
    # An abbreviation keeps its dot: "J.", "Ma.".
    dotted = [
        f"{word}." if len(word) <= _ABBREVIATED_CHARS and re.search(rf"\b{word}\.", claimed, re.IGNORECASE) else word
        for word in words
    ]
    return Written(proper_case(dotted), places)


def _words(turn: UserTurn, *, spelled: bool) -> Iterator[list[_Word]]:
    """The words of a turn. If asked for, a second reading puts spelled letters together."""
    folded = turn.folded
    if "@" in folded:
        # The words of an address are no given name.
        folded = _ADDRESS.sub(lambda match: " " * len(match.group()), folded)
    words = [
        _Word(match.group(), turn.text[match.start() : match.end()], *match.span()) for match in _WORD.finditer(folded)
    ]
    yield words
    if not spelled:
        return
    tokens = tokens_of(folded)
    letters_of = [
        _Word(letters, letters, tokens[first].start, tokens[end - 1].end)
        for letters, first, end in islice(spelled_words(tokens), _MAX_PLACES)
    ]
    if letters_of:
        plain = [word for word in words if not any(one.start < word.end and word.start < one.end for one in letters_of)]
        yield sorted([*plain, *letters_of], key=lambda word: word.start)


def _side_by_side(wanted: list[str], readings: _Readings) -> Iterator[_Found]:
    for turn, words in readings:
        starts = [at for at, word in enumerate(words) if word.folded == wanted[0]]
        for start in starts[:_MAX_PLACES] + starts[_MAX_PLACES:][-_MAX_PLACES:]:
            found = _follow(wanted, words, start)
            if found:
                yield [word.written for word in found], (Place(turn, found[0].start, found[-1].end),)


def _follow(wanted: list[str], words: list[_Word], start: int) -> list[_Word]:
    """The words of a name from a place on; only words about a surname may be between them."""
    found = [words[start]]
    at = start + 1
    for name in wanted[1:]:
        between: set[str] = set()
        while at < len(words) and words[at].folded != name and words[at].folded in _BETWEEN and len(between) < 8:
            between.add(words[at].folded)
            at += 1
        if at >= len(words) or words[at].folded != name or (between and not between & _SURNAME_WORDS):
            return []
        found.append(words[at])
        at += 1
    return found


def _bare_pieces(wanted: list[str], readings: _Readings) -> Iterator[_Found]:
    """A first name, and in a later turn that says nothing else the rest: "ferney", then "arias"."""
    for position, (turn, words) in enumerate(readings):
        said = [word for word in words if word.folded in wanted or word.folded not in COMMON_WORDS]
        rest = [word.folded for word in said]
        if not rest or len(rest) >= len(wanted) or rest != wanted[-len(rest) :] or len(words) > len(rest) + 2:
            continue
        begun = wanted[: -len(rest)]
        for earlier, before in reversed(readings[max(0, position - 6) : position]):
            if earlier is turn:
                continue
            for written, places in _side_by_side(begun, [(earlier, before)]):
                if not _OF_RELATIVE.search(clause_before(earlier.folded, places[0].start)):
                    pieces = [*written, *(word.written for word in said)]
                    yield pieces, (*places, Place(turn, said[0].start, said[-1].end))


def _in_two_places(wanted: list[str], readings: _Readings, added: Sequence[int]) -> Iterator[_Found]:
    """The name, if a turn that gives the surname has some words, and another turn the rest."""
    for added_turn, added_words in readings:
        if added_turn.index not in added:
            continue
        new = {word.folded: word.written for word in added_words}
        rest = {word for word in wanted if word not in new and word not in PARTICLES}
        if not rest or not any(word in new and word not in PARTICLES for word in wanted):
            continue
        for turn, words in readings:
            if turn is added_turn:
                continue
            starts = (at for at, word in enumerate(words) if word.folded in rest)
            for start in islice(starts, _MAX_PLACES):
                # The window has as many words as the name: a corrected word may be in the middle.
                near = words[start : start + len(wanted)]
                window = {word.folded: word.written for word in near}
                if rest <= window.keys():
                    written = [new.get(word, window.get(word, word)) for word in wanted]
                    yield written, (Place(turn, near[0].start, near[-1].end), _whole(added_turn))


def _corrected(wanted: list[str], claimed: str, readings: _Readings, short: Sequence[UserTurn]) -> Iterator[_Found]:
    """The name, if a later turn changes letters of one word of the name that was given: "Gonzales", "es con z"."""
    spelled = _WORD.findall(claimed)
    correcting = [turn for turn in short if announces_correction(turn)][-_MAX_ADDED_TURNS:]
    if not correcting:
        return
    tried = 0
    for turn, words in readings:
        for start in range(len(words) - len(wanted) + 1):
            near = words[start : start + len(wanted)]
            other = [at for at, word in enumerate(near) if word.folded != wanted[at]]
            if len(other) != 1:
                continue
            old, new = near[other[0]].folded, wanted[other[0]]
            # Cheap first: a letter or two differ, and the ends do not both.
            if abs(len(old) - len(new)) > 2 or (old[:2] != new[:2] and old[-2:] != new[-2:]):
                continue
            tried += 1
            if tried > _MAX_PLACES:
                return
            for later in correcting:
                if later.index > turn.index and corrects_to(old, new, later):
                    written = [spelled[at] if at in other else word.written for at, word in enumerate(near)]
                    yield written, (Place(turn, near[0].start, near[-1].end), _whole(later))


def _whole(turn: UserTurn) -> Place:
    return Place(turn, 0, len(turn.text))
