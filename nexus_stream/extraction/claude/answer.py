"""Read Claude's answer: its JSON, and the places of its quotes in the user's turns.

From: the text blocks of a response. To: `Findings`. The schema in the request has no bounds, and a model may ignore
it, so the answer is validated again here. Every quote becomes a span in a user's turn. The values are as claimed:
grounding.py compares them with the user's words. An objection, an archetype or an interest is only as good as its
quote: without one it is dropped, and if the rules do not know the words it is unconfirmed.
"""

from __future__ import annotations

import json
import re
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from nexus_stream.contracts.prospect import Arquetipo, Objecion, Signal, SignalName
from nexus_stream.extraction.extractor import Findings, Turn, Usage
from nexus_stream.extraction.rules.extractor import find
from nexus_stream.extraction.rules.intent import shows_intent, shows_lack_of_interest
from nexus_stream.extraction.text import UserTurn, fold, user_turns, words_of

__all__ = ["Answer", "AnswerInvalidError", "Evidence", "findings_from", "parse_answer"]

# Words that a model may write instead of the contract's words.
_SYNONYMS: Final[Mapping[str, str]] = {
    "precio": "price",
    "tiempo": "time",
    "confianza": "trust",
    "multinivel": "mlm",
}
_Shows = Callable[[UserTurn, int, int], bool | None]
_Place = tuple[UserTurn, int, int]
_OBJECTION_PREFIX: Final = "objecion_"

# A conversation has a dozen signals; beyond this an answer is noise.
_MAX_EVIDENCE: Final = 100
# Places of a turn that are tried. If all are inside a word or tampered text, the quote is no evidence.
_MAX_PLACES: Final = 25
_KEY = re.compile(r"[^\W_]")
# A greeting or a thank-you shows nothing.
_POLITE: Final = re.compile(
    r"hol[ai]+|ola|oi|hi|hello|hey|buen[oa]?s?|bom|boa|dias?|tardes?|noches?|noites?|gracias|obrigad[oa]|thanks?|you|"
    r"ok(?:ay)?|vale|si|sim|yes|no|nao|aja|(?:ja)+|claro|dale|listo|por|favor|please|que|tal|como|estas?|saludos|bien"
)
_MIN_WORDS: Final = 2


class AnswerInvalidError(Exception):
    """The answer does not fit the schema.

    Attributes:
        problems: The problems by place, written for the model; never the invalid value.
    """

    def __init__(self, problems: str) -> None:
        super().__init__(problems)
        self.problems = problems


def _text_or_none(value: Any) -> Any:
    if isinstance(value, str):
        return value.strip() or None
    return value


def _objection(value: Any) -> Any:
    if isinstance(value, str):
        word = value.strip().lower()
        return _SYNONYMS.get(word, word)
    return value


def _signal_name(value: Any) -> Any:
    if isinstance(value, str):
        word = value.strip().lower()
        if word.startswith(_OBJECTION_PREFIX):
            word = _OBJECTION_PREFIX + _objection(word.removeprefix(_OBJECTION_PREFIX))
        return word
    return value


_Text = Annotated[str | None, BeforeValidator(_text_or_none)]


class _Part(BaseModel):
    # An additional key does no harm. Rejecting it would cost a second call.
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class Evidence(_Part):
    """One signal, and the user's words that support it."""

    senal: Annotated[SignalName, BeforeValidator(_signal_name)]
    turno: int
    cita: str


class Answer(_Part):
    """Claude's answer, as in schema_v2.json."""

    nombre: _Text
    email: _Text
    telefono: _Text
    ocupacion: _Text
    arquetipo: Annotated[Arquetipo | None, BeforeValidator(_text_or_none)]
    objeciones: tuple[Annotated[Objecion, BeforeValidator(_objection)], ...]
    evidencias: Annotated[tuple[Evidence, ...], Field(max_length=_MAX_EVIDENCE)]


def parse_answer(text: str) -> Answer:
    """Validate the text of an answer. A code fence or a sentence may stand around its one JSON object.

    Raises:
        AnswerInvalidError: the text has not one JSON object, or it does not fit the schema.
    """
    problems: str
    try:
        return Answer.model_validate(_one_value(text))
    except ValidationError as error:
        # Only places and rules: the input holds the user's data.
        details = error.errors(include_url=False, include_input=False, include_context=False)
        problems = "; ".join(f"{'.'.join(map(str, item['loc'])) or 'answer'}: {item['msg']}" for item in details[:10])
    except (ValueError, RecursionError):
        problems = "the answer is not one JSON object"
    # Raised outside the except clause: the original error holds the answer, and with it the user's data.
    raise AnswerInvalidError(problems)


def _one_value(text: str) -> Any:
    """The JSON value that is the whole text, or the only object in it."""
    try:
        return json.loads(text)
    except ValueError:
        begin = text.index("{")
    value, end = json.JSONDecoder().raw_decode(text, begin)
    if any(character in text[:begin] + text[end:] for character in "{}[]"):
        raise ValueError("more than one object")
    return value


def findings_from(answer: Answer, turns: Sequence[Turn], usage: Usage) -> Findings:
    """Convert an answer to findings. Every quote that a user turn holds becomes a signal with its span.

    An objection or archetype without such a quote is dropped and named in ``dropped_fields``.
    """
    return _Reading(answer, turns).findings(usage)


