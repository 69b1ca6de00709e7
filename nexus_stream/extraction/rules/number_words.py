"""Read numbers as people write or dictate them: digits, and number words in Spanish, Portuguese and English.

``read_numbers`` finds runs of numbers in a folded text. A comma, a line break or a word such as "y" splits a run into
parts, because two numbers may be side by side. Each part has two readings: "trescientos cinco" is 300 5 when digits are
dictated in groups, and 305 when the words are one number. The caller takes the reading that is a valid phone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from nexus_stream.extraction.rules.lexicon import any_of

__all__ = ["NUMBER_WORD", "NumberPart", "NumberRun", "has_number_words", "has_numbers", "read_numbers", "word_digits"]


def _numbered(first: int, words: str, step: int = 1) -> dict[str, int]:
    """Number the words in order; words of one value are joined with a slash."""
    return {word: first + position * step for position, group in enumerate(words.split()) for word in group.split("/")}


_UNITS: Mapping[str, int] = (
    _numbered(0, "cero uno/una dos tres cuatro cinco seis siete ocho nueve")
    | _numbered(0, "zero um/uma dois/duas tres quatro cinco seis/meia sete oito nove")
    | _numbered(0, "zero/oh one two three four five six seven eight nine")
)
_TEENS: Mapping[str, int] = (
    _numbered(
        10, "diez once doce trece catorce quince dieciseis diecisiete dieciocho diecinueve veinte veintiuno/veintiun"
    )
    | _numbered(22, "veintidos veintitres veinticuatro veinticinco veintiseis veintisiete veintiocho veintinueve")
    | _numbered(
        10, "dez onze doze treze quatorze quinze dezesseis/dezasseis dezessete/dezassete dezoito dezenove/dezanove"
    )
    | _numbered(10, "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen")
)
_TENS: Mapping[str, int] = (
    _numbered(30, "treinta cuarenta cincuenta sesenta setenta ochenta noventa", 10)
    | _numbered(20, "vinte trinta quarenta cinquenta sessenta setenta oitenta noventa", 10)
    | _numbered(20, "twenty thirty forty fifty sixty seventy eighty ninety", 10)
)
_HUNDREDS: Mapping[str, int] = (
    _numbered(100, "cien/ciento doscientos trescientos cuatrocientos quinientos", 100)
    | _numbered(600, "seiscientos setecientos ochocientos novecientos", 100)
    | _numbered(100, "cem/cento duzentos trezentos quatrocentos quinhentos", 100)
    | _numbered(600, "seiscentos setecentos oitocentos novecentos", 100)
)
# "ciento dos" is one number even when digits are dictated: nobody says "ciento" alone.
_NEVER_ALONE = frozenset({"ciento", "cento"})
_REPEATS = {"doble": 2, "double": 2, "dobro": 2, "duplo": 2, "triple": 3, "triplo": 3}
_HUNDRED = frozenset({"cientos", "centos", "hundred"})
_PLURALS: Mapping[str, int] = {f"{word}s": value for word, value in _UNITS.items() if not word.endswith("s")} | {
    "unos": 1,
    "doses": 2,
    "treses": 3,
    "seises": 6,
    "sixes": 6,
}
_VALUES = {**_UNITS, **_TEENS, **_TENS, **_HUNDREDS}

# A spoken number, as a part of other patterns.
NUMBER_WORD = rf"(?:{'|'.join(sorted((*_VALUES, *_REPEATS), key=len, reverse=True))})"
_DIGIT = re.compile(r"\d")
_SPOKEN = re.compile(any_of(_VALUES))
# A letter O among digits is a zero: "3OO 555 O1O2".
_TOKEN = re.compile(r"\+|(?<![a-z])o*\d[\do]*(?![a-z])|\d+|[a-z]+|[^\sa-z\d+]+")
# Separators between the groups of one number.
_SOFT = frozenset(".-()…·•*_~ '\"|")
_CUTS = frozenset(",;/|:")
_LINKS = frozenset(
    {
        "luego",
        "despues",
        "depois",
        "espacio",
        "espaco",
        "guion",
        "hifen",
        "traco",
        "punto",
        "ponto",
        "raya",
        "then",
        "dash",
    }
)
_CUT_WORDS = frozenset({"y", "o", "u", "e"})
_AND = frozenset({"y", "e"})
_MAX_PARTS = 14
# A word that may touch the number: "cel3005550102".
_TOUCHING = re.compile(
    r"(?:cel(?:u(?:lar)?)?|tel(?:efono|efone|f)?|tlf|movil|fono|phone|cell|num(?:ero)?|nro|whats\w{0,4}|wsp|wpp|wap|zap|wa|"
    r"al|es|:)$"
)
_LONG = 9


@dataclass(slots=True)
class NumberPart:
    """Digits without a cut, and their span."""

    digits: str
    start: int
    end: int
    slash: bool = False
    # The other reading, in which number words side by side are one number.
    joined: str = ""
    # The pieces that are long enough to be a number by themselves: "2 3005550102", "3005550102 3015550103".
    whole: list[NumberPart] = field(default_factory=list)


@dataclass(slots=True)
class NumberRun:
    """Consecutive parts with only separators between them."""

    plus: bool
    start: int
    parts: list[NumberPart] = field(default_factory=list)


def has_numbers(folded: str) -> bool:
    """Whether the text has a digit or a number word."""
    return _DIGIT.search(folded) is not None or has_number_words(folded)


def has_number_words(folded: str) -> bool:
    """Whether the text has a number word."""
    return _SPOKEN.search(folded) is not None


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


def _compound(words: list[str], position: int, *, joins: bool = False) -> tuple[str, int] | None:
    """Read one spoken number at ``position``: its digits and its number of words.

    Args:
        words: All words and signs.
        position: Where the number starts.
        joins: Whether "trescientos cinco" and "treinta dos" are one number.
    """
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
    if following in _HUNDRED and 0 < value < 10:
        # "tres cientos", "three hundred"
        return str(value * 100), 2
    if following in _PLURALS and 1 < value <= 4:
        # "tres cincos"
        return str(_PLURALS[following]) * value, 2
    if word in _HUNDREDS:
        and_count = 1 if following in _AND and position + 2 < len(words) else 0
        next_word = words[position + 1 + and_count] if position + 1 + and_count < len(words) else ""
        small = _UNITS.get(next_word, 0) > 0
        if (next_word in _TENS or next_word in _TEENS) or (small and (word in _NEVER_ALONE or joins or and_count)):
            rest = _compound(words, position + 1 + and_count, joins=joins)
            if rest is not None and len(rest[0]) <= 2:
                return str(value + int(rest[0])), count + and_count + rest[1]
    if word in _TENS:
        gap = 1 if following in _AND or following == "-" else 0
        unit = _UNITS.get(words[position + 1 + gap], 0) if position + 1 + gap < len(words) else 0
        if unit > 0 and (gap or joins or word.endswith("ty")):
            return str(value + unit), 2 + gap
    return str(value), count


def read_numbers(folded: str) -> list[NumberRun]:
    """Find every run of digits and number words, in order."""
    tokens = [(_with_zeros(match.group()), match.start(), match.end()) for match in _TOKEN.finditer(folded)]
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
            joined, joined_count = (taken and _compound(words, position, joins=True)) or (value, count)
            if joined_count > count:
                # The longer reading has the same words as several short ones: both readings take them all.
                value, count = _in_groups(words, position, joined_count), joined_count
            last_end = tokens[position + count - 1][2]
            if word.isdigit() and _belongs_to_a_word(folded, start, end):
                run = part = plus_at = None
                position += 1
                continue
            if run is None or plus_at is not None or len(run.parts) >= _MAX_PARTS:
                run = NumberRun(plus_at is not None, plus_at if plus_at is not None else start)
                runs.append(run)
                part = None
            if part is None:
                part = NumberPart(value, start, last_end, joined=joined)
                run.parts.append(part)
            else:
                part.digits += value
                part.joined += joined
                part.end = last_end
            if len(value) >= _LONG and word.isdigit():
                part.whole.append(NumberPart(value, start, last_end, joined=value))
            plus_at = None
            position += count
            continue
        if word == "+" or (
            word in ("mas", "mais", "plus") and position + 1 < len(tokens) and words[position + 1] in _VALUES
        ):
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


def _with_zeros(token: str) -> str:
    return token.replace("o", "0") if "o" in token and not token.isalpha() else token


def _in_groups(words: list[str], position: int, count: int) -> str:
    """The digits of words that are dictated one group after the other."""
    digits = ""
    end = position + count
    while position < end:
        taken = _compound(words, position)
        if taken is None:
            position += 1
            continue
        digits += taken[0]
        position += taken[1]
    return digits


def _belongs_to_a_word(folded: str, start: int, end: int) -> bool:
    """Whether letters or signs that touch the digits make them something else, such as a code or an amount."""
    before = folded[start - 1] if start else " "
    after = folded[end] if end < len(folded) else " "
    if before == "_" and start > 1 and folded[start - 2].isdigit():
        before = " "
    if before in "_@$" or (before == "#" and end - start >= _LONG):
        return True
    if before.isalpha():
        return after.isalpha() or not (end - start >= 3 and _TOUCHING.search(folded, max(0, start - 12), start))
    if after.isalpha() and after != "x":
        # "3005550102gracias": a long number before a word, not "5km" or "10am".
        return not (end - start >= _LONG and folded[end : end + 2].isalpha())
    return False
