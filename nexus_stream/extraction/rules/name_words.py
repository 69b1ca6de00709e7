"""What a word is: part of a name, a particle, an everyday word; and how a name is written.

name_reading.py reads names with the help of this file.
"""

from __future__ import annotations

import re
import unicodedata

from nexus_stream.extraction.rules.lexicon import (
    BUSINESSES,
    COMMON_WORDS,
    GIVEN_NAMES,
    NOT_NAMES,
    OCCUPATIONS,
    SURNAMES,
    word_list,
)
from nexus_stream.extraction.text import fold

__all__ = [
    "NAMELESS",
    "PARTICLES",
    "TITLE_WORDS",
    "TOKEN",
    "has_any",
    "is_boundary",
    "is_diminutive",
    "is_everyday",
    "is_listed",
    "is_plausible_name",
    "looks_coined",
    "proper_case",
    "shouts",
]

TITLE_WORDS = word_list("name_titles")
PARTICLES = frozenset(
    {"de", "del", "la", "las", "los", "da", "das", "do", "dos", "di", "e", "von", "van", "der", "san", "santa", "y"}
    | {"della", "dello", "dalla", "degli", "den", "ter", "zu", "zum"}
)
TOKEN = re.compile(r"[a-z]+(?:['-][a-z]+)*")
_ROMAN = frozenset({"ii", "iii"})
_CONTRACTION = re.compile(r"(?:i|it|he|she|we|you|they|that|what|who|let|don|can|isn|name)'|[a-z]+'s$")
_LAUGHTER = re.compile(r"(?:[jh][aeiou]){2,}[jh]?|a(?:[jh]a){2,}[jh]?|(?:rs){2,}|k{2,}|x[dp]+")
_SPACE = re.compile(r"\s*")
# Endings of modern given names.
_COINED = re.compile(r"[a-z]{3}(?:[dlnr]ys?|eth|[lmr]yn|eidis?|leys?|elis|enis|yson)$")
_DIMINUTIVE = re.compile(r"(?<=[a-z]{3})(?:c?it[oa]|inh[oa]s?)$")
_PART = re.compile(r"[^\W\d_]+")
# What no name consists of. A model's name is checked without NOT_NAMES, because some of them are rare names ("Azul").
_EVERYDAY = COMMON_WORDS | OCCUPATIONS | BUSINESSES
NAMELESS = frozenset(word for word in _EVERYDAY | NOT_NAMES if len(word) > 1)


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
    if word == "i":
        # The Catalan "and" between surnames. An initial is typed with its capital.
        return word
    if len(word) == 1:
        return word.upper() + "."
    if word[0].isupper() and word[1].islower() and not word.endswith("."):
        return word
    return _PART.sub(lambda part: part.group()[0].upper() + part.group()[1:].lower(), word)


def shouts(text: str, position: int) -> bool:
    """Whether the words around ``position`` are in capitals, so that a capital letter proves nothing."""
    before = text[max(0, position - 40) : position]
    letters = sum(map(str.isalpha, before))
    if letters < 2:
        return text[position : position + 80].isupper()
    return 2 * sum(map(str.isupper, before)) > letters


def is_boundary(folded: str, position: int) -> bool:
    """Whether the phrase ends here: the end of the turn, a line break, a sign, an emoji or a digit follows."""
    match = _SPACE.match(folded, position)
    rest = match.end() if match else position
    return rest >= len(folded) or "\n" in folded[position:rest] or not folded[rest].isalpha()


def is_plausible_name(name: str) -> bool:
    """Whether a text can be a name: no digits, and not only everyday words."""
    words = [word for word in TOKEN.findall(fold(name)) if word not in PARTICLES]
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
    return word in NAMELESS or _LAUGHTER.fullmatch(word) is not None or ("'" in word and bool(_CONTRACTION.match(word)))


def looks_coined(word: str) -> bool:
    """Whether an unlisted folded word looks like a given name: ``yorleidys``, or a listed name's diminutive."""
    return _COINED.search(word) is not None or is_diminutive(word)


def is_diminutive(word: str) -> bool:
    """Whether a folded word is a small form of a listed given name: ``paolita``, ``juanito``, ``carlinhos``."""
    ending = _DIMINUTIVE.search(word)
    if ending is None:
        return False
    stem = word[: ending.start()]
    return any(stem + vowel in GIVEN_NAMES for vowel in ("a", "o", "", "e", "os"))


def has_any(folded: str, hints: tuple[str, ...]) -> bool:
    """Whether the text contains one of the hints: faster than a pattern that starts with any of them."""
    for hint in hints:  # noqa: SIM110
        if hint in folded:
            return True
    return False
