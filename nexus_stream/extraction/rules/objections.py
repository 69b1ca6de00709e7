"""Find the user's objections and doubts: price, time, trust, multilevel selling.

The cues are in objection_cues.py. A cue does not count if the user denies it ("no me parece caro"), reports another
person's opinion, or only asks ("¿es caro?").
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from nexus_stream.contracts.prospect import Objecion
from nexus_stream.extraction.rules.lexicon import FOREIGN_RELATIONS
from nexus_stream.extraction.rules.objection_cues import CUES, OBSTACLE_NOUNS, Cue
from nexus_stream.extraction.rules.ownership import RELATIONS
from nexus_stream.extraction.text import UserTurn, clause_before

__all__ = ["Objection", "find_objections"]

_FUNCTION = (
    r"(?:que|sea|sean|es|son|esta|este|estan|fuera|era|nada|tan|muy|para|por|un|una|ningun|ninguna|de|del|lo|la|"
    r"el|los|las|esto|eso|se|me|"
    r"nos|a|ni|alguna|algo|como|tipo|tampoco|haya|hay|ser|sera|seria|tener|tenga|ya|ninguno|bien|aqui|realmente|"
    r"les|siquiera|mi|caso|tema|cosa|cuestion|asunto|otra|mas|problema|motivo)"
)
_DENIED = re.compile(
    r"\b(?:no|nunca|tampoco|jamas)(?: (?:es|son|era|parecen?|pareceria|creo|pienso|digo|diria|veo|siento|dudo|"
    r"esta|estan|hay|tengo|da|dan|"
    r"suena|considero|sea|sera|hace|vi|crea|creemos|encuentro|quedo|dije|dice|piensen|tiene|fue|resulta|sale))?"
    rf"(?: {_FUNCTION}){{0,5}}\s*$|\b(?:sin|nada de|nada|ni)(?: {_FUNCTION}){{0,3}}\s*$"
)
_KNOWN_NOT = re.compile(
    r"\b(?:se|vi|veo|entiendo|comprobe|verifique|confirme|entendi|note|me (?:alegra|gusta|encanta|aclararon|"
    r"explicaron|consta|dijeron|tranquiliza)|"
    r"seguro|segura|claro|obvio|averigue|investigue|se nota|menos mal|que bueno) (?:de )?que (?:esto |eso |"
    r"ustedes |este |aqui )?no\b"
)
_POSITIVE_BEFORE = re.compile(
    r"\b(?:experiencia (?:en|con|de)|trabaj(?:e|o|aba|ado|ando) (?:en|con)|vengo del?|estuve en|estoy en|hice|"
    r"hago|he (?:hecho|estado en|"
    r"trabajado en)|me (?:gustan?|encantan?|interesan?|fascinan?|apasionan?)|conozco|se de|soy (?:lider|"
    r"distribuidor\w*) (?:en|de)|estudie|"
    r"fui a|visite|conocer|conoci|fuimos a)(?: [a-z]+){0,4}\s*$"
)
_NEGATIVE = re.compile(
    r"\b(?:mal|perdi|perdimos|no (?:quiero|me gust\w*|vuelvo|funcion\w*|quisiera)|nunca mas|estaf\w*|quebr\w*|"
    r"quemad\w*|feo|horrible|"
    r"pesim\w*|mala experiencia|decepcion\w*|fracas\w*|odio)\b"
)
_REPORTED = re.compile(
    rf"\b(?:mi|mis|un|una|el|la|su) (?:[a-z]+ )?{RELATIONS}(?: [a-z]+)? (?:siempre |me |nos |le |les |ya |"
    rf"tambien )*"
    r"(?:dic|dij|dec|cre|piens|pens|opin|asegur|tien|desconfi|repit|anda dic|teni)[a-z]*\b(?: que)?[^.!?\n]{0,60}$"
    rf"|\b(?:my|minha|meu) {FOREIGN_RELATIONS} (?:always |sempre )?"
    r"(?:calls?|says?|said|thinks?|believes?|diz|disse|acha|fala)\b[^.!?\n]{0,60}$"
)
_REPORTED_TASTE = re.compile(
    rf"\ba (?:mi|mis|su|la|el) (?:[a-z]+ )?{RELATIONS} (?:si |no |tambien |"
    rf"siempre )*(?:se )?les?\b[^.!?\n]{{0,40}}$"
)
_ONCE_THOUGHT = re.compile(
    r"\b(?:pense|pensaba|creia|crei|imagine|imaginaba|supuse|parecia|temia|sonaba)\b[^.!?\n]{0,40}$"
)
_TAKEN_BACK = re.compile(
    r"[^!?\n]{0,40}\b(?:pero|y) (?:ya |luego |despues |ahora |al final )*(?:vi|veo|no|entendi|me di cuenta|"
    r"me aclararon|me explicaron|averigue|se|confio|investigue|leyendo|lei)\b"
)
_ADOPTED = re.compile(
    r"\b(?:yo tambien|y le creo|tiene razon|tienen razon|me preocup\w*|me dej\w*|y yo (?:opino|pienso|creo)|"
    r"estoy de acuerdo|me hizo dudar|por eso)\b|\?"
)
_DIFFERENT_CLAUSE = re.compile(r",|;|\bpero\b|\baunque\b|\bsino\b|\bes que\b|\blo que pasa\b|\bporque\b")
_TAG_QUESTION = re.compile(
    r",?\s*¿?\s*(?:verdad|cierto|no|o no|o si|o que|o es|me imagino|sera|si o no|eh|vdd|no es cierto|right)\s*\?"
)
_QUESTION_END = re.compile(r"[.!?\n¿]|,(?=\s)")
_STRONG_PRICE = re.compile(r"\b(?:tan|demasiad[oa]|por que|carisim[oa]s?|no|too)\b")
_ASKS_PRICE = re.compile(
    r"\bcar[oa]s?\b|costos|expensive|cuesta|vale|cobran|piden|tiempo\b|\bprecio|\bcosto|\binversion"
)
_NOW = re.compile(r"\b(?:ahora|ahorita|en este momento|hoy|luego|al rato|ratico|mas tarde|despues|ratito|manejando)\b")
_BUSY = re.compile(r"ocupad|liad|full|busy|atarea|corriendo|copad")
_INCOME = re.compile(
    r"\b(?:sueldo|salario|ingresos?|lo que (?:gano|ganamos|me pagan|uno gana)|pension|quincena|minimo|paga|"
    r"mesada)\b[^.,;]{0,20}$"
)
_INCOME_FOR = re.compile(r"[^.,;]{0,12}\b(?:para (?:eso|esto|pagar|la inversion|invertir|entrar)|ese precio)\b")
_ASKS_OBSTACLE = re.compile(
    r"\b(?:preocup\w*|detien\w*|fren\w*|impid\w*|dudar|dud[ao]s?|objecion\w*|obstaculo\w*|te para|inquiet\w*|"
    r"te falta|le falta|te complica|no te deja|"
    r"echa para atras|holding you back)\b"
)
_WORRIES = re.compile(
    r"\b(?:me (?:preocupan?|frenan?|detienen?|asustan?|inquietan?|complican?)|mis (?:dudas|miedos|"
    r"preocupaciones|peros) (?:son|es)|(?:dos|tres|varias|un par de) "
    r"(?:cosas|problemas|peros|dudas|razones)|peros?:|dudas:)"
)
_LIST_END = re.compile(r"[.?!\n;]|\bpero\b|\baunque\b|\bno saber\b")
_NONE_OF_THEM = re.compile(r"\b(?:nada|ningun[oa]?|no|todo bien|nothing|tampoco)\b")
_OBSTACLE_ANSWER_WORDS = 12
# Matches of one kind that are checked in a turn. Each check may read the whole turn: more is an attack on CPU time.
_MAX_MATCHES = 20


@dataclass(frozen=True, slots=True)
class Objection:
    """One kind of objection, and its first place."""

    kind: Objecion
    turn: UserTurn
    start: int
    end: int


def _in_question(folded: str, start: int, end: int) -> bool:
    """Whether the words are part of a question: a "?" follows before the clause ends."""
    if _TAG_QUESTION.match(folded, end):
        return True
    opening = folded.rfind("¿", max(0, start - 160), start)
    if opening >= 0 and "?" not in folded[opening:start]:
        return True
    position = end
    for _ in range(3):
        stop = _QUESTION_END.search(folded, position, min(len(folded), end + 160))
        if stop is None:
            return False
        if stop.group() == "?":
            return True
        if stop.group() != ",":
            return False
        # "¿esto es multinivel, o cómo?" is one question. "no es estafa, cuánto cuesta?" asks something else.
        if not re.match(r"\s*(?:o|de esos|de esas|como|tipo|de las|de los|cierto|verdad|no)\b", folded[stop.end() :]):
            return False
        position = stop.end()
    return False


def _is_meant(cue: Cue, turn: UserTurn, start: int, end: int) -> bool:
    folded = turn.folded
    sentence = clause_before(folded, start, limit_chars=140)
    clause = sentence
    for boundary in _DIFFERENT_CLAUSE.finditer(sentence):
        clause = sentence[boundary.end() :]
    words = folded[start:end]
    asked = _in_question(folded, start, end)
    if _KNOWN_NOT.search(clause):
        return False
    if not words.startswith(("no ", "ni ", "sin ")) and _DENIED.search(clause):
        doubts = asked or re.search(r"\bno (?:vaya|sera|sera que)\b|\bno (?:quiero|quisiera) que\b|\bno se\b", clause)
        if not doubts and "isim" not in words:
            return False
    if re.search(r"\b(?:no es que|no digo que|no creo que|no es por(?:que)?) (?:[a-z]+ ){0,3}$", clause):
        return False
    if _ONCE_THOUGHT.search(sentence) and _TAKEN_BACK.match(folded, end):
        return False
    if _REPORTED_TASTE.search(clause) or (_REPORTED.search(sentence) and not _ADOPTED.search(folded, end)):
        return False
    if cue.kind in (Objecion.PRICE, Objecion.TIME) and asked and _ASKS_PRICE.search(words):
        return words.startswith("no ") or bool(_STRONG_PRICE.search(clause + words))
    if cue.kind is Objecion.PRICE and "alcan" in words and _INCOME.search(clause):
        return bool(_INCOME_FOR.match(folded, end))
    if cue.kind is Objecion.TIME and _BUSY.search(words):
        return not _NOW.search(folded[max(0, start - 20) : start] + words + folded[end : end + 30])
    if cue.kind is Objecion.MLM and not asked and _POSITIVE_BEFORE.search(clause):
        return bool(_NEGATIVE.search(folded))
    return True


def _match(cue: Cue, turn: UserTurn) -> tuple[int, int] | None:
    folded = turn.folded
    for match in islice(cue.pattern.finditer(folded), _MAX_MATCHES):
        if _is_meant(cue, turn, *match.span()):
            return match.span()
    if cue.question_pattern is not None:
        for match in islice(cue.question_pattern.finditer(folded), _MAX_MATCHES):
            sentence = clause_before(folded, match.start(), limit_chars=140)
            # "quiero saber si es serio o…" asks without a question mark.
            indirect = match.group().startswith("si ") or re.search(
                r"\b(?:saber|duda|se|veo|ver|pregunto) si(?: [a-z]+)?\s*$", sentence
            )
            if (indirect or _in_question(folded, *match.span())) and not _KNOWN_NOT.search(sentence):
                return match.span()
    return None


def _named_as_obstacle(turn: UserTurn) -> list[tuple[Objecion, int, int]]:
    """Read a short answer to the assistant's question about obstacles."""
    if not turn.asked or not _ASKS_OBSTACLE.search(turn.asked) or "?" in turn.folded:
        return []
    if turn.folded.count(" ") >= _OBSTACLE_ANSWER_WORDS or _NONE_OF_THEM.search(turn.folded):
        return []
    named = []
    for kind, noun in OBSTACLE_NOUNS:
        match = noun.search(turn.folded)
        if match is not None:
            named.append((kind, *match.span()))
    return named


