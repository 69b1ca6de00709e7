"""Read dictated e-mail addresses: "ana punto lopez arroba example punto com", "ana (at) example (dot) com".

A word that may or may not belong to the address makes it unreadable: nothing is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

from nexus_stream.extraction.rules.letters import letter_of
from nexus_stream.extraction.rules.lexicon import COMMON_WORDS, word_list
from nexus_stream.extraction.rules.number_words import word_digits
from nexus_stream.extraction.text import UserTurn

__all__ = ["INTRODUCING", "MAIL", "STOPS", "dictated_addresses"]

# In one turn, as for typed addresses.
_MAX_ADDRESSES = 40
# "(at)" and "[punto]" become one sign in their first place, so that every position stays.
_BRACKETED = re.compile(r"[(\[{<]\s?(?P<at>at|arroba|a)?(?:dot|punto|ponto|d)?\s?[)\]}>]")
_AT_SIGN = "\ue000"
_AT_WORD = re.compile(
    rf"\b(?:arroba|aroba|arrova|arrroba)\b|{_AT_SIGN}"
    r"|\bat\b(?=\s{1,3}[a-z0-9-]{1,63}(?:\s{1,3}(?:dot|punto|ponto)\b|(?P<typed>\.[a-z])))"
)
# "we work at example.com" names a place. Before a domain typed in one piece, "at" means @ only after a word for mail.
MAIL = re.compile(r"\b(?:correo|e-?mail|mail)\b")
_DICTATED = re.compile(r"arroba|aroba|arrova|arrroba|\bat\b")
_TOKEN = re.compile(r"[a-z0-9]+(?:[._+-][a-z0-9]+)*|\S")
_JOINED = re.compile(
    r"\b(?:todo junto|tudo junto|junto|juntas|pegado|pegadito|seguido|sin espacios?|unido|de corrido|all together)\b"
)
# Said of the letters, not letters themselves: "todo en minúscula".
_CASES = frozenset(
    ["todo", "toda", "tudo", "en", "em", "con", "com", "minuscula", "minusculas", "minusculo", "letra", "letras"]
)
# A word before the address. Any other everyday word may be its first part.
INTRODUCING = word_list("introduce_addresses")
_JOINING = frozenset(
    ["todo", "tudo", "junto", "juntas", "pegado", "pegadito", "seguido", "unido", "together", "all", "corrido"]
)
STOPS = COMMON_WORDS | {
    "electronico",
    "electronica",
    "hotmail",
    "gmail",
    "correo",
    "arroba",
    "direccion",
    "apuntalo",
    "dicto",
    "junto",
    "pegado",
    "pegadito",
    "seguido",
    "unido",
    "together",
    "tudo",
    "meu",
    "minha",
    "endereco",
    "vamos",
    "anota",
    "anote",
}
_DOTS = frozenset({"punto", "ponto", "dot", "pto", "."})
_PAUSES = frozenset({",", "…", "-", ":"})
_GENERIC_TLDS = frozenset({"com", "org", "net", "info", "edu", "gov", "gob", "example", "io", "dev", "app"})


def dictated_addresses(turn: UserTurn) -> Iterator[tuple[str, int, int]]:
    """Yield every dictated address in a turn with its span; whether it is valid is not checked."""
    if not _DICTATED.search(turn.folded):
        return
    folded = _BRACKETED.sub(_sign, turn.folded) if _OPENING.search(turn.folded) else turn.folded
    joined = _JOINED.search(folded) is not None
    for at in islice(_AT_WORD.finditer(folded), _MAX_ADDRESSES):
        cued = MAIL.search(folded, max(0, at.start() - 60), at.start()) or MAIL.search(turn.asked)
        if at.group("typed") and not cued:
            continue
        local = _local_part(folded, at.start(), joined=joined)
        domain = _domain(folded, at.end())
        if local is None or domain is None:
            continue
        yield f"{local[0]}@{domain[0]}", local[1], domain[1]


_OPENING = re.compile(r"[(\[{<]")


def _sign(match: re.Match[str]) -> str:
    word = match.group().strip("()[]{}<> ")
    if word not in ("at", "arroba", "a", "dot", "punto", "ponto", "d"):
        return match.group()
    sign = _AT_SIGN if match.group("at") else "."
    return sign + " " * (len(match.group()) - 1)


_ENDS_SENTENCE = re.compile(r"\.\s")


def _domain(folded: str, start: int) -> tuple[str, int] | None:
    tokens = [(match.group(), match.end()) for match in _TOKEN.finditer(folded, start, min(len(folded), start + 120))]
    while tokens and tokens[0][0] in _PAUSES:
        tokens.pop(0)
    if not tokens or not tokens[0][0][0].isalnum():
        return None
    domain, end = tokens[0]
    position = 1
    while position + 1 < len(tokens):
        label = tokens[position + 1][0]
        if tokens[position][0] in ("guion", "-") and label.isalnum():
            domain += f"-{label}"
        elif tokens[position][0] in _DOTS and label[0].isalnum():
            last = domain.rpartition(".")[2]
            if "." in domain and last in _GENERIC_TLDS and len(label) != 2:
                break
            if "." in domain and _ENDS_SENTENCE.match(folded, end):
                break  # "example punto com. me llamo Ana"
            domain += f".{label}"
        else:
            break
        end = tokens[position + 1][1]
        position += 2
    # "example.com" typed in one piece after the word "arroba" is already complete.
    return (domain, end) if "." in domain else None


def _local_part(folded: str, at: int, *, joined: bool) -> tuple[str, int] | None:
    begin = max(0, at - 120)
    tokens = [(match.group(), match.start()) for match in _TOKEN.finditer(folded, begin, at)]
    while tokens and (tokens[-1][0] in _PAUSES | _CASES or (joined and tokens[-1][0] in _JOINING)):
        tokens.pop()
    pieces: list[str] = []
    start = at
    position = len(tokens) - 1
    linked = True
    while position >= 0:
        word = tokens[position][0]
        previous = tokens[position - 1][0] if position else ""
        if word in ("bajo", "baixo", "baja") and previous in ("guion", "raya", "linea", "traco", "hifen", "barra"):
            symbol, width = "_", 2
        elif word in ("underline", "sublinhado"):
            symbol, width = "_", 1
        elif word in ("underscore", "subguion") or (word == "baja" and previous == "barra"):
            symbol, width = "_", 1 + (word == "baja")
        elif word == "piso" and previous == "al":
            symbol, width = "_", 3
        elif word == "medio" and previous == "guion":
            symbol, width = "-", 2
        elif word in ("guion", "dash", "-", "hifen", "traco"):
            symbol, width = "-", 1
        elif word in _DOTS:
            symbol, width = ".", 1
        elif word == "_":
            symbol, width = "_", 1
        else:
            symbol, width = "", 0
        if symbol:
            if linked:
                return None
            pieces.append(symbol)
            linked = True
            position -= width
            continue
        if not word[0].isalnum():
            break
        number = _number_ending_at(tokens, position)
        letters = _letters_ending_at(tokens, position)
        if letters is not None:
            digits, width = letters
        elif number is not None:
            digits, width = number
        elif linked or joined or (pieces and pieces[-1][0].isdigit()):
            if word in STOPS and (not linked or not pieces):
                if pieces and not _introduces(tokens, position):
                    return None
                break
            digits, width = word, 1
        elif word in STOPS:
            if not _introduces(tokens, position):
                # "dulces la rosa arroba": the word may belong to the address.
                return None
            break
        elif len(word) == 1 and pieces and len(pieces[-1]) == 1:
            # Letters spelled one by one.
            digits, width = word, 1
        else:
            # Two plain words side by side: joined, dotted, or one of them not part of it? This is not guessed.
            return None
        pieces.append(digits)
        start = tokens[position - width + 1][1]
        linked = False
        position -= width
    if not pieces or linked:
        return None
    local = "".join(reversed(pieces))
    return (local.replace("-", "") if _SPELLED.fullmatch(local) else local), start


_MIN_SPELLED, _MAX_SPELLED = 3, 40
_SPELLED = re.compile(r"[a-z](?:-[a-z]){2,}")


def _introduces(tokens: list[tuple[str, int]], position: int) -> bool:
    """Whether a word stands before an address, and not in the middle of one: "ana lopez todo pegado 85 arroba"."""
    while position >= 0 and tokens[position][0] in _JOINING:
        position -= 1
    return position < 0 or tokens[position][0] in INTRODUCING or not tokens[position][0][0].isalnum()


def _letters_ending_at(tokens: list[tuple[str, int]], position: int) -> tuple[str, int] | None:
    """The letters spelled up to ``position``, at least three, and the number of their tokens."""
    letters: list[str] = []
    while position >= 0 and (letter := letter_of(tokens[position][0])) is not None and len(letters) < _MAX_SPELLED:
        letters.append(letter)
        position -= 1
    return ("".join(reversed(letters)), len(letters)) if len(letters) >= _MIN_SPELLED else None


def _number_ending_at(tokens: list[tuple[str, int]], position: int) -> tuple[str, int] | None:
    for width in (3, 2, 1):
        if position - width + 1 < 0:
            continue
        words = [word for word, _ in tokens[position - width + 1 : position + 1]]
        if words[0] in ("y", "e"):
            continue
        digits = word_digits(words)
        if digits is not None:
            return digits, width
    return None
