"""Find corrections of a known name: "es con B: …", "perdón, mi apellido es …", "es Jairo, no Jaime"."""

from __future__ import annotations

import re
from collections import deque
from difflib import SequenceMatcher

from nexus_stream.extraction.rules.name_reading import NameRun, Trust, read_name
from nexus_stream.extraction.rules.name_words import is_boundary
from nexus_stream.extraction.rules.ownership import is_called
from nexus_stream.extraction.text import UserTurn, fold

__all__ = ["corrected_words", "corrects_name"]

_CORRECTS = re.compile(
    r"\b(?=[a-z,])(?:perdon\w*|disculp\w*|corrij\w*|corregi\w*|correccion|equivo\w*|error|en realidad|mejor dicho|"
    r"quise decir|"
    r"mal escrito|escribi mal|escribiste mal|escribio mal|esta mal|quedo mal|puse mal|te falto|le falto|"
    r"me falto|me comi|"
    r"se escribe|se escriben|es con|va con|lleva|con (?:la )?[a-z](?: de [a-z]+)?\b|no (?:es|soy|"
    r"me llamo) [a-z]+|, no [a-z]+|sorry|actually|ojo|"
    r"el corrector|autocorrector|typo|(?:termina|acaba) en|ultima letra|con tilde|sin (?:la )?[a-z]|"
    r"sin tilde|doble [a-z]|al (?:final|principio)|"
    r"sino)\b|^\W*no\b"
)
_PLACES = re.compile(
    r"\b(?P<surname>(?:mi |el )?(?:primer |segundo )?apellidos? (?:es|son|correcto es|"
    r"seria)(?: en realidad)?)\b[\s:,]{0,3}"
    r"|\b(?:es|va|se escribe|escribe|lleva)?\s?con (?:la )?(?:[a-z]|doble [a-z]|tilde|hache|ye|zeta|ce|ese|uve|be)"
    r"(?: (?:larga|corta|alta|baja|chica|grande|de [a-z]+|intermedia|al final|"
    r"al principio))?(?:, no con [a-z])?[\s:,]{1,3}"
    r"|^\W*(?=[a-z])|[:]\s*(?=[a-z])"
    r"|\b(?:el nombre|mi nombre) (?:correcto |real )?es\b[\s:,]{0,3}"
    r"|\b(?:se escribe|quise decir|mejor dicho|en realidad(?: es)?|correcto es|corrijo|correccion|digo|es|sino|"
    r"perdon\w*|disculp\w*|me equivoque|"
    r"soy|me llamo|sorry|i meant|actually)\b[\s:,]{0,3}"
)
_AFTER = re.compile(
    r"\s*(?:y|e|con|no|sin|por|pero|gracias|mi|and|not|el|es|para|porfa|va|lleva|termina|acaba|se|todo)\b"
)
_SIMILAR = 0.6
# If a turn has more, only the last ones are tried: more is an attack on CPU time.
_MAX_PLACES = 60


def corrects_name(turn: UserTurn) -> bool:
    """Whether the turn announces a correction."""
    return _CORRECTS.search(turn.folded) is not None


def corrected_words(turn: UserTurn, known: tuple[str, ...]) -> tuple[tuple[str, ...], int, int] | None:
    """Apply the turn's correction to the known name. Return the words and the span; None without a correction."""
    # The last correction counts.
    for place in reversed(deque(_PLACES.finditer(turn.folded), maxlen=_MAX_PLACES)):
        run = read_name(turn, place.end(), Trust.TOLD)
        if (
            run is None
            or is_called(turn, *place.span())
            or re.search(r"\bno $", turn.folded[max(0, place.start() - 4) : place.start()])
        ):
            continue
        if not is_boundary(turn.folded, run.end) and not _AFTER.match(turn.folded, run.end):
            continue
        words = _apply(known, run, about_surname=place.group("surname") is not None)
        if words is not None:
            return words, run.start, run.end
    return None


def _apply(known: tuple[str, ...], run: NameRun, *, about_surname: bool) -> tuple[str, ...] | None:
    keys = [fold(word) for word in known]
    new = [fold(word) for word in run.words]
    if about_surname:
        first = max(1, len(known) - len(run.words)) if len(known) > 1 else 1
        return known[:first] + run.words
    if len(run.words) >= 2 and (len(run.words) >= len(known) or _ratio(keys[0], new[0]) >= _SIMILAR):
        return run.words
    if len(run.words) == 1:
        ratios = [_ratio(key, new[0]) for key in keys]
        position = max(range(len(keys)), key=lambda index: ratios[index])
        if ratios[position] >= _SIMILAR:
            return (*known[:position], run.words[0], *known[position + 1 :])
    return None


def _ratio(first: str, second: str) -> float:
    return SequenceMatcher(None, first, second, autojunk=False).ratio()
