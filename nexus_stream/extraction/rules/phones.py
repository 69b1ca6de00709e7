"""Find the user's own phone number, as E.164, from any country.

Digits and dictated numbers are joined, also over neighbouring turns, and the phonenumbers library validates them for
the countries that the chat supports. Prices, dates, identity and file numbers are no phones. `_wins` has the order of
preference: correction, WhatsApp, primary number, newest turn.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from nexus_stream.extraction.rules.countries import Regions, beside
from nexus_stream.extraction.rules.e164 import MAX_DIGITS, MIN_DIGITS, as_mobile, national_digits, readings, to_e164
from nexus_stream.extraction.rules.number_words import NumberPart, NumberRun, has_numbers, read_numbers
from nexus_stream.extraction.rules.other_numbers import asks_for_other, is_other_number, speaks_of_phone, tells_other
from nexus_stream.extraction.rules.ownership import (
    asks_for_others,
    corrects,
    denies,
    is_about_site,
    is_called_own,
    is_foreign,
    is_given_up,
    is_offered,
    is_secondary,
)
from nexus_stream.extraction.rules.phone_corrections import corrected_number
from nexus_stream.extraction.rules.phone_parts import Begun, begun_in, completed, is_alone
from nexus_stream.extraction.text import UserTurn, clause_before, last_match

__all__ = ["Phone", "find_phone", "is_written"]

# Validating a number takes some 30 µs, and one conversation can have a hundred thousand ways to join digits. More than
# this is an attack on CPU time or a pasted list, and does not give the user's own number.
_MAX_JUDGED = 1000
_MAX_PHONES = 40  # in one turn
_SHORTEST_GROUP = 3

_LINK = re.compile(
    r"(?:\bwa\.me/|\bapi\.whatsapp\.com/send/?\?(?:[^\s&]{1,40}&){0,4}phone=|\bwhatsapp://send/?\?phone=|\btel:/{0,2})"
    r"(?P<plus>%2b|\+)?(?P<digits>\d[\d.-]{5,18}\d)"
)
_WHATSAPP = re.compile(r"\b(?:whats\w*|watsap\w*|wats|wasap\w*|guasap\w*|wsp|wpp|wap|zap|zapzap)\b")
_NO_WHATSAPP = re.compile(
    r"\b(?:no (?:tiene|tengo|es|uso|hay)|nao (?:tem|tenho|e)|sin|sem|no|not)(?: el| mi| un| o)?\s*$"
)
_THAT_IS_WHATSAPP = re.compile(r"\b(?:ese|este|mismo|numero|esse|mesmo|that|same)\b[^?]{0,40}\b(?:whats|wasap|wsp|zap)")
_YES = re.compile(
    r"\W{0,12}(?:si|claro|correcto|exacto|ese|asi es|afirmativo|sip|yes|dale|el mismo|sim|isso|o mesmo|esse mesmo|"
    r"yep)\b"
)
_MOBILE = re.compile(r"\b(?:cel\w*|movil|whats\w*|wasap\w*|guasap\w*|wsp|wpp|wap|zap\w*|mobile|cell\w*|telemovel)\b")
_NO_MOBILE = re.compile(r"\b(?:cel\w*|movil|whats\w*|telemovel) (?:no|nao)\b")
_LANDLINE = re.compile(r"\b(?:fijo|fixo|landline|tel(?:efono)? de (?:la )?(?:casa|oficina))\b")


@dataclass(frozen=True, slots=True)
class Phone:
    """A phone number of the user, and its position."""

    e164: str
    turn: UserTurn
    start: int
    end: int
    whatsapp: bool = False
    correction: bool = False
    secondary: bool = False
    # The user gave it as their own number.
    offered: bool = True


def _numbers(
    turn: UserTurn, run: NumberRun, regions: Regions, cued: bool, judged: Iterator[int]
) -> list[tuple[str, int, int]]:
    """Split one run into its numbers, the longest first, until ``judged`` is used up."""
    found: list[tuple[str, int, int]] = []
    first = 0
    while first < len(run.parts):
        for last in range(len(run.parts), first, -1):
            parts = run.parts[first:last]
            start, end = parts[0].start, parts[-1].end
            plus = run.plus and first == 0
            if _is_date(parts):
                continue
            number = None
            for digits in _spellings(parts):
                if MIN_DIGITS <= len(digits) <= MAX_DIGITS and number is None:
                    if next(judged, None) is None:
                        return found
                    number = next(readings(digits, regions, plus=plus, cued=cued), None)
            if number is not None and not is_other_number(turn.folded, start, end, plus=plus):
                found.append((_mobile(turn, number, start, end, plus=plus), run.start if plus else start, end))
                first = last
                break
        else:
            for piece in run.parts[first].whole:
                if piece.digits == run.parts[first].digits or next(judged, None) is None:
                    continue
                number = next(readings(piece.digits, regions, plus=False, cued=cued), None)
                if number is not None and not is_other_number(turn.folded, piece.start, piece.end, plus=False):
                    found.append((_mobile(turn, number, piece.start, piece.end, plus=False), piece.start, piece.end))
            first += 1
    return found


def _is_date(parts: Sequence[NumberPart]) -> bool:
    """Whether a slash stands between short groups: 12/05/2024."""
    return any(
        part.slash and min(len(part.digits), len(after.digits)) < _SHORTEST_GROUP for part, after in pairwise(parts)
    )


def _spellings(parts: Sequence[NumberPart]) -> tuple[str, ...]:
    grouped = "".join(part.digits for part in parts)
    joined = "".join(part.joined for part in parts)
    return (grouped,) if joined == grouped else (grouped, joined)


def _mobile(turn: UserTurn, e164: str, start: int, end: int, *, plus: bool) -> str:
    """People in a chat give their mobile, unless they call the number a landline."""
    if not e164.startswith("+54"):
        return e164
    around = turn.folded[max(0, start - 45) : end + 25]
    before = _NO_MOBILE.sub(" ", turn.folded[max(0, start - 45) : start])
    landline, mobile = last_match(_LANDLINE, before), last_match(_MOBILE, before)
    if landline is not None and (mobile is None or mobile.start() < landline.start()):
        return e164
    if _MOBILE.search(around) or _MOBILE.search(turn.asked):
        return as_mobile(e164)
    return e164 if plus else as_mobile(e164)


def _mark_whatsapp(turn: UserTurn, phones: list[Phone]) -> list[Phone]:
    folded = turn.folded
    for cue in _WHATSAPP.finditer(folded):
        if _NO_WHATSAPP.search(folded[max(0, cue.start() - 20) : cue.start()]):
            continue
        nearest, best_distance = None, 80
        for position, phone in enumerate(phones):
            if max(phone.start - cue.end(), cue.start() - phone.end) >= best_distance:
                continue
            gap = folded[cue.end() : phone.start] if phone.start >= cue.end() else folded[phone.end : cue.start()]
            # A comma or "y" between them adds distance: the cue more probably belongs to the other side.
            distance = len(gap) + 12 * sum(gap.count(mark) for mark in (",", ";", ".", "\n", " y ", " e ", " pero "))
            # "A pero WhatsApp en el B": the cue belongs to B.
            distance += 20 * (" pero " in gap or " mas " in gap)
            # "cel A wsp B": between two numbers, the cue names the second.
            distance += 3 * (phone.end <= cue.start())
            if distance < best_distance:
                nearest, best_distance = position, distance
        if nearest is not None:
            phones[nearest] = replace(phones[nearest], whatsapp=True)
    if phones and not any(phone.whatsapp for phone in phones) and _WHATSAPP.search(turn.asked):
        first = next((position for position, phone in enumerate(phones) if not phone.secondary), None)
        if first is not None:
            phones[first] = replace(phones[first], whatsapp=True)
    return phones


def _linked(turn: UserTurn, regions: Regions) -> Iterator[Phone]:
    """Yield the numbers in links that call or write to the user: ``wa.me/573005550102``."""
    for link in list(_LINK.finditer(turn.folded))[:_MAX_PHONES]:
        digits = re.sub(r"\D", "", link.group("digits"))
        is_call = link.group().startswith("tel:")
        number = to_e164(f"+{digits}", regions.supported[0])
        if is_call and not link.group("plus"):
            number = next(readings(digits, regions, plus=False, cued=True), None)
        if number is not None and not is_foreign(turn, link.start(), link.end()):
            yield Phone(number, turn, link.start(), link.end(), whatsapp=not is_call)


def _phones_of(
    turn: UserTurn,
    runs: Sequence[NumberRun],
    regions: Regions,
    judged: Iterator[int],
    others: set[str],
    *,
    is_announced: bool,
) -> list[Phone]:
    """The user's numbers in a turn; numbers of somebody else are added to ``others``.

    ``is_announced``: the turn before ended with the announcement of another number, as in "mi cédula es".
    """
    if not runs:
        return []
    folded = turn.folded
    phones: list[Phone] = list(_linked(turn, regions)) if ":" in folded or "/" in folded else []
    links = [(phone.start, phone.end) for phone in phones]
    previous_end = 0
    for run in runs:
        if sum(len(part.digits) for part in run.parts) < MIN_DIGITS:
            continue
        if len(phones) >= _MAX_PHONES:
            break
        if any(start <= run.start < end for start, end in links):
            continue
        before = clause_before(folded, run.start, limit_chars=60)
        cued = speaks_of_phone(before) or speaks_of_phone(turn.asked) or is_alone(folded, run)
        # "mi número de México es …": the country beside the number is nearer than the user's place.
        nearest = regions.first(*beside(before, folded[run.parts[-1].end : run.parts[-1].end + 25]))
        for e164, start, end in _numbers(turn, run, nearest, cued, judged):
            corrected = corrects(folded, start, previous_end)
            secondary = is_secondary(folded, start, end, previous_end)
            previous_end = end
            is_asked_other = asks_for_other(turn) or (is_announced and not speaks_of_phone(turn.asked, strictly=True))
            if is_asked_other and not speaks_of_phone(before, strictly=True):
                continue
            if _is_made_up(e164):
                continue
            if _is_of_others(turn, e164, start, end):
                others.add(e164)
            elif e164 not in others or is_called_own(before):
                offered = is_offered(turn, start, end)
                phones.append(Phone(e164, turn, start, end, False, corrected, secondary, offered))
    return _mark_whatsapp(turn, phones)


def _is_made_up(e164: str) -> bool:
    """Whether a number ends with one digit seven times, as nobody's does: 3000000000."""
    return len(set(e164[-MIN_DIGITS:])) == 1