class _Reading:
    """Compares one answer with its turns."""

    def __init__(self, answer: Answer, turns: Sequence[Turn]) -> None:
        self._answer = answer
        self._words = _UserWords(turns)
        # The region matters only for phones, which grounding.py checks.
        self._rules = find(turns, default_region="CO")
        self._signals: list[Signal] = []
        self._dropped: list[str] = []

    def findings(self, usage: Usage) -> Findings:
        answer, rules = self._answer, self._rules
        for value, names in (
            (answer.nombre, (SignalName.NOMBRE, SignalName.CORRECCION_NOMBRE)),
            (answer.email, (SignalName.EMAIL, SignalName.CORRECCION_EMAIL)),
            (answer.telefono, (SignalName.TELEFONO, SignalName.CORRECCION_TELEFONO)),
            (answer.ocupacion, (SignalName.OCUPACION,)),
        ):
            for name in names if value is not None else ():
                self._add(name, list(self._places(name)))
        arquetipo = answer.arquetipo
        if arquetipo is not None and not self._claim(SignalName.ARQUETIPO, arquetipo is rules.arquetipo):
            self._drop("arquetipo")
            arquetipo = None
        objeciones: list[Objecion] = []
        for objecion in dict.fromkeys(answer.objeciones):
            if self._claim(SignalName(_OBJECTION_PREFIX + objecion), objecion in rules.objeciones):
                objeciones.append(objecion)
            else:
                self._drop("objeciones")
        self._interest(SignalName.INTENCION, shows_intent)
        self._interest(SignalName.DESINTERES, shows_lack_of_interest)
        return Findings(
            nombre=answer.nombre,
            email=answer.email,
            telefono=answer.telefono,
            ocupacion=answer.ocupacion,
            objeciones=tuple(objeciones),
            arquetipo=arquetipo,
            signals=tuple(self._signals),
            dropped_fields=tuple(self._dropped),
            usage=usage,
        )

    def _places(self, name: SignalName) -> Iterator[_Place]:
        """The quotes of a signal that stand in a user's turn."""
        for evidence in self._answer.evidencias:
            if evidence.senal is name and (place := self._words.find(evidence.cita, evidence.turno)) is not None:
                yield place

    def _claim(self, name: SignalName, confirmed: bool) -> bool:
        """Add the quotes of an objection or archetype. Return whether there are any that say something."""
        places = [place for place in self._places(name) if confirmed or _says_something(*place)]
        self._add(name, places, confirmed=confirmed)
        return bool(places)

    def _interest(self, name: SignalName, shows: _Shows) -> None:
        """Add the quotes of an interest; those that deny it are dropped."""
        places = [(place, shows(*place)) for place in self._places(name)]
        shown = [place for place, does in places if does]
        unknown = [place for place, does in places if does is None and _says_something(*place)]
        self._add(name, shown or unknown, confirmed=bool(shown))
        if not shown and not unknown and any(evidence.senal is name for evidence in self._answer.evidencias):
            self._drop(name.value)

    def _add(self, name: SignalName, places: Sequence[_Place], *, confirmed: bool = True) -> None:
        for turn, first, last in places:
            start, end = turn.span(first, last)
            signal = Signal(name=name, turn=turn.index, start=start, end=end, confirmed=confirmed)
            if signal not in self._signals:
                self._signals.append(signal)

    def _drop(self, field: str) -> None:
        if field not in self._dropped:
            self._dropped.append(field)


def _says_something(turn: UserTurn, start: int, end: int) -> bool:
    said = [word for word in words_of(turn.folded[start:end]) if not _POLITE.fullmatch(word)]
    return len(said) >= _MIN_WORDS


class _UserWords:
    """The user's turns, in which quotes are searched by their letters and digits alone.

    Models tidy up accents, case, spaces, signs and emoji when they copy. Tampering (an instruction to the extractor, or
    pasted data) is no evidence: a model that obeyed it would quote exactly that text.
    """

    def __init__(self, turns: Sequence[Turn]) -> None:
        self._turns = {turn.index: turn for turn in user_turns(turns)}
        # Cached: an answer may have dozens of wrong quotes, and each would read a conversation at the size limit again.
        self._keys: dict[int, tuple[str, Sequence[int]]] = {}

    def find(self, quote: str, number: int) -> _Place | None:
        """Find a quote in the turn of this number or, if it is not there, in the newest turn that has it.

        A place inside a longer word ("Ana" in "mañana") does not count. A quote without letter and digit is not found.
        """
        prepared = user_turns([Turn("user", quote)])[0]
        wanted = "".join(_KEY.findall(fold(prepared.text)))
        if not wanted:
            return None
        named = [self._turns[number]] if number in self._turns else []
        for turn in [*named, *(each for each in reversed(self._turns.values()) if each.index != number)]:
            key, positions = self._key(turn)
            at = key.find(wanted)
            for _ in range(_MAX_PLACES):
                if at < 0:
                    break
                start, end = positions[at], positions[at + len(wanted) - 1] + 1
                if not _cuts_word(turn.folded, start, end) and not _is_tampered(turn, start, end):
                    return turn, start, end
                at = key.find(wanted, at + 1)
        return None

    def _key(self, turn: UserTurn) -> tuple[str, Sequence[int]]:
        """The letters and digits of a turn without tampering, and their positions."""
        if turn.index not in self._keys:
            positions = array("I", (match.start() for match in _KEY.finditer(turn.folded)))
            self._keys[turn.index] = "".join(_KEY.findall(turn.folded)), positions
        return self._keys[turn.index]


def _is_tampered(turn: UserTurn, start: int, end: int) -> bool:
    # The spans are sorted and do not touch: only the last span that starts before the end can overlap.
    before = bisect_left(turn.tampered, (end, -1))
    return before > 0 and start < turn.tampered[before - 1][1]


def _cuts_word(folded: str, start: int, end: int) -> bool:
    return (start > 0 and folded[start - 1].isalpha() and folded[start].isalpha()) or (
        end < len(folded) and folded[end].isalpha() and folded[end - 1].isalpha()
    )
