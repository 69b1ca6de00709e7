"""Whether the user wrote or dictated a claimed e-mail address or phone number, in one turn or over neighbouring turns.

An address must be whole: a part of a longer one is another person's. The digits of a number must come from one run of
digits, or from runs that are halves of one number. A partial correction may change the last one given.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import phonenumbers

from nexus_stream.extraction.rules.emails import addresses_in, normalise_email
from nexus_stream.extraction.rules.lexicon import COMMON_WORDS
from nexus_stream.extraction.rules.number_words import NumberRun, has_number_words, read_numbers
from nexus_stream.extraction.rules.phones import _is_other_number, to_e164
from nexus_stream.extraction.spoken import (
    AT_WORDS,
    DOT_WORDS,
    Token,
    announces_correction,
    corrects_to,
    says_joined,
    spells,
    tokens_of,
    unchanged,
)
from nexus_stream.extraction.text import UserTurn, words_of

__all__ = ["Place", "Written", "written_email", "written_phone"]


class Place(NamedTuple):
    """``turn.text[start:end]``."""

    turn: UserTurn
    start: int
    end: int


class Written(NamedTuple):
    """A value as it is stored, and the places in the user's turns where it stands."""

    value: str
    places: tuple[Place, ...]


# Bounds against an attack on CPU time: an ordinary chat has a tenth of these.
_MAX_TURNS = 60  # newest turns with an @, or with digits, that are read for one value
_MAX_AT = 20  # in one turn
_MAX_LOCAL_TOKENS = 40
_MAX_DOMAIN_TOKENS = 24
_WINDOW_CHARS = 400
_MAX_PARTS = 6  # turns that one number is spread over

_AT = re.compile(r"@|\b(?:arroba|aroba|arrova|at)\b")
_MAIL = re.compile(r"\b(?:correo|e-?mail|mail)\b")
_ASKS_DOMAIN = re.compile(r"@|\barroba\b|\bdomini?o\b|\bdomain\b|\bfalta\b|\bfinal\b|\bcompleto\b")
_ADDRESS_SIGNS = frozenset("._%+-")
_STOPS = COMMON_WORDS | {"correo", "mail", "email", "electronico", "electronica", "direccion", "gmail", "hotmail"}
_MAX_FILLERS = 5


def written_email(claimed: str, turns: Sequence[UserTurn]) -> Written | None:
    """Find the address in the user's turns. Return it in lower case; None if the user gave no such address."""
    address = normalise_email(claimed)
    if address is None:
        return None
    given: list[tuple[str, Place]] = []
    for turn in turns:
        for found, start, end in addresses_in(turn):
            given.append((found, Place(turn, start, end)))
            if found == address:
                return Written(address, (given[-1][1],))
    local, _, domain = address.partition("@")
    for tokens, places in islice(_dictations(turns), _MAX_TURNS):
        found_at = _stands(tokens, local, domain)
        if found_at is not None:
            return Written(address, tuple(_covered(places, found_at)))
    for old, place in given[-_MAX_AT:]:
        for turn in turns:
            after = place.end if turn is place.turn else 0
            if turn.index >= place.turn.index and corrects_to(old, address, turn, after):
                return Written(address, (place, Place(turn, 0, len(turn.text))))
    return None


_Sources = list[tuple[UserTurn, int, int]]  # turn, its first token, the token after its last


def _dictations(turns: Sequence[UserTurn]) -> Iterator[tuple[list[Token], _Sources]]:
    """The tokens around each @ of the user, newest first; also joined with the turn before or after it."""
    for position in range(len(turns) - 1, -1, -1):
        turn = turns[position]
        for at in islice(_AT.finditer(turn.folded), _MAX_AT):
            tokens = tokens_of(turn.folded, max(0, at.start() - _WINDOW_CHARS), at.end() + _WINDOW_CHARS)
            yield tokens, [(turn, 0, len(tokens))]
            if position and at.start() < _WINDOW_CHARS:
                yield from _joined(turns[position - 1], turn)
        if position and (turn.folded.lstrip()[:1] in ".@" or _ASKS_DOMAIN.search(turn.asked)):
            yield from _joined(turns[position - 1], turn)


