"""Read Claude's answer: its JSON, and the quotes that support its values.

From: the text blocks of a response. To: `Findings`. The schema in the request has no bounds, and a model may ignore
it, so the answer is validated again here. Every quote becomes a span in a user's turn, and its words must fit its
signal. A value without support in the user's words is dropped and named in ``dropped_fields``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from nexus_stream.contracts.prospect import Arquetipo, Objecion, Signal, SignalName
from nexus_stream.extraction.claude.evidence import Span, UserWords
from nexus_stream.extraction.extractor import Findings, Turn, Usage
from nexus_stream.extraction.rules import archetype_cues, objection_cues
from nexus_stream.extraction.rules.intent import shows_intent, shows_lack_of_interest
from nexus_stream.extraction.text import UserTurn

__all__ = ["Answer", "AnswerInvalidError", "Evidence", "findings_from", "parse_answer"]

# Words that a model may write instead of the contract's words.
_SYNONYMS: Final[Mapping[str, str]] = {
    "precio": "price",
    "tiempo": "time",
    "confianza": "trust",
    "multinivel": "mlm",
}
# A model may put the JSON into a code fence.
_FENCE: Final = re.compile(r"\s*```(?:json)?\s*\n(.*)\n\s*```\s*", re.DOTALL)
_Shows = Callable[[UserTurn, int, int], bool]
_OBJECTION_PREFIX: Final = "objecion_"

# A conversation has a dozen signals; beyond this an answer is noise.
_MAX_EVIDENCE: Final = 100


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
    """Claude's answer, as in schema_v1.json."""

    nombre: _Text
    email: _Text
    telefono: _Text
    ocupacion: _Text
    arquetipo: Annotated[Arquetipo | None, BeforeValidator(_text_or_none)]
    objeciones: tuple[Annotated[Objecion, BeforeValidator(_objection)], ...]
    evidencias: Annotated[tuple[Evidence, ...], Field(max_length=_MAX_EVIDENCE)]


def parse_answer(text: str) -> Answer:
    """Validate the text of an answer.

    Raises:
        AnswerInvalidError: the text is not JSON, or does not fit the schema.
    """
    problems: str
    try:
        fenced = _FENCE.fullmatch(text)
        return Answer.model_validate(json.loads(fenced.group(1) if fenced else text))
    except ValidationError as error:
        # Only places and rules: the input holds the user's data.
        details = error.errors(include_url=False, include_input=False, include_context=False)
        problems = "; ".join(f"{'.'.join(map(str, item['loc'])) or 'answer'}: {item['msg']}" for item in details[:10])
    except (ValueError, RecursionError):
        problems = "the answer is not one JSON object"
    # Raised outside the except clause: the original error holds the answer, and with it the user's data.
    raise AnswerInvalidError(problems)


def findings_from(answer: Answer, turns: Sequence[Turn], usage: Usage) -> Findings:
    """Convert values and quotes to findings. Every value gets a span in a user's turn.

    If no user turn holds a value's quotes, the value is kept when a user turn holds the value itself: models copy
    quotes less exactly than values. All other values are dropped and named in ``dropped_fields``.
    """
    return _Reading(answer, turns).findings(usage)


class _Reading:
    """Compares one answer with its turns."""

    def __init__(self, answer: Answer, turns: Sequence[Turn]) -> None:
        self._answer = answer
        self._words = UserWords(turns)
        self._signals: list[Signal] = []
        self._dropped: list[str] = []

    def findings(self, usage: Usage) -> Findings:
        answer = self._answer
        nombre = self._value("nombre", SignalName.NOMBRE, answer.nombre)
        email = self._value("email", SignalName.EMAIL, answer.email)
        telefono = self._value("telefono", SignalName.TELEFONO, answer.telefono)
        ocupacion = self._value("ocupacion", SignalName.OCUPACION, answer.ocupacion)
        arquetipo = answer.arquetipo
        if arquetipo is not None and not self._quoted(SignalName.ARQUETIPO, partial(_speaks_of_archetype, arquetipo)):
            self._drop("arquetipo")
            arquetipo = None
        objeciones: list[Objecion] = []
        for objecion in dict.fromkeys(answer.objeciones):
            if self._quoted(SignalName(_OBJECTION_PREFIX + objecion), partial(_speaks_of_objection, objecion)):
                objeciones.append(objecion)
            else:
                self._drop("objeciones")
        self._signal(SignalName.INTENCION, shows_intent)
        self._signal(SignalName.DESINTERES, shows_lack_of_interest)
        # A correction is ignored if its value was not kept.
        for value, name in (
            (nombre, SignalName.CORRECCION_NOMBRE),
            (email, SignalName.CORRECCION_EMAIL),
            (telefono, SignalName.CORRECCION_TELEFONO),
        ):
            if value is not None:
                self._signal(name)
        return Findings(
            nombre=nombre,
            email=email,
            telefono=telefono,
            ocupacion=ocupacion,
            objeciones=tuple(objeciones),
            arquetipo=arquetipo,
            signals=tuple(self._signals),
            dropped_fields=tuple(self._dropped),
            usage=usage,
        )

    def _value(self, field: str, name: SignalName, value: str | None) -> str | None:
        if value is None or self._quoted(name):
            return value
        span = self._words.find_quote(value)
        if span is None and name is SignalName.TELEFONO:
            span = self._words.find_phone(value)
        if span is None:
            self._drop(field)
            return None
        self._add(name, span)
        return value

    def _signal(self, name: SignalName, shows: _Shows | None = None) -> None:
        if any(evidence.senal is name for evidence in self._answer.evidencias) and not self._quoted(name, shows):
            self._drop(name.value)

    def _quoted(self, name: SignalName, shows: _Shows | None = None) -> bool:
        """Add a signal for each quote of this name that is found in a user's turn. Return whether any was found.

        Args:
            name: The signal's name.
            shows: Checks whether the quoted words support the signal; None to accept any words.
        """
        quoted = False
        for evidence in self._answer.evidencias:
            if evidence.senal is not name:
                continue
            span = self._words.find_quote(evidence.cita, evidence.turno)
            if span is not None and (shows is None or shows(*self._words.place(span))):
                self._add(name, span)
                quoted = True
        return quoted

    def _add(self, name: SignalName, span: Span) -> None:
        signal = Signal(name=name, turn=span.turn, start=span.start, end=span.end)
        if signal not in self._signals:
            self._signals.append(signal)

    def _drop(self, field: str) -> None:
        if field not in self._dropped:
            self._dropped.append(field)


def _speaks_of_archetype(kind: Arquetipo, turn: UserTurn, start: int, end: int) -> bool:
    return archetype_cues.speaks_of(kind, turn.folded, start, end)


def _speaks_of_objection(kind: Objecion, turn: UserTurn, start: int, end: int) -> bool:
    return objection_cues.speaks_of(kind, turn.folded, start, end)
