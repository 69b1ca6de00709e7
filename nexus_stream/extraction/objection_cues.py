"""What people say when they object to price, lack of time, trust or multilevel selling: patterns on folded text.

From: ``words/objection_*.txt``, one pattern a line. To: objections.py, which decides whether a match is meant.
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
    return re.compile("|".join(lines))


CUES = (
    Cue(Objecion.PRICE, _patterns("price")),
    Cue(Objecion.TIME, _patterns("time")),
    Cue(Objecion.TRUST, _patterns("trust"), _patterns("trust_asked")),
    Cue(Objecion.MLM, _patterns("mlm")),
)

# What a short answer names when the assistant asks what holds the user back.
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
