"""Read the user's name out of an answer: to the question for the name, to a question for several things, or later.

A name that nobody asked for counts here only if it is a listed full name that stands alone or next to a contact.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

from nexus_stream.extraction.rules.lexicon import GIVEN_NAMES, PLACES, SURNAMES
from nexus_stream.extraction.rules.name_cues import (
    AFTER_PLACE,
    APPOSED,
    ASKS_BACK,
    ASKS_DETAILS,
    ASKS_IN_SHORT,
    ASKS_NAME,
    ASKS_OF_OTHERS,
    ASKS_OTHER,
    ASKS_SURNAME,
    ASKS_WHETHER_OWNER,
    BOT_IS,
    CHATTERS,
    CONFIRMS,
    FILLER,
    FILLER_SURNAME,
    GOES_ON,
    GREETS,
    OF_OTHERS,
    OTHERS,
    SEPARATES,
    VOCATIVE,
)
from nexus_stream.extraction.rules.name_letters import read_spelled, respelled
from nexus_stream.extraction.rules.name_reading import NameRun, Trust, read_name
from nexus_stream.extraction.rules.name_words import (
    PARTICLES,
    TITLE_WORDS,
    has_any,
    is_boundary,
    is_everyday,
    is_listed,
    looks_coined,
)
from nexus_stream.extraction.text import UserTurn, clause_before, fold, words_of

__all__ = [
    "ARTICLE",
    "addressed_name",
    "answered_name",
    "answered_surname",
    "asks_name",
    "has_any",
    "is_in_place",
    "is_of_others",
    "stated_name",
]

# A turn that has more parts is no answer.
_MAX_PARTS = 12
_MAX_VOCATIVES = 20
_NEXT_WORD = re.compile(r"\s{0,3}([a-z]+)")
_IS_SURNAME = re.compile(r"\b(?:es mi apellido|e (?:o )?meu sobrenome|is my (?:last name|surname))\b")
_SURNAME_HINTS = ("apellido", "sobrenome", "surname", "last name")
_THANKS = re.compile(r"\b(?:gracias|obrigad[oa]|thanks|thank you)[ ,]*$")


# A question for the name has one of these.
_ASKS_HINTS = ("nombr", "nome", "name", "llam", "cham", "quien", "quem", "who", "call you", "dig", "decir")


def asks_name(asked: str) -> bool:
    """Whether the assistant's turn asks for the user's name."""
    if not has_any(asked, _ASKS_HINTS) or ASKS_OF_OTHERS.search(asked):
        return False
    return ASKS_NAME.search(asked) is not None or ASKS_IN_SHORT.search(asked) is not None


def is_of_others(turn: UserTurn, position: int) -> bool:
    """Whether the sentence mentions somebody else before ``position``."""
    return OTHERS.search(clause_before(turn.folded, position)) is not None


def is_in_place(turn: UserTurn, run: NameRun) -> bool:
    """Whether a name is that of a street, a quarter or a building: ``av. Simón Bolívar``, ``san cristobal``."""
    first = fold(run.words[0])
    if (
        first == "san"
        or (first in ("santa", "santo") and len(run.words) == 2)
        or first in ("villa", "puerto", "ciudad")
    ):
        return True
    return AFTER_PLACE.search(turn.folded[max(0, run.start - 24) : run.start]) is not None


def _confirmed_name(turn: UserTurn) -> NameRun | None:
    """Read a full name after a "yes" to "are you the account holder?"."""
    yes = CONFIRMS.match(turn.folded)
    if yes is None or not ASKS_WHETHER_OWNER.search(turn.asked):
        return None
    run = read_name(turn, yes.end(), Trust.TOLD)
    if run is None or len(run.folded) < 2 or not run.known or OF_OTHERS.match(turn.folded, run.end):
        return None
    ends = is_boundary(turn.folded, run.end) or GOES_ON.match(turn.folded, run.end) is not None
    return run if ends and not APPOSED.match(turn.folded, run.end) else None


def answered_name(turn: UserTurn, *, asks: bool, asked_before: bool) -> NameRun | None:
    """Read the answer to the assistant's question for the name."""
    if not turn.asked:
        return None
    if not (asks or (asked_before and ASKS_BACK.search(turn.asked))):
        return _confirmed_name(turn)
    filler = FILLER.match(turn.folded)
    start = filler.end() if filler else 0
    run = read_name(turn, start, Trust.TOLD)
    if run is not None and len(run.words) == 1 and _THANKS.search(turn.folded, 0, run.start):
        return None
    if run is not None and is_in_place(turn, run):
        run = None
    run = respelled(turn, run) if run is not None else None
    if run is None:
        spelled = read_spelled(turn, start)
        return spelled if spelled is not None else next(_listed_parts(turn), None)
    # "hola mauricio" may greet the assistant, which has just given its own name.
    named = turn.asked.find(run.folded[0])
    if named >= 0 and BOT_IS.search(turn.asked[:named]) and set(run.folded) <= set(words_of(turn.asked)):
        return None
    if (run.known or len(run.words) > 1 or looks_coined(run.folded[0])) and not OF_OTHERS.match(turn.folded, run.end):
        if is_boundary(turn.folded, run.end):
            rest = turn.folded[run.end :].lstrip()
            # A question is no answer.
            return None if rest.startswith("?") else run
        if run.known and _goes_on(turn, run.end):
            return run
    return next(_listed_parts(turn), None)


