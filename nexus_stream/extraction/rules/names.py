"""Find the user's own name: the user introduces themselves, or answers the assistant's question.

The name is never read from the assistant's text, and never that of a third party or a company. The first name that the
user gives stays. A longer name that contains it extends it. An explicit correction replaces it (name_corrections.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

from nexus_stream.extraction.rules.lexicon import GIVEN_NAMES, OCCUPATIONS, SURNAMES
from nexus_stream.extraction.rules.name_corrections import corrected_words, corrects_name
from nexus_stream.extraction.rules.name_cues import (
    AFTER_NAME,
    ASKS_BACK,
    ASKS_IN_SHORT,
    ASKS_NAME,
    ASKS_SURNAME,
    BEFORE_SIGNATURE,
    BOT_INTRODUCES,
    BOT_IS,
    ENDS_SENTENCE,
    ENDS_TURN,
    FILLER,
    FILLER_SURNAME,
    GOES_ON,
    GREETING,
    GREETS,
    INTRODUCES,
    NICKNAME,
    NOT_ME,
    OTHERS,
    PLACED,
    SELF,
    TOLD,
    VOCATIVE,
)
from nexus_stream.extraction.rules.name_reading import (
    NameRun,
    Trust,
    is_boundary,
    proper_case,
    read_name,
    without_addresses,
)
from nexus_stream.extraction.rules.ownership import is_called
from nexus_stream.extraction.text import UserTurn, clause_before, fold, words_of

__all__ = ["Name", "Rank", "find_name"]


class Rank(IntEnum):
    """The quality of a name's source."""

    NICKNAME = 0
    PLACED = 1
    SELF = 2
    TOLD = 3


@dataclass(frozen=True, slots=True)
class Name:
    """The user's name and its position."""

    words: tuple[str, ...]
    turn: UserTurn
    start: int
    end: int
    rank: Rank
    correction: bool = False

    @property
    def text(self) -> str:
        """The name as it is stored."""
        return proper_case(self.words)

    @property
    def keys(self) -> tuple[str, ...]:
        """Folded words that identify the name."""
        return tuple(fold(word) for word in self.words)


_CUE_HINTS = ("gracia", "llam", "llem", "yam", "nombre", "nonbre", "nembre", "name", "present", "habla")


def _introduced(turn: UserTurn) -> Iterator[tuple[NameRun, Rank]]:
    """Yield names after a phrase of introduction."""
    folded = turn.folded
    for pattern, trust, rank in (
        (TOLD, Trust.TOLD, Rank.TOLD),
        (SELF, Trust.SELF, Rank.SELF),
        (PLACED, Trust.PLACED, Rank.PLACED),
        (NICKNAME, Trust.SELF, Rank.NICKNAME),
    ):
        if rank is Rank.TOLD and not any(hint in folded for hint in _CUE_HINTS):
            continue
        for cue in pattern.finditer(folded):
            if NOT_ME.search(folded[max(0, cue.start() - 40) : cue.start()]) or is_called(turn, *cue.span()):
                continue
            run = read_name(turn, cue.end(), trust)
            if run is None:
                continue
            if rank is Rank.PLACED and not _stands_alone(turn, run, cue.group()):
                continue
            yield run, rank


def _stands_alone(turn: UserTurn, run: NameRun, cue: str) -> bool:
    """Whether a name after a weak cue is complete, and is not in the assistant's question."""
    if set(run.folded) <= set(words_of(turn.asked)):
        return False
    if is_boundary(turn.folded, run.end):
        return True
    return (
        len(run.words) > 1
        and cue.strip() in ("aqui", "aca", "por aqui", "por aca")
        and bool(GOES_ON.match(turn.folded, run.end))
    )


