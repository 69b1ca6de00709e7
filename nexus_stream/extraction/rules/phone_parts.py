"""Join a phone number that is spread over several turns: "300 555", then "uy, se fue solo. 0102"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from nexus_stream.extraction.rules.countries import Regions
from nexus_stream.extraction.rules.e164 import MAX_DIGITS, readings
from nexus_stream.extraction.rules.number_words import NumberRun
from nexus_stream.extraction.rules.other_numbers import asks_for_other, is_other_number, speaks_of_phone
from nexus_stream.extraction.rules.ownership import is_foreign
from nexus_stream.extraction.text import UserTurn, clause_before

__all__ = ["Begun", "begun_in", "completed", "is_alone"]

# Characters before the rest of a number that was begun a turn earlier: "uy sí, 0188".
_MAX_BEFORE_REST = 25
# Turns without digits between the parts of a number.
_MAX_WAITED = 2


def is_alone(folded: str, run: NumberRun) -> bool:
    """Whether the turn is nothing but this number."""
    rest = folded[: run.start] + folded[run.parts[-1].end :]
    return not any(character.isalnum() for character in rest)


@dataclass(frozen=True, slots=True)
class Begun:
    """The digits of a number that its turn did not complete."""

    digits: str
    plus: bool
    cued: bool
    # Its turn had only digits.
    is_alone: bool = False
    # Turns without digits that came after it: "uy, se fue solo".
    waited: int = 0


def begun_in(turn: UserTurn, runs: Sequence[NumberRun]) -> Begun | None:
    """Return the short number at the end of a turn, which the next turn may complete."""
    if not runs:
        return None
    run = runs[-1]
    end = run.parts[-1].end
    digits = "".join(part.digits for part in run.parts)
    if len(digits) > MAX_DIGITS or any(character.isalnum() for character in turn.folded[end:]):
        return None
    if is_other_number(turn.folded, run.start, end, plus=run.plus) or is_foreign(turn, run.start, end):
        return None
    if asks_for_other(turn):
        return None
    before = clause_before(turn.folded, run.start, limit_chars=60)
    cued = speaks_of_phone(before) or speaks_of_phone(turn.asked)
    return Begun(digits, run.plus, cued, is_alone=is_alone(turn.folded, run))


def completed(
    turn: UserTurn, runs: Sequence[NumberRun], begun: Begun, regions: Regions
) -> tuple[tuple[str, int, int] | None, Begun | None]:
    """Complete a number with the turn's first digits: the number and its last part's span, or what is begun now."""
    if not runs:
        return None, None if begun.waited >= _MAX_WAITED else replace(begun, waited=begun.waited + 1)
    run = runs[0]
    if asks_for_other(turn):
        return None, None
    if run.plus or (run.start > _MAX_BEFORE_REST and len(runs) > 1):
        return None, None
    end = run.parts[-1].end
    part = "".join(part.digits for part in run.parts)
    digits = begun.digits + part
    are_alone = begun.is_alone and is_alone(turn.folded, run) and "?" not in turn.asked
    cued = begun.cued or speaks_of_phone(turn.asked) or are_alone
    number = next(readings(digits, regions, plus=begun.plus, cued=cued), None) if cued else None
    if number is not None and not is_other_number(turn.folded, run.start, end, plus=False):
        return (number, run.start, end), None
    # One digit among other words is an age or an amount, unless it ends the number.
    more = len(digits) < MAX_DIGITS and len(runs) == 1 and (len(part) > 1 or is_alone(turn.folded, run))
    return None, Begun(digits, begun.plus, cued, are_alone) if more else None