def _joined(first: UserTurn, second: UserTurn) -> Iterator[tuple[list[Token], _Sources]]:
    """The end of a turn and the turn after it, if the second may go on where the first stopped in an address."""
    before = tokens_of(first.folded, max(0, len(first.folded) - _WINDOW_CHARS))
    after = tokens_of(second.folded, 0, _WINDOW_CHARS)
    # "Ah sí, .com": the first words may only answer.
    begin = next((at for at in range(min(len(after), _MAX_FILLERS)) if _goes_on(after, at)), None)
    if begin is None:
        begin = next((at for at in range(len(after)) if after[at].text not in _STOPS | {","}), len(after))
    after = after[begin:]
    if not before or not after or before[-1].text == "\n":
        return
    if _goes_on(after, 0) or before[-1].text in ("@", ".", *AT_WORDS, *DOT_WORDS):
        between = []
    elif _ASKS_DOMAIN.search(second.asked) and not _AT.search(first.folded[-_WINDOW_CHARS:]):
        between = [Token("@", -1, -1)]  # asked for what follows the @, people leave it out
    else:
        return
    # Not side by side, so that no word continues over the gap.
    moved = [
        Token(token.text, token.start + len(first.folded) + 1, token.end + len(first.folded) + 1) for token in after
    ]
    tokens = [*before, *between, *moved]
    yield tokens, [(first, 0, len(before)), (second, len(before) + len(between), len(tokens))]


def _goes_on(tokens: list[Token], at: int) -> bool:
    """Whether an @ or a dot before a word stands here."""
    text = tokens[at].text
    is_dot = text == "." and at + 1 < len(tokens) and tokens[at + 1].start == tokens[at].end
    return is_dot or text == "@" or text in AT_WORDS | DOT_WORDS


def _stands(tokens: list[Token], local: str, domain: str) -> tuple[int, int] | None:
    """The tokens that spell the whole address; None if there are none."""
    for at, token in enumerate(tokens):
        if token.text != "@" and not (token.text in AT_WORDS and _means_at(tokens, at)):
            continue
        joined = says_joined(" ".join(each.text for each in tokens[max(0, at - _MAX_LOCAL_TOKENS) :]))
        start = _local_start(tokens, at, local, joined=joined)
        end = _domain_end(tokens, at + 1, domain) if start is not None else None
        if start is not None and end is not None:
            return start, end
    return None


def _means_at(tokens: list[Token], at: int) -> bool:
    if tokens[at].text != "at":
        return True
    before = tokens[at - 1].text if at else ""
    # "We work at example.com" names a place, unless the words before speak of mail.
    return before in "([" or any(_MAIL.fullmatch(token.text) for token in tokens[max(0, at - 12) : at])


def _local_start(tokens: list[Token], at: int, local: str, *, joined: bool) -> int | None:
    for start in range(at - 1, max(-1, at - 1 - _MAX_LOCAL_TOKENS), -1):
        if tokens[start].text == "\n":
            return None
        if spells(tokens[start:at], local, joined=joined) and _begins(tokens, start):
            return start
    return None


def _begins(tokens: list[Token], start: int) -> bool:
    """Whether an address can begin here: nothing before it belongs to it."""
    if start == 0:
        return True
    before, first = tokens[start - 1], tokens[start]
    if before.end == first.start:
        return not (before.text.isalnum() or before.text in _ADDRESS_SIGNS | {"@", "&", "'", ",", ";"})
    if before.text in _ADDRESS_SIGNS - {".", "-"} or before.text in DOT_WORDS | {"guion", "bajo", "baja", "hifen"}:
        return False
    # Two plain words side by side may both belong to it. This is not guessed.
    return not before.text.isalnum() or before.text in _STOPS


def _domain_end(tokens: list[Token], first: int, domain: str) -> int | None:
    for end in range(first + 1, min(len(tokens), first + _MAX_DOMAIN_TOKENS) + 1):
        if tokens[end - 1].text == "\n":
            return None
        if spells(tokens[first:end], domain) and _ends(tokens, end):
            return end
    return None


def _ends(tokens: list[Token], end: int) -> bool:
    if end >= len(tokens):
        return True
    after, last = tokens[end], tokens[end - 1]
    following = tokens[end + 1] if end + 1 < len(tokens) else None
    if after.start == last.end and (after.text.isalnum() or after.text in "@_-"):
        return False
    goes_on = after.text in DOT_WORDS or (after.text == "." and after.start == last.end)
    return not (goes_on and following is not None and following.text.isalnum() and len(following.text) <= 3)


def _covered(sources: _Sources, found: tuple[int, int]) -> Iterator[Place]:
    for turn, first, end in sources:
        if first < found[1] and found[0] < end:
            yield Place(turn, 0, len(turn.text))


