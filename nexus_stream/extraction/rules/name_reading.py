"""Read a person's name at a position of a user turn, word by word.

This file decides which words may be in a name (word lists, capitals, particles) and where the name ends. names.py
decides the positions where a name may be.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from nexus_stream.extraction.rules.lexicon import (
    COMMON_WORDS,
    GIVEN_NAMES,
    NOT_NAMES,
    OCCUPATIONS,
    PLACES,
    SURNAMES,
    sounds_like_a_name,
    word_list,
)
from nexus_stream.extraction.rules.name_words import (
    NAMELESS,
    PARTICLES,
    TITLE_WORDS,
    TOKEN,
    is_boundary,
    is_diminutive,
    is_everyday,
    is_listed,
    proper_case,
    shouts,
)
from nexus_stream.extraction.text import UserTurn, fold

__all__ = ["NameRun", "Trust", "read_name"]

MAX_WORDS = 9

_TITLES = re.compile(rf"(?:(?:{'|'.join(sorted(TITLE_WORDS))})\b\.? +)+")
_GAP = re.compile(r"[ \t]{1,3}")
# No place follows these particles, so an unlisted word that ends the phrase is a surname.
_SURNAME_PARTICLES = frozenset(
    {"das", "dos", "di", "von", "van", "der", "della", "dello", "dalla", "degli", "den", "ter", "zu", "zum"}
)
# Regions that are given names too: "del Cesar".
_REGIONS = frozenset({"cesar", "magdalena"})
# "J.", "J.P.", "M.ª" (folded: "m.a").
_INITIAL = re.compile(r"[a-z](?:\.[a-z](?![a-z]))*(\.?)(?![a-z'])")
# Letters spelled out: "m-a-r-i-a".
_DASHED = re.compile(r"[a-z](?:-[a-z])+")
# Written short before the rest of the name: "Ma. Fernanda", "Fco. Javier".
_SHORT = frozenset(
    {"ma", "fco", "fca", "gpe", "ant", "alf", "sta", "sto", "guad", "conc", "mtz", "hdez", "glez", "rdz"}
)
_SUFFIXES = frozenset({"jr", "filho", "ii", "iii", "sobrinho"})
# In lower case these letters are words more often than initials.
_LETTER_WORDS = frozenset("adeikoquxy")
# Words after "de" in a surname, besides the surnames of the list.
_AFTER_PARTICLE = word_list("surname_after_particle")
_ASKS_PLACE = re.compile(
    r"\b(?:ciudad|cidade|city|donde|onde|where|municipio|barrio|bairro|estado|state|departamento|pais|country|comuna|"
    r"distrito|colonia|localidad|provincia|region|sector|zona)\b"
)
# "del Valle de Aburrá" is no surname.
_PLACED_IN = re.compile(r" del? [a-z]")
# Endings of verbs, adjectives and trades. A name with such an ending is accepted only if the lists have it.
_WORDLIKE = re.compile(
    r"(?:cion|sion|mente|ando|iendo|endo|aria|iera|ieron|aron|amos|emos|imos|aba|aban|ado|ada|ido|ida|ista|logo|"
    r"loga|grafo|grafa|"
    r"dor|dora|able|ible|oso|osa|ivo|iva|eno|ense|ano|ana|ito|ita|ar|er|ir|cia|dad|aje|ero|era|ante|ente|isimo|"
    r"isima|stas|"
    r"mos|ic[oa]s?|[iae]os|ales|aste|iste|arme|erme|irme|arte|erlo|arlo|arla)$"
)


_VOWEL = re.compile(r"[aeiouy]")


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


def _first_word(turn: UserTurn, word: str, raw: str, trust: Trust, *, capital: bool, opens: bool) -> bool:
    if word in GIVEN_NAMES:
        return capital or word not in COMMON_WORDS or trust is Trust.TOLD
    if len(word) < 2 or not _VOWEL.search(word) or is_everyday(word) or word in PARTICLES - {"san", "santa"}:
        return False
    if _is_acronym(word, raw) and trust is not Trust.TOLD:
        return False
    if word in PLACES and word not in SURNAMES:
        return False
    if word in turn.echoed and (capital or trust is not Trust.PLACED):
        return True
    if capital:
        # At the start of a turn every word has a capital.
        if is_listed(word) or (trust is Trust.TOLD and not opens) or not _WORDLIKE.search(word) or len(raw) < 4:
            return True
        return is_diminutive(word)
    if trust is Trust.TOLD:
        known = is_listed(word) or is_diminutive(word) or sounds_like_a_name(word)
        return len(word) > 2 and (known or not _WORDLIKE.search(word))
    return False


def _is_acronym(word: str, raw: str) -> bool:
    return len(raw) < 5 and raw.isupper() and not is_listed(word)


def _next_word(
    turn: UserTurn, word: str, end: int, taken: int, trust: Trust, *, capital: bool, first_known: bool
) -> bool:
    listed = is_listed(word)
    raw = turn.text[end - len(word) : end]
    if not listed and not _VOWEL.search(word):
        return False
    if capital and _is_acronym(word, raw) and not turn.text[max(0, end - len(word) - 4) : end - len(word)].isupper():
        # "Ana DIAN", but "ANA RÚA": the word before has capitals too.
        return False
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
    if (
        word in PLACES
        and capital
        and trust is Trust.TOLD
        and not is_everyday(word)
        and not _ASKS_PLACE.search(turn.asked)
    ):
        return True
    if (
        capital
        and first_known
        and word in NOT_NAMES
        and not raw.isupper()
        and trust is not Trust.PLACED
        and is_boundary(turn.folded, end)
    ):
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


def _particle_group(
    turn: UserTurn, position: int, trust: Trust, *, shouting: bool, taken: int
) -> tuple[list[tuple[int, int]], int] | None:
    """Read a group like ``de la Hoz`` at ``position``: the spans of its words and its end; None without a surname."""
    spans: list[tuple[int, int]] = []
    last = ""
    while len(spans) < 3:
        match = TOKEN.match(turn.folded, position)
        if match is None:
            return None
        word = match.group()
        spans.append(match.span())
        if word not in PARTICLES:
            capital = turn.text[match.start()].isupper() and not shouting
            surname = word in SURNAMES or word in _AFTER_PARTICLE
            if last in ("de", "e", "y"):
                accepted = surname and (word not in PLACES or (word in ("leon", "lima", "cordoba") and capital))
                last_word = word not in GIVEN_NAMES and is_boundary(turn.folded, match.end())
                accepted = accepted and (last == "de" or capital or last_word)
                # "Rosângela de Fátima Vieira": a surname follows the second given name.
                accepted = accepted or (last == "de" and word in GIVEN_NAMES and _surname_follows(turn, match.end()))
            elif last in ("san", "santa"):
                accepted = word in GIVEN_NAMES or capital
            elif last == "del" and (
                word in _REGIONS or (word == "valle" and _PLACED_IN.match(turn.folded, match.end()))
            ):
                accepted = False
            else:
                accepted = surname or (
                    not is_everyday(word)
                    and word not in PLACES
                    and _VOWEL.search(word) is not None
                    and _unlisted_surname(turn, match.span(), last, trust, capital=capital, taken=taken)
                )
            return (spans, match.end()) if accepted else None
        last = word
        gap = _GAP.match(turn.folded, match.end())
        if gap is None:
            return None
        position = gap.end()
    return None


def _surname_follows(turn: UserTurn, end: int) -> bool:
    match = _FOLLOWS.match(turn.folded, end)
    return match is not None and (match.group(1) in SURNAMES or match.group(1) in ("da", "de", "del", "dos"))


def _unlisted_surname(
    turn: UserTurn, span: tuple[int, int], particle: str, trust: Trust, *, capital: bool, taken: int
) -> bool:
    """Whether an unlisted word after a particle is a surname: after "soy Ana Ruiz del" it is a place more often."""
    if capital and (trust is Trust.TOLD or taken < 2 or particle in _SURNAME_PARTICLES):
        return True
    if trust is not Trust.TOLD or span[1] - span[0] < 3:
        return False
    return _surname_follows(turn, span[1]) or (particle in _SURNAME_PARTICLES and is_boundary(turn.folded, span[1]))


def _catalan_surname(turn: UserTurn, end: int, *, capital: bool) -> tuple[int, int] | None:
    """The span of the surname after the Catalan "i" that ends at ``end``: ``Solé i Puig``; None if "i" is a word."""
    match = _FOLLOWS.match(turn.folded, end)
    if match is None or match.start(1) - end > 3:
        return None
    word = match.group(1)
    if capital and turn.text[match.start(1)].isupper():
        accepted = not is_everyday(word) or word in _AFTER_PARTICLE or is_boundary(turn.folded, match.end())
    else:
        accepted = word in SURNAMES and word not in GIVEN_NAMES and is_boundary(turn.folded, match.end())
    return match.span(1) if accepted else None


def read_name(turn: UserTurn, position: int, trust: Trust) -> NameRun | None:
    """Read the name that starts at ``position``, without titles; None if there is none."""
    folded, text = turn.folded, turn.text
    match = TOKEN.match(folded, position)
    if match is not None and match.group() in TITLE_WORDS:
        title = _TITLES.match(folded, position)
        position = title.end() if title is not None else position
        match = TOKEN.match(folded, position)
    if match is None or (match.group() in NAMELESS and match.group() not in GIVEN_NAMES):
        return None
    shouting = shouts(text, position)
    spans: list[tuple[int, int]] = []
    known = False
    while len(spans) < MAX_WORDS:
        match = TOKEN.match(folded, position)
        if match is None:
            break
        word, end = match.group(), match.end()
        if "-" in word and len(word) > 3 and _DASHED.fullmatch(word):
            break
        capital = text[match.start()].isupper() and not shouting
        short = None
        if len(word) == 1 or word in _SHORT or word in _SUFFIXES:
            short = _read_short(turn, position, word, first=not spans, capital=capital, told=trust is not Trust.PLACED)
        if short is not None:
            spans.append((position, short))
            end = short
        elif word == "i" and spans and text[position] == "i":
            surname = _catalan_surname(turn, end, capital=text[spans[-1][0]].isupper())
            if surname is None:
                break
            spans += [match.span(), surname]
            end = surname[1]
        elif spans and word in PARTICLES:
            group = _particle_group(turn, position, trust, shouting=shouting, taken=len(spans))
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
        ends = is_boundary(folded, match.end()) and (capital or _ends_turn(folded, match.end()))
        return match.end() if follows or ends else None
    return match.end() if follows and word not in _LETTER_WORDS else None


def _ends_turn(folded: str, position: int) -> bool:
    return not folded[position:].strip()


def _name_follows(turn: UserTurn, position: int) -> bool:
    match = _FOLLOWS.match(turn.folded, position)
    if match is None:
        return False
    word = match.group(1)
    return is_listed(word) or (turn.text[match.start(1)].isupper() and not is_everyday(word)) or word in ("del", "de")
