"""Find the end of an occupation phrase: "supervisor de bodega", "panadería de barrio", "vendo seguros".

A phrase ends before a place, a time or the next clause.
"""

from __future__ import annotations

import re

from nexus_stream.extraction.rules.lexicon import BUSINESSES, COMMON_WORDS, PLACES, word_list
from nexus_stream.extraction.text import UserTurn

__all__ = ["ASKS_OCCUPATION", "answer_phrase", "business_phrase", "job_phrase", "object_phrase", "place_phrase"]

ASKS_OCCUPATION = re.compile(
    r"a que (?:te|se|os) dedi\w+|\bque haces\b(?! (?:hoy|falta))|que hace usted|en que (?:trabaj|labur|te ocup|"
    r"se ocup)\w*|de que (?:trabaj|labur|viv)\w*|"
    r"(?:tu|su|cual es (?:tu|su)|que) (?:ocupacion|profesion|oficio|actividad)|como te ganas|"
    r"eres (?:emprendedor|emplead|estudiante|independiente)\w*|"
    r"(?:emplead[oa]|independiente|emprendedor[a]?)(?:,| o) |what do you do"
)
_NEXT = re.compile(r" {1,2}([a-z]+(?:[-'][a-z]+)*)")
_OF = re.compile(
    r" {1,2}(?:de|d|del|en(?= (?:ventas|sistemas|marketing|derecho|salud|finanzas|belleza|seguridad|gastronomia|"
    r"enfermeria|contabilidad|administracion|redes|logistica|educacion|recursos|nutricion|bienes|psicologia|"
    r"turismo|obra|cocina)\b)|para(?= (?:ninos|adultos|eventos|fiestas|mascotas|empresas|bodas)\b)) {1,2}((?:la|"
    r"el|los|las|una?|mi|mis) )?([a-z]+)"
)
_ADJECTIVE = re.compile(
    r"[a-z]{2,}(?:ic[oa]s?|al|ales|ares?|il|ista|ari[oa]s?|ente|ante|iv[oa]s?|ad[oa]s?|os[oa]s?|an[oa]s?|"
    r"er[oa]s?|or[a]?|ble|ogic[oa]|ense|in[oa]|ud|ral|ura|uras)$"
)
_ADJECTIVES = word_list("occupation_adjectives")
_NO_ADJECTIVE = word_list("occupation_no_adjectives")
_NO_COMPLEMENT = word_list("occupation_no_complements")
_OBJECT_END = re.compile(
    r"[.,;:!?¡¿\n()\"]|[^\w\s'.+-]|\b(?:y (?!vend|repar|mantenimiento|accesorios|postres|tortas|pedicure|pies)|"
    r"e |pero|porque|para (?!eventos|fiestas|ninos|mascotas|empresas)|por (?!catalogo|internet|encargo|mayor|"
    r"redes|instagram|whatsapp)|desde|cuando|aqui|aca|alla|con (?:mi|una?|el|la)|"
    r"los (?:fines|lunes|martes|sabados|domingos|viernes)|entre|en (?!moto|linea|casa\b|eventos|redes|general|"
    r"la calle|bicicleta|plataformas|uber|didi|oro|madera|linea)|hace|que|mientras|como|todos|cada|de (?:manera|"
    r"forma|lunes)|a veces|"
    r"gracias|la verdad|tengo|soy|quiero|vivo|me|mi|escrib\w+|ahora|ahorita|hoy|actualmente|tambien|pues|"
    r"jaja\w*|porfa|xq|xfa|nada mas|no mas|nomas|toda|todo|y$)\b|\s[pq]\s"
)
_DETERMINER = re.compile(
    r"(?:(?:una?|el|la|los|las|unos|unas|mi|a|an|the|esta|este|cierta|empresa llamada|lo que es|area de|"
    r"el area de|sector|lo de) ){0,3}"
)
_NOWHERE = word_list("occupation_no_places")
_REFUSES = re.compile(
    r"\W*(?:(?:no|nada|ningun[oa]?|por ahora|ahora|estoy|ando|buscando|desemplead[oa]|sin|prefiero|para que|"
    r"depende|despues|luego|que|por que|como|cual|y|a que|eso|esto|quien|cuanto|solo|mejor|"
    r"primero|gracias|ok|si|claro|jaja\w*|de todo|un poco|mucho|muchas|varias|tu|usted|vos|hola|bueno|mmm*|eh|"
    r"ah|uy|igual|te|le|me|yo|acepto|listo|donde|dime|quiero|quisiera|tengo|vi|he|ya)\b|$)"
)
_ANSWER_FILLER = re.compile(
    r"\W*(?:(?:pues|bueno|mira|mire|yo|a|en|al|de|con|trabajo (?:en|de|como|con)|como|soy|la|el|una?|las|los|"
    r"me dedico a|actualmente|ahora|eh|claro|hola|si) )*"
)
_ANSWER_WORDS = 6


