"""Word lists for names and occupations, folded, one word a line, under ``words/``.

They were written for this project. None was made from people's data.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from importlib.resources import files
from typing import Any

__all__ = [
    "BUSINESSES",
    "COMMON_WORDS",
    "FOREIGN_RELATIONS",
    "GIVEN_NAMES",
    "NOT_NAMES",
    "OCCUPATIONS",
    "PLACES",
    "SURNAMES",
    "any_of",
    "sounds_like_a_name",
    "start_of",
    "word_list",
]


def word_list(name: str) -> frozenset[str]:
    """Read the words of ``words/<name>.txt``."""
    return frozenset((files(__package__) / "words" / f"{name}.txt").read_text(encoding="utf-8").split())


def start_of(words: Iterable[str]) -> str:
    """A pattern for a word that begins like any of these: a tree of their letters, far faster than a list of them."""
    return rf"\b(?=[a-z]){_branches(_tree(words), whole=False)}"


def any_of(words: Iterable[str]) -> str:
    """A pattern for any of these words, the longest first."""
    return rf"\b(?=[a-z]){_branches(_tree(words), whole=True)}(?![a-z])"


def _tree(words: Iterable[str]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for word in words:
        node = tree
        for letter in word:
            node = node.setdefault(letter, {})
        node[""] = {}
    return tree


def _branches(node: dict[str, Any], *, whole: bool) -> str:
    if "" in node and (not whole or len(node) == 1):
        return ""
    branches = [
        re.escape(letter) + _branches(following, whole=whole) for letter, following in sorted(node.items()) if letter
    ]
    if "" in node:
        return f"(?:{'|'.join(branches)})?"
    return branches[0] if len(branches) == 1 else f"(?:{'|'.join(branches)})"


GIVEN_NAMES = word_list("given_names")
SURNAMES = word_list("surnames")
COMMON_WORDS = word_list("common_words")
# More everyday words (Spanish, Portuguese, English). Only the reading of names uses them.
NOT_NAMES = word_list("not_names")
OCCUPATIONS = word_list("occupations")
BUSINESSES = word_list("businesses")
PLACES = word_list("places")
# People beside the user, in Portuguese and English; ownership.py has them in Spanish.
FOREIGN_RELATIONS = (
    r"(?:mae|pai|irma|irmao|filh[oa]|namorad[oa]|cunhad[oa]|vizinh[oa]|chefe|sobrinh[oa]|brother|sister|mother|father|"
    r"mom|dad|son|daughter|wife|husband|uncle|aunt|cousin|friend|boss|neighbou?r)"
)


_SPELLINGS = (
    (re.compile(r"qu(?=[ei])|q|c(?=[^eihs]|$)|ck"), "k"),
    (re.compile(r"c(?=[ei])|z|x|sc(?=[ei])"), "s"),
    (re.compile(r"ll|y(?=[aeiou])"), "y"),
    (re.compile(r"(?<!^)y$|y(?=[^aeiou])"), "i"),
    (re.compile(r"g(?=[ei])|j"), "j"),
    (re.compile(r"v|w"), "b"),
    (re.compile(r"(?<!c)h"), ""),
    (re.compile(r"(.)\1"), r"\1"),
)


def _sound(word: str) -> str:
    for spelling, sound in _SPELLINGS:
        word = spelling.sub(sound, word)
    return word


_SOUNDS = frozenset(_sound(word) for word in GIVEN_NAMES | SURNAMES if len(word) > 3)


@lru_cache(maxsize=8192)
def sounds_like_a_name(word: str) -> bool:
    """Whether a word is a listed name in another spelling: ``mosqera``, ``gonsales``, ``yovani``."""
    return len(word) > 3 and _sound(word) in _SOUNDS