def written_phone(claimed: str, turns: Sequence[UserTurn], default_region: str) -> Written | None:
    """Find the number in the user's turns. Return it as E.164; None if the user gave no such number.

    Args:
        claimed: Any way to write it. Without a country code it belongs to a country that the chat supports.
        turns: The user's turns.
        default_region: The country (ISO 3166, two letters) if the chat supports no other.
    """
    regions = _regions(turns, default_region)
    runs = [run for turn in turns for run in _runs(turn)][-_MAX_TURNS:]
    for e164 in _numbers(claimed, regions):
        spellings = _spellings(e164)
        for digits, places in _strings(runs, spellings):
            if _belongs(e164, digits, regions):
                return Written(e164, places)
    return _corrected_phone(claimed, runs, turns, regions)


# A code counts as part of a number, not by itself: "all numbers here have the prefix +1" gives none.
_COUNTRY_CODE = re.compile(r"(?:\+|\b00) ?(\d{1,3})(?=[ ().-]{0,3}\d{2}|\d)")


def _regions(turns: Sequence[UserTurn], default_region: str) -> list[str]:
    """The countries that the chat supports."""
    regions = [default_region]
    for turn in turns:
        for match in islice(_COUNTRY_CODE.finditer(turn.folded), _MAX_AT):
            for length in (1, 2, 3):
                regions += phonenumbers.region_codes_for_country_code(int(match.group(1)[:length]))[:1]
    return list(dict.fromkeys(regions))


def _numbers(claimed: str, regions: Sequence[str]) -> list[str]:
    """The numbers that a claim can mean, as E.164, the most probable first."""
    digits = "".join(str(int(character)) for character in claimed if character.isdigit())
    if claimed.strip().startswith("+"):
        found = [to_e164(f"+{digits}", regions[0])]
    else:
        found = [to_e164(digits, region) for region in regions]
        found += [_restored(digits, region) for region in regions]
        found.append(to_e164(f"+{digits.removeprefix('00')}", regions[0]) if len(digits) > 10 else None)
    return list(dict.fromkeys(number for number in found if number is not None))


def _restored(digits: str, region: str) -> str | None:
    """A Brazilian mobile written without its ninth digit."""
    national = digits.lstrip("0")
    if region != "BR" or len(national) != 10 or national[2] not in "6789":
        return None
    return to_e164(f"+55{national[:2]}9{national[2:]}", region)


def _spellings(e164: str) -> frozenset[str]:
    """The digits as people write this number: with or without its country code, trunk zero or mobile prefix."""
    number = phonenumbers.parse(e164)
    code, national = str(number.country_code), str(phonenumbers.national_significant_number(number))
    nationals = {national}
    if code == "54" and national.startswith("9"):
        nationals.add(national[1:])
        # The area has two to four digits, and the old mobile prefix 15 stands after it.
        nationals |= {f"{national[1 : 1 + area]}15{national[1 + area :]}" for area in (2, 3, 4)}
    if code == "55" and len(national) == 11 and national[2] == "9":
        nationals.add(national[:2] + national[3:])
    if code == "52":
        nationals |= {f"1{national}", f"044{national}", f"045{national}"}
    spelled = set(nationals)
    for each in nationals:
        spelled |= {f"0{each}", f"{code}{each}", f"00{code}{each}", f"{code}0{each}"}
    if code == "1":
        spelled.add(f"1{national}")
    return frozenset(spelled)


def _belongs(e164: str, digits: str, regions: Sequence[str]) -> bool:
    """Whether the chat supports the country of a number that stands there with these digits."""
    code = str(phonenumbers.parse(e164).country_code)
    if digits.removeprefix("00").startswith(code) and len(digits.removeprefix("00")) > len(e164) - 1 - len(code):
        return True
    if any(str(phonenumbers.country_code_for_region(region)) == code for region in regions):
        return True
    # The model may know the country by a town. The number must not be valid in a country that the chat supports.
    return not any(to_e164(digits, region) for region in regions)


class _Run(NamedTuple):
    turn: UserTurn
    run: NumberRun
    is_first: bool  # of its turn
    is_last: bool


def _runs(turn: UserTurn) -> list[_Run]:
    if not re.search(r"\d", turn.folded) and not has_number_words(turn.folded):
        return []
    runs = read_numbers(turn.folded)
    return [_Run(turn, run, index == 0, index == len(runs) - 1) for index, run in enumerate(runs)]


def _strings(runs: Sequence[_Run], wanted: frozenset[str]) -> Iterator[tuple[str, tuple[Place, ...]]]:
    """The wanted digits that stand in the runs: in parts of one run, or in runs of neighbouring turns."""
    longest = max(map(len, wanted))
    for each in reversed(runs):
        parts = each.run.parts
        for first in range(len(parts)):
            digits = ""
            for part in parts[first:]:
                digits += part.digits
                if len(digits) > longest or part.slash:
                    break
                if digits in wanted and not _is_other_number(
                    each.turn.folded, parts[first].start, part.end, each.run.plus
                ):
                    yield digits, (Place(each.turn, parts[first].start, part.end),)
    for first in range(len(runs)):
        digits = ""
        places: list[Place] = []
        for each in runs[first : first + _MAX_PARTS]:
            if digits and not _continues(runs, each, places[-1].turn):
                break
            if not each.is_last or not _is_bare(each):
                break
            digits += "".join(part.digits for part in each.run.parts)
            places.append(Place(each.turn, each.run.start, each.run.parts[-1].end))
            if len(places) > 1 and digits in wanted:
                yield digits, tuple(places)