def _is_of_others(turn: UserTurn, e164: str, start: int, end: int) -> bool:
    if is_foreign(turn, start, end) or is_given_up(turn.folded, start, end) or asks_for_others(turn):
        return True
    return is_about_site(turn, start, end, national_digits(e164))


def find_phone(turns: Sequence[UserTurn], regions: Regions) -> Phone | None:
    """Find the phone for contacting the user; ``correction`` is set if it replaced another one."""
    best: Phone | None = None
    replaced = is_doubted = is_announced = False
    begun: Begun | None = None
    judged = iter(range(_MAX_JUDGED))
    others: set[str] = set()
    for turn in turns:
        runs = read_numbers(turn.folded) if has_numbers(turn.folded) else []
        phones = _phones_of(turn, runs, regions, judged, others, is_announced=is_announced)
        is_announced = tells_other(turn.folded)
        if not phones and begun is not None:
            whole, begun = completed(turn, runs, begun, regions)
            if whole is not None:
                e164, start, end = whole
                number = _mobile(turn, e164, start, end, plus=False)
                phones = _mark_whatsapp(turn, [Phone(number, turn, start, end)])
            else:
                begun = begun or begun_in(turn, runs)
        else:
            begun = begun_in(turn, runs) if not phones else None
        if best is not None and denies(turn):
            others.add(best.e164)
            best = None
        if best is not None and not phones:
            if _THAT_IS_WHATSAPP.search(turn.asked) and _YES.match(turn.folded):
                best = replace(best, whatsapp=True)
            corrected = corrected_number(turn, best.e164, regions)
            if corrected is not None:
                begun = None
                is_doubted = corrected.e164 is None
                if corrected.e164 is not None:
                    best = replace(best, e164=corrected.e164, turn=turn, start=corrected.start, end=corrected.end)
                    replaced = True
        for phone in phones:
            if best is None:
                best = phone
            elif phone.e164 == best.e164:
                best = replace(best, whatsapp=best.whatsapp or phone.whatsapp)
            elif is_doubted or _wins(phone, best):
                best, replaced = phone, phone.correction or is_doubted
                is_doubted = False
    return replace(best, correction=replaced) if best is not None else None


