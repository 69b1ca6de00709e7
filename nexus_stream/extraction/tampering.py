"""Find text in a user's turn that instructs the extractor, or is pasted data: such text is not about the user.

text.py blanks the spans found here before any rule or grounding reads the turn. An instruction blanks its whole
sentence and the rest of the turn. Pasted data blanks only itself: web addresses, map coordinates, code, tables, quoted
lines. A pasted mail blanks the rest of the turn, because nothing shows where the mail ends. Links that call or write to
somebody (``wa.me``, ``tel:``, ``mailto:``) are no pasted data: people give their own contact that way.
"""

from __future__ import annotations

import re

from nexus_stream.extraction.rules.lexicon import start_of, word_list

__all__ = ["tampered_spans"]

_FIELDS = (
    r"(?:nombre|nome|name|e?-?mail|correo|telefono|telefone|phone|ocupacion|ocupacao|objeciones|objecoes|arquetipo)"
)
_ORDER = (
    r"(?:pon(?:me|ga|gan|le)?|pone(?:me)?|marca(?:me|lo)?|registra(?:me)?|guarda(?:me)?|establece|set|"
    r"asigna(?:me)?|cambia|"
    r"actualiza|clasifica(?:me)?|califica(?:me)?|fija|escribe|devuelve|responde|extrae|output|return|print|"
    r"sobre?escribe|"
    r"reemplaza|replace|inserta|insert|update|write|save|store|mark|rate|"
    r"anota|anote|grava|grave|registre|preencha|rellena|marque|defina|salve|altere|enregistre)"
)
_INSTRUCTION = re.compile(
    r"\b(?:ignor\w*|olvid\w*|omit\w*|descart\w*|desobedec\w*|salt(?:a|ate|e|ese)|forget|disregard|override|"
    r"bypass|anula\w*|esquec\w*|desconsider\w*|oubli\w*)"
    r"\W+(?:[a-z]+\W+){0,4}?(?:instruccion\w*|instructions?|reglas|rules|prompts?|indicaciones|ordenes|directrices|"
    r"guidelines|regras|instrucoes|consignes|configuracion|restricciones|politicas|filtros|contexto|system)\b"
    r"|\b(?:olvid\w*|ignor\w*|forget)\s+(?:todo\s+)?lo\s+(?:anterior|dicho)\b[^\n]{0,60}"
    rf"\b(?:a partir de ahora|desde ahora|eres|actua|{_ORDER})\b"
    r"|(?:^|\n)[^\w\n]{0,12}(?:system|sistema|assistant|asistente|developer|admin|root|instruction|instruccion(?:es)?)"
    r"(?:\s+(?:prompt|message|mensaje|override|note|nota))?\s*[:>\]|]"
    r"|[<\[{|/]\s*/?\s*(?:system|sistema|assistant|inst|im_start|im_end|admin|instrucciones)\b"
    r"|\b(?:nivel|momento|nombre|dropped)_(?:de_)?(?:interes|optimo|usuario|fields)\b"
    r"|\b(?:instruccion(?:es)?|instructions?|nota|note|mensaje|orden|comando|aviso) (?:para|a|del?|for|to|"
    r"from) (?:la |el |the )?"
    r"(?:ia|ai|bot|sistema|system|modelo|model|asistente|assistant|llm|extractor|gpt|claude|desarrollador|"
    r"developer)\b"
    r"|\b(?:momento|estado|lead|prospecto|cliente|temperatura) (?:optimo )?(?:caliente|hot)\b"
    r"|\barquetipo\s*[:=]|\b(?:system prompt|prompt injection|jailbreak|developer mode|dan mode)\b"
    r"|\bmodo (?:desarrollador|dios|admin(?:istrador)?|debug|prueba)\b"
    rf"|\b{_ORDER}\b(?:[^.!?\n]|\.(?=\w)){{0,50}}?\b(?:nivel de interes|nivel interes|momento optimo|(?:como|a|to|"
    rf"en|as|"
    rf"prospecto|lead)"
    r"\s+(?:caliente|hot)|puntaje|puntuacion|score|json|extractor|datos guardados|el campo|los campos|the field)\b"
    rf"|\b(?:pon|set|asigna|establece|fija)\s+(?:el |la |los |the |user\s+)?{_FIELDS}\s*(?:=|:|to|as|como|en|a)\s"
    r"|\b(?:pon|set|asigna|establece|fija)\s+(?:nombre|name|e?-?mail|telefono|phone|ocupacion)\b"
    rf"|(?<![?&])\b{_FIELDS}\s*=\s*\S"
    r"|\b(?:a partir de ahora|desde ahora|de ahora en adelante|from now on)\b[^.!?\n]{0,20}?"
    r"\b(?:eres|actua\w*|registra\w*|responde\w*|vas a|you|tu nombre|el usuario|el nombre|el cliente|guarda\w*|"
    r"trata\w*)\b"
    r"|\b(?:actua como|finge (?:que|ser)|act as|pretend (?:to|that|you)|you are now|ahora eres|eres ahora|"
    r"simula (?:que|ser)|"
    r"nuevas instrucciones|nueva instruccion|new instructions?)\b"
    r"|\b(?:el|la|este|del) (?:usuario|usuaria|prospecto|lead) (?:se llama|es|tiene|dijo|dice|quiere|acepta)\b"
    r"|\b(?:el|la) cliente se llama\b"
    r"|\b(?:the user(?:'s)?|user's) (?:name|email|phone|is)\b"
    r"|\b(?:instruc\w+|not[ae]|mens\w+|orden|ordem|comando|command\w*|aviso|regras?|reglas?|correccion|correcao|nova|nueva)"
    r"(?: [a-z]+){0,3} (?:para|a|au|a la|do|da|del?|for|to|from|pour) (?:el |la |o |a |le |the )?(?:ia|ai|bot|"
    r"robo|robot|"
    r"sistema|systeme|system|modelo|parser|extractor|extrator|asistente|assistente|administrador|admin|llm|crm)\b"
    r"|\b(?:asistente|assistente|assistant|bot|robot|robo)\W{1,3}(?:obedec\w*|obey|obedeca)\b|\btool_(?:result|call|output)\b"
    rf"|\b(?:como|as|com o|no campo|en el campo) {_FIELDS} (?:del?|do|da|of) (?:el |la |o |a |the )?"
    r"(?:prospecto|prospect|usuari[oa]|user|lead|cliente|client)\b"
    rf"|\b{_ORDER}\b(?:[^.!?\n]|\.(?=\w)){{0,50}}?\b(?:o |la |el |this |the )?(?:cadastro|ficha|formulario|crm|"
    rf"no campo|em campo)\b"
    r"|\b(?:intercambia|swap|troca|troque)\b[^.!?\n]{0,20}\b(?:nombres?|names?|nomes?|correos?|emails?)\b"
    rf"|</?(?:prospecto?|lead|record|{_FIELDS})>"
    r"|\b(?:decodifica|decode|base64)\b"
    r"|\b(?:eres|voce e|you are) (?:un|una|um|uma|an?) (?:extractor|extrator|bot|robot|modelo|model|ia|ai|"
    r"assistant|parser|llm)\b"
    r"|\b(?:nuevo|novo|new|nova|nueva) prompt\b"
    r"|\b(?:ignor\w*|vergiss|vergessen|dimentica\w*|oubli\w*)\b(?: [a-z]+){0,3} (?:anweisungen|istruzioni|"
    r"regeln|regole|consignes|regles)\b"
    r"|\b[i1] ?g ?n ?[o0] ?r ?[a4e3]\b[^.\n]{0,30}\b(?:instruc\w*|reglas|rules|regras)\b"
    r"|\b(?:drop table|insert into|delete from|union select)\b|\bupdate\s+\w+\s+set\b|<\s*script"
)
# A fast first check: only a turn with one of these can match the pattern above.
_HINT = re.compile(rf"[=<{{|/]|1gnor|i g n o|{start_of(word_list('instruction_starts'))}")
_SENTENCE_END = re.compile(r"[.!?\n](?=\s|$)|\n")
_CODE_FENCE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_PASTED_LINE = re.compile(
    r"(?m)^(?:>.*|\[\d{1,2}:\d{2}(?::\d{2})?(?: ?[ap]\.? ?m\.?)?, \d{1,2}[/.-]\d{1,2}.*|"
    r"\[?\d{1,2}[/.-]\d{1,2}(?:[/.-]\d{2,4})?,? \d{1,2}:\d{2}.*|"
    r"(?:user|usuario|human|assistant|asistente|assistente|bot) ?:.*|"
    r"\|.*\||(?:de|from|para|to|cc|asunto|subject|assunto|enviado(?: el)?|sent|fecha|date|data): .*)$"
)
_STARTS_PASTED = ">[-|0123456789"
_MAX_LABEL = 14  # characters of the longest word before a colon
# The first lines of a mail. Two of them make a mail; what follows is somebody else's.
_MAIL_HEAD = re.compile(
    r"(?m)^[ \t>*]{0,4}(?:de|from|para|to|cc|asunto|subject|assunto|enviado(?: el| em)?|sent|fecha|date|data) ?: .*$"
)
_MAIL_BEGINS = re.compile(
    r"(?m)^[ \t>]{0,4}(?:-{3,} ?(?:mensaje (?:reenviado|original)|mensagem (?:encaminhada|original)|forwarded|"
    r"original message).*|"
    r"(?:el|on|em|no dia) .{5,80}(?:escribio|wrote|escreveu) ?:)"
)
# A forwarded message goes on to the next blank line.
_FORWARDED = re.compile(
    r"(?m)^[^\w\n]{0,6}(?:re-?enviad[oa]|encaminhad[oa]|forwarded|fwd?)\b[^\w\n]{0,8}(?:$|:|\])(?:[^\n]|\n(?!\s*\n))*"
)
# The words of somebody else between quotation marks. A short quotation is a name or a word.
_QUOTED = re.compile(r"\"[^\"]{40,4000}\"|«[^»]{40,4000}»")
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_URL = re.compile(
    r"\b(?:https?://|www\.|geo:)(?!wa\.me/\+?\d|api\.whatsapp\.com/send)[^\s<>\"]{1,2000}"
    r"|(?<![\w@.-])(?!wa\.me/|api\.whatsapp\.com/)(?:[a-z0-9-]{1,63}\.){1,4}[a-z]{2,12}/[^\s<>\"]{1,2000}"
)
_COORDINATES = re.compile(
    r"\b(?:lat\w*|lon\w*|lng)\b\W{0,3}-?\d{1,3}\.\d{3,}|-?\d{1,3}\.\d{3,}\s?[,;/ ]\s?-?\d{1,3}\.\d{3,}"
)


