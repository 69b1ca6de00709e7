"""A model that always reads right: its answers are made from the labels, so what is lost is lost by our own checks.

From: labelled conversations. To: the JSON text that Claude would answer, with quotes from the user's turns. The text
passes everything that Claude's answers pass. Only ``nexus evaluate --extractor perfect`` and the tests use it.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

import phonenumbers

from nexus_stream.contracts.prospect import SignalName
from nexus_stream.extraction.claude.answer import findings_from, parse_answer
from nexus_stream.extraction.evaluation import LabelledCase, normalise_occupation
from nexus_stream.extraction.extractor import Findings, MadeBy, Turn, Usage
from nexus_stream.extraction.rules.extractor import find
from nexus_stream.extraction.rules.number_words import read_numbers
from nexus_stream.extraction.scoring import (
    EMAIL_POINTS,
    INTENT_POINTS,
    LACK_OF_INTEREST_POINTS,
    NAME_POINTS,
    PHONE_POINTS,
    bounded,
)
from nexus_stream.extraction.text import fold, user_turns, words_of

__all__ = ["VARIANTS", "PerfectModel", "perfect_answer"]

# What a model does that reads right but answers carelessly.
VARIANTS: Final[Mapping[str, str]] = {
    "accents": "quotes without accents and capitals",
    "national-phones": "phones as the user wrote them, without a country code",
    "code-fence": "the JSON in a code fence",
    "turn-off-by-one": "each quote with the number of the turn after it",
}
_MAX_QUOTE_CHARS = 160
_STEM_CHARS = 4
_WORD = re.compile(r"[^\W\d_]+")
_DIGIT = re.compile(r"\d")
_MAIL = re.compile(r"@|arroba|\bat\b")
# The tolerance of the label ``nivel_interes_range``.
_TOLERANCE = 1.0

_Said = list[tuple[int, str]]  # the user's turns: number, text
_Quote = tuple[int, str]


class PerfectModel:
    """An `Extractor` that answers from the labels of the conversation it is given.

    Args:
        cases: The conversations that it can be asked about.
        variants: Names of ``VARIANTS``, applied together.
        default_region: Country of phone numbers written without a country code.
    """

    def __init__(self, cases: Sequence[LabelledCase], variants: Collection[str] = (), *, default_region: str) -> None:
        self.labels = MadeBy("perfect")
        self._texts = {
            turns: perfect_answer(case, variants, default_region=default_region)
            for case in cases
            for turns in [_turns_of(case)]
        }

    async def extract(self, turns: Sequence[Turn], region: str | None = None) -> Findings:
        """Read the answer to these turns as Claude's answer is read."""
        return findings_from(parse_answer(self._texts[tuple(turns)]), turns, Usage())

    async def close(self) -> None:
        """Do nothing: there is nothing to release."""


