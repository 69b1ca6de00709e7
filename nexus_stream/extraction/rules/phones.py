"""Find the user's own phone number, as E.164, from any country.

Digits and dictated numbers are joined, and the phonenumbers library validates them. Prices, dates, identity and file
numbers are no phones. `_wins` has the order of preference: correction, WhatsApp, primary number, newest turn.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import phonenumbers

from nexus_stream.extraction.rules.number_words import NumberRun, has_number_words, read_numbers
from nexus_stream.extraction.rules.ownership import corrects, is_foreign, is_given_up, is_secondary
from nexus_stream.extraction.text import UserTurn, clause_before, last_match

__all__ = ["Phone", "find_phone", "is_written", "to_e164"]

_MEXICO = 52
MIN_DIGITS, MAX_DIGITS = 7, 17
# Validating a number takes some 30 µs, and one conversation can have a hundred thousand ways to join digits. More than
# this is an attack on CPU time or a pasted list, and does not give the user's own number.
_MAX_JUDGED = 1000
_MAX_PHONES = 40  # in one turn

_DIGIT = re.compile(r"\d")
_THOUSANDS = re.compile(r"\(?\d{1,3}(?:[.,']\d{3})+\)?(?:[.,]\d{1,2})?")
_MONEY_BEFORE = re.compile(r"(?:\$|€|£|\b(?:cop|usd|mxn|ars|eur|us|por|en|de|a) ?\$|\b(?:cop|usd|mxn|ars|eur))\s*$")
_MONEY_AFTER = re.compile(
    r"\s{0,3}(?:\$|€|%|\b(?:de )?(?:pesos|peso|millones|millon|mil|dolares|euros|soles|usd|cop|mxn|ars|varos|lucas|"
    r"kg|km|metros|"
    r"anos|dias|horas|unidades)\b)"
)
_IDENTITY = re.compile(
    r"\b(?:cedula|c\.?c|c\.i|dni|nit|rut|rfc|curp|nie|nif|cif|cuit|cuil|pasaporte|documento|identificacion|"
    r"identidad|matricula|"
    r"radicado|expediente|factura|pedido|orden|guia|caso|ticket|referencia|ref|contrato|cuenta|cbu|clabe|iban|"
    r"codigo|placa|"
    r"serie|serial|folio|poliza|tarjeta|rastreo|tramite|registro|proceso|solicitud|id|nss|ruc|consignacion|"
    r"recibo|turno)\b"
)
_PHONE_CUE = re.compile(
    r"\b(?:tel\w*|cel\w*|movil|whats\w*|wasap|guasap|wsp|wpp|wa|fono|numero|num|nro|llam\w+|marc\w+|contact\w+|"
    r"linea|phone|text|"
    r"indicativo|escrib\w+|al|lada)\b"
)
_WHATSAPP = re.compile(r"\b(?:whats\w*|watsap\w*|wats|wasap\w*|guasap\w*|wsp|wpp|wap)\b")
_NO_WHATSAPP = re.compile(r"\b(?:no (?:tiene|tengo|es|uso|hay)|sin|no)(?: el| mi| un)?\s*$")
_THAT_IS_WHATSAPP = re.compile(r"\b(?:ese|este|mismo|numero)\b[^?]{0,40}\b(?:whats|wasap|wsp)")
_YES = re.compile(r"\W{0,12}(?:si|claro|correcto|exacto|ese|asi es|afirmativo|sip|yes|dale|el mismo)\b")


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


@lru_cache(maxsize=4096)
def to_e164(number: str, region: str) -> str | None:
    """Return a valid number as E.164, else None; a number without ``+`` belongs to ``region``."""
    try:
        parsed = phonenumbers.parse(number, region)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_valid_number(parsed):
        # Until 2019 Mexican mobile numbers had a 1 after the country code, and people still write it.
        if parsed.country_code == _MEXICO and number.startswith("+521"):
            return to_e164(f"+52{number[4:]}", region)
        return None
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)


def _valid(digits: str, plus: bool, region: str, cued: bool) -> str | None:
    if not MIN_DIGITS <= len(digits) <= MAX_DIGITS:
        return None
    if plus:
        return to_e164(f"+{digits}", region)
    if digits.startswith("00") and len(digits) > 10:
        return to_e164(f"+{digits[2:]}", region)
    # A country code without its plus: only if the text mentions a phone, and with at least 11 digits.
    return to_e164(digits, region) or (to_e164(f"+{digits}", region) if cued and len(digits) >= 11 else None)


def _is_other_number(folded: str, start: int, end: int, plus: bool) -> bool:
    if _MONEY_BEFORE.search(folded[max(0, start - 8) : start]) or _MONEY_AFTER.match(folded, end):
        return True
    if plus:
        return False
    if _THOUSANDS.fullmatch(folded, start, end):
        return True
    before = clause_before(folded, start, limit_chars=60)
    identity = last_match(_IDENTITY, before)
    if identity is None:
        return False
    return _PHONE_CUE.search(before, identity.end()) is None


def _numbers(
    turn: UserTurn, run: NumberRun, region: str, cued: bool, judged: Iterator[int]
) -> list[tuple[str, int, int]]:
    """Split one run into its numbers, the longest first, until ``judged`` is used up."""
    found: list[tuple[str, int, int]] = []
    first = 0
    while first < len(run.parts):
        for last in range(len(run.parts), first, -1):
            parts = run.parts[first:last]
            start, end = parts[0].start, parts[-1].end
            plus = run.plus and first == 0
            digits = "".join(part.digits for part in parts)
            if not MIN_DIGITS <= len(digits) <= MAX_DIGITS or any(part.slash for part in parts[:-1]):
                continue
            if next(judged, None) is None:
                return found
            e164 = _valid(digits, plus, region, cued)
            if e164 is not None and not _is_other_number(turn.folded, start, end, plus):
                found.append((e164, run.start if plus else start, end))
                first = last
                break
        else:
            first += 1
    return found


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
            distance = len(gap) + 12 * sum(gap.count(mark) for mark in (",", ";", ".", "\n", " y ", " pero "))
            # "A pero WhatsApp en el B": the cue belongs to B.
            distance += 20 * (" pero " in gap)
            if distance < best_distance:
                nearest, best_distance = position, distance
        if nearest is not None:
            phones[nearest] = replace(phones[nearest], whatsapp=True)
    if phones and not any(phone.whatsapp for phone in phones) and _WHATSAPP.search(turn.asked):
        first = next((position for position, phone in enumerate(phones) if not phone.secondary), None)
        if first is not None:
            phones[first] = replace(phones[first], whatsapp=True)
    return phones


def _phones_of(turn: UserTurn, region: str, judged: Iterator[int]) -> list[Phone]:
    folded = turn.folded
    if not _DIGIT.search(folded) and not has_number_words(folded):
        return []
    phones: list[Phone] = []
    previous_end = 0
    for run in read_numbers(folded):
        if sum(len(part.digits) for part in run.parts) < MIN_DIGITS:
            continue
        if len(phones) >= _MAX_PHONES:
            break
        before = clause_before(folded, run.start, limit_chars=60)
        cued = bool(_PHONE_CUE.search(before) or _PHONE_CUE.search(turn.asked))
        for e164, start, end in _numbers(turn, run, region, cued, judged):
            corrected = corrects(folded, start, previous_end)
            if not is_foreign(turn, start, end) and not is_given_up(folded, start, end):
                secondary = is_secondary(folded, start, end, previous_end)
                phones.append(Phone(e164, turn, start, end, correction=corrected, secondary=secondary))
            previous_end = end
    return _mark_whatsapp(turn, phones)


def find_phone(turns: Sequence[UserTurn], region: str) -> Phone | None:
    """Find the phone for contacting the user; ``correction`` is set if it replaced another one."""
    best: Phone | None = None
    replaced = False
    judged = iter(range(_MAX_JUDGED))
    for turn in turns:
        phones = _phones_of(turn, region, judged)
        if best is not None and not phones and _THAT_IS_WHATSAPP.search(turn.asked) and _YES.match(turn.folded):
            best = replace(best, whatsapp=True)
        for phone in phones:
            if best is None:
                best = phone
            elif phone.e164 == best.e164:
                best = replace(best, whatsapp=best.whatsapp or phone.whatsapp)
            elif _wins(phone, best):
                best, replaced = phone, phone.correction
    return replace(best, correction=replaced) if best is not None else None


def _wins(phone: Phone, best: Phone) -> bool:
    if phone.correction and not phone.secondary:
        return True
    if phone.whatsapp != best.whatsapp:
        return phone.whatsapp
    if phone.secondary != best.secondary:
        return best.secondary
    return phone.turn.index > best.turn.index


def is_written(turn: UserTurn, e164: str, region: str) -> bool:
    """Whether a turn has this number, in digits or dictated, and not as a price, a date or an identity number.

    A number without country code that is valid in ``region`` belongs to that country. Otherwise it may belong to the
    country of ``e164``.
    """
    folded = turn.folded
    if not _DIGIT.search(folded) and not has_number_words(folded):
        return False
    national = str(phonenumbers.national_significant_number(phonenumbers.parse(e164)))
    judged = iter(range(_MAX_JUDGED))
    for run in read_numbers(folded):
        # However it is written, the number ends with the same digits.
        if national[-MIN_DIGITS:] not in "".join(part.digits for part in run.parts):
            continue
        if any(number == e164 for number, _, _ in _numbers(turn, run, region, True, judged)):
            return True
        for first in range(len(run.parts)):
            digits = ""
            for part in run.parts[first:]:
                digits += part.digits
                if len(digits) > MAX_DIGITS or part.slash:
                    break
                if digits not in (national, e164[1:]) or _is_other_number(
                    folded, run.parts[first].start, part.end, False
                ):
                    continue
                if to_e164(digits, region) in (None, e164):
                    return True
    return False
