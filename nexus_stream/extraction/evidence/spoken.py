"""What a user's words spell: dictated signs and numbers, letters one by one, and corrections of a few letters.

written_email.py, written_phone.py and written_name.py compare a claimed value with these readings. They read
``UserTurn.folded``, so accents, case, markup and tampering are gone already.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Final, NamedTuple

from nexus_stream.extraction.rules.letters import SPOKEN, letter_of
from nexus_stream.extraction.rules.lexicon import COMMON_WORDS, FOREIGN_RELATIONS
from nexus_stream.extraction.rules.number_words import word_digits
from nexus_stream.extraction.rules.ownership import RELATIONS
from nexus_stream.extraction.text import UserTurn

__all__ = [
    "AT_WORDS",
    "DOT_WORDS",
    "Place",
    "Token",
    "Written",
    "announces_correction",
    "corrects_to",
    "is_of_another",
    "spelled_words",
    "spells",
    "tokens_of",
    "unchanged",
]


class Token(NamedTuple):
    """A word, a number, a sign or a line break of a folded text, and its place."""

    text: str
    start: int
    end: int


class Place(NamedTuple):
    """``turn.text[start:end]``."""

    turn: UserTurn
    start: int
    end: int


class Written(NamedTuple):
    """A value as it is stored, and the places in the user's turns where it stands."""

    value: str
    places: tuple[Place, ...]


AT_WORDS: Final = frozenset({"arroba", "aroba", "arrova", "at"})
DOT_WORDS: Final = frozenset({"punto", "ponto", "pto", "dot"})
_Names = Mapping[tuple[str, ...], str]
_SIGNS: Final[_Names] = {
    **dict.fromkeys((("guion", "bajo"), ("raya", "baja"), ("barra", "baja"), ("linea", "baja")), "_"),
    **dict.fromkeys((("raya", "al", "piso"), ("underscore",), ("underline",), ("subguion",), ("sublinhado",)), "_"),
    **dict.fromkeys((("guion",), ("guion", "medio"), ("dash",), ("hyphen",), ("hifen",), ("traco",), ("raya",)), "-"),
    **{(word,): "." for word in DOT_WORDS},
    ("mas",): "+",
    ("mais",): "+",
    ("plus",): "+",
}
# Names of two words; those of one word are asked of `letter_of`.
_LETTERS: Final[_Names] = {tuple(name.split()): letter for name, letter in SPOKEN.items() if " " in name} | {
    ("double", "u"): "w"
}
_TOKEN = re.compile(r"[a-z]+|\d+|\n|[^\s\w]|[^\Wa-z\d]+")
# Read as nothing inside a dictated address.
_PAUSES: Final = frozenset(
    {",", "…", "(", ")", "[", "]", "<", ">", "todo", "tudo", "junto", "pegado", "pegadito", "seguido", "unido", "con"}
    | {"minuscula", "minusculas", "minusculo", "en", "em", "sin", "sem", "espacio", "espacios", "corrido"}
)
_JOINED = re.compile(
    r"\b(?:juntos?|junt[oa]s|pegad\w+|seguido|sin espacios?|sem espacos?|unido|de corrido|all together|one word)\b"
)
_MIN_SPELLED = 3
_MAX_SPELLED = 30
_SEPARATORS: Final = frozenset({"-", ".", ",", "_", "·", "–"})

