"""Patterns on folded text: how people introduce themselves, and how an assistant asks for a name."""

from __future__ import annotations

import re

from nexus_stream.extraction.rules.ownership import RELATIONS

__all__ = [
    "AFTER_NAME",
    "ASKS_BACK",
    "ASKS_IN_SHORT",
    "ASKS_NAME",
    "ASKS_SURNAME",
    "BEFORE_SIGNATURE",
    "BOT_INTRODUCES",
    "BOT_IS",
    "ENDS_SENTENCE",
    "ENDS_TURN",
    "FILLER",
    "FILLER_SURNAME",
    "GOES_ON",
    "GREETING",
    "GREETS",
    "INTRODUCES",
    "NICKNAME",
    "NOT_ME",
    "OTHERS",
    "PLACED",
    "SELF",
    "TOLD",
    "VOCATIVE",
]

TOLD = re.compile(
    r"\b(?:me ?(?:ll|y)[ae]mo|me yamo|mi n[oe][mn]bre(?: completo| real| verdadero|"
    r" de pila)?(?: y apellidos?)?(?: es| seria| s)?|"
    r"el nombre(?: mio| completo)? es|(?:^|(?<=\n)|(?<=[:;,.] ))nombres?(?: completo)?(?: y apellidos?)?(?= ?[:=])|"
    r"mi gracia(?: es)?|my (?:full )?name(?:'s| is)|(?:^|(?<=\n))name(?= ?:)|presentarme|me presento|"
    r"est[ao] hablando con|(?:le|te|les|os) dejo mi nombre|anot[ae] mi nombre|pon(?:ga|"
    r"gan)?(?:me)? a nombre de)\b[\s:,=.\-]{0,4}"
)
SELF = re.compile(
    r"\b(?:so[yi]|i'?m|i am|it'?s|this is|quien (?:le |te |les )?(?:habla|escribe|saluda)(?: es)?|"
    r"(?:le |te |les |os )?(?:habla|escribe|saluda|contacta)(?: con)?|mi persona|una? servidora?|soy yo|"
    r"me identifico como)\b"
    r"[\s:,\-]{0,3}"
)
PLACED = re.compile(
    r"\b(?:yo|(?:aqui|aca) (?:estoy|ando|me tiene|me tienes|sigo)[^,.;\n]{0,25}),\s{0,2}"
    r"|\b(?:(?:por )?(?:aqui|aca)(?: (?:le|te|les|os) (?:habla|escribe|saluda))?|"
    r"att|atte|atentamente|firma|firmado|cordialmente|cordial saludo)\b[\s:,.\-]{0,4}"
)
NICKNAME = re.compile(
    r"\b(?:me (?:dicen|llaman|conocen como)|dime|digame|decime|(?:puedes?|podes) (?:decirme|llamarme)|"
    r"llam(?:a|e|á)me|call me)\b[\s:,]{0,2}"
)
AFTER_NAME = re.compile(
    r"[, ]{0,3}(?:por (?:aca|aqui|este lado)|para servir(?:le|les|te)|a (?:la|sus|tus|su) orden(?:es)?|al habla|"
    r"reportandose|presente|"
    r"speaking|here|de este lado|me llamo|es mi nombre|mi nombre|(?:le|te|les|os) (?:habla|escribe|saluda)|"
    r"mucho gusto)\b"
)
GREETING = re.compile(
    r"\W{0,20}(?:(?:muy )?(?:buen(?:os|as)?(?: (?:dias?|tardes?|noches?))?|hola+|ola|holi+|que tal|que hubo|quiubo|"
    r"saludos|hi|hello|hey|"
    r"un saludo|feliz (?:dia|tarde|noche)|como (?:esta|estas|estan|va|andan)|cordial saludo|dios (?:le|los|"
    r"te) bendiga|"
    r"que onda|que mas|tengan|tenga|a todos|mucho gusto|un placer|un gusto|encantad[oa]|gusto en saludar(?:los|"
    r"te|le|les)?)\b[\s,.!¡¿?:;\-]{0,4}){1,5}"
)
INTRODUCES = re.compile(
    r"\s*,\s*(?:(?:soy|tengo|trabajo|vendo|vivo|quiero|quisiera|necesito|busco|hago|estudio|estoy|mucho gusto|"
    r"para|desde|de|"
    r"ama de casa|mama|un placer|encantad[oa]|\d)\b|([a-z]+))|\s+(?:de|desde) (?=[a-z])"
)
NOT_ME = re.compile(
    r"\b(?:no|nunca|tampoco|ni|como si|si yo|ella|el(?! nombre)|quien|ayer|anoche|antier|anteayer|recien|alguien|nadie)"
    r"\s+(?:yo\s+)?$"
    r"|\b(?:supon\w*|imagin\w*|digamos|finj\w*|pongamos|haz de cuenta|dice|dijo|piensa|cree|creen|creyo|penso|"
    r"dijeron) que(?: yo)? $"
)
ASKS_NAME = re.compile(
    r"(?:como|cual)(?: es que)? (?:te|se|os) (?:llam|nombr)|como es (?:tu|su) nombre|(?<!gracias por )(?:\btu|"
    r"\bsu|\bvuestro) nombre|"
    r"\bnombres?(?: completos?| y (?:el )?apellidos?| y numero| y correo|,)|con quien (?:tengo|hablo|hablamos|"
    r"estoy|tenemos)|"
    r"quien (?:eres|es usted|sos|me escribe|me habla|escribe|habla|nos escribe)|como (?:te|le) (?:digo|llamo|"
    r"puedo (?:llamar|decir))|"
    r"a nombre de quien|your (?:full )?name|como (?:puedo|podemos|debo) llamar|cual es el nombre|(?:de|da|dime|"
    r"digame|regal\w*) (?:el|un) nombre"
)
ASKS_IN_SHORT = re.compile(r"(?:^|[¿.!?,:]\s*)(?:y )?(?:(?:el|tu|su|tus|sus) )?nombres?(?: y [a-z]+)?\s*[?:]")
ASKS_BACK = re.compile(r"\by (?:el|la|los) (?:tuy|suy)[oa]s?\b")
ASKS_SURNAME = re.compile(r"\bapellidos?\b")
FILLER = re.compile(
    r"\W*(?:(?:claro(?: que si)?|si|hola|buenas(?: tardes| noches)?|buenos dias|buen dia|con (?:mucho )?gusto|"
    r"por supuesto|ok|okay|"
    r"vale|dale|pues|bueno|bien|ah|eh|mm+|con|soy|so[yi]|es|me llamo|mi nombre(?: es)?|mucho gusto|encantad[oa]|"
    r"gracias|yo|a ver|mira|"
    r"mire|habla(?:s)?(?: con)?|le habla|te habla|el mio es|obvio|(?:ja)+|nombre|a nombre de|senor|senora|don|"
    r"dona|perfecto|listo|va|"
    r"sale|este|my name is|i'?m|it'?s|sure|para servirle|che|uy|oye|seria|como no|desde luego|venga|"
    r"el (?:nombre )?es|completo)\b[\s,.:;!¡\-]{0,4})*"
)
FILLER_SURNAME = re.compile(r"(?:(?:mi )?apellidos?(?: es| son)?|el apellido es)\b[\s:,]{0,3}")
GOES_ON = re.compile(
    r"\s*(?:y|pero|mi|tengo|de|del|soy|and|desde|para|a la orden|mucho|trabajo|vivo|por|en|con|aunque|anota|"
    r"anote|el|la|es|"
    r"mi|cel|tel|numero|correo|whatsapp|quiero|gracias|senor|senora|me|le|estoy|i|my|estudio|vendo|tambien|que|"
    r"aqui|aca)\b"
)
ENDS_SENTENCE = re.compile(r"\s*(?:[.!\n]|$)")
ENDS_TURN = re.compile(r"[\s.!)\-_*]*[^a-z]{0,8}$")
BEFORE_SIGNATURE = re.compile(r"[,.!;\n\-–]\s{0,3}(?=[a-z])")
OTHERS = re.compile(
    rf"\b(?:mi|mis|su|un|una|el|la|de|con|nuestr[oa]) (?:[a-z]+ )?{RELATIONS}\b|\bse llaman?\b|\b(?:recomend|"
    rf"invit|refiri|dijo|paso|hablo|mando|parte|"
    r"presento|conoci|conozco|amig|segun|gracias a|como|casad[oa] con|hij[oa] de|nieta? de|llamad[oa]|tal|ella|"
    r"ellos|don|dona|del?)\w*\s*$"
    r"|\b(?:recomend\w+|invit\w+|refiri\w+|me (?:dijo|dio|paso|mando|hablo|presento|conto)|de parte|me envia|"
    r"vengo de)\b"
)
GREETS = re.compile(r"\b(?:hola+|gracias|oye|oiga|hey|hi|hello|saludos|che) $")
VOCATIVE = re.compile(
    r"(?:^|[.,!?¡¿:;)]\s{0,2}|\b(?:hola|gracias|gusto|placer|encantad[oa]|bienvenid[oa]|honor|hi|hello|hey|"
    r"bendiciones|dias|tardes|noches|claro|perfecto|"
    r"listo|entiendo|entendido|comprendo|ok|vale|genial|senor|senora|senorita|don|dona|sr\.?|sra\.?|dr\.?|"
    r"dra\.?|doctor|doctora|pastor|pastora|profe)\s)"
    r"[^\w]{0,3}(?=([a-z]{2,})(?: [a-z]+){0,4}\s?(?:[.,!?:;)]|$|[^\w\s]))"
)
BOT_INTRODUCES = re.compile(
    r"\b(?:soy|(?:te|le|les) (?:saluda|habla|escribe)|me llamo|mi nombre es|i'?m) ([a-z]+(?: [a-z]+)?)"
)
BOT_IS = re.compile(r"\b(?:soy|saluda|habla|escribe|me llamo|nombre es|asesora?|asistente)\W+(?:[a-z]+\W+)?$")