def perfect_answer(case: LabelledCase, variants: Collection[str] = (), *, default_region: str = "CO") -> str:
    """Write the text that a perfect model answers. A field without a label stays null."""
    turns = _turns_of(case)
    said = [(index, turn.content) for index, turn in enumerate(turns) if turn.role == "user"]
    rules = find(turns, default_region=default_region)
    by_rules = {one.name: (one.turn, turns[one.turn].content[one.start : one.end]) for one in rules.signals}
    labels = case.expected
    email = labels.email or next((one for one in labels.email_any or () if one), None)
    occupation = _closest(labels.ocupacion_any or [], said)
    quotes: list[tuple[SignalName, _Quote]] = []
    if labels.nombre:
        quotes += [(SignalName.NOMBRE, quote) for quote in _name_quotes(labels.nombre, said)]
    if email:
        quotes += [(SignalName.EMAIL, quote) for quote in _email_quotes(email, said)]
    if labels.telefono:
        quotes += [(SignalName.TELEFONO, quote) for quote in _phone_quotes(labels.telefono, said)]
    if occupation:
        quotes.append((SignalName.OCUPACION, _occupation_quote(occupation, said)))
    meant = []
    if labels.arquetipo:
        meant.append(SignalName.ARQUETIPO)
    meant += [SignalName(f"objecion_{kind}") for kind in labels.objeciones or ()]
    meant += _interest(labels.nivel_interes_range, labels.nombre, email, labels.telefono)
    shown = {SignalName.ARQUETIPO: _occupation_quote(occupation, said)} if occupation else {}
    for name in meant:
        quotes.append((name, by_rules.get(name) or shown.get(name) or _longest(turns)))
    for name, value in (
        (SignalName.CORRECCION_NOMBRE, labels.nombre),
        (SignalName.CORRECCION_EMAIL, email),
        (SignalName.CORRECCION_TELEFONO, labels.telefono),
    ):
        if value and name in by_rules:
            quotes.append((name, by_rules[name]))

    phone = labels.telefono
    if phone and "national-phones" in variants:
        phone = _as_written(phone, said)
    answer: dict[str, Any] = {
        "nombre": labels.nombre,
        "email": email,
        "telefono": phone,
        "ocupacion": occupation,
        "arquetipo": labels.arquetipo,
        "objeciones": list(labels.objeciones or ()),
        "evidencias": [
            {
                "senal": name.value,
                "turno": turn + ("turn-off-by-one" in variants),
                "cita": _plain(quote) if "accents" in variants else quote,
            }
            for name, (turn, quote) in quotes
        ],
    }
    text = json.dumps(answer, ensure_ascii=False)
    return f"```json\n{text}\n```" if "code-fence" in variants else text


def _turns_of(case: LabelledCase) -> tuple[Turn, ...]:
    return tuple(Turn(message.role, message.content) for message in case.messages)


def _plain(text: str) -> str:
    """Without accents and capitals, as careless copies are."""
    parts = unicodedata.normalize("NFD", text.lower())
    return unicodedata.normalize("NFC", "".join(part for part in parts if not unicodedata.combining(part)))


def _short(text: str) -> str:
    """The first line with words, cut at a blank."""
    line = next((line for line in text.splitlines() if _WORD.search(line) or _DIGIT.search(line)), text).strip()
    return line if len(line) <= _MAX_QUOTE_CHARS else line[:_MAX_QUOTE_CHARS].rpartition(" ")[0] or line


def _longest(turns: Sequence[Turn]) -> _Quote:
    """The user's longest turn, without pasted text: a perfect model knows that it proves nothing."""
    turn = max(user_turns(turns), key=lambda one: len(words_of(one.folded)))
    return turn.index, _short(turns[turn.index].content)


def _words_in(text: str) -> list[tuple[str, int, int]]:
    return [(_plain(match.group()), *match.span()) for match in _WORD.finditer(text)]


def _name_quotes(name: str, said: _Said) -> Iterator[_Quote]:
    wanted = _WORD.findall(_plain(name))
    for turn, text in reversed(said):
        words = _words_in(text)
        for first in range(len(words) - len(wanted) + 1):
            found = words[first : first + len(wanted)]
            if [word for word, _, _ in found] == wanted:
                yield turn, text[found[0][1] : found[-1][2]]
                return
    # Over several turns: from each, the words of the name that it has. Spelled letters have no such word.
    missing = set(wanted)
    for turn, text in reversed(said):
        found = [word for word in _words_in(text) if word[0] in missing]
        if found:
            missing -= {word for word, _, _ in found}
            yield turn, text[found[0][1] : found[-1][2]]
    if missing:
        turn, text = max(said, key=lambda one: _overlap(one[1], "".join(missing)))
        yield turn, _short(text)


def _overlap(text: str, letters: str) -> int:
    """How many letters of a value are in a text, in order."""
    rest = iter(_plain(text))
    return sum(letter in rest for letter in letters)


