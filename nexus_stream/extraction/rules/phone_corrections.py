"""Apply a correction of part of a number: "el último es 7 no 1", "termina en 51", "es 310, no 300"."""

from __future__ import annotations

import re
from dataclasses import dataclass

from nexus_stream.extraction.rules.countries import Regions
from nexus_stream.extraction.rules.e164 import national_digits, to_e164
from nexus_stream.extraction.rules.number_words import NUMBER_WORD, word_digits
from nexus_stream.extraction.rules.other_numbers import asks_for_other, is_other_number, speaks_of_phone
from nexus_stream.extraction.rules.ownership import RELATIONS, is_foreign
from nexus_stream.extraction.text import UserTurn, words_of

__all__ = ["Corrected", "corrected_number", "is_about_number"]

# Digits, or a few number words; not a count of digits, as in "los últimos cuatro son".
_D = (
    rf"(?:\d[\d .-]{{0,10}}\d|\d|{NUMBER_WORD}(?: (?:[ye] )?{NUMBER_WORD}){{0,5}})\b(?!\W{{1,2}}(?:son|es|sao|are|is|"
    rf"digit|numer|cifr))"
)
_NOT = r"(?:no|nao|not|en vez del?|em vez de|instead of)"
_END = re.compile(
    r"\b(?=[a-z])(?:ultim[oa]s?|final(?:es)?|last|termina\w*|acaba\w*|ends?|terminacion)\b"
    r"(?:\W{1,2}(?:numeros?|digitos?|cifras?|digits?|numbers?|dos|tres|cuatro|two|three|four|dois|quatro|2|3|4|in|with|"
    r"en|em|con|"
    r"com|es|son|sao|e|is|are|un|um|el|o|era|eran))*?"
    rf"\W{{1,3}}(?P<new>{_D})(?:\W{{1,3}}(?:[ye] )?{_NOT}\W{{1,2}}(?:(?:en|es|con|em|un|el) )?(?P<old>{_D}))?"
)
_START = re.compile(
    rf"\b(?=[a-z])(?:empieza|comienza|inicia|comeca|starts?)\b(?: (?:con|por|en|com|with))?\W{{1,3}}(?P<new>{_D})"
    rf"(?:\W{{1,3}}(?:[ye] )?{_NOT}\W{{1,2}}(?:(?:con|por|en) )?(?P<old>{_D}))?"
)
_INSTEAD = re.compile(
    rf"\b(?=[a-z])(?:es|son|era|e|is|sao|va|lleva|con)\W{{1,3}}(?:(?:un|el|um|"
    rf"o) )?(?P<new>{_D})\W{{1,3}}(?:[ye] )?{_NOT}\W{{1,2}}"
    rf"(?:(?:es|un|el|um|o) )?(?P<old>{_D})"
    rf"|\b{_NOT} (?:es|son|era|e|is)\W{{1,3}}(?:(?:un|el|um|o) )?(?P<old2>{_D})\W{{1,4}}(?:(?:sino|es|pero|y|son|"
    rf"e|it'?s)\b"
    rf"\W{{1,3}}){{1,2}}(?:(?:un|el|um|o) )?(?P<new2>{_D})"
)
# The user says that the number is wrong, without a readable new one.
_RELATIVE = re.compile(rf"\b{RELATIONS}\b")
_WRONG = re.compile(
    r"\b(?=[a-z])(?:me equivoque|equivocad[oa]|mal|errei|errado|wrong|error|typo|corrijo|corrige)\b[^.?!\n]{0,40}"
    r"\b(?:numero|digito|celular|cel|telefono|whatsapp|number|digit|cifra)\b"
    r"|\b(?:numero|celular|cel|telefono|whatsapp|number)\b[^.?!\n]{0,25}\b(?:esta mal|esta errado|is wrong|"
    r"equivocad[oa]|quedo mal|no es ese)\b"
)


