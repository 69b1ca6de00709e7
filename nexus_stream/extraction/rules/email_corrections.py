"""Apply a correction of part of an address: "no es .com, es .org", "es con z", "sin el punto"."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import islice

from nexus_stream.extraction.rules.addresses import normalise_email
from nexus_stream.extraction.rules.letters import letter_of
from nexus_stream.extraction.rules.ownership import RELATIONS, is_foreign
from nexus_stream.extraction.text import UserTurn

__all__ = ["CorrectedAddress", "corrected_address", "is_about_address"]

_PART = r"[.@_-]?[a-z0-9][a-z0-9._-]{0,60}"
_NOT_BUT = re.compile(
    rf"\b(?=[a-z])(?:no|nao|not) (?:es|era|e|is|con|con el|en)?\s?\W{{0,2}}(?P<old>{_PART})\W{{1,4}}(?:(?:sino|es|"
    rf"e|pero|"
    rf"it'?s|y|con|mas)\b\W{{1,2}}){{1,2}}(?P<new>{_PART})"
)
_BUT_NOT = re.compile(
    rf"\b(?=[a-z])(?:es|e|is|con|com|termina en|termina com|it'?s)\W{{1,2}}(?P<new>{_PART})\W{{1,4}}(?:y )?(?:no|"
    rf"nao|not|"
    rf"en vez de|em vez de)\W{{1,2}}"
    rf"(?:(?:es|con|com|e) )?(?P<old>{_PART})"
)
_WITH_LETTER = re.compile(
    r"\b(?=[a-z])(?:es|va|se escribe|lleva|termina|e|escreve|it'?s)? ?(?:con|com|en|em|with)(?: la| a|"
    r" an?)? (?P<new>[a-z]{1,6})\b"
    r"(?: de [a-z]+)?(?P<last> al final| no final| at the end)?(?:\W{1,3}(?:y )?(?:no|nao|not)\W{1,2}(?:con |com |"
    r"with )?(?P<old>[a-z]{1,6})\b)?"
)
_SIGN = r"(?P<sign>punto|ponto|dot|guion bajo|underscore|guion|hifen|dash)"
_WITHOUT = re.compile(
    rf"\b(?:sin|sem|without|no lleva|nao tem|sobra|remove)(?: el| la| o| a| the| ningun| un)? {_SIGN}\b"
    rf"|\b{_SIGN.replace('sign', 'extra')} (?:de mas|de mais|extra|sobra)\b"
)
_WHICH = re.compile(r"\b(?:(?P<first>primer\w*|primeiro|first)|(?P<last>ultim\w*|segund\w*|last|second))\b")
_INSERTED = re.compile(
    r"\b(?=[a-z])(?:lleva|leva|va|vai|tiene|tem|has|falta|falto|faltou|missing|add|(?:con|com|with)(?= (?:un |el |"
    r"um |o |"
    r"a )?\d))\b(?: (?:un|una|um|uma|el|la|o|a|an|the))? "
    r"(?P<what>\d{1,4}|[a-z]|punto|ponto|dot|guion bajo|underscore|guion|hifen|dash) "
    r"(?:is )?(?:missing )?(?:right )?(?:(?P<where>despues|antes|depois|after|before)(?: de(?:l)?| do| da|"
    r" the)?(?: la| el)? (?P<place>@|[a-z0-9]{1,40})|"
    r"(?P<end>al final|no final|at the end)|(?P<start>al (?:principio|inicio|comienzo)|no (?:comeco|inicio)|"
    r"at the start))"
)
_SIGNS = {
    "punto": ".",
    "ponto": ".",
    "dot": ".",
    "guion bajo": "_",
    "underscore": "_",
    "guion": "-",
    "hifen": "-",
    "dash": "-",
}
_ABOUT_MAIL = re.compile(r"\b(?=[a-z])(?:correo|e-?mail|mail|arroba|direccion|endereco)\b|@|\.[a-z]{2}")
_AGAIN = re.compile(
    r"\b(?=[a-z])(?:perdon\w*|uy|ups|oops|ay|me (?:he )?com\w+|falt\w+|corrij\w*|error|mal|equivo\w*|missing|"
    r"typo|sorry|es|so|"
    r"desculp\w*|errei|opa|digo|actually)\b"
)
_LOCAL = re.compile(r"[a-z][a-z0-9._-]{4,40}")
_SIMILAR = 0.85
_MAX_WORDS = 40
_RELATIVE = re.compile(rf"\b{RELATIONS}\b")
_WRONG = re.compile(
    r"\b(?=[a-z])(?:correo|e-?mail|mail)\b[^.?!\n]{0,25}\b(?:esta mal|esta errado|is wrong|quedo mal|"
    r"equivocad[oa]|no es ese)\b"
    r"|\b(?:me equivoque|escribi mal|errei|corrijo)\b[^.?!\n]{0,25}\b(?:correo|e-?mail|mail)\b"
)
# Letters that people confuse in writing.
_CONFUSED = ("sz", "scz", "bv", "yil", "gj", "ckq", "hj", "mn", "xs", "vw")


_ASKED_MAIL = re.compile(r"\b(?:correo|e-?mail|mail)\b|@")
_EXCUSES = re.compile(
    r"\b(?=[a-z])(?:perdon\w*|disculp\w*|desculp\w*|ay|uy|ups|oops|opa|sorry|equivoque|errei|error|falt\w+|"
    r"se me fue|corrij\w+)\b"
)
_FILLER = re.compile(
    r"\b(?=[a-z])(?:no|nao|not|perdon\w*|disculp\w*|desculp\w*|ay|uy|ups|oops|opa|ah|oh|es|e|is|el|los|o|os|y|si|sim|ok|sorry|"
    r"corrijo|mejor|dicho|digo|que|pena|me|equivoque|errei|era|la|las|se|fue|comi|un|una|uma|um|quitale|quita|primero|ultimo|"
    r"tambien|todo|junto|gracias|mas)\b"
)
_MIN_PART = 3


@dataclass(frozen=True, slots=True)
class CorrectedAddress:
    """The address after a correction, and the span of the words; ``address`` is None if they cannot be applied."""

    address: str | None
    start: int
    end: int


def corrected_address(turn: UserTurn, address: str) -> CorrectedAddress | None:
    """Apply the turn's correction to a known address; None if the turn corrects no part of an address."""
    found = _corrected(turn, address)
    # "el correo de mi jefe es con z"
    if found is None or is_foreign(turn, found.start, found.end):
        return None
    return found if is_about_address(turn, found.start, found.end, address) else None


