"""Decide whose phone or e-mail it is: the user's own, another person's, or one that is not valid any more."""

from __future__ import annotations

import re

from nexus_stream.extraction.text import UserTurn, clause_before, last_match

__all__ = [
    "RELATIONS",
    "asks_for_others",
    "corrects",
    "denies",
    "is_about_site",
    "is_called",
    "is_called_own",
    "is_foreign",
    "is_given_up",
    "is_offered",
    "is_secondary",
]

RELATIONS = (
    r"(?:espos[oa]|marid[oa]|mujer|novi[oa]|pareja|herman[oa]s?|mama|papa|madre|padre|hij[oa]s?|ti[oa]|prim[oa]|"
    r"cunad[oa]|"
    r"sueg[r]?[oa]|abuel[oa]|niet[oa]|sobrin[oa]|amig[oa]|vecin[oa]|jef[ea]|soci[oa]|companer[oa]|colega|"
    r"contador[a]?|"
    r"abogad[oa]|secretari[oa]|asistente|asesor[a]?|patron[a]?|nuera|yerno|comadre|compadre|viej[oa]|hermanit[oa]|"
    r"mami|papi|nin[oa]|muchach[oa]|senor[a]?|doctor[a]?|profesor[a]?|pastor[a]?|lider|ex|ahijad[oa]|padrino|"
    r"madrina|irmao?s?|mae|pai|filh[oa]s?|sobrinh[oa]|chefe|namorad[oa]|vizinh[oa]|soci[oa]|sogr[oa]|av[oa]|noiv[oa]|wife|"
    r"husband|brother|sister|mom|mother|dad|father|son|daughter|friend|boss|cousin|aunt|uncle|partner|coworker|"
    r"neighbor|girlfriend|boyfriend|roommate|gf|bf|carnal|cuate|parcer[oa]|compa|pana|brother)"
)
_CONTACT = (
    r"(?:correo|e-?mail|mail|cel\w*|numer\w*|number|phone|zap\w*|telefone|"
    r"telefono|tel|fono|movil|whats\w*|wasap|wsp|wpp|contacto|linea|direccion|gmail)"
)
_FOREIGN = re.compile(
    rf"\b(?=[a-z])(?:de|a|al|con|por|es|la|el|don|dona|mi|su|nuestr[oa]|da|do|ao?|meu|minha|com|e|my|the|of|"
    rf"our) (?:la |"
    rf"el |mi |su |un |"
    rf"una |meu |minha |my |nuestr[oa] )?{RELATIONS}\b"
    rf"|\b(?:seu|dele|dela|his|her|their) {_CONTACT}\b|\b{_CONTACT} (?:dele|dela|deles)\b"
    r"|\b(?:recomi?end\w+|refirio|referid[oa]s?|el duen[oa]|la duena|te paso el de|(?:escrib|llam|marqu|"
    r"mand)[a-z]{1,3}les?|(?:llam|contact)[a-z]{1,3}l[ao]s?|"
    r"(?:me|nos) (?:estafaron|contacto|contactaron|respondio|respondieron)|recibi (?:un |una |el )?(?:correo|"
    r"mensaje|llamada|mail)|"
    r"(?:mande|envie|escribi|mandei|enviei|emailed|wrote|sent)(?: [a-z]+){0,3} (?:a|al|para|to)|i emailed|hers|"
    r"theirs|se llama|se llamaba|chama-?se|se chama|his name|her name|contacto de emergencia|"
    r"emergenc\w+|quedo de (?:llamar|escribir)\w*|"
    r"(?:la|lo|las|los|me lo|me la) (?:mandaron|enviaron|mando|envio) al?|(?<!me )(?:marc|llam|escrib)[ae]n a)\b|"
    r"\b(?:el|la) del? $"
    r"|\b(?:me ligaram|me ligou|me mandou|me escreveu|called me|texted me|emailed me)\b"
    rf"|\bsus? {_CONTACT}\b|\bde (?:ustedes|vosotros|ella|el|ellos|ellas)\b|\bde (?:la empresa|su empresa|"
    rf"la compania)\b"
    r"|\b(?:me|nos) (?:llamaron|escribieron|contactaron|marcaron|escribio|(?:llego|"
    r"llegaron)(?: un [a-z]+)?(?= de| desde))\b"
    r"|\b(?:escriben|escribieron|mandan|contactan|llaman|escribio|llamaron) (?:desde|del?)\b"
    # Without its accent "me llamo" introduces a name, unless the words around it mean that somebody called.
    r"|\bnos llamo\b|\bme llamo(?= (?:un|una|alguien|su|desde|del (?:\d|numero))\b)"
    r"|\b(?:ayer|anoche|antier|anteayer|recien|alguien|nadie) me llamo\b"
    r"|\b(?:les|le) escribi\b|\bescribi al?\b|\bllamamos\b|\bllam(?:e|o) y\b|\bya (?:llame|marque|escribi)\b"
)
_SENT_AFTER = re.compile(
    r"\W{0,3}(?:que )?(?:me|nos) (?:mand|escrib|envi|llam|contact|dij|respond|lig|mandou|enviou|escreveu|sent|"
    r"wrote|called)"
)
_CALLED = re.compile(r"\bme ?(?:ll|y)[ae]mo\b")
_OWN = re.compile(
    rf"\b(?=[a-z])(?:mi|el mio|la mia|mis|un|este|my|otro|meu|minha|o meu) (?:[a-z]+ ){{0,2}}?{_CONTACT}\b|\b(?:el mio|"
    rf"la mia|yo|o meu|mine|eu|el unico|la unica|a mi me escrib\w+|me (?:hizo|hicieron|creo|crearon|abrio|saco|"
    rf"sacaron) (?:este|esta|ese|un|una)|el que (?:uso|reviso|manejo))\b|\bmio\b"
    r"|\b(?:escrib|llam|marc|mand|envi|contact|localiz|busc|ubic|encuentr|avis|text|hábl|pas)(?:e|a|i|en|"
    r"an)?(?:me|enme|anme)\b"
    r"|\bme (?:encuentra\w*|escribe\w*|llama|llaman|ubica\w*|localiza\w*|contacta\w*|marca|marcan|puede\w*)\b"
)
_FOREIGN_AFTER = re.compile(
    rf"\W{{0,3}}(?:[a-z]+ )?\(?(?:mi|meu|minha|my) {RELATIONS}\b|"
    r"\W{0,3}(?:que |y )?(?:(?:es|ese es|este es|era|pertenece|son) )?(?:(?:el|la) )?(?:(?:numero|cel\w*|correo|"
    r"mail|telefono) )?"
    rf"(?:de|del|a|da|do|of) (?:mi |la |el |su |un |una |meu |minha |my )?{RELATIONS}\b"
    rf"|\W{{0,3}}(?:that'?s|is|e|it'?s|that is|isso e) (?:my |o do meu |a da minha |do meu |da minha |o da |"
    rf"o do )(?:meu |minha )?{RELATIONS}\b"
)
_GIVEN_UP_AFTER = re.compile(
    r"\W{0,4}(?:que |pero )?(?:(?:ese|este|esa)(?: numero| correo)? )?(?:ya )?"
    r"(?:no (?:lo|la) (?:uso|tengo|manejo|reviso|abro|use|usen)|ya no|no (?:es el mio|sirve|funciona|existe|"
    r"es mio)|"
    r"nao (?:uso|e|tenho|existe|funciona)\b(?: mais)?|ja nao|no longer|doesn'?t work|is old|not anymore|"
    r"(?:ese|este|esse|that one) (?:no|nao|isn'?t|not)\b|es[ae] (?:bandeja|cuenta|correo|linea) (?:nadie|no|ya)|"
    r"esta (?:malo|danado|mal|bloqueado)|lo perdi|me lo robaron|no es|no me sirve)\b"
)
_GIVEN_UP_BEFORE = re.compile(
    r"(?:\bperdi (?:la clave|el acceso|acceso|la contrasena)(?: de| a| al)?|\bnao (?:e|era|use|"
    r"liga\w*) (?:mais )?(?:o |no )?|\bnot |(?<!si )\bno (?:es|era|al|me \w+ al?|uses?|use el)|"
    r"\bya no (?:es|uso)(?: el)?)\W*(?:el |al |a )?\W*$"
)
# "El número de mi esposa, porque el mío se dañó": the user has none to give.
_HAS_NONE = re.compile(r"\b(?:yo|el mio|la mia|eu|o meu|mine)(?= (?:no|se|ya|esta|nao|lo|is|does|doesn)\b)")
# The user takes back a contact given before.
_DISOWNS = re.compile(
    rf"\b(?:es[ea]|est[ea]|esse|that|borr\w+)\b(?: (?:es|e|is|era|el|la|o|a|numero|cel\w*|correo|mail|e-?mail|"
    rf"telefono|number|"
    rf"whats\w*|linea))*? (?:de|del|da|do|of) (?:mi|la|el|un|una|minha|meu|my) {RELATIONS}\b"
    r"|\bno es (?:mio|mia|mi (?:numero|cel\w*|correo|mail|telefono|whats\w*))\b|\bya no es mi[oa]?\b|"
    r"\bnao e (?:mais )?(?:o )?meu\b|"
    r"\b(?:not|isn'?t) (?:mine|my)\b"
)
_OF_MAIL = re.compile(r"\b(?:correo|e-?mail|mail)\b")
_OF_PHONE = re.compile(r"\b(?:numero|cel\w*|telefono|whats\w*|wsp|linea|number|phone|zap)\b")
_SECONDARY = re.compile(
    r"\b(?=[a-z])(?:fijo|(?:del?|de la|de mi) (?:casa|oficina|trabajo|empresa|chamba|pega|laburo|consultorio|negocio|"
    r"clinica)|"
    r"otr[oa]|tambien|ademas|altern[oa]|alternativ[oa]|o al|outr[oa]|other|also|fixo|landline|work|office|"
    r"escritorio|comercial|adicional|emergencias?|corporativo|institucional)\b"
)
_SECONDARY_AFTER = re.compile(
    r"\W{0,3}(?:(?:que )?es )?(?:(?:el|mi|de|del|la) ){0,3}(?:fijo|oficina|trabajo|casa|empresa|consultorio|"
    r"negocio|emergencias?)\b"
)
_CORRECTION = re.compile(
    r"\b(?=[a-z])(?:el mio|la mia|o meu|mine|desculp\w*|errei|na verdade|alias|corrigindo|ops|oops|actually|wait|"
    r"my bad|"
    r"wrong|perd[oó]n|perdone?|"
    r"disculp\w*|corrij\w*|corregi\w*|correccion|equivo\w*|error|mal|en realidad|"
    r"mejor dicho|quise decir|"
    r"el correcto|correct[oa] es|cambi\w*|nuevo|ahora es|actualiz\w*|digo|ya no|ojo|no es ese|sorry|i meant|"
    r"termina en|mejor|"
    r"me falto|falto|me comi|no,? no|(?:ay|uy|ah|oh|uf+),? no|espera|esper[ae]me|olvida|el bueno es|no era)\b|"
    r"^\W*no\b|\bno, ?$"
)