_CORRECTS = re.compile(
    r"\b(?:con|(?<!\.)com|sin|sem|no|nao|not|perdon\w*|perdao|disculp\w*|desculp\w*|corrij\w*|corrig\w*|corregi\w*|"
    r"correc\w*|corret\w*|correct\w*|equivo\w*|error|erre|erro|errei|errad\w*|mal|termina\w*|ultim\w*|final|lleva|leva|"
    r"falt\w*|sobr[ao]\w*|sorry|with|without|actually|instead|ends?|last|quise decir|digo|mejor dicho|en realidad)\b"
)
_MINE = r"correo|e-?mail|mail|direccion|nombre|nome|name|apellido|sobrenome|surname|numer\w*|cel\w*|tel\w*|whats\w*|zap"
_OF_ANOTHER = re.compile(
    rf"\b(?:de|del|da|do|of) (?:la |el |a |o )?(?:mis?|sus?|minhas?|meus?|my|his|her|nuestr\w+|tu|seu|sua) (?!{_MINE})"
    rf"|\b(?:mis?|su|minha|meu|my) (?:{RELATIONS}|{FOREIGN_RELATIONS})\b|\b(?:dele|dela|de (?:el|ella))\b"
)
_WITHOUT = re.compile(r"\b(?:sin|sem|sobra\w*|quit\w*|no lleva|nao leva|sola|without|tir[ae]\w*|borr\w*)\b")
_BEFORE_LETTER: Final = frozenset(
    {
        "con",
        "com",
        "with",
        "lleva",
        "leva",
        "letra",
        "en",
        "por",
        "una",
        "uma",
        "la",
        "a",
        "doble",
        "es",
        "e",
        "sin",
        "sem",
    }
    | {"without", "no", "nao", "not"}
)
_DENIES: Final = frozenset({"no", "nao", "not"})
_MAX_CHANGE = 4
_SHORT_CHARS, _MAX_SHORT_TURNS = 2_000, 30
_SIMILAR = 0.6


def short_turns(turns: Sequence[UserTurn]) -> list[UserTurn]:
    """The newest turns that may spell, halve or correct a value: people do that in a few words.

    The bounds keep a body at the size limit from blocking every other session.
    """
    return [turn for turn in turns if len(turn.folded) <= _SHORT_CHARS][-_MAX_SHORT_TURNS:]


def tokens_of(folded: str, start: int = 0, end: int | None = None) -> list[Token]:
    """The tokens of a folded text between two positions."""
    stop = len(folded) if end is None else end
    return [Token(match.group(), *match.span()) for match in _TOKEN.finditer(folded, start, stop)]


def _named(words: Sequence[Token], names: _Names, at: int) -> Iterator[tuple[str, int]]:
    for width in range(min(3, len(words) - at), 0, -1):
        found = names.get(tuple(word.text for word in words[at : at + width]))
        if found is not None:
            yield found, width


def _letter(tokens: Sequence[Token], at: int) -> tuple[str, int] | None:
    """The letter that is spelled here, and its number of tokens."""
    for letter, width in _named(tokens, _LETTERS, at):
        return letter, width
    named = letter_of(tokens[at].text)
    return (named, 1) if named is not None else None


def spelled_words(tokens: Sequence[Token]) -> list[tuple[str, int, int]]:
    """Words spelled letter by letter, each with its first token and the token after it: ``W-O-J-C-I-K``, ``be erre a``.

    Letters right beside a number are a plate or a code.
    """
    words: list[tuple[str, int, int]] = []
    at = 0
    while at < len(tokens):
        letters, first, position = "", at, at
        while position < len(tokens) and len(letters) < _MAX_SPELLED:
            if letters and tokens[position].text in _SEPARATORS:
                position += 1
                continue
            letter = _letter(tokens, position)
            if letter is None:
                break
            letters += letter[0]
            position += letter[1]
        while position > first and tokens[position - 1].text in _SEPARATORS:
            position -= 1
        around = [tokens[index].text for index in (first - 1, position) if 0 <= index < len(tokens)]
        if len(letters) >= _MIN_SPELLED and not any(text.isdigit() for text in around):
            words.append((letters, first, position))
        at = max(position, at + 1)
    return words