def is_about_address(turn: UserTurn, start: int, end: int, address: str) -> bool:
    """Whether a correction at ``start``..``end`` is about the user's address.

    The user must speak of mail or of a part of the address, correct an address that the assistant has just repeated, or
    say nothing else. A question corrects nothing.
    """
    folded = turn.folded
    if "?" in folded[end : end + 40]:
        return False
    words = folded[start:end]
    local, _, domain = address.partition("@")
    if _ABOUT_MAIL.search(folded) or address in turn.asked:
        return True
    if _ASKED_MAIL.search(turn.asked) and _EXCUSES.search(folded):
        return True
    around = _FILLER.sub(" ", f"{folded[:start]} {folded[end:]}")
    return (
        not any(character.isalnum() for character in around)
        or any(part and len(part) > _MIN_PART and part in words for part in (local, domain))
        or _spelled_again(folded, address) is not None
    )


def _corrected(turn: UserTurn, address: str) -> CorrectedAddress | None:
    folded = turn.folded
    for pattern in (_NOT_BUT, _BUT_NOT):
        for match in pattern.finditer(folded):
            old, new = match.group("old").rstrip(".-"), match.group("new").rstrip(".-")
            if len(old) == 1 or len(new) == 1:
                continue
            changed = _instead(address, old, new)
            if changed is not None:
                return CorrectedAddress(changed, *match.span())
    inserted = _INSERTED.search(folded)
    if inserted is not None:
        return CorrectedAddress(_with_inserted(address, inserted), *inserted.span())
    without = _WITHOUT.search(folded)
    if without is not None:
        return CorrectedAddress(_without_sign(address, without), *without.span())
    if _ABOUT_MAIL.search(folded) or _ABOUT_MAIL.search(turn.asked):
        for match in _WITH_LETTER.finditer(folded):
            letter = letter_of(match.group("new"))
            if letter is not None:
                old_letter = letter_of(match.group("old")) if match.group("old") else None
                changed = _with_letter(address, letter, old_letter, at_end=match.group("last") is not None)
                if changed != address:
                    return CorrectedAddress(changed, *match.span())
    spelled = _spelled_again(folded, address)
    if spelled is not None:
        return spelled
    wrong = _WRONG.search(folded)
    if wrong is not None and _RELATIVE.search(wrong.group()):
        return None
    return CorrectedAddress(None, *wrong.span()) if wrong is not None else None


