"""Whether the user wrote or dictated a claimed phone number, in one turn or over neighbouring turns.

The digits must come from one run of digits, or from runs that are halves of one number. They are never collected from
prices, dates, documents and orders. A partial correction may change the last number given.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from nexus_stream.extraction.evidence.spoken import Place, Written, announces_correction, short_turns, unchanged
from nexus_stream.extraction.rules.countries import Regions
from nexus_stream.extraction.rules.e164 import as_mobile, national_digits, readings, to_e164
from nexus_stream.extraction.rules.number_words import NumberRun, has_number_words, read_numbers
from nexus_stream.extraction.rules.other_numbers import asks_for_other, is_other_number, speaks_of_phone
from nexus_stream.extraction.rules.phone_corrections import is_about_number
from nexus_stream.extraction.rules.phones import find_phone, is_written
from nexus_stream.extraction.text import UserTurn, words_of

__all__ = ["written_phone"]

# Bounds against an attack on CPU time: an ordinary chat has a tenth of these.
_MAX_RUNS = 60
_MAX_PARTS = 6  # turns that one number is spread over
_MAX_CHANGED = 4
_TAIL_DIGITS = 7

_DIGIT = re.compile(r"\d")
# What people say around a part of their number. Any other word makes it a price, an age or an order.
_AROUND = re.compile(
    r"mi|meu|my|el|o|es|e|y|and|ah|ay|uy|si|sim|ok|cel|celular|movil|numero|number|tel|telefono|telefone|whatsapp|zap|"
    r"wsp|phone|luego|despues|depois|then|resto|rest|los?|las?|os|ultimos|final|sigue|falta|faltaba|falto|perdon|"
    r"primero|empieza|comienza|comeca|termina|con|por|son|digitos|aqui|ahi|ahora"
)
_OF_THE_REST = re.compile(
    r"\b(?:falt\w*|resto|complet\w*|sig\w*|continu\w*|digit\w*|final\w*|rest|more|missing|luego|despues|y|e)\b"
)


class _Run(NamedTuple):
    turn: UserTurn
    run: NumberRun
    digits: str
    place: Place
    is_first: bool  # of its turn
    is_last: bool


def written_phone(claimed: str, turns: Sequence[UserTurn], regions: Regions) -> Written | None:
    """Find the number in the user's turns. Return it as E.164; None if the user gave no such number.

    Args:
        claimed: Any way to write it. Without a country code it belongs to a country that the chat supports.
        turns: The user's turns.
        regions: The countries that the chat supports.
    """
    numbers = _numbers(claimed, regions)
    if not numbers:
        return None
    own = [turn for turn in turns if not asks_for_other(turn) or speaks_of_phone(turn.folded, strictly=True)]
    for e164 in numbers:
        for turn in reversed(own):
            if is_written(turn, e164, regions):
                return Written(e164, (_place(turn, e164),))
    short = short_turns(own)
    runs = [run for turn in short for run in _runs(turn)][-_MAX_RUNS:]
    for e164 in numbers:
        places = next(_joined(e164, runs, regions), None) or next(_corrected(e164, runs, short, regions), None)
        if places is not None:
            return Written(e164, places)
    # The rules also read what no claim is needed for: numbers over turns that say more.
    best = find_phone(short, regions)
    if best is None or best.e164 not in numbers:
        return None
    return Written(best.e164, (Place(best.turn, best.start, best.end),))


def _numbers(claimed: str, regions: Regions) -> list[str]:
    """The numbers that a claim can mean, as E.164, the most probable first. A mobile comes before its landline form."""
    digits = "".join(str(int(character)) for character in claimed if character.isdecimal())
    if claimed.strip().startswith("+"):
        number = to_e164(f"+{digits}", regions.supported[0])
        found = [number] if number is not None else []
    else:
        found = list(readings(digits, regions, plus=False, cued=True))
    return list(dict.fromkeys(form for number in found for form in (as_mobile(number), number)))


def _runs(turn: UserTurn) -> list[_Run]:
    if not _DIGIT.search(turn.folded) and not has_number_words(turn.folded):
        return []
    runs = read_numbers(turn.folded)
    return [
        _Run(
            turn,
            run,
            "".join(part.digits for part in run.parts),
            Place(turn, run.start, run.parts[-1].end),
            index == 0,
            index == len(runs) - 1,
        )
        for index, run in enumerate(runs)
    ]


def _place(turn: UserTurn, e164: str) -> Place:
    tail = national_digits(e164)[-_TAIL_DIGITS:]
    return next((run.place for run in _runs(turn) if tail in run.digits), Place(turn, 0, len(turn.text)))


def _is(e164: str, digits: str, regions: Regions, *, plus: bool) -> bool:
    return any(e164 in (number, as_mobile(number)) for number in readings(digits, regions, plus=plus, cued=True))


def _joined(e164: str, runs: Sequence[_Run], regions: Regions) -> Iterator[tuple[Place, ...]]:
    """The runs of neighbouring turns that are together this number."""
    for first in range(len(runs)):
        digits = ""
        places: list[Place] = []
        for each in runs[first : first + _MAX_PARTS]:
            if not each.is_last or not _is_bare(each) or (places and not _continues(each, places[-1].turn)):
                break
            digits += each.digits
            places.append(each.place)
            if len(places) > 1 and _is(e164, digits, regions, plus=runs[first].run.plus):
                yield tuple(places)


def _is_bare(each: _Run) -> bool:
    """Whether a turn has only this number and words about it."""
    folded, (_, start, end) = each.turn.folded, each.place
    around = words_of(folded[:start]) + words_of(folded[end:])
    if not all(_AROUND.fullmatch(word) for word in around) or any(part.slash for part in each.run.parts):
        return False
    return not is_other_number(folded, start, end, plus=each.run.plus)


def _continues(each: _Run, before: UserTurn) -> bool:
    """Whether a run goes on with the number of the turn before it, which somebody called a phone."""
    if each.turn is before or not each.is_first:
        return False
    if not (speaks_of_phone(before.asked) or speaks_of_phone(before.folded)):
        return False
    return (
        each.turn.asked == before.asked
        or speaks_of_phone(each.turn.asked)
        or _OF_THE_REST.search(each.turn.asked) is not None
    )


def _corrected(
    e164: str, runs: Sequence[_Run], turns: Sequence[UserTurn], regions: Regions
) -> Iterator[tuple[Place, ...]]:
    """An earlier number and the turn that changes its digits to the claimed ones: "el último es 7 no 1"."""
    for turn in turns:
        if not announces_correction(turn):
            continue
        said = [
            part.digits
            for run in runs
            if run.turn is turn and not is_other_number(*_span(run), plus=run.run.plus)
            for part in run.run.parts
        ]
        for run in runs:
            if run.turn.index >= turn.index or is_other_number(*_span(run), plus=run.run.plus):
                continue
            for number in readings(run.digits, regions, plus=run.run.plus, cued=True):
                old = as_mobile(number) if as_mobile(e164) == e164 else number
                if _changes(old, e164, said) and is_about_number(turn, 0, len(turn.folded), number):
                    yield run.place, Place(turn, 0, len(turn.text))


def _span(run: _Run) -> tuple[str, int, int]:
    return run.turn.folded, run.place.start, run.place.end


def _changes(old: str, new: str, said: Sequence[str]) -> bool:
    """Whether the digits that were said turn one number into the other: the changed ones, or a group that has them."""
    start, tail = unchanged(old, new)
    was, now = old[start : len(old) - tail], new[start : len(new) - tail]
    if abs(len(was) - len(now)) > 1 or max(len(was), len(now)) > _MAX_CHANGED or not now:
        return False
    return any(
        digits == now
        or (tail < len(digits) <= _MAX_CHANGED and new.endswith(digits) and len(digits) >= len(now) + tail)
        for digits in said
    )