def spells(tokens: Sequence[Token], value: str, *, joined: bool = False) -> bool:
    """Whether all tokens together, typed or dictated, read as ``value``; pauses read as nothing.

    Args:
        tokens: At most a few dozen tokens.
        value: Folded letters, digits and signs.
        joined: Whether plain words side by side may be one word.
    """
    spelled = {index for _, first, end in spelled_words(tokens) for index in range(first, end)}
    # For each token, the lengths of ``value`` that the tokens before it can read as.
    reached: list[set[int]] = [set() for _ in range(len(tokens) + 1)]
    reached[0].add(0)
    for at, token in enumerate(tokens):
        if not reached[at]:
            continue
        readings = list(_named(tokens, _SIGNS, at))
        beside = at > 0 and token.text.isalpha() and tokens[at - 1].text.isalpha()
        glued = at > 0 and tokens[at - 1].end == token.start
        plain_before = beside and (tokens[at - 1].text,) not in _SIGNS
        if token.text in _PAUSES:
            readings.append(("", 1))
        if at in spelled:
            readings += [letter for letter in [_letter(tokens, at)] if letter is not None]
        elif token.text != "\n" and (joined or glued or not plain_before or tokens[at - 1].text in _PAUSES):
            readings.append((token.text, 1))
        for width in (3, 2, 1):
            words = [word.text for word in tokens[at : at + width]]
            if len(words) == width and words[0] != "y" and (digits := word_digits(words)) is not None:
                readings.append((digits, width))
        for text, width in readings:
            reached[at + width] |= {length + len(text) for length in reached[at] if value.startswith(text, length)}
    return len(value) in reached[len(tokens)]


def says_joined(folded: str) -> bool:
    """Whether the user says that the words are written as one."""
    return _JOINED.search(folded) is not None


def is_of_another(folded: str) -> bool:
    """Whether the text speaks of another person's data: "el apellido de mi cuñada es con z"."""
    return _OF_ANOTHER.search(folded) is not None


def announces_correction(turn: UserTurn, start: int = 0) -> bool:
    """Whether a turn, from ``start`` on, may correct the user's own data: not "el correo de mi jefe es con z"."""
    return _CORRECTS.search(turn.folded, start) is not None and not is_of_another(turn.folded)


def _chunk(text: str, start: int, end: int) -> str:
    """The letters and digits around a place."""
    while start > 0 and text[start - 1].isalnum():
        start -= 1
    while end < len(text) and text[end].isalnum():
        end += 1
    return text[start:end]


def unchanged(old: str, new: str) -> tuple[int, int]:
    """How many characters two values share at the start, and how many of the rest at the end."""
    shortest = min(len(old), len(new))
    start = next((at for at in range(shortest) if old[at] != new[at]), shortest)
    shortest -= start
    return start, next((at for at in range(shortest) if old[-1 - at] != new[-1 - at]), shortest)


def corrects_to(old: str, new: str, turn: UserTurn, after: int = 0) -> bool:
    """Whether a turn changes ``old`` to ``new``: "es con z", "es .org", "sin punto", "González, no Gonzales".

    Args:
        old: The value as given before, folded.
        new: The claimed value, folded. It may differ in one place.
        turn: The turn with the correction.
        after: Where the correction may begin: after the value as given before, if the turn has it too.
    """
    if old == new or not announces_correction(turn, after):
        return False
    start, tail = unchanged(old, new)
    was, now = old[start : len(old) - tail], new[start : len(new) - tail]
    chunk_was, chunk_now = _chunk(old, start, len(old) - tail), _chunk(new, start, len(new) - tail)
    tokens = tokens_of(turn.folded, after)
    for at, token in enumerate(tokens):
        before = tokens[at - 1].text if at else ""
        # "No es con s": what is denied is not the new value.
        if not _DENIES.isdisjoint(each.text for each in tokens[max(0, at - 2) : at]):
            continue
        if token.text == chunk_now and len(chunk_now) > 1 and (chunk_was + chunk_now).isalnum():
            is_ending = (before in DOT_WORDS or before == ".") and new.endswith(f".{chunk_now}")
            if is_ending or SequenceMatcher(None, chunk_was, chunk_now, autojunk=False).ratio() >= _SIMILAR:
                return True
        said = [text for text, _ in _named(tokens, _SIGNS, at)]
        letter = _letter(tokens, at)
        is_word = len(token.text) > 1 and token.text in COMMON_WORDS
        if letter is not None and before in _BEFORE_LETTER and not is_word:
            said += [letter[0], *([letter[0] * 2] if before == "doble" else [])]
        digits = word_digits([token.text])
        if digits is not None:
            said.append(digits)
        if len(was) <= _MAX_CHANGE and (now in said if now else was in said and _WITHOUT.search(turn.folded)):
            return True
    return False