def _email_quotes(email: str, said: _Said) -> Iterator[_Quote]:
    local, _, domain = email.partition("@")
    for turn, text in reversed(said):
        at = _plain(text).find(email)
        if at >= 0 and len(_plain(text)) == len(text):
            yield turn, text[at : at + len(email)]
            return
    dictated = [one for one in said if _MAIL.search(_plain(one[1]))]
    if dictated:
        turn, text = max(reversed(dictated), key=lambda one: _overlap(one[1], email))
        yield turn, _short(text)
    for part in (local, domain):
        turn, text = max(reversed(said), key=lambda one: _overlap(one[1], part) / (9 + len(one[1])))
        yield turn, _short(text)


def _phone_quotes(phone: str, said: _Said) -> Iterator[_Quote]:
    national = _national(phone)
    for turn, text in reversed(said):
        for run in read_numbers(fold(text)):
            if national[-7:] in "".join(part.digits for part in run.parts):
                yield turn, text[run.start : run.parts[-1].end]
                return
        digits = [(str(int(match.group())), match.start()) for match in _DIGIT.finditer(text)]
        at = "".join(digit for digit, _ in digits).find(national)
        if at >= 0:
            yield turn, text[digits[at][1] : digits[at + len(national) - 1][1] + 1]
            return
    # Over several turns, or spoken: the turns whose digits are part of the number.
    for turn, text in said:
        spoken = ["".join(part.digits for part in run.parts) for run in read_numbers(fold(text))]
        if any(digits and digits in phone for digits in spoken):
            yield turn, _short(text)


def _national(phone: str) -> str:
    return str(phonenumbers.national_significant_number(phonenumbers.parse(phone)))


def _as_written(phone: str, said: _Said) -> str:
    """The number as our prompt asks for it: with the country code only if the user typed it."""
    national = _national(phone)
    spoken = ["".join(part.digits for run in read_numbers(fold(text)) for part in run.parts) for _, text in said]
    # Mexicans still write the 1 that stood after their country code.
    if any(phone[1:] in digits or f"521{national}" in digits for digits in spoken):
        return phone
    # Argentina writes mobiles without the 9 that E.164 has, Brazil often still without its ninth digit.
    short = {"+54": national[1:], "+55": national[:2] + national[3:]}.get(phone[:3], national)
    return short if not any(national in digits for digits in spoken) else national


def _stems(text: str) -> set[str]:
    return {word[:_STEM_CHARS] for word in normalise_occupation(text).split() if len(word) > 2}


def _closest(accepted: list[str], said: _Said) -> str | None:
    """The accepted occupation that is closest to the user's words."""
    spoken = set().union(*(_stems(text) for _, text in said))
    return max(accepted, key=lambda one: len(_stems(one) & spoken) / (1 + len(_stems(one))), default=None)


def _occupation_quote(occupation: str, said: _Said) -> _Quote:
    stems = _stems(occupation)
    turn, text = max(said, key=lambda one: len(_stems(one[1]) & stems))
    found = [word for word in _words_in(text) if word[0][:_STEM_CHARS] in stems]
    if not found or found[-1][2] - found[0][1] > _MAX_QUOTE_CHARS:
        return turn, _short(text)
    return turn, text[found[0][1] : found[-1][2]]


def _interest(
    labelled: tuple[float, float] | None, nombre: str | None, email: str | None, telefono: str | None
) -> list[SignalName]:
    """The signals of interest that explain the labelled range, given the labelled contacts."""
    if labelled is None:
        return []
    points = NAME_POINTS * bool(nombre) + EMAIL_POINTS * bool(email) + PHONE_POINTS * bool(telefono)
    explained: tuple[tuple[float, list[SignalName]], ...] = (
        (0.0, []),
        (INTENT_POINTS, [SignalName.INTENCION]),
        (LACK_OF_INTEREST_POINTS, [SignalName.DESINTERES]),
        (INTENT_POINTS + LACK_OF_INTEREST_POINTS, [SignalName.INTENCION, SignalName.DESINTERES]),
    )

    def distance(added: float) -> float:
        middle = bounded(points + added)
        lowest, highest = bounded(middle - _TOLERANCE), bounded(middle + _TOLERANCE)
        return abs(labelled[0] - lowest) + abs(labelled[1] - highest)

    return min(explained, key=lambda one: distance(one[0]))[1]
