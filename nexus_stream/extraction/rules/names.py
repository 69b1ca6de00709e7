"""Find the user's own name: the user introduces themselves, or answers the assistant's question.

The name is never read from the assistant's text, and never that of a third party or a company. The first name that the
user gives stays. A longer name that contains it extends it. An explicit correction replaces it (name_corrections.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

from nexus_stream.extraction.evidence.spoken import is_of_another
from nexus_stream.extraction.rules.lexicon import GIVEN_NAMES, OCCUPATIONS, PLACES, SURNAMES, sounds_like_a_name
from nexus_stream.extraction.rules.name_answers import (
    ARTICLE,
    addressed_name,
    answered_name,
    answered_surname,
    asks_name,
    is_in_place,
    is_of_others,
    stated_name,
)
from nexus_stream.extraction.rules.name_corrections import corrected_words, corrects_name
from nexus_stream.extraction.rules.name_cues import (
    AFTER_NAME,
    BEFORE_SIGNATURE,
    BOT_INTRODUCES,
    ENDS_SENTENCE,
    ENDS_TURN,
    GOES_ON,
    GREETING,
    INTRODUCES,
    NICKNAME,
    NOT_ME,
    OF_OTHERS,
    PLACED,
    RELATED,
    SELF,
    TOLD,
)
from nexus_stream.extraction.rules.name_letters import corrected_letters, read_spelled, respelled
from nexus_stream.extraction.rules.name_reading import NameRun, Trust, read_name
from nexus_stream.extraction.rules.name_words import has_any, is_boundary, is_listed, looks_coined, proper_case
from nexus_stream.extraction.rules.ownership import is_called
from nexus_stream.extraction.text import BLANK, UserTurn, fold, words_of

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


_ADDRESS = re.compile(r"[^\s@]{0,64}@\S{0,255}")


def _without_addresses(turn: UserTurn) -> UserTurn:
    """Blank the e-mail addresses in a turn: their words are no name."""
    if "@" not in turn.folded:
        return turn
    return replace(turn, folded=_ADDRESS.sub(lambda match: BLANK * len(match.group()), turn.folded))


# Fast first checks: a turn without any of these cannot match the pattern.
_HINTS = {
    Rank.TOLD: ("nombre", "nonbre", "nembre", "name", "nome", "llam", "llem", "yam", "yem", "gracia", "present",
        "habla", "cham", "datos", "dados", "parte mia"),
    Rank.SELF: ("soy", "soi", "sou", "im", "i'm", "i am", "it's", "its", "this is", "habla", "escrib", "saluda",
        "contacta", "fala", "escrev", "aqui", "aki", "persona", "servidora", "identific", "nombre", "nome"),
    Rank.PLACED: ("yo", "aqui", "aca", "att", "aten", "firma", "cordial", "abrac", "regards", "cheers"),
    Rank.NICKNAME: ("dicen", "llam", "conoce", "dime", "diga", "deci", "call", "go by", "cham", "conhece"),
}  # fmt: skip
_RELATED_HINTS = ("soy", "sou", "im ", "i'm", "i am")
_BOT_HINTS = ("soy", "saluda", "habla", "escribe", "llamo", "nombre es", "im ", "i'm", "sou ", "aqui e ", "chamo",
    "nome e", "name is", "this is")  # fmt: skip
_AFTER_HINTS = ("aqui", "aca", "servir", "orden", "al habla", "reporta", "present", "speaking", "here", "lado", "side",
    "llamo", "chamo", "nombre", "nome", "name", "habla", "escribe", "saluda", "gusto", "falando", "dispor")  # fmt: skip
_ENGLISH = re.compile(r"i'?m\b|i am|it'?s|this is")
# After these words the name is told: it may be one that no list has.
_NICKNAME_ASKED = re.compile(r"dime|digame|decime|diganme|^llam|calls? me")


def _introduced(turn: UserTurn) -> Iterator[tuple[NameRun, Rank]]:
    """Yield names after a phrase of introduction."""
    folded = turn.folded
    for pattern, trust, rank in (
        (TOLD, Trust.TOLD, Rank.TOLD),
        (SELF, Trust.SELF, Rank.SELF),
        (RELATED, Trust.SELF, Rank.SELF),
        (PLACED, Trust.PLACED, Rank.PLACED),
        (NICKNAME, Trust.SELF, Rank.NICKNAME),
    ):
        if not has_any(folded, _RELATED_HINTS if pattern is RELATED else _HINTS[rank]):
            continue
        for cue in pattern.finditer(folded):
            if NOT_ME.search(folded[max(0, cue.start() - 70) : cue.start()]) or is_called(turn, *cue.span()):
                continue
            run = _read(turn, cue, trust, rank)
            if run is None or OF_OTHERS.match(folded, run.end):
                continue
            if trust is Trust.SELF and _is_called_something(turn, run, cue):
                continue
            if pattern is RELATED and not (is_boundary(folded, run.end) or GOES_ON.match(folded, run.end)):
                continue
            # In English a capital word after "I'm" may be anything: a day, a nation, a faith.
            if _ENGLISH.match(cue.group()) and len(run.words) == 1 and not is_listed(run.folded[0]):
                continue
            if rank is Rank.PLACED and not _stands_alone(turn, run, cue.group()):
                continue
            yield run, rank


# Before a name in lower case: before a capital word that is no name, people type it so seldom.
_ARTICLE = re.compile(r"[a-z] (?:el|la|o|a) $")
_NEXT = re.compile(r"[ \t]{1,3}([a-z]+)")
_ROLES = frozenset(
    {"size", "lover", "fan", "girl", "boy", "mom", "dad", "driver", "master", "leader", "manager", "owner"}
)


def _is_given_name(turn: UserTurn, run: NameRun, cue: re.Match[str]) -> bool:
    """Whether one unlisted word after "soy" is a name: the assistant uses it, it sounds so, or "la" is before it."""
    word = run.folded[0]
    if word in turn.echoed or looks_coined(word) or sounds_like_a_name(word):
        return True
    return _ARTICLE.search(turn.text, cue.start(), run.start) is not None and run.words[0][0].isupper()


def _is_called_something(turn: UserTurn, run: NameRun, cue: re.Match[str]) -> bool:
    """Whether unlisted words after "soy" are no name: ``Soy Tauro``, ``Soy Scrum Master``, ``soy Zumba instructor``."""
    if any(is_listed(word) for word in run.folded):
        return False
    if not _ROLES.isdisjoint(run.folded):
        return True
    if len(run.folded) == 1 and not _is_given_name(turn, run, cue):
        return True
    after = _NEXT.match(turn.folded, run.end)
    if after is None:
        return False
    word = after.group(1)
    if turn.text[after.start(1)].isupper() and not turn.text[run.start : run.end].isupper():
        return True
    return word in OCCUPATIONS or word in _ROLES


def _read(turn: UserTurn, cue: re.Match[str], trust: Trust, rank: Rank) -> NameRun | None:
    if rank is Rank.NICKNAME and not _NICKNAME_ASKED.search(cue.group()):
        run = read_name(turn, cue.end(), Trust.TOLD)
        return run if run is not None and (run.known or is_boundary(turn.folded, run.end)) else None
    run = read_name(turn, cue.end(), trust)
    if run is not None:
        return respelled(turn, run)
    return read_spelled(turn, cue.end()) if trust is Trust.TOLD else None


def _stands_alone(turn: UserTurn, run: NameRun, cue: str) -> bool:
    """Whether a name after a weak cue is complete, and is not in the assistant's question."""
    if set(run.folded) <= set(words_of(turn.asked)):
        return False
    if is_boundary(turn.folded, run.end):
        return True
    return (
        len(run.words) > 1
        and cue.strip() in ("aqui", "aca", "por aqui", "por aca", "yo")
        and bool(GOES_ON.match(turn.folded, run.end))
    )