def _goes_on(turn: UserTurn, end: int) -> bool:
    """Whether the words at ``end`` start another part of the answer: ``keyla ruiz bogota``, or say nothing more."""
    word = _NEXT_WORD.match(turn.folded, end)
    if word is None:
        return False
    if word.group(1) in PLACES or GOES_ON.match(turn.folded, end) or CHATTERS.match(turn.folded, end):
        return True
    # A district in short: "Flor Huamán SJL".
    typed = turn.text[word.start(1) : word.end()]
    return typed.isupper() and 1 < len(typed) < 5 and not turn.shouted and is_boundary(turn.folded, word.end())


# "La Kira y la Luna": pets and others. Who speaks of themselves so says "soy la Luna".
ARTICLE = re.compile(r"(?<!soy )(?<!sou )\b(?:la|el|las|los) $")


def _listed_parts(turn: UserTurn) -> Iterator[NameRun]:
    """Yield names of listed words that are a whole part of the turn: ``3005550101 - marta quiceno``."""
    parts = list(islice(SEPARATES.finditer(turn.folded), _MAX_PARTS + 1))
    if len(parts) > _MAX_PARTS:
        return
    for start in (0, *(part.end() for part in parts)):
        filler = FILLER.match(turn.folded, start)
        first = filler.end() if filler else start
        word = _NEXT_WORD.match(turn.folded, first)
        if word is None or (word.group(1) not in GIVEN_NAMES and word.group(1) not in TITLE_WORDS):
            continue
        run = read_name(turn, first, Trust.TOLD)
        if run is None or not run.known or run.folded[0] not in GIVEN_NAMES:
            continue
        if len(run.folded) == 1 and (run.folded[0] in PLACES or GREETS.search(turn.folded[:first])):
            continue
        ends = is_boundary(turn.folded, run.end) and not turn.folded[run.end :].lstrip().startswith("?")
        if not ends and not _goes_on(turn, run.end):
            continue
        if is_in_place(turn, run) or ARTICLE.search(turn.folded, 0, run.start):
            continue
        others = OF_OTHERS.match(turn.folded, run.end) or APPOSED.match(turn.folded, run.end)
        if not others and not is_of_others(turn, run.start):
            yield run