# The assistant asks for the contact of somebody else.
_ASKS_FOR_OTHERS = re.compile(
    rf"{_CONTACT}(?: [a-z]+){{0,2}} (?:de|del|da|do|of) (?:ella|el|la|su|tu|un|una|alguien|otra|mi|ela|ele|sua|"
    rf"seu|her|him|your|"
    rf"the) ?(?:{RELATIONS}|persona|familiar|acompanante|contacto|pessoa)?\b|\bemergenc\w+|\b(?:her|his|"
    rf"their) {_CONTACT}\b"
)
# The user speaks of the site's own contact.
_OF_SITE = re.compile(
    r"\b(?:ustedes|uds?|voces|vcs|vosotros|atienden|atendem|tienen|es de la empresa|su numero|se atiende|"
    r"este es el|you guys|"
    r"your|vuestro|marco|llamo|ligo)\b"
)
_CONFIRMS_OWN = re.compile(rf"\b(?:tu|su|seu|teu|your|vuestro)\b[^.?!\n]{{0,30}}\b{_CONTACT}\b")
_ASKS_WHETHER_OWN = re.compile(
    rf"\b(?:es[ea]?|este|esta|that|esse|isso) (?:es|e|is|seria) (?:su|tu|seu|teu|your|el|"
    rf"o)\b[^.!\n]{{0,25}}\b{_CONTACT}\b"
)
_ASKS_CONTACT = re.compile(rf"\b(?:{_CONTACT}|llam\w+|contact\w+|datos|dados|reach|numero)\b")
_CALLED_OWN = re.compile(rf"\b(?:mi|el mio|la mia|my|mine|meu|minha) ?(?:[a-z]+ ){{0,2}}?(?:{_CONTACT}|es|is|e)?\W*$")
_NO = re.compile(r"\W{0,6}(?:no|nao|nop|nel|not|nope)\b")


