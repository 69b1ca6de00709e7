"""Read a person's name at a position of a user turn, word by word.

This file decides which words may be in a name (word lists, capitals, particles) and where the name ends. names.py
decides the positions where a name may be.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from enum import Enum

from nexus_stream.extraction.rules.lexicon import (
    BUSINESSES,
    COMMON_WORDS,
    GIVEN_NAMES,
    NOT_NAMES,
    OCCUPATIONS,
    PLACES,
    SURNAMES,
    sounds_like_a_name,
    word_list,
)
from nexus_stream.extraction.text import UserTurn, fold

__all__ = [
    "PARTICLES",
    "TITLE_WORDS",
    "NameRun",
    "Trust",
    "is_boundary",
    "is_everyday",
    "is_listed",
    "is_plausible_name",
    "proper_case",
    "read_name",
]

MAX_WORDS = 9

TITLE_WORDS = word_list("name_titles")
_TITLES = re.compile(rf"(?:(?:{'|'.join(sorted(TITLE_WORDS))})\b\.? +)+")
_TOKEN = re.compile(r"[a-z]+(?:['-][a-z]+)*")
_GAP = re.compile(r"[ \t]{1,3}")
PARTICLES = frozenset(
    {"de", "del", "la", "las", "los", "da", "das", "do", "dos", "di", "e", "von", "van", "der", "san", "santa", "y"}
)
# "J.", "J.P.", "M.ª" (folded: "m.a").
_INITIAL = re.compile(r"[a-z](?:\.[a-z](?![a-z]))*(\.?)(?![a-z'])")
# Written short before the rest of the name: "Ma. Fernanda", "Fco. Javier".
# Letters spelled out: "m-a-r-i-a".
_DASHED = re.compile(r"[a-z](?:-[a-z])+")
_SHORT = frozenset(
    {"ma", "fco", "fca", "gpe", "ant", "alf", "sta", "sto", "guad", "conc", "mtz", "hdez", "glez", "rdz"}
)
_SUFFIXES = frozenset({"jr", "filho", "ii", "iii", "sobrinho"})
_ROMAN = frozenset({"ii", "iii"})
# In lower case these letters are words more often than initials.
_LETTER_WORDS = frozenset("adeikoquxy")
# Words after "de" in a surname, besides the surnames of the list.
_AFTER_PARTICLE = word_list("surname_after_particle")
# Endings of verbs, adjectives and trades. A name with such an ending is accepted only if the lists have it.
_WORDLIKE = re.compile(
    r"(?:cion|sion|mente|ando|iendo|endo|aria|iera|ieron|aron|amos|emos|imos|aba|aban|ado|ada|ido|ida|ista|logo|"
    r"loga|grafo|grafa|"
    r"dor|dora|able|ible|oso|osa|ivo|iva|eno|ense|ano|ana|ito|ita|ar|er|ir|cia|dad|aje|ero|era|ante|ente|isimo|"
    r"isima|stas|"
    r"mos|ic[oa]s?|[iae]os|ales|aste|iste|arme|erme|irme|arte|erlo|arlo|arla)$"
)


_CONTRACTION = re.compile(r"(?:i|it|he|she|we|you|they|that|what|who|let|don|can|isn|name)'|[a-z]+'s$")
_SPACE = re.compile(r"\s*")
_VOWEL = re.compile(r"[aeiouy]")
_PART = re.compile(r"[^\W\d_]+")
# What no name consists of. A model's name is checked without NOT_NAMES, because some of them are rare names ("Azul").
_EVERYDAY = COMMON_WORDS | OCCUPATIONS | BUSINESSES
_NAMELESS = frozenset(word for word in _EVERYDAY | NOT_NAMES if len(word) > 1)


class Trust(Enum):
    """How strongly the position suggests a name."""

    TOLD = "told"  # "me llamo …", or the answer to the bot's question for the name
    SELF = "self"  # "soy …": a trade, a place or a state may follow as well
    PLACED = "placed"  # "… por acá": only words that look like a name by themselves


@dataclass(frozen=True, slots=True)
class NameRun:
    """A name as read: its words as typed, and their span."""

    words: tuple[str, ...]
    start: int
    end: int
    known: bool  # a word is in the lists, or the assistant repeats it, or it has a capital and the turn has lower case

    @property
    def folded(self) -> tuple[str, ...]:
        """The words, folded, without particles."""
        return tuple(word for word in (fold(word) for word in self.words) if word not in PARTICLES)

    @property
    def text(self) -> str:
        """The name as it is stored."""
        return proper_case(self.words)


def proper_case(words: tuple[str, ...] | list[str]) -> str:
    """Capitalise each word, lower the particles, and keep accents and mixed case (McKay) as typed.

    Wide letters become plain ones (NFKC): the name is the same. An initial gets its dot.
    """
    plain = (word if "ª" in word or "º" in word else unicodedata.normalize("NFKC", word) for word in words)
    return " ".join(_cased(word, first=position == 0) for position, word in enumerate(plain))


def _cased(word: str, *, first: bool) -> str:
    folded = fold(word)
    if not first and folded in PARTICLES - {"san", "santa"}:
        return word.lower()
    if folded in _ROMAN:
        return word.upper()
    if len(word) == 1:
        return word.upper() + "."
    if word[0].isupper() and word[1].islower() and not word.endswith("."):
        return word
    return _PART.sub(lambda part: part.group()[0].upper() + part.group()[1:].lower(), word)


def _shouts(text: str, position: int) -> bool:
    """Whether the words around ``position`` are in capitals, so that a capital letter proves nothing."""
    before = [character for character in text[max(0, position - 40) : position] if character.isalpha()]
    if len(before) < 2:
        return text[position : position + 80].isupper()
    return 2 * sum(map(str.isupper, before)) > len(before)


def is_boundary(folded: str, position: int) -> bool:
    """Whether the phrase ends here: the end of the turn, a line break, a sign, an emoji or a digit follows."""
    match = _SPACE.match(folded, position)
    rest = match.end() if match else position
    return rest >= len(folded) or "\n" in folded[position:rest] or not folded[rest].isalpha()


def is_plausible_name(name: str) -> bool:
    """Whether a text can be a name: no digits, and not only everyday words."""
    words = [word for word in _TOKEN.findall(fold(name)) if word not in PARTICLES]
    if not words or not any(len(word) > 1 for word in words) or any(character.isdigit() for character in name):
        return False
    if words[0] in GIVEN_NAMES:
        return True
    return not all(word in _EVERYDAY for word in words) and (words[0] not in _EVERYDAY or words[0] in SURNAMES)


def is_listed(word: str) -> bool:
    """Whether the lists of names have a folded word, or each part of a double one (``garcia-lopez``)."""
    if word in GIVEN_NAMES or word in SURNAMES:
        return True
    return "-" in word and all(part in GIVEN_NAMES or part in SURNAMES for part in word.split("-"))


def is_everyday(word: str) -> bool:
    """Whether a folded word is an everyday word, a trade or a kind of business."""
    return word in _NAMELESS or ("'" in word and _CONTRACTION.match(word) is not None)


def _first_word(turn: UserTurn, word: str, raw: str, trust: Trust, *, capital: bool, opens: bool) -> bool:
    if word in GIVEN_NAMES:
        return capital or word not in COMMON_WORDS or trust is Trust.TOLD
    if len(word) < 2 or not _VOWEL.search(word) or is_everyday(word) or word in PARTICLES - {"san", "santa"}:
        return False
    if word in PLACES and word not in SURNAMES:
        return False
    if word in turn.echoed and (capital or trust is not Trust.PLACED):
        return True
    if capital:
        # At the start of a turn every word has a capital.
        return is_listed(word) or (trust is Trust.TOLD and not opens) or not _WORDLIKE.search(word) or len(raw) < 4
    if trust is Trust.TOLD:
        return len(word) > 2 and (is_listed(word) or sounds_like_a_name(word) or not _WORDLIKE.search(word))
    return False


def _next_word(
    turn: UserTurn, word: str, end: int, taken: int, trust: Trust, *, capital: bool, first_known: bool
) -> bool:
    listed = is_listed(word)
    if listed and (capital or word not in COMMON_WORDS):
        # A listed name in lower case that is also an occupation counts only at the end of its phrase.
        return capital or word not in OCCUPATIONS or is_boundary(turn.folded, end)
    if (
        listed
        and word in SURNAMES
        and trust is Trust.TOLD
        and (is_boundary(turn.folded, end) or _name_follows(turn, end))
    ):
        return True
    if word in PLACES and capital and trust is Trust.TOLD and not is_everyday(word):
        return True
    if capital and first_known and word in NOT_NAMES and trust is not Trust.PLACED and is_boundary(turn.folded, end):
        # A surname may be an everyday word too: "Chayo Partida".
        return True
    if is_everyday(word) or word in PLACES or len(word) < 2:
        return False
    if capital or word in turn.echoed:
        return True
    if trust is Trust.PLACED or not (first_known or trust is Trust.TOLD) or len(word) < 3 or taken > 3:
        return False
    if trust is Trust.TOLD and first_known and is_boundary(turn.folded, end):
        return True
    return (sounds_like_a_name(word) or not _WORDLIKE.search(word)) and _ends_soon(
        turn.folded, end, more=2 if trust is Trust.TOLD else 0
    )


_FOLLOWS = re.compile(r"[ \t]{0,3}(?:[a-z][. \t][ \t]{0,2}){0,2}([a-z]+(?:['-][a-z]+)*)")
_STOP_NEXT = re.compile(r"\s*(?:[^a-z\s]|$|\n)|\s+([a-z]+)")


def _ends_soon(folded: str, end: int, *, more: int) -> bool:
    """Whether an unlisted lower-case word ends the name, or a surname, a particle or an everyday word follows.

    Up to ``more`` other unlisted words may stand between.
    """
    match = _STOP_NEXT.match(folded, end)
    if match is None or match.group(1) is None:
        return True
    return (
        len(match.group(1)) == 1
        or is_everyday(match.group(1))
        or match.group(1) in SURNAMES
        or sounds_like_a_name(match.group(1))
        or match.group(1) in PARTICLES
        or (more > 0 and not _WORDLIKE.search(match.group(1)) and _ends_soon(folded, match.end(), more=more - 1))
    )


def _particle_group(turn: UserTurn, position: int, *, shouts: bool) -> tuple[list[tuple[int, int]], int] | None:
    """Read a group like ``de la Hoz`` at ``position``: the spans of its words and its end; None without a surname."""
    spans: list[tuple[int, int]] = []
    last = ""
    while len(spans) < 3:
        match = _TOKEN.match(turn.folded, position)
        if match is None:
            return None
        word = match.group()
        spans.append(match.span())
        if word not in PARTICLES:
            capital = turn.text[match.start()].isupper() and not shouts
            surname = word in SURNAMES or word in _AFTER_PARTICLE
            if last in ("de", "e", "y"):
                accepted = surname and (word not in PLACES or (word in ("leon", "lima", "cordoba") and capital))
                last_word = word not in GIVEN_NAMES and is_boundary(turn.folded, match.end())
                accepted = accepted and (last == "de" or capital or last_word)
            elif last in ("san", "santa"):
                accepted = word in GIVEN_NAMES or capital
            else:
                accepted = surname or (capital and not is_everyday(word) and word not in PLACES)
            return (spans, match.end()) if accepted else None
        last = word
        gap = _GAP.match(turn.folded, match.end())
        if gap is None:
            return None
        position = gap.end()
    return None


def read_name(turn: UserTurn, position: int, trust: Trust) -> NameRun | None:
    """Read the name that starts at ``position``, without titles; None if there is none."""
    folded, text = turn.folded, turn.text
    match = _TOKEN.match(folded, position)
    if match is not None and match.group() in TITLE_WORDS:
        title = _TITLES.match(folded, position)
        position = title.end() if title is not None else position
        match = _TOKEN.match(folded, position)
    if match is None or (match.group() in _NAMELESS and match.group() not in GIVEN_NAMES):
        return None
    shouts = _shouts(text, position)
    spans: list[tuple[int, int]] = []
    known = False
    while len(spans) < MAX_WORDS:
        match = _TOKEN.match(folded, position)
        if match is None:
            break
        word, end = match.group(), match.end()
        if "-" in word and len(word) > 3 and _DASHED.fullmatch(word):
            break
        capital = text[match.start()].isupper() and not shouts
        short = None
        if len(word) == 1 or word in _SHORT or word in _SUFFIXES:
            short = _read_short(turn, position, word, first=not spans, capital=capital, told=trust is not Trust.PLACED)
        if short is not None:
            spans.append((position, short))
            end = short
        elif spans and word in PARTICLES:
            group = _particle_group(turn, position, shouts=shouts)
            if group is None:
                break
            spans += group[0]
            end = group[1]
        elif not spans:
            if not _first_word(turn, word, text[match.start() : end], trust, capital=capital, opens=position == 0):
                break
            known = capital or is_listed(word) or word in turn.echoed
            spans.append(match.span())
        elif _next_word(turn, word, end, len(spans), trust, capital=capital, first_known=known):
            known = known or capital or is_listed(word)
            spans.append(match.span())
        else:
            break
        gap = _GAP.match(folded, end)
        if gap is not None:
            position = gap.end()
        elif folded[end - 1] == "." and end < len(folded):
            position = end
        else:
            break
    words = tuple(text[start:end] for start, end in spans)
    # Initials, short forms and particles alone are no name.
    if not any(len(word) > 1 and not word.endswith(".") and fold(word) not in PARTICLES for word in words):
        return None
    return NameRun(words, spans[0][0], spans[-1][1], known)


def _read_short(turn: UserTurn, position: int, word: str, *, first: bool, capital: bool, told: bool) -> int | None:
    """Read an initial or a shortened name (``J.``, ``M.ª``, ``Ma.``, ``Jr.``) at ``position``: its end, or None."""
    folded = turn.folded
    if len(word) > 1:
        end = position + len(word)
        dotted = folded.startswith(".", end)
        if word in _SUFFIXES:
            return None if first or not (capital or dotted or is_boundary(folded, end)) else end + dotted
        marked = dotted or "ª" in turn.text[position:end] or "º" in turn.text[position:end]
        return end + dotted if (marked or capital) and _name_follows(turn, end + dotted) else None
    match = _INITIAL.match(folded, position)
    if match is None:
        return None
    dotted = match.group(1) != ""
    follows = _name_follows(turn, match.end())
    if first:
        return match.end() if (capital or dotted) and follows and told else None
    if capital or dotted:
        # A letter ends a name only with its own capital: "Rincón M.", not "Rincón y".
        return match.end() if follows or (capital and is_boundary(folded, match.end())) else None
    return match.end() if follows and word not in _LETTER_WORDS else None


def _name_follows(turn: UserTurn, position: int) -> bool:
    match = _FOLLOWS.match(turn.folded, position)
    if match is None:
        return False
    word = match.group(1)
    return is_listed(word) or (turn.text[match.start(1)].isupper() and not is_everyday(word)) or word in ("del", "de")
