"""Read the e-mail addresses in a turn, typed or dictated ("arroba", "punto").

A blank inside an address is taken out where the address is plain without it. Nothing else is repaired: a comma
instead of a dot, a missing @ or a second @ makes it invalid, and invalid addresses are ignored. An address is never
shortened to its part after a blank, which may be another person's. Width variants of letters and signs count as the
plain ones (NFKC).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from email_validator import EmailNotValidError, validate_email

from nexus_stream.extraction.rules.dictated_addresses import MAIL, STOPS, dictated_addresses
from nexus_stream.extraction.rules.lexicon import GIVEN_NAMES, SURNAMES
from nexus_stream.extraction.text import UserTurn

__all__ = ["addresses_in", "normalise_email"]

_LOCAL = frozenset("abcdefghijklmnopqrstuvwxyz0123456789._%+'&-")
# In one turn. A turn with more is an attack on CPU time or a pasted list, and does not give the user's own address.
_MAX_ADDRESSES = 40
_RIGHT = re.compile(r"[a-z0-9.-]{1,255}")
_TLD_AFTER_COMMA = re.compile(r", ?(?:com|co|net|org|es|mx|ar|cl|pe|ec|uy|edu|gov|gob|info|io|example)\b")
_IS_CUE = re.compile(r"(?:\bes|:) (?P<words>[a-z]+(?: [a-z]+)?) $")
_MAIL_CUE = re.compile(r"\b(?:correo|e-?mail|mail) (?P<words>[a-z]+(?: [a-z]+)?) $")


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
    for spelled, start, end in dictated_addresses(turn):
        address = normalise_email(spelled)
        if address is not None:
            yield address, start, end


def _typed(turn: UserTurn) -> Iterator[tuple[str, int, int]]:
    folded = turn.folded
    at = folded.find("@")
    for _ in range(_MAX_ADDRESSES):
        if at < 0:
            return
        place = _place(turn, at)
        if place is not None:
            start, end = place
            address = normalise_email(_SPACES.sub("", _DICTATED_DOT.sub(".", turn.text[start:end])))
            if address is not None:
                yield address, start, end
        at = folded.find("@", at + 1)


def _place(turn: UserTurn, at: int) -> tuple[int, int] | None:
    """The span of the address around the sign at ``at``; None if there is none, or if a blank may have cut it."""
    folded = turn.folded
    before, after = at, at + 1
    if folded[at - 1 : at].isspace():
        before = _before_blank(turn, at)
    if folded[after : after + 1] in (" ", "\xa0") and (before < at or folded[at - 1 : at].isalnum()):
        after += 1
    start = before
    while start > max(0, before - 64) and folded[start - 1] in _LOCAL:
        start -= 1
    right = _RIGHT.match(folded, after)
    if start == before or right is None:
        return None
    while start < before and folded[start] in "'.-&":
        start += 1
    end = after + len(right.group().rstrip(".-"))
    country = _COUNTRY_AFTER_BLANK.match(folded, end)
    if country is not None and "." in right.group():
        end = country.end()
    if "." not in right.group().rstrip(".-"):
        rest = _BLANK_BEFORE_TLD.match(folded, end)
        if rest is None:
            return None
        end = rest.end()
    elif after > at + 1 and not _ENDS_ADDRESS.match(folded, end):
        return None
    if _is_cut_off(folded, start, end) or _is_split(folded, start):
        return None
    return _after_cut(turn, start, end)


def _before_blank(turn: UserTurn, at: int) -> int:
    """Where the local part ends, if one blank stands between the local part and the sign at ``at``; else ``at``."""
    match = _LOCAL_BEFORE_BLANK.search(turn.folded, max(0, at - 70), at)
    if match is None:
        return at
    local = match.group("local")
    cued = match.group("cue") is not None or (match.start("local") == 0 and MAIL.search(turn.asked) is not None)
    plain_word = local.isalpha() and (local in STOPS or not cued)
    return at if plain_word else match.end("local")


def _after_cut(turn: UserTurn, start: int, end: int) -> tuple[int, int] | None:
    """The span, with the piece before a dot and a blank: "ana. lopez@example.com". None if that is doubtful."""
    folded = turn.folded
    word = _ONE_WORD.match(folded[:start])
    local = folded[start:end].partition("@")[0]
    if local.isdigit() and len(local) < _MIN_DIGITS and _WORD_BEFORE.search(folded, 0, start):
        return None  # "ana 85@example.com"
    if word is not None and not _ASKS_NAME.search(turn.asked) and word.group(1) not in STOPS:
        is_other_word = word.group(1) not in local and local not in word.group(1)
        if is_other_word:
            return None  # "ana lopez@example.com": is the first word a part of the address?
    cut = _DOT_BEFORE_BLANK.search(folded, max(0, start - 66), start)
    if cut is None:
        return start, end
    piece = cut.group("piece")
    if piece in STOPS or cut.group("mark") not in "._-+":
        return start, end
    first = folded[start:end].partition("@")[0]
    is_name = piece in first or first in piece or piece[:3] == first[:3]
    before = folded[max(0, cut.start() - 40) : cut.start()]
    cued = _ENDS_WITH_MAIL_CUE.search(before) is not None
    alone = not before.strip()
    if cued and not is_name:
        return cut.start("piece"), end
    if alone and not is_name:
        return None if _ASKS_NAME.search(turn.asked) or not MAIL.search(turn.asked) else (cut.start("piece"), end)
    # Else the dot ends a sentence, as in "Soy Ana. ana@example.com". Another sign belongs to an address.
    return (start, end) if cut.group("mark") == "." else None


_LOCAL_BEFORE_BLANK = re.compile(
    r"(?P<cue>\b(?:correo|e-?mail|mail|es|e|is|:)(?: es| e|"
    r" is)?[\s:]{1,2})?(?<![^\s:])(?P<local>[a-z0-9][a-z0-9._+-]{0,63})\s$"
)
_DICTATED_DOT = re.compile(r"\s(?:punto|ponto|dot)\s", re.IGNORECASE)
_SPACES = re.compile(r"\s")
_BLANK_BEFORE_TLD = re.compile(
    r"(?:\.?\s?\.?(?<=[\s.])|\s(?:punto|ponto|dot)\s)(?:com|org|net|example|info|edu|gov|gob)(?:\.[a-z]{2})?(?![\w@-])"
)
# "example.com .mx", "example.com. mx" at the end, "example.com punto mx".
_COUNTRY_AFTER_BLANK = re.compile(
    r"(?:\s\.(?=[a-z])|\s(?:punto|ponto|dot)\s|\.\s(?=(?:mx|co|ar|br|pe|cl|ec|uy|ve|bo|py|pt)\s{0,2}(?:$|[\n,;)])))[a-z]{2,3}(?![\w@-])"
)
_ENDS_ADDRESS = re.compile(r"(?=$|[\s,;)\]>!?.])")
_DOT_BEFORE_BLANK = re.compile(r"(?<![^\s:,])(?P<piece>[a-z0-9]{1,40})(?P<mark>[._+-])\s{1,2}$")
_MIN_DIGITS = 6
_WORD_BEFORE = re.compile(r"[a-z] $")
_ONE_WORD = re.compile(r"\s*([a-z]{2,30}) $")
_ENDS_WITH_MAIL_CUE = re.compile(
    r"\b(?:correo|e-?mail|mail)(?: (?:es|e|is|electronico|personal))*\W{1,3}$|\bes\W{1,3}$"
)
_ASKS_NAME = re.compile(r"\b(?:nombre|nome|name)\b")


def _is_split(folded: str, start: int) -> bool:
    """Whether part of the address is separated by a space: ``mi correo es ana maria@…``."""
    before = folded[max(0, start - 60) : start]
    for cue in (_IS_CUE, _MAIL_CUE):
        match = cue.search(before)
        if match is None:
            continue
        words = match.group("words").split()
        named = all(word in GIVEN_NAMES or word in SURNAMES for word in words)
        if not any(word in STOPS for word in words) and (named or cue is _IS_CUE):
            return True
    return False


def _is_cut_off(folded: str, start: int, end: int) -> bool:
    """Whether the text continues past the valid part of the address: the valid part would be a guess."""
    before = folded[start - 1] if start else " "
    beside = folded[start - 2] if start > 1 else " "
    if before in "@_#~!=*…\\%&^" or before.isalnum() or (before in ",;" and beside.isalnum()):
        return True
    if before == "/" and beside.isalpha() and not MAIL.search(folded, max(0, start - 12), start - 1):
        return True
    if before in ".-'" and start > 1 and beside.isspace():
        return True  # ".lopez@example.com" after a blank
    after = folded[end] if end < len(folded) else " "
    return after in "@_" or after.isalnum() or bool(_TLD_AFTER_COMMA.match(folded, end))
