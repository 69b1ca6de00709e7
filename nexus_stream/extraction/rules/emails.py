"""Find the user's own e-mail address, typed or dictated ("arroba", "punto").

Nothing is repaired: a comma instead of a dot, a missing @ or a second @ makes it invalid, and invalid addresses are
ignored. Width variants of letters and signs count as the plain ones (NFKC).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from email_validator import EmailNotValidError, validate_email

from nexus_stream.extraction.rules.lexicon import COMMON_WORDS, GIVEN_NAMES, SURNAMES
from nexus_stream.extraction.rules.number_words import word_digits
from nexus_stream.extraction.rules.ownership import corrects, is_foreign, is_given_up, is_secondary
from nexus_stream.extraction.text import UserTurn

__all__ = ["Email", "addresses_in", "find_email", "normalise_email"]

_LOCAL = frozenset("abcdefghijklmnopqrstuvwxyz0123456789._%+'&-")
# In one turn. A turn with more is an attack on CPU time or a pasted list, and does not give the user's own address.
_MAX_ADDRESSES = 40
_RIGHT = re.compile(r"[a-z0-9.-]{1,255}")
_TLD_AFTER_COMMA = re.compile(r", ?(?:com|co|net|org|es|mx|ar|cl|pe|ec|uy|edu|gov|gob|info|io|example)\b")
_AT_WORD = re.compile(
    r"\b(?:arroba|aroba|arrova)\b|[(\[]\s*(?:arroba|at)\s*[)\]]"
    r"|\bat\b(?=\s{1,3}[a-z0-9-]{1,63}(?:\s{1,3}(?:dot|punto)\b|(?P<typed>\.[a-z])))"
)
# "we work at example.com" names a place. Before a domain typed in one piece, "at" means @ only after a word for mail.
_MAIL = re.compile(r"\b(?:correo|e-?mail|mail)\b")
_DICTATED = re.compile(r"arroba|aroba|arrova|\bat\b")
_TOKEN = re.compile(r"[a-z0-9]+(?:[._+-][a-z0-9]+)*|\S")
_IS_CUE = re.compile(r"(?:\bes|:) (?P<words>[a-z]+(?: [a-z]+)?) $")
_MAIL_CUE = re.compile(r"\b(?:correo|e-?mail|mail) (?P<words>[a-z]+(?: [a-z]+)?) $")
_JOINED = re.compile(r"\b(?:todo junto|junto|pegado|pegadito|seguido|sin espacios?|unido|de corrido|all together)\b")
_STOPS = COMMON_WORDS | {
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
}
_DOTS = frozenset({"punto", "dot", "pto", "."})
_PAUSES = frozenset({",", "…", "-", ":"})
_GENERIC_TLDS = frozenset({"com", "org", "net", "info", "edu", "gov", "gob", "example", "io", "dev", "app"})


@dataclass(frozen=True, slots=True)
class Email:
    """An address of the user, and its position."""

    address: str
    turn: UserTurn
    start: int
    end: int
    correction: bool = False
    secondary: bool = False


def normalise_email(address: str) -> str | None:
    """Return a valid address in lower case, else None. Only the syntax is checked, without DNS."""
    try:
        plain = unicodedata.normalize("NFKC", address)
        checked = validate_email(plain.strip().lower(), check_deliverability=False)
    except EmailNotValidError:
        return None
    top_level = checked.ascii_domain.rpartition(".")[2]
    return checked.normalized.lower() if len(top_level) >= 2 and not top_level.isdigit() else None


def addresses_in(turn: UserTurn) -> Iterator[tuple[str, int, int]]:
    """Yield every valid address in a turn with its span, typed or dictated."""
    if "@" in turn.folded:
        yield from _typed(turn)
    if _DICTATED.search(turn.folded):
        yield from _dictated(turn.folded)


def _typed(turn: UserTurn) -> Iterator[tuple[str, int, int]]:
    folded = turn.folded
    at = folded.find("@")
    for _ in range(_MAX_ADDRESSES):
        if at < 0:
            return
        start = at
        while start > max(0, at - 64) and folded[start - 1] in _LOCAL:
            start -= 1
        right = _RIGHT.match(folded, at + 1)
        if start < at and right is not None:
            while start < at and folded[start] in "'.-&":
                start += 1
            end = at + 1 + len(right.group().rstrip(".-"))
            if not _is_cut_off(folded, start, end) and not _is_split(folded, start):
                address = normalise_email(turn.text[start:end])
                if address is not None:
                    yield address, start, end
        at = folded.find("@", at + 1)


def _is_split(folded: str, start: int) -> bool:
    """Whether part of the address is separated by a space: ``mi correo es ana maria@…``."""
    before = folded[max(0, start - 60) : start]
    for cue in (_IS_CUE, _MAIL_CUE):
        match = cue.search(before)
        if match is None:
            continue
        words = match.group("words").split()
        named = all(word in GIVEN_NAMES or word in SURNAMES for word in words)
        if not any(word in _STOPS for word in words) and (named or cue is _IS_CUE):
            return True
    return False


def _is_cut_off(folded: str, start: int, end: int) -> bool:
    """Whether the text continues past the valid part of the address: the valid part would be a guess."""
    before = folded[start - 1] if start else " "
    if before in "@_" or before.isalnum() or (before in ",;" and start > 1 and folded[start - 2].isalnum()):
        return True
    after = folded[end] if end < len(folded) else " "
    return after in "@_" or after.isalnum() or bool(_TLD_AFTER_COMMA.match(folded, end))


def _dictated(folded: str) -> Iterator[tuple[str, int, int]]:
    joined = _JOINED.search(folded) is not None
    for at in islice(_AT_WORD.finditer(folded), _MAX_ADDRESSES):
        if at.group("typed") and not _MAIL.search(folded, max(0, at.start() - 60), at.start()):
            continue
        local = _local_part(folded, at.start(), joined=joined)
        domain = _domain(folded, at.end())
        if local is None or domain is None:
            continue
        address = normalise_email(f"{local[0]}@{domain[0]}")
        if address is not None:
            yield address, local[1], domain[1]


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
    while tokens and tokens[-1][0] in _PAUSES:
        tokens.pop()
    pieces: list[str] = []
    start = at
    position = len(tokens) - 1
    linked = True
    while position >= 0:
        word = tokens[position][0]
        previous = tokens[position - 1][0] if position else ""
        if word == "bajo" and previous in ("guion", "raya", "linea"):
            symbol, width = "_", 2
        elif word in ("underscore", "subguion") or (word == "baja" and previous == "barra"):
            symbol, width = "_", 1 + (word == "baja")
        elif word == "piso" and previous == "al":
            symbol, width = "_", 3
        elif word == "medio" and previous == "guion":
            symbol, width = "-", 2
        elif word in ("guion", "dash", "-"):
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
        if number is not None:
            digits, width = number
        elif linked or joined or (pieces and pieces[-1][0].isdigit()):
            if word in _STOPS and (not linked or not pieces):
                break
            digits, width = word, 1
        elif word in _STOPS:
            break
        else:
            # Two plain words side by side: joined, dotted, or one of them not part of it? This is not guessed.
            return None
        pieces.append(digits)
        start = tokens[position - width + 1][1]
        linked = False
        position -= width
    if not pieces or linked:
        return None
    return "".join(reversed(pieces)), start


def _number_ending_at(tokens: list[tuple[str, int]], position: int) -> tuple[str, int] | None:
    for width in (3, 2, 1):
        if position - width + 1 < 0:
            continue
        words = [word for word, _ in tokens[position - width + 1 : position + 1]]
        if words[0] == "y":
            continue
        digits = word_digits(words)
        if digits is not None:
            return digits, width
    return None


def find_email(turns: Sequence[UserTurn]) -> Email | None:
    """Find the address for contacting the user; ``correction`` is set if it replaced another one."""
    best: Email | None = None
    replaced = False
    for turn in turns:
        previous_end = 0
        for address, start, end in addresses_in(turn):
            corrected = corrects(turn.folded, start, previous_end)
            secondary = is_secondary(turn.folded, start, end, previous_end)
            previous_end = end
            if is_foreign(turn, start, end) or is_given_up(turn.folded, start, end):
                continue
            email = Email(address, turn, start, end, corrected, secondary)
            if best is None:
                best = email
            elif address != best.address and _wins(email, best):
                best, replaced = email, corrected
    return replace(best, correction=replaced) if best is not None else None


def _wins(email: Email, best: Email) -> bool:
    if email.correction and not email.secondary:
        return True
    if email.secondary != best.secondary:
        return best.secondary
    return email.turn.index > best.turn.index