def stated_name(turn: UserTurn, bot_names: set[str], *, asks: bool, asked_before: bool) -> NameRun | None:
    """Find a name that answers an older question, stands next to a contact, or is all that the turn says."""
    if GIVEN_NAMES.isdisjoint(words_of(turn.folded)) or (not asks and ASKS_OTHER.search(turn.asked)):
        return None
    if ASKS_OF_OTHERS.search(turn.asked):
        return None
    asked = set(words_of(turn.asked))
    for run in _listed_parts(turn):
        words = run.folded
        if bot_names.issuperset(words):
            continue
        full = len(words) > 1 and (is_listed(words[-1]) or run.words[-1][0].isupper())
        if words[0] in asked:
            # The assistant repeats part of the name: "¿Eres Renzo?", "sí, Renzo Cárdenas".
            if full and not asked.issuperset(words) and words[0] not in bot_names:
                return run
            continue
        alone = not turn.folded[: run.start].strip(" .,") and not turn.folded[run.end :].strip(" .,!\n")
        invited = asked_before or ASKS_DETAILS.search(turn.asked) is not None
        if full and (invited or _has_contact(turn) or (alone and "?" not in turn.asked)):
            return run
        if len(words) > 1 or words[0] in SURNAMES:
            continue
        if asked_before and (alone or _has_contact(turn)):
            return run
        if _NUMBER.search(turn.folded, 0, run.start) and not turn.folded[run.end :].strip(" .!"):
            return run
    return None


_NUMBER = re.compile(r"\d[\d\s().\-]{5,24}\d")
_CONTACT = re.compile(r"\d[\d\s().\-]{5,24}\d|\n{6}|\b(?:arroba|telemovel|celular|whats\w*)\b")


def _has_contact(turn: UserTurn) -> bool:
    # Addresses are blanked before names are read.
    return _CONTACT.search(turn.folded) is not None


def addressed_name(turn: UserTurn, bot_names: set[str]) -> NameRun | None:
    """Find the name that the assistant's reply uses (``Gracias, Nelson``) and that the user's turn has too."""
    shared = turn.echoed.intersection(words_of(turn.folded)) if turn.reply else ()
    if not any(word in GIVEN_NAMES or not is_everyday(word) for word in shared):
        return None
    reply = fold(turn.reply)
    for vocative in islice(VOCATIVE.finditer(reply), _MAX_VOCATIVES):
        word = vocative.group(1)
        if not turn.reply[vocative.start(1)].isupper() or word in bot_names or word not in turn.folded:
            continue
        if word in PARTICLES or word in TITLE_WORDS:
            continue
        for place in islice(re.finditer(rf"\b{word}\b", turn.folded), _MAX_VOCATIVES):
            before = turn.folded[max(0, place.start() - 45) : place.start()]
            if OTHERS.search(before) or GREETS.search(before):
                continue
            run = read_name(turn, place.start(), Trust.TOLD)
            if run is not None and not OF_OTHERS.match(turn.folded, run.end) and not is_in_place(turn, run):
                return run
    return None


def answered_surname(turn: UserTurn, known: tuple[str, ...], *, asks: bool) -> NameRun | None:
    """Read the surname that the user adds to a known first name, on request or called so."""
    if len(known) > 2:
        return None
    start = 0
    called = has_any(turn.folded, _SURNAME_HINTS)
    told = FILLER_SURNAME.search(turn.folded) if called else None
    after = _IS_SURNAME.search(turn.folded) if called else None
    if after is not None:
        start = max(turn.folded.rfind(mark, 0, after.start()) for mark in ".,;\n") + 1
        start += len(turn.folded[start:]) - len(turn.folded[start:].lstrip())
    elif told is not None:
        start = told.end()
    elif asks or not ASKS_SURNAME.search(turn.asked):
        return None
    else:
        filler = FILLER.match(turn.folded)
        start = filler.end() if filler else 0
    run = read_name(turn, start, Trust.TOLD)
    is_spelled = run is None
    if run is None and len(known) == 1:
        spelled = read_spelled(turn, start)
        # Three letters may be an abbreviation.
        run = spelled if spelled is not None and len(spelled.words[-1]) > 3 else None
    if run is None:
        return None
    if not is_spelled and not is_boundary(turn.folded, run.end) and not GOES_ON.match(turn.folded, run.end):
        return None
    return run if set(run.folded).isdisjoint(map(fold, known)) else None