_OF_A_PHONE = re.compile(
    r"\b(?:tel\w*|cel\w*|movil|whats\w*|wasap|wsp|wpp|zap\w*|fono|numer\w*|numbers?|num|phone|mobile|contact\w*|"
    r"llam\w+|lig\w+|call)\b"
)
_OF_THE_REST = re.compile(
    r"\b(?:falt\w*|resto|complet\w*|sig\w*|continu\w*|digit\w*|numer\w*|final\w*|rest|more|missing|luego|despues|y|e|"
    r"tel\w*|cel\w*|movil|whats\w*)\b"
)
# What people say around a part of their number. Any other word makes it a price, an age or an order.
_AROUND = re.compile(
    r"mi|meu|my|el|o|es|e|y|and|ah|ay|uy|si|sim|ok|cel|celular|movil|numero|number|tel|telefono|telefone|whatsapp|zap|"
    r"wsp|phone|luego|despues|depois|then|resto|rest|los?|las?|os|ultimos|final|sigue|falta|faltaba|falto|perdon|"
    r"primero|empieza|comienza|comeca|termina|con|por|son|digitos|aqui|ahi|ahora"
)


def _is_bare(each: _Run) -> bool:
    """Whether a turn has only this number and words about it."""
    folded, start, end = each.turn.folded, each.run.start, each.run.parts[-1].end
    around = words_of(folded[:start]) + words_of(folded[end:])
    if not all(_AROUND.fullmatch(word) for word in around) or any(part.slash for part in each.run.parts):
        return False
    return not _is_other_number(folded, start, end, each.run.plus)


def _continues(runs: Sequence[_Run], each: _Run, before: UserTurn) -> bool:
    """Whether a run goes on with the number of the turn before it, which somebody called a phone."""
    if each.turn is before or not each.is_first:
        return False
    if not (_OF_A_PHONE.search(before.asked) or _OF_A_PHONE.search(before.folded)):
        return False
    return each.turn.asked == before.asked or _OF_THE_REST.search(each.turn.asked) is not None


def _corrected_phone(
    claimed: str, runs: Sequence[_Run], turns: Sequence[UserTurn], regions: Sequence[str]
) -> Written | None:
    """The claimed number, if a turn changes some digits of one that was given before: "el último es 7 no 1"."""
    for e164 in _numbers(claimed, regions):
        for turn in turns:
            if not announces_correction(turn):
                continue
            said = [part.digits for each in runs if each.turn is turn for part in each.run.parts]
            for old in _given_before(e164, runs, turn):
                if _belongs(e164, old.value, regions) and _changes(old.value, _spellings(e164), said):
                    return Written(e164, (*old.places, Place(turn, 0, len(turn.text))))
    return None


def _given_before(e164: str, runs: Sequence[_Run], turn: UserTurn) -> Iterator[Written]:
    """Numbers in earlier turns that are as long as the claimed one, give or take a digit."""
    for each in runs:
        parts = each.run.parts
        digits = "".join(part.digits for part in parts)
        place = Place(each.turn, each.run.start, parts[-1].end)
        if (
            each.turn.index < turn.index
            and len(e164) - 5 <= len(digits) <= len(e164) + 2
            and not _is_other_number(each.turn.folded, place.start, place.end, each.run.plus)
        ):
            yield Written(digits, (place,))


_MAX_CHANGED = 4


def _changes(old: str, wanted: frozenset[str], said: Sequence[str]) -> bool:
    """Whether the digits that were said turn the old number into a wanted one."""
    for new in wanted:
        start, tail = unchanged(old, new)
        was, now = old[start : len(old) - tail], new[start : len(new) - tail]
        if abs(len(was) - len(now)) > 1 or max(len(was), len(now)) > _MAX_CHANGED:
            continue
        if any(digits == now or (len(digits) <= _MAX_CHANGED and now and digits.endswith(now)) for digits in said):
            return True
        # A group that was said contains the changed digits where they stand: "termina en 58".
        if any(len(digits) <= _MAX_CHANGED and now and new.endswith(digits) and len(digits) > tail for digits in said):
            return True
    return False