def _braces(folded: str) -> list[tuple[int, int]]:
    start = folded.find("{")
    if start < 0:
        return []
    end = folded.rfind("}")
    inside = folded[start : end + 1] if end > start else folded[start:]
    # A lone brace is a smiley. A brace with a key is data.
    if ":" not in inside and "=" not in inside:
        return []
    return [(start, end + 1 if end > start else len(folded))]


def _mail(folded: str) -> list[tuple[int, int]]:
    """The span from a pasted mail's first line to the end of the turn."""
    begins = _MAIL_BEGINS.search(folded)
    starts = [begins.start()] if begins is not None else []
    heads = list(_MAIL_HEAD.finditer(folded))[:2]
    if len(heads) > 1:
        starts.append(heads[0].start())
    return [(min(starts), len(folded))] if starts else []


def tampered_spans(folded: str) -> list[tuple[int, int]]:
    """Return the spans of a folded turn that are an instruction to the extractor or pasted data."""
    spans = _braces(folded)
    if "```" in folded:
        spans += [match.span() for match in _CODE_FENCE.finditer(folded)]
    if "\n" in folded or folded[:1] in _STARTS_PASTED or ":" in folded[:_MAX_LABEL]:
        spans += [match.span() for match in _PASTED_LINE.finditer(folded)]
    if "<!--" in folded:
        spans += [match.span() for match in _COMMENT.finditer(folded)]
    if "/" in folded or "www." in folded or "geo:" in folded:
        spans += [match.span() for match in _URL.finditer(folded)]
    if "." in folded:
        spans += [match.span() for match in _COORDINATES.finditer(folded)]
    if '"' in folded or "«" in folded:
        spans += [match.span() for match in _QUOTED.finditer(folded)]
    if "enviad" in folded or "encaminhad" in folded or "fw" in folded or "forwarded" in folded:
        spans += [match.span() for match in _FORWARDED.finditer(folded)]
    if "\n" in folded:
        spans += _mail(folded)
    if _HINT.search(folded) is not None:
        match = _INSTRUCTION.search(folded)
        if match is not None:
            start = 0
            for boundary in _SENTENCE_END.finditer(folded, 0, match.start()):
                start = boundary.end()
            spans.append((start, len(folded)))
    return spans