_SPEAKS_OF_DIGITS = re.compile(
    r"\b(?=[a-z])(?:digit\w*|cifras?|numer\w+|number|indicativo|(?:el|o) (?:ultimo|primero|primeiro|"
    r"penultimo) (?:es|e|era|numero))\b"
)
_OTHER_NOUN = re.compile(
    r"\b(?=[a-z])(?:precio|preco|price|visa|tarjeta|cartao|clave|senha|apto|apartamento|casa|semanas?|meses|mes|dias?|horas?|"
    r"cuotas?|cajas?|unidades|personas|pessoas|plan|curso|edad|anos|talla|radicado|pedido|cedula|placa|direccion|calle|"
    r"carrera|local|torre|piso|cuenta|pin)\b"
)
_FILLER = re.compile(
    r"\b(?=[a-z])(?:no|nao|not|perdon\w*|disculp\w*|desculp\w*|ay|uy|ups|oops|opa|ah|oh|es|e|is|el|los|o|os|y|si|sim|ok|sorry|"
    r"corrijo|corrigiendo|mejor|dicho|digo|que|pena|me|equivoque|errei|troca|cambia|era|son|sao|la|verdad|gracias|obrigad[oa])\b"
)
_REPEATED_DIGITS = 7


@dataclass(frozen=True, slots=True)
class Corrected:
    """The number after a correction, and the span of the words; ``e164`` is None if they cannot be applied."""

    e164: str | None
    start: int
    end: int


def corrected_number(turn: UserTurn, e164: str, regions: Regions) -> Corrected | None:
    """Apply the turn's correction to a known number; None if the turn corrects no part of a number."""
    found = _corrected(turn, e164, regions)
    if found is None or is_foreign(turn, found.start, found.end):
        return None
    return found if is_about_number(turn, found.start, found.end, e164) else None


def is_about_number(turn: UserTurn, start: int, end: int, e164: str) -> bool:
    """Whether a correction at ``start``..``end`` is about the user's number, and not about a price or a course.

    The user must speak of a phone or of digits, correct a number that the assistant has just repeated, excuse
    themselves, or say nothing else. A question corrects nothing.
    """
    folded = turn.folded
    if "?" in folded[end : end + 40] or _OTHER_NOUN.search(folded) or asks_for_other(turn):
        return False
    if _SPEAKS_OF_DIGITS.search(folded) or speaks_of_phone(folded, strictly=True):
        return True
    if national_digits(e164)[-_REPEATED_DIGITS:] in re.sub(r"\D", "", turn.asked):
        return True
    if _OTHER_NOUN.search(turn.asked):
        return False
    around = _FILLER.sub(" ", f"{folded[:start]} {folded[end:]}")
    return not any(character.isalnum() for character in around)


def _corrected(turn: UserTurn, e164: str, regions: Regions) -> Corrected | None:
    folded = turn.folded
    national = national_digits(e164)
    code = e164[: len(e164) - len(national)]
    for pattern, changed in ((_END, _at_end), (_START, _at_start), (_INSTEAD, _instead)):
        for match in pattern.finditer(folded):
            groups = match.groupdict()
            new = _digits(groups.get("new") or groups.get("new2"))
            old = _digits(groups.get("old") or groups.get("old2"))
            start, end = match.span("new" if groups.get("new") else "new2")
            if new is None or is_other_number(folded, start, end, plus=False):
                continue
            number = changed(national, new, old)
            if number is not None:
                valid = to_e164(code + number, regions.supported[0])
                return Corrected(valid, *match.span())
            if old is not None:
                return Corrected(None, *match.span())
    wrong = _WRONG.search(folded)
    if wrong is not None and _RELATIVE.search(wrong.group()):
        return None
    return Corrected(None, *wrong.span()) if wrong is not None else None


def _digits(text: str | None) -> str | None:
    if text is None:
        return None
    plain = re.sub(r"[\s.-]", "", text)
    if plain.isdigit():
        return plain
    return word_digits(words_of(text))


def _at_end(national: str, new: str, old: str | None) -> str | None:
    if len(new) >= len(national) or (old is not None and not national.endswith(old)):
        return None
    keep = len(national) - (len(old) if old is not None else len(new))
    return national[:keep] + new


def _at_start(national: str, new: str, old: str | None) -> str | None:
    if len(new) >= len(national) or (old is not None and not national.startswith(old)):
        return None
    return new + national[len(old) if old is not None else len(new) :]


def _instead(national: str, new: str, old: str | None) -> str | None:
    if old is None or national.count(old) != 1 or len(new) != len(old):
        return None
    return national.replace(old, new)
