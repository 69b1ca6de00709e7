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
from itertools import islice

from email_validator import EmailNotValidError, validate_email

from nexus_stream.extraction.rules.letters import letter_of
from nexus_stream.extraction.rules.lexicon import COMMON_WORDS, GIVEN_NAMES, SURNAMES, word_list
from nexus_stream.extraction.rules.number_words import word_digits
from nexus_stream.extraction.text import UserTurn

__all__ = ["INTRODUCING", "addresses_in", "normalise_email"]

_LOCAL = frozenset("abcdefghijklmnopqrstuvwxyz0123456789._%+'&-")
# In one turn. A turn with more is an attack on CPU time or a pasted list, and does not give the user's own address.
_MAX_ADDRESSES = 40
_RIGHT = re.compile(r"[a-z0-9.-]{1,255}")
_TLD_AFTER_COMMA = re.compile(r", ?(?:com|co|net|org|es|mx|ar|cl|pe|ec|uy|edu|gov|gob|info|io|example)\b")
# "(at)" and "[punto]" become one sign in their first place, so that every position stays.
_BRACKETED = re.compile(r"[(\[{<]\s?(?P<at>at|arroba|a)?(?:dot|punto|ponto|d)?\s?[)\]}>]")
_AT_SIGN = "\ue000"
_AT_WORD = re.compile(
    rf"\b(?:arroba|aroba|arrova|arrroba)\b|{_AT_SIGN}"
    r"|\bat\b(?=\s{1,3}[a-z0-9-]{1,63}(?:\s{1,3}(?:dot|punto|ponto)\b|(?P<typed>\.[a-z])))"
)
# "we work at example.com" names a place. Before a domain typed in one piece, "at" means @ only after a word for mail.
_MAIL = re.compile(r"\b(?:correo|e-?mail|mail)\b")
_DICTATED = re.compile(r"arroba|aroba|arrova|arrroba|\bat\b")
_TOKEN = re.compile(r"[a-z0-9]+(?:[._+-][a-z0-9]+)*|\S")
_IS_CUE = re.compile(r"(?:\bes|:) (?P<words>[a-z]+(?: [a-z]+)?) $")
_MAIL_CUE = re.compile(r"\b(?:correo|e-?mail|mail) (?P<words>[a-z]+(?: [a-z]+)?) $")
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
        yield from _dictated(turn)


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
    cued = match.group("cue") is not None or (match.start("local") == 0 and _MAIL.search(turn.asked) is not None)
    plain_word = local.isalpha() and (local in _STOPS or not cued)
    return at if plain_word else match.end("local")


def _after_cut(turn: UserTurn, start: int, end: int) -> tuple[int, int] | None:
    """The span, with the piece before a dot and a blank: "ana. lopez@example.com". None if that is doubtful."""
    folded = turn.folded
    word = _ONE_WORD.match(folded[:start])
    local = folded[start:end].partition("@")[0]
    if local.isdigit() and len(local) < _MIN_DIGITS and _WORD_BEFORE.search(folded, 0, start):
        return None  # "ana 85@example.com"
    if word is not None and not _ASKS_NAME.search(turn.asked) and word.group(1) not in _STOPS:
        is_other_word = word.group(1) not in local and local not in word.group(1)
        if is_other_word:
            return None  # "ana lopez@example.com": is the first word a part of the address?
    cut = _DOT_BEFORE_BLANK.search(folded, max(0, start - 66), start)
    if cut is None:
        return start, end
    piece = cut.group("piece")
    if piece in _STOPS or cut.group("mark") not in "._-+":
        return start, end
    first = folded[start:end].partition("@")[0]
    is_name = piece in first or first in piece or piece[:3] == first[:3]
    before = folded[max(0, cut.start() - 40) : cut.start()]
    cued = _ENDS_WITH_MAIL_CUE.search(before) is not None
    alone = not before.strip()
    if cued and not is_name:
        return cut.start("piece"), end
    if alone and not is_name:
        return None if _ASKS_NAME.search(turn.asked) or not _MAIL.search(turn.asked) else (cut.start("piece"), end)
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
        if not any(word in _STOPS for word in words) and (named or cue is _IS_CUE):
            return True
    return False


def _is_cut_off(folded: str, start: int, end: int) -> bool:
    """Whether the text continues past the valid part of the address: the valid part would be a guess."""
    before = folded[start - 1] if start else " "
    beside = folded[start - 2] if start > 1 else " "
    if before in "@_#~!=*…\\%&^" or before.isalnum() or (before in ",;" and beside.isalnum()):
        return True
    if before == "/" and beside.isalpha() and not _MAIL.search(folded, max(0, start - 12), start - 1):
        return True
    if before in ".-'" and start > 1 and beside.isspace():
        return True  # ".lopez@example.com" after a blank
    after = folded[end] if end < len(folded) else " "
    return after in "@_" or after.isalnum() or bool(_TLD_AFTER_COMMA.match(folded, end))


def _dictated(turn: UserTurn) -> Iterator[tuple[str, int, int]]:
    folded = _BRACKETED.sub(_sign, turn.folded) if _OPENING.search(turn.folded) else turn.folded
    joined = _JOINED.search(folded) is not None
    for at in islice(_AT_WORD.finditer(folded), _MAX_ADDRESSES):
        cued = _MAIL.search(folded, max(0, at.start() - 60), at.start()) or _MAIL.search(turn.asked)
        if at.group("typed") and not cued:
            continue
        local = _local_part(folded, at.start(), joined=joined)
        domain = _domain(folded, at.end())
        if local is None or domain is None:
            continue
        address = normalise_email(f"{local[0]}@{domain[0]}")
        if address is not None:
            yield address, local[1], domain[1]


_OPENING = re.compile(r"[(\[{<]")


def _sign(match: re.Match[str]) -> str:
    word = match.group().strip("()[]{}<> ")
    if word not in ("at", "arroba", "a", "dot", "punto", "ponto", "d"):
        return match.group()
    sign = _AT_SIGN if match.group("at") else "."
    return sign + " " * (len(match.group()) - 1)


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
            if word in _STOPS and (not linked or not pieces):
                if pieces and not _introduces(tokens, position):
                    return None
                break
            digits, width = word, 1
        elif word in _STOPS:
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
