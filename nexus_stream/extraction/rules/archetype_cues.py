"""Check whether a quote can support one of the six archetypes.

The check is wide on purpose: the model chooses the archetype, but a greeting or a name supports none. The offline
rules choose their archetype in occupations.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from nexus_stream.contracts.prospect import Arquetipo
from nexus_stream.extraction.rules.lexicon import BUSINESSES, OCCUPATIONS
from nexus_stream.extraction.rules.occupation_cues import ACTIVITY
from nexus_stream.extraction.text import clause_before, words_of

__all__ = ["speaks_of"]

_OWNING = (
    r"negocio\w*|empres\w*|emprend\w*|comerci\w*|duen[oa]s?|propi[oa]s?|propietari\w*|fundador\w*|fund(?:e|amos)|"
    r"local(?:es)?|tiend\w*|socios?|socias?|marca|distribu\w*|fabric\w*|import\w*|vend\w*|bendo|ventas|business\w*|"
    r"own(?:er|ers|s)?|compan\w*|startup|shop|store|sell\w*|founder|ceo|entrepreneur"
)
_WORKING = (
    r"trabaj\w*|labur\w*|chamb\w*|curr[oa]|camell\w*|labor[oa]\w*|emplead\w*|empleo|oficina\w*|cargo|puesto|jef[ea]|"
    r"profesi\w*|carrera|titul\w*|gradu\w*|egresad\w*|licenciad\w*|ingenier\w*|sueldo|salario|turnos?|"
    r"banco|hospital|clinica|colegio|escuela|universidad|gobierno|ministerio|alcaldia|work\w*|jobs?|employ\w*|"
    r"office|profession\w*|degree|manager"
)
_ALONE = (
    r"independient\w*|freelan\w*|freelo|cuenta|autonom\w*|monotribut\w*|honorarios|servicios?|client\w*|domicili\w*|"
    r"encargos?|catalogo|ambulante|rebusc\w*|proyectos|dedico|hago|arreglo|reparo|cocino|coso|manejo|conduzco|"
    r"reparto|doy|dicto|diseno|programo|corto|pinto|taxi|uber|didi|rappi|moto|self|gigs?|clients?|drive|my own"
)
_HOME = (
    r"hogar\w*|am[oa] de|casa|hij[oa]s?|hijit[oa]s|nin[oa]s?|nen[ea]s?|bebes?|chicos|niet[oa]s|mama|mami|papa|madre|"
    r"padre|espos[oa]|marido|familia|quehaceres|cri(?:o|ar|anza|ando)|home\w*|house\w*|kids?|child\w*|mom|mum|mother|"
    r"father|dad|family|husband|wife|bab(?:y|ies)"
)
_YOUNG = (
    r"estud\w*|univers\w*|carrera|semestre\w*|facul?tad|facu|colegio|cole|bachill\w*|prepa\w*|secundaria|instituto|"
    r"liceo|escuela|curs\w*|tecnic[oa]|tecnolog\w*|tesis|practicas|pasantia\w*|beca\w*|joven\w*|anos|"
    r"la u|student\w*|study\w*|college|school|uni|young|years old|internship"
)
_LEADING = (
    r"lider\w*|pastor\w*|iglesia\w*|comuni\w*|comunal\w*|junta|barri\w*|vecin\w*|vered\w*|fundacion\w*|congrega\w*|"
    r"ministerio\w*|parroc\w*|parroqu\w*|sacerdote|padre|misioner\w*|catequ\w*|pastoral|celula|grupos?|asociacion\w*|"
    r"cooperativ\w*|sindic\w*|voluntari\w*|dirigente|edil\w*|concejal\w*|presid\w*|coordin\w*|referente|gobernador\w*|"
    r"indigena\w*|movimiento|church\w*|communit\w*|neighbo\w*|leader\w*|preacher|ministry|congregation"
)
_WORDS: Final[Mapping[Arquetipo, re.Pattern[str]]] = {
    kind: re.compile(rf"\b(?:{words})\b")
    for kind, words in {
        Arquetipo.EMPRENDEDOR_DUENO_NEGOCIO: _OWNING,
        Arquetipo.PROFESIONAL_VISION: _WORKING,
        Arquetipo.LIDER_HOGAR: _HOME,
        Arquetipo.JOVEN_AMBICION: _YOUNG,
        Arquetipo.INDEPENDIENTE_FREELANCER: f"{_ALONE}|{_OWNING}|{_WORKING}",
        Arquetipo.LIDER_COMUNIDAD: _LEADING,
    }.items()
}
# A trade or a business alone ("barbero", "panadería") shows that the user works.
_OF_A_TRADE = frozenset(
    {Arquetipo.EMPRENDEDOR_DUENO_NEGOCIO, Arquetipo.PROFESIONAL_VISION, Arquetipo.INDEPENDIENTE_FREELANCER}
)
_BEFORE_CHARS = 40
_TRADES = OCCUPATIONS | BUSINESSES


def speaks_of(kind: Arquetipo, folded: str, start: int, end: int) -> bool:
    """Whether a quote, together with the words right before it in its clause, can support this archetype.

    Args:
        kind: The archetype.
        folded: The turn, folded.
        start: Start of the quote in the turn.
        end: End of the quote.
    """
    # With the words before it, the quote "construcción" supports as much as "trabajo en construcción".
    said = clause_before(folded, start, limit_chars=_BEFORE_CHARS) + folded[start:end]
    if _WORDS[kind].search(said):
        return True
    if kind not in _OF_A_TRADE:
        return False
    return ACTIVITY.search(said) is not None or any(
        word in _TRADES or word.removesuffix("s") in _TRADES for word in words_of(said)
    )
