"""Patterns on folded text for objections: price, lack of time, trust, multilevel selling.

The patterns are in ``words/objection_*.txt``, one a line. objections.py decides whether a match is an objection.
"""

from __future__ import annotations

import re
from importlib.resources import files
from typing import NamedTuple

from nexus_stream.contracts.prospect import Objecion

__all__ = ["CUES", "OBSTACLE_NOUNS", "Cue"]

_MONEY = (
    r"(?:plata|platica|dinero|lana|pasta|guita|billete|feria|varo|efectivo|presupuesto|capital|recursos|medios|"
    r"fondos|solvencia|money|mosca|biyuya|pisto|lucas|chavos|parne|reales|cuartos|liquidez|ahorros)"
)
_PARTS = {
    "money": _MONEY,
    "worries": (
        r"(?:lo (?:unico )?que (?:mas )?me (?:frena|detiene|preocupa|para|complica|echa para atras|impide|inquieta|"
        r"duele)|(?:el|mi) (?:unico |gran |mayor )?(?:problema|pero|detalle|lio|tema|obstaculo|impedimento|"
        r"inconveniente|limitante)|lo malo|mi (?:duda|preocupacion|miedo)) (?:es|son|seria|sigue siendo|esta en|va por)"
    ),
    "feels": (r"(?:me (?:asusta|preocupa|frena|detiene|inquieta|complica|impide|echa para atras|duele)n?)"),
    "cheated": (
        r"(?:robad\w+|robar\w*|roben|robaron|estafad\w+|estafar\w*|estafen|tumbad\w+|tumbar\w*|tumben|enganad\w+|"
        r"enganar\w*|enganen|tranz\w+|transaron|cagaron|timad\w+|timar\w*|clavaron|clavar|vieron la cara|"
        r"ver la cara|jodieron|quedaron mal|embaucar\w*|jaquear\w*)"
    ),
    "recruits": (
        r"(?:gente|personas|amigos|amistades|conocidos|familiares|referidos|afiliados|incautos|otros|people|"
        r"mi familia|la familia|mis amigos|mis conocidos|mi gente)"
    ),
}


class Cue(NamedTuple):
    """The patterns of one kind: ``pattern`` anywhere, ``question_pattern`` only in a question."""

    kind: Objecion
    pattern: re.Pattern[str]
    question_pattern: re.Pattern[str] | None = None


def _patterns(name: str) -> re.Pattern[str]:
    text = (files(__package__) / "words" / f"objection_{name}.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    for part, expression in _PARTS.items():
        lines = [line.replace(f"{{{part}}}", expression) for line in lines]
    if not all(line.startswith(r"\b") for line in lines):
        raise ValueError(f"objection_{name}.txt: a pattern does not begin with \\b")
    # Look for the start of a word once instead of once a line: most of the rules' time was spent there.
    joined = "|".join(line.removeprefix(r"\b") for line in lines)
    return re.compile(rf"\b(?=[a-z])(?:{joined})")


CUES = (
    Cue(Objecion.PRICE, _patterns("price")),
    Cue(Objecion.TIME, _patterns("time")),
    Cue(Objecion.TRUST, _patterns("trust"), _patterns("trust_asked")),
    Cue(Objecion.MLM, _patterns("mlm")),
)

# Nouns in a short answer to the assistant's question about obstacles.
OBSTACLE_NOUNS = (
    (
        Objecion.PRICE,
        re.compile(
            r"\b(?:precio|plata|dinero|costo|valor|inversion|lana|presupuesto|pasta|guita|economico|economia|"
            r"money)\b"
        ),
    ),
    (Objecion.TIME, re.compile(r"\b(?:tiempo|horarios?|time)\b")),
    (
        Objecion.TRUST,
        re.compile(
            r"\b(?:la confianza|desconfianza|la seguridad|confianza|estafas?|que sea (?:real|verdad|cierto|"
            r"legal))\b"
        ),
    ),
)