def _spelled_again(folded: str, address: str) -> CorrectedAddress | None:
    """The address with the part before the @ as the user writes it again: "uy lauragil, me comí una a"."""
    if _AGAIN.search(folded) is None:
        return None
    local, _, domain = address.partition("@")
    for match in islice(_LOCAL.finditer(folded), _MAX_WORDS):
        word = match.group().rstrip("._-")
        if word != local and SequenceMatcher(None, word, local, autojunk=False).ratio() >= _SIMILAR:
            return CorrectedAddress(normalise_email(f"{word}@{domain}"), *match.span())
    return None


def _instead(address: str, old: str, new: str) -> str | None:
    # A domain's ending, or a part between signs: "com" in ".com", not in "comercial".
    places = [
        match.span() for match in re.finditer(rf"(?<![a-z0-9]){re.escape(old.lstrip('.@_-'))}(?![a-z0-9])", address)
    ]
    if len(places) != 1:
        return None
    start, end = places[0]
    return normalise_email(address[:start] + new.lstrip(".@_-") + address[end:])


def _without_sign(address: str, match: re.Match[str]) -> str | None:
    """The address without a sign; None if the address has the sign in several places and the user names none."""
    local, _, domain = address.partition("@")
    sign = _SIGNS[match.group("sign") or match.group("extra")]
    which = _WHICH.search(match.string)
    if sign not in local:
        return address
    if local.count(sign) == 1 or (which is not None and which.group("first")):
        at = local.index(sign)
    elif which is not None:
        at = local.rindex(sign)
    else:
        return None
    return normalise_email(f"{local[:at]}{local[at + 1 :]}@{domain}")


def _with_inserted(address: str, match: re.Match[str]) -> str | None:
    """The address with what the user says is missing; None if the place is unknown."""
    local, _, domain = address.partition("@")
    what = _SIGNS.get(match.group("what"), match.group("what"))
    if match.group("start"):
        at = 0
    elif match.group("end") or match.group("place") in ("arroba", "at", "@"):
        at = len(local)
    else:
        place = match.group("place")
        if local.count(place) != 1:
            return None
        at = local.index(place)
        if match.group("where") not in ("antes", "before"):
            at += len(place)
    return normalise_email(f"{local[:at]}{what}{local[at:]}@{domain}")


def _with_letter(address: str, letter: str, old: str | None, *, at_end: bool) -> str | None:
    """The address with another letter; the same address if it has the letter already, None if the place is unknown."""
    local, _, domain = address.partition("@")
    others = {old} if old is not None else {one for group in _CONFUSED if letter in group for one in group} - {letter}
    places = [position for position, one in enumerate(local) if one in others]
    if at_end:
        places = [position for position in places if position + 1 == len(local) or not local[position + 1].isalnum()]
    if not places:
        return address
    if len(places) > 1:
        return None
    return normalise_email(f"{local[: places[0]]}{letter}{local[places[0] + 1 :]}@{domain}")