def _wins(phone: Phone, best: Phone) -> bool:
    if phone.correction and not phone.secondary:
        return True
    if phone.whatsapp != best.whatsapp:
        return phone.whatsapp
    if phone.secondary != best.secondary:
        return best.secondary and (phone.offered or phone.turn is best.turn)
    return phone.offered and phone.turn.index > best.turn.index


def is_written(turn: UserTurn, e164: str, regions: Regions) -> bool:
    """Whether a turn has this number, in digits or dictated, and not as a price, a date or an identity number.

    A number without country code that is valid in a supported country belongs to that country. Otherwise it may belong
    to the country of ``e164``.
    """
    folded = turn.folded
    if not has_numbers(folded):
        return False
    if any(phone.e164 == e164 for phone in _linked(turn, regions)):
        return True
    national = national_digits(e164)
    judged = iter(range(_MAX_JUDGED))
    for run in read_numbers(folded):
        # However it is written, the number ends with the same digits.
        if not any(national[-MIN_DIGITS:] in digits for digits in _spellings(run.parts)):
            continue
        before = clause_before(folded, run.start, limit_chars=60)
        nearest = regions.first(*beside(before, folded[run.parts[-1].end : run.parts[-1].end + 25]))
        if any(number == e164 for number, _, _ in _numbers(turn, run, nearest, True, judged)):
            return True
        for first in range(len(run.parts)):
            digits = ""
            for part in run.parts[first:]:
                digits += part.digits
                if len(digits) > MAX_DIGITS:
                    break
                if digits not in (national, e164[1:]):
                    continue
                if is_other_number(folded, run.parts[first].start, part.end, plus=False):
                    continue
                number = next(readings(digits, nearest, plus=False, cued=True), None)
                if number in (None, e164):
                    return True
    return False