def asks_for_others(turn: UserTurn) -> bool:
    """Whether the assistant asked for somebody else's contact, as in "un número de ella"."""
    return _ASKS_FOR_OTHERS.search(turn.asked[-200:]) is not None


def denies(turn: UserTurn, *, mail: bool = False) -> bool:
    """Whether the user says that what they gave before is no contact of theirs.

    Args:
        turn: The user's turn.
        mail: Whether the contact is an address; else it is a phone.
    """
    if not mail and _ASKS_WHETHER_OWN.search(turn.asked) is not None and _NO.match(turn.folded) is not None:
        return True
    taken_back = _DISOWNS.search(turn.folded)
    return taken_back is not None and (_OF_MAIL if mail else _OF_PHONE).search(turn.folded) is not None


def is_offered(turn: UserTurn, start: int, end: int) -> bool:
    """Whether the user gives a contact as their own: they say so, were asked, or say nothing else."""
    rest = turn.folded[:start] + turn.folded[end:]
    if not any(character.isalnum() for character in rest):
        return True
    return _ASKS_CONTACT.search(turn.asked) is not None or _OWN.search(clause_before(turn.folded, start)) is not None


def is_called_own(folded: str) -> bool:
    """Whether the words before a contact call it the user's own."""
    return _CALLED_OWN.search(folded) is not None