def _placed_first(turn: UserTurn) -> Iterator[NameRun]:
    """Yield names before their cue: ``Camilo Restrepo por acá``; ``Buen día, Felipe Villarreal, ingeniero civil``."""
    folded = turn.folded
    for after in AFTER_NAME.finditer(folded) if has_any(folded, _AFTER_HINTS) else ():
        if is_called(turn, *after.span()):
            continue
        start = max(folded.rfind(mark, 0, after.start()) for mark in ".,!?;:\n¡¿") + 1
        greeted = GREETING.match(folded, start, after.start())
        if greeted is not None:
            # "Hola Florencia acá" introduces the user, "hola Florencia, aquí te escribo" greets.
            if not is_boundary(folded, after.end()) or "," in folded[greeted.start() : after.end()]:
                continue
            start = greeted.end()
        before = folded[start : after.start()]
        run = read_name(turn, start + len(before) - len(before.lstrip()), Trust.PLACED)
        if run is None or folded[run.end : after.start()].strip(" ,") != "" or is_of_others(turn, run.start):
            continue
        city = run.folded[0] in PLACES and run.folded[0] not in GIVEN_NAMES
        if greeted is None or not (city or set(run.folded) & set(words_of(turn.asked))):
            yield run
    greeting = GREETING.match(folded)
    for start in (0, greeting.end()) if greeting else (0,):
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


