"""Read numbers as people write or dictate them: digits, and Spanish (some English) number words.

``read_numbers`` finds runs of numbers in a folded text. A comma, a line break or a word such as "y" splits a run into
parts, because two numbers may be side by side.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

__all__ = ["NumberPart", "NumberRun", "has_number_words", "read_numbers", "word_digits"]

_UNITS = {
    "cero": 0,
    "uno": 1,
    "una": 1,
    "dos": 2,
    "tres": 3,
    "cuatro": 4,
    "cinco": 5,
    "seis": 6,
    "siete": 7,
    "ocho": 8,
    "nueve": 9,
}
_TEENS = {
    "diez": 10,
    "once": 11,
    "doce": 12,
    "trece": 13,
    "catorce": 14,
    "quince": 15,
    "dieciseis": 16,
    "diecisiete": 17,
    "dieciocho": 18,
    "diecinueve": 19,
    "veinte": 20,
    "veintiuno": 21,
    "veintidos": 22,
    "veintitres": 23,
    "veinticuatro": 24,
    "veinticinco": 25,
    "veintiseis": 26,
    "veintisiete": 27,
    "veintiocho": 28,
    "veintinueve": 29,
}
_TENS = {
    "treinta": 30,
    "cuarenta": 40,
    "cincuenta": 50,
    "sesenta": 60,
    "setenta": 70,
    "ochenta": 80,
    "noventa": 90,
}
_HUNDREDS = {
    "cien": 100,
    "ciento": 100,
    "doscientos": 200,
    "trescientos": 300,
    "cuatrocientos": 400,
    "quinientos": 500,
    "seiscientos": 600,
    "setecientos": 700,
    "ochocientos": 800,
    "novecientos": 900,
}
_ENGLISH = {
    "zero": 0,
    "oh": 0,
    "one": 1,
    "two": 2,
    "three": 3,
    "four": 4,
    "five": 5,
    "six": 6,
    "seven": 7,
    "eight": 8,
    "nine": 9,
}
_REPEATS = {"doble": 2, "double": 2, "triple": 3}
_VALUES = {**_UNITS, **_TEENS, **_TENS, **_HUNDREDS, **_ENGLISH}

_ANY = re.compile(rf"\b(?:{'|'.join(_VALUES)})\b")
_TOKEN = re.compile(r"\+|\d+|[a-z]+|[^\sa-z\d+]+")
# Separators between the groups of one number.
_SOFT = frozenset(".-()…·*_ ")
_CUTS = frozenset(",;/|:")
_LINKS = frozenset({"luego", "despues", "espacio", "guion", "punto", "raya"})
_CUT_WORDS = frozenset({"y", "o", "u", "e"})
_MAX_PARTS = 14


@dataclass(slots=True)
class NumberPart:
    """Digits without a cut, and their span."""

    digits: str
    start: int
    end: int
    slash: bool = False


@dataclass(slots=True)
class NumberRun:
    """Consecutive parts with only separators between them."""

    plus: bool
    start: int
    parts: list[NumberPart] = field(default_factory=list)


def has_number_words(folded: str) -> bool:
    """Whether the text has a number word."""
    return _ANY.search(folded) is not None


def word_digits(words: list[str]) -> str | None:
    """Convert number words to digits, ``["noventa", "y", "dos"]`` -> ``92``; None if there is any other word."""
    digits = ""
    position = 0
    while position < len(words):
        taken = _compound(words, position)
        if taken is None:
            if words[position].isdigit():
                digits += words[position]
                position += 1
                continue
            return None
        value, count = taken
        digits += value
        position += count
    return digits or None


def _compound(words: list[str], position: int) -> tuple[str, int] | None:
    """Read one spoken number at ``position``: its digits and its number of words."""
    word = words[position]
    following = words[position + 1] if position + 1 < len(words) else ""
    if word in _REPEATS:
        value = _VALUES.get(following)
        if following.isdigit() and len(following) == 1:
            return following * _REPEATS[word], 2
        return (str(value) * _REPEATS[word], 2) if value is not None and value < 10 else None
    if word not in _VALUES:
        return None
    value, count = _VALUES[word], 1
    if word in _HUNDREDS and (following in _TENS or following in _TEENS or (following in _UNITS and word == "ciento")):
        rest = _compound(words, position + 1)
        if rest is not None and len(rest[0]) <= 2:
            return str(value + int(rest[0])), count + rest[1]
    if word in _TENS and following == "y" and position + 2 < len(words) and 0 < _UNITS.get(words[position + 2], 0) < 10:
        return str(value + _UNITS[words[position + 2]]), 3
    return str(value), count


def read_numbers(folded: str) -> list[NumberRun]:
    """Find every run of digits and number words, in order."""
    tokens = [(match.group(), match.start(), match.end()) for match in _TOKEN.finditer(folded)]
    words = [token[0] for token in tokens]
    runs: list[NumberRun] = []
    run: NumberRun | None = None
    part: NumberPart | None = None
    plus_at: int | None = None
    position = 0
    while position < len(tokens):
        word, start, end = tokens[position]
        if run is not None and part is not None and "\n" in folded[part.end : start]:
            part = None
        taken = _compound(words, position) if word.isalpha() else None
        if word.isdigit() or taken is not None:
            value, count = taken or (word, 1)
            last_end = tokens[position + count - 1][2]
            if word.isdigit() and (
                (start and (folded[start - 1].isalpha() or folded[start - 1] in "_@#$"))
                or (end < len(folded) and folded[end].isalpha() and folded[end] != "x")
            ):
                run = part = plus_at = None
                position += 1
                continue
            if run is None or plus_at is not None or len(run.parts) >= _MAX_PARTS:
                run = NumberRun(plus_at is not None, plus_at if plus_at is not None else start)
                runs.append(run)
                part = None
            if part is None:
                part = NumberPart(value, start, last_end)
                run.parts.append(part)
            else:
                part.digits += value
                part.end = last_end
            plus_at = None
            position += count
            continue
        if word == "+" or (word in ("mas", "plus") and position + 1 < len(tokens) and words[position + 1] in _VALUES):
            plus_at = start
            run = part = None
        elif run is not None and len(word) <= 6 and set(word) <= _SOFT | _CUTS:
            if set(word) & _CUTS:
                if part is not None and "/" in word:
                    part.slash = True
                part = None
        elif run is not None and word in _CUT_WORDS:
            part = None
        elif run is None or word not in _LINKS:
            if plus_at is not None and set(word) <= _SOFT:
                position += 1
                continue
            run = part = plus_at = None
        position += 1
    return runs