def _placed_first(turn: UserTurn) -> Iterator[NameRun]:
    """Yield names before their cue: ``Camilo Restrepo por acá``; ``Buen día, Felipe Villarreal, ingeniero civil``."""
    folded = turn.folded
    for after in AFTER_NAME.finditer(folded):
        if is_called(turn, *after.span()):
            continue
        start = max(folded.rfind(mark, 0, after.start()) for mark in ".,!?;:\n¡¿") + 1
        run = read_name(turn, start + len(folded[start:]) - len(folded[start:].lstrip()), Trust.PLACED)
        if run is not None and folded[run.end : after.start()].strip(" ,") == "" and not _of_others(turn, run.start):
            yield run
    greeting = GREETING.match(folded)
    for start in sorted({0, greeting.end() if greeting else 0}):
        run = read_name(turn, start, Trust.PLACED)
        if run is None or len(run.folded) < 2 or set(run.folded) & set(words_of(turn.asked)):
            continue
        introduces = INTRODUCES.match(folded, run.end)
        if introduces is not None and (introduces.group(1) is None or introduces.group(1) in OCCUPATIONS):
            yield run
            return
        if start and ENDS_SENTENCE.match(folded, run.end):
            yield run
            return


def _of_others(turn: UserTurn, position: int) -> bool:
    """Whether the sentence mentions somebody else before ``position``."""
    return OTHERS.search(clause_before(turn.folded, position)) is not None


def _signed(turn: UserTurn) -> NameRun | None:
    """Find a full name that ends the turn, after a punctuation mark or on its own line."""
    for mark in reversed(list(BEFORE_SIGNATURE.finditer(turn.folded))[-3:]):
        run = read_name(turn, mark.end(), Trust.PLACED)
        if run is None or len(run.folded) < 2 or (run.folded[0] not in GIVEN_NAMES and run.folded[1] not in SURNAMES):
            continue
        if not ENDS_TURN.match(turn.folded, run.end) or set(run.folded) & set(words_of(turn.asked)):
            continue
        return None if _of_others(turn, run.start) else run
    return None


def _addressed(turn: UserTurn, bot_names: set[str]) -> NameRun | None:
    """Find the name that the assistant's reply uses (``Gracias, Nelson``) and that the user's turn has too."""
    if not turn.reply:
        return None
    reply = fold(turn.reply)
    for vocative in VOCATIVE.finditer(reply):
        word = vocative.group(1)
        if not turn.reply[vocative.start(1)].isupper() or word in bot_names or word not in turn.folded:
            continue
        for place in re.finditer(rf"\b{word}\b", turn.folded):
            before = turn.folded[max(0, place.start() - 45) : place.start()]
            if OTHERS.search(before) or GREETS.search(before):
                continue
            run = read_name(turn, place.start(), Trust.TOLD)
            if run is not None:
                return run
    return None


def _asks_name(asked: str) -> bool:
    return ASKS_NAME.search(asked) is not None or ASKS_IN_SHORT.search(asked) is not None


def _answered(turn: UserTurn, *, asked_before: bool) -> NameRun | None:
    """Read the answer to the assistant's question for the name."""
    if not turn.asked or not (_asks_name(turn.asked) or (asked_before and ASKS_BACK.search(turn.asked))):
        return None
    filler = FILLER.match(turn.folded)
    run = read_name(turn, filler.end() if filler else 0, Trust.TOLD)
    if run is None:
        return None
    if not run.known and len(run.words) < 2:
        return None
    # "hola mauricio" may greet the assistant, which has just given its own name.
    named = turn.asked.find(run.folded[0])
    if named >= 0 and BOT_IS.search(turn.asked[:named]) and set(run.folded) <= set(words_of(turn.asked)):
        return None
    if is_boundary(turn.folded, run.end):
        rest = turn.folded[run.end :].lstrip()
        # A question is no answer.
        return None if rest.startswith("?") else run
    return run if run.known and GOES_ON.match(turn.folded, run.end) else None


def _answered_surname(turn: UserTurn, known: Name) -> NameRun | None:
    if len(known.words) > 2 or not turn.asked:
        return None
    start = 0
    told = FILLER_SURNAME.search(turn.folded)
    if told is not None:
        start = told.end()
    elif not ASKS_SURNAME.search(turn.asked) or _asks_name(turn.asked):
        return None
    else:
        filler = FILLER.match(turn.folded)
        start = filler.end() if filler else 0
    run = read_name(turn, start, Trust.TOLD)
    if run is None or (not is_boundary(turn.folded, run.end) and not GOES_ON.match(turn.folded, run.end)):
        return None
    return run if not set(run.folded) & set(known.keys) else None