def is_about_site(turn: UserTurn, start: int, end: int, written: str) -> bool:
    """Whether a contact is the site's own: the assistant said it first, or the user asks about it.

    Args:
        turn: The user's turn.
        start: Start of the contact.
        end: Its end.
        written: The digits of a number, or an address, as the assistant would write it.
    """
    told = re.sub(r"\D", "", turn.asked) if written.isdigit() else turn.asked
    if written in told:
        return _CONFIRMS_OWN.search(turn.asked) is None
    before = clause_before(turn.folded, start)
    asks = re.match(r"[^.!?\n]{0,60}\?", turn.folded[end : end + 61]) is not None
    return asks and _OF_SITE.search(before + turn.folded[end : end + 40]) is not None and _OWN.search(before) is None


def is_called(turn: UserTurn, start: int, end: int) -> bool:
    """Whether the "me llamo" at ``start``..``end`` was typed "me llamó": somebody called, and no name follows."""
    found = _CALLED.search(turn.folded, start, end)
    # Folding removes the accent, which is the only difference.
    return found is not None and turn.text[found.end() - 1] in "óÓòÒ"


def is_foreign(turn: UserTurn, start: int, end: int) -> bool:
    """Whether the contact at ``start``..``end`` belongs to another person."""
    if _FOREIGN_AFTER.match(turn.folded, end) or _SENT_AFTER.match(turn.folded, end):
        return True
    before = clause_before(turn.folded, start)
    first = start - len(before)
    foreign = [match.end() for match in _FOREIGN.finditer(before)]
    foreign += [
        match.start()
        for match in _CALLED.finditer(before)
        if is_called(turn, first + match.start(), first + match.end())
    ]
    if not foreign:
        return False
    own = last_match(_OWN, _HAS_NONE.sub(" ", before))
    return own is None or own.start() < max(foreign)


def is_given_up(folded: str, start: int, end: int) -> bool:
    """Whether the words right before or after the contact say that it is not valid."""
    return bool(_GIVEN_UP_AFTER.match(folded, end) or _GIVEN_UP_BEFORE.search(folded[max(0, start - 30) : start]))


def is_secondary(folded: str, start: int, end: int, previous_end: int = 0) -> bool:
    """Whether the user calls it an office contact, a landline or an additional one."""
    before = re.split(r"[,;]", clause_before(folded, start, limit_chars=min(45, start - previous_end)))[-1]
    return bool(_SECONDARY.search(before) or _SECONDARY_AFTER.match(folded, end))


def corrects(folded: str, start: int, previous_end: int) -> bool:
    """Whether the user announces a correction between the previous contact and this one."""
    return bool(_CORRECTION.search(folded[max(previous_end, start - 160) : start]))
