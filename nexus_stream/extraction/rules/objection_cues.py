"""Patterns on folded text for objections: price, lack of time, trust, multilevel selling.

The patterns are in ``words/objection_*.txt``, one a line. objections.py decides whether a match is an objection.
claude/answer.py only checks whether a quote is about the subject.
"""

from __future__ import annotations

import re
from importlib.resources import files
from typing import NamedTuple

from nexus_stream.contracts.prospect import Objecion

__all__ = ["CUES", "OBSTACLE_NOUNS", "Cue", "speaks_of"]

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

# A quote is about the subject if it has one of these words. Wide on purpose: the model decides whether it is an
# objection, but a greeting or a name is none.
_WORDS = {
    Objecion.PRICE: re.compile(
        rf"\b(?:{_MONEY}|preci\w*|cost[aoeo]\w*|cuest\w*|cuota\w*|tarifa\w*|car[oa]s?|carisim\w*|barat\w*|"
        r"econom\w*|pag(?:o|os|ar\w*|an|ue|uen|a)|cobr\w*|vale|valor\w*|inver[st]\w*|inviert\w*|gast\w*|"
        r"alcan[czs]\w*|permitir\w*|afford\w*|expensive|pric\w*|cheap\w*|fees?|budget|cash|pesos?|dolares|euros|"
        r"soles|usd|cop|mil|millon\w*|deud\w*|sueldo\w*|salario\w*|bolsillo\w*|quincena|robo|platal|dineral|"
        r"fortuna|millonada|cuentas|numeros|desempleo|fin de mes|ojo de la cara|por l[ao]s (?:nubes|cielos))\b|[$€]"
    ),
    Objecion.TIME: re.compile(
        r"\b(?:tiemp\w*|horas?|horarios?|(?<!buen )dia|(?<!buenos )dias|ra(?:to|tito|tico)s?|minut\w*|segundos?|"
        r"ocupad\w*|atarea\w*|liad\w*|full|copad\w*|agenda\w*|turnos?|jornada\w*|semanas?|abasto|hueco\w*|"
        r"espacio|dedicar\w*|apurad\w*|la vida|times?|busy|hours?|schedule|days?|weeks?)\b"
    ),
    Objecion.TRUST: re.compile(
        r"\b(?:\w*confi[aeo]\w*|estaf\w*|fraud\w*|segur\w*|inseguridad|seri[oa]s?|legal\w*|ilegal\w*|legit\w*|"
        r"real(?:es|mente)?|(?<!la )verdad\w*|ciert[oa]|mentir\w*|engan\w*|rob(?:o|os|ar\w*|an|en|ad[oa]s?)|"
        r"ladron\w*|tumb\w*|tim(?:o|os|ar\w*|ad[oa]s?)|transa|tranza|trampa\w*|truco\w*|farsa|humo|cuento|verso|"
        r"chamuyo|dud[aoe]\w*|miedo\w*|miedito|temor|susto|sospech\w*|raro|rara|turbi[oa]|chimb[oa]|trucho|"
        r"garant\w*|prueb\w*|respald\w*|registrad\w*|cre(?:o|er|es|en|ible|ibles|iera)|escept\w*|increible|"
        r"conozco|fi(?:o|ar|arme|able|ables)|espina|perder\w*|pierd\w*|desaparec\w*|quejas|denuncias|existe\w*|"
        r"funciona\w*|cumplen|seriedad|bueno para ser|fake|scam\w*|trust\w*|safe|sure|true|proof|prove|believ\w*|"
        r"convenc\w*|facil|sketchy|shady|doubt\w*|afraid|scared|ripped|reviews?)\b"
    ),
    Objecion.MLM: re.compile(
        r"\b(?:piram\w*|multi ?-?ni?v\w*|multi ?-?level|mlm|red(?:es)?|network\w*|mercadeo|marketing|reclut\w*|"
        r"recruit\w*|ponzi|pyramids?|esquemas?|schemes?|afili\w*|referid\w*|invitar|invito|enganch\w*|captar|"
        r"captando|met(?:er|iendo|a|o)|traer|jal(?:ar|ando)|enrol\w*|inscrib\w*|vincular|asociar|gente|personas|"
        r"people|amig[oa]s|cadena|downline|upline|binari[oa]|telar|flor de la abundancia)\b"
    ),
}


def speaks_of(kind: Objecion, folded: str, start: int, end: int) -> bool:
    """Whether a quote is about the subject of an objection.

    Args:
        kind: The objection.
        folded: The turn, folded.
        start: Start of the quote in the turn.
        end: End of the quote.
    """
    if _WORDS[kind].search(folded, start, end):
        return True
    return any(
        cue.pattern.search(folded, start, end)
        or (cue.question_pattern is not None and cue.question_pattern.search(folded, start, end))
        for cue in CUES
        if cue.kind is kind
    )