def _adjective(word: str) -> bool:
    if word in _ADJECTIVES:
        return True
    if word in _NO_ADJECTIVE or word in COMMON_WORDS or word in PLACES:
        return False
    return len(word) > 3 and _ADJECTIVE.match(word) is not None


def _extend(turn: UserTurn, end: int, *, complements: int) -> int:
    """Extend the end of a noun over its adjectives and "de …" complements."""
    folded = turn.folded
    for _ in range(2):
        following = _NEXT.match(folded, end)
        if following is None or not _adjective(following.group(1)):
            break
        end = following.end()
    for _ in range(complements):
        complement = _OF.match(folded, end)
        if complement is None:
            break
        word = complement.group(2)
        if (
            word in PLACES
            or word in _NO_COMPLEMENT
            or (turn.text[complement.start(2)].isupper() and word in COMMON_WORDS)
        ):
            break
        if word in COMMON_WORDS and word not in BUSINESSES and word not in _COMPLEMENTS_TOO:
            break
        end = complement.end()
        following = _NEXT.match(folded, end)
        if following is not None and _adjective(following.group(1)):
            end = following.end()
    return end


_COMPLEMENTS_TOO = word_list("occupation_complements")


def job_phrase(turn: UserTurn, start: int) -> tuple[int, int]:
    """The span of a trade with its adjectives and complements."""
    match = re.compile(r"[a-z]+").match(turn.folded, start)
    return start, _extend(turn, match.end() if match else start, complements=3)


def business_phrase(turn: UserTurn, start: int) -> tuple[int, int]:
    """The span of a business with its complements."""
    return job_phrase(turn, start)


def place_phrase(turn: UserTurn, start: int) -> tuple[int, int] | None:
    """The span of a workplace without its determiner; None for a town, a home or a person."""
    determiner = _DETERMINER.match(turn.folded, start)
    begin = determiner.end() if determiner else start
    match = re.compile(r"[a-z]+").match(turn.folded, begin)
    if match is None:
        return None
    word = match.group()
    if (
        word in PLACES
        or word in _NOWHERE
        or (turn.text[begin].isupper() and not turn.shouted and begin == start and word not in BUSINESSES)
    ):
        return None
    return begin, _extend(turn, match.end(), complements=2)


def object_phrase(turn: UserTurn, start: int) -> int:
    """The end of a verb's object, at most six words."""
    limit = min(len(turn.folded), start + 60)
    stop = _OBJECT_END.search(turn.folded, start + 1, limit)
    end = stop.start() if stop else limit
    words = list(re.finditer(r"\S+", turn.folded[start:end]))[:6]
    while len(words) > 1 and words[-1].group() in (
        "de",
        "en",
        "a",
        "y",
        "la",
        "el",
        "los",
        "las",
        "por",
        "para",
        "con",
        "e",
        "del",
    ):
        words.pop()
    return start + (words[-1].end() if words else 0)


def answer_phrase(turn: UserTurn) -> tuple[int, int] | None:
    """The span of an answer to "¿a qué te dedicas?" that no rule knows; None for a refusal, question or small talk."""
    folded = turn.folded
    if "?" in folded or _REFUSES.match(folded):
        return None
    filler = _ANSWER_FILLER.match(folded)
    start = filler.end() if filler else 0
    if start >= len(folded) or not folded[start].isalpha():
        return None
    first = re.compile(r"[a-z]+").match(folded, start)
    if first is None or (first.group() in COMMON_WORDS and first.group() not in _COMPLEMENTS_TOO):
        return None
    end = object_phrase(turn, start)
    if len(folded[start:end].split()) > _ANSWER_WORDS:
        return None
    return start, end