def _listed_worries(turn: UserTurn) -> list[tuple[Objecion, int, int]]:
    """Read a list of worries: ``me preocupan el tiempo, la plata y que sea pirámide``."""
    listed = []
    for intro in islice(_WORRIES.finditer(turn.folded), _MAX_MATCHES):
        if re.search(
            r"\b(?:no|ni|tampoco|nada)\s+(?:me |es lo que |se )*$",
            turn.folded[max(0, intro.start() - 24) : intro.start()],
        ):
            continue
        end = _LIST_END.search(turn.folded, intro.end(), intro.end() + 90)
        stop = end.start() if end else min(len(turn.folded), intro.end() + 90)
        for kind, noun in OBSTACLE_NOUNS:
            match = noun.search(turn.folded, intro.end(), stop)
            if match is not None and not re.search(
                r"\b(?:no|ni|sin|tampoco) (?:[a-z]+ )?$", turn.folded[intro.end() : match.start()]
            ):
                listed.append((kind, *match.span()))
    return listed


def find_objections(turns: Sequence[UserTurn]) -> list[Objection]:
    """Find the user's objections, in the contract's order, each with its first place."""
    found: dict[Objecion, Objection] = {}
    for turn in turns:
        for cue in CUES:
            if cue.kind not in found:
                span = _match(cue, turn)
                if span is not None:
                    found[cue.kind] = Objection(cue.kind, turn, *span)
        for kind, start, end in (*_named_as_obstacle(turn), *_listed_worries(turn)):
            found.setdefault(kind, Objection(kind, turn, start, end))
    return [found[kind] for kind in Objecion if kind in found]