# What stands below a signature: a trade, a firm.
_LAST_LINE = re.compile(r"[ \t]{0,3}\n[^\n]{1,60}$")


def _signed(turn: UserTurn) -> NameRun | None:
    """Find a full name that ends the turn, after a punctuation mark or on its own line."""
    for mark in reversed(list(BEFORE_SIGNATURE.finditer(turn.folded))[-3:]):
        run = read_name(turn, mark.end(), Trust.PLACED)
        if run is None or len(run.folded) < 2 or (run.folded[0] not in GIVEN_NAMES and run.folded[1] not in SURNAMES):
            continue
        ends = ENDS_TURN.match(turn.folded, run.end) or (
            "\n" in mark.group() and _LAST_LINE.match(turn.folded, run.end)
        )
        if not ends or set(run.folded) & set(words_of(turn.asked)):
            continue
        if ARTICLE.search(turn.folded, 0, run.start):
            return None
        return None if is_of_others(turn, run.start) or is_in_place(turn, run) else run
    return None


def _extended(turn: UserTurn, known: Name) -> NameRun | None:
    """Find the known name again, alone and with more words: ``soy dayana 💅 dayana pulido``."""
    first = fold(known.words[0])
    if turn.folded.count(first) < (2 if turn is known.turn else 1):
        return None
    for match in re.finditer(rf"(?:^|[^a-z\s]\s{{0,3}}|\n)(?={re.escape(first)}\s)", turn.folded):
        run = read_name(turn, match.end(), Trust.TOLD)
        if run is None or not is_boundary(turn.folded, run.end) or len(run.words) <= len(known.words):
            continue
        if tuple(fold(word) for word in run.words)[: len(known.words)] == known.keys:
            return run
    return None


def _only_surnames(run: NameRun) -> bool:
    return all(word in SURNAMES for word in run.folded) and run.folded[0] not in GIVEN_NAMES


def _candidates(
    turn: UserTurn, bot_names: set[str], known: Name | None, *, asks: bool, asked_before: bool
) -> Iterator[Name]:
    found: list[tuple[NameRun, Rank]] = list(_introduced(turn))
    found += [(run, Rank.PLACED) for run in _placed_first(turn)]
    if all(rank is Rank.NICKNAME for _, rank in found):
        answer = answered_name(turn, asks=asks, asked_before=asked_before)
        if answer is not None and known is not None and len(known.words) == 1 and _only_surnames(answer):
            answer = replace(answer, words=known.words + answer.words)
        if answer is not None:
            found.append((answer, Rank.TOLD))
    if (known is None or len(known.words) == 1) and all(rank is Rank.NICKNAME for _, rank in found):
        run = addressed_name(turn, bot_names) if known is None else None
        if run is not None:
            found.append((run, Rank.SELF))
        else:
            run = stated_name(turn, bot_names, asks=asks, asked_before=asked_before) or _signed(turn)
            found += [(run, Rank.PLACED)] if run is not None else []
    for run, rank in sorted(found, key=lambda item: (item[0].start, -item[1])):
        yield Name(run.words, turn, run.start, run.end, rank)


def find_name(turns: Sequence[UserTurn]) -> Name | None:
    """Find the user's name; ``correction`` is set if the user explicitly replaced another one."""
    known: Name | None = None
    asked_before = False
    bot_names: set[str] = set()
    for received in turns:
        turn = _without_addresses(received)
        for introduction in BOT_INTRODUCES.finditer(turn.asked) if has_any(turn.asked, _BOT_HINTS) else ():
            bot_names.update(words_of(introduction.group(1)))
        correcting = known is not None and corrects_name(turn)
        asks = asks_name(turn.asked)
        for name in _candidates(turn, bot_names, known, asks=asks, asked_before=asked_before):
            known = _better(known, name, correcting=correcting)
        asked_before = asked_before or asks
        if known is not None:
            known = _completed(turn, known, asks=asks, correcting=correcting)
    return known


def _completed(turn: UserTurn, known: Name, *, asks: bool, correcting: bool) -> Name:
    """Extend or correct the known name with the words of the turn."""
    surname = answered_surname(turn, known.words, asks=asks)
    if surname is not None and not correcting:
        words = known.words + surname.words
        known = replace(known, words=words, turn=turn, start=surname.start, end=surname.end, rank=Rank.TOLD)
    longer = _extended(turn, known)
    if longer is not None:
        known = replace(known, words=longer.words, turn=turn, start=longer.start, end=longer.end)
    same_turn = turn.index == known.turn.index
    corrected = corrected_words(turn, known.words) if correcting and not same_turn else None
    if corrected is None and not is_of_another(turn.folded):
        corrected = corrected_letters(turn, known.words, same_turn=same_turn)
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