def _extended(turn: UserTurn, known: Name) -> NameRun | None:
    """Find the known name again, alone and with more words: ``soy dayana 💅 dayana pulido``."""
    first = known.keys[0]
    if turn.folded.count(first) < (2 if turn is known.turn else 1):
        return None
    for match in re.finditer(rf"(?:^|[^a-z\s]\s{{0,3}}|\n)(?={re.escape(first)}\s)", turn.folded):
        run = read_name(turn, match.end(), Trust.TOLD)
        if run is None or not is_boundary(turn.folded, run.end) or len(run.words) <= len(known.words):
            continue
        if tuple(fold(word) for word in run.words)[: len(known.words)] == known.keys:
            return run
    return None


def _candidates(turn: UserTurn, bot_names: set[str], *, known: bool, asked_before: bool) -> Iterator[Name]:
    found: list[tuple[NameRun, Rank]] = list(_introduced(turn))
    found += [(run, Rank.PLACED) for run in _placed_first(turn)]
    if not found:
        answer = _answered(turn, asked_before=asked_before)
        if answer is not None:
            found.append((answer, Rank.TOLD))
    if not known and all(rank is Rank.NICKNAME for _, rank in found):
        run = _addressed(turn, bot_names)
        if run is not None:
            found.append((run, Rank.SELF))
        else:
            run = _signed(turn)
            found += [(run, Rank.PLACED)] if run is not None else []
    for run, rank in sorted(found, key=lambda item: (item[0].start, -item[1])):
        yield Name(run.words, turn, run.start, run.end, rank)


def find_name(turns: Sequence[UserTurn]) -> Name | None:
    """Find the user's name; ``correction`` is set if the user explicitly replaced another one."""
    known: Name | None = None
    asked_before = False
    bot_names: set[str] = set()
    for received in turns:
        turn = without_addresses(received)
        for introduction in BOT_INTRODUCES.finditer(turn.asked):
            bot_names.update(words_of(introduction.group(1)))
        correcting = known is not None and corrects_name(turn, known.keys)
        for name in _candidates(turn, bot_names, known=known is not None, asked_before=asked_before):
            known = _better(known, name, correcting=correcting)
        asked_before = asked_before or _asks_name(turn.asked)
        if known is not None:
            known = _completed(turn, known, correcting=correcting)
    return known


def _completed(turn: UserTurn, known: Name, *, correcting: bool) -> Name:
    """Extend or correct the known name with the words of the turn."""
    surname = _answered_surname(turn, known)
    if surname is not None and not correcting:
        words = known.words + surname.words
        known = replace(known, words=words, turn=turn, start=surname.start, end=surname.end, rank=Rank.TOLD)
    longer = _extended(turn, known)
    if longer is not None:
        known = replace(known, words=longer.words, turn=turn, start=longer.start, end=longer.end)
    if correcting:
        corrected = corrected_words(turn, known.words)
        if corrected is not None and corrected[0] != known.words:
            words, start, end = corrected
            known = Name(words, turn, start, end, Rank.TOLD, correction=True)
    return known


def _better(known: Name | None, name: Name, *, correcting: bool) -> Name:
    if known is None:
        return name
    old, new = set(known.keys), set(name.keys)
    if new == old and name.words == known.words:
        return known
    if correcting and name.turn is not known.turn and name.rank is not Rank.NICKNAME:
        return _corrected(known, name)
    if new <= old:
        return known
    if old <= new:
        return replace(name, correction=known.correction)
    if known.rank is Rank.NICKNAME and name.rank is not Rank.NICKNAME:
        return name
    if name.rank < Rank.SELF or (name.rank < known.rank and len(known.words) > 1):
        return known
    return name if len(name.words) >= max(2, len(known.words)) else known


def _corrected(known: Name, name: Name) -> Name:
    # One word corrects only one word of the name: corrected_words finds that word.
    return replace(name, correction=True) if len(name.words) > 1 or len(known.words) == 1 else known
