"""Find text in a user's turn that instructs the extractor, or is pasted data: such text is not about the user.

text.py blanks the spans found here before any rule or grounding reads the turn. An instruction blanks its whole
sentence and the rest of the turn. Pasted data blanks only itself.
"""

from __future__ import annotations

import re

__all__ = ["tampered_spans"]

_FIELDS = r"(?:nombre|name|e?-?mail|correo|telefono|phone|ocupacion|objeciones|arquetipo)"
_ORDER = (
    r"(?:pon(?:me|ga|gan|le)?|pone(?:me)?|marca(?:me|lo)?|registra(?:me)?|guarda(?:me)?|establece|set|"
    r"asigna(?:me)?|cambia|"
    r"actualiza|clasifica(?:me)?|califica(?:me)?|fija|escribe|devuelve|responde|extrae|output|return|print|"
    r"sobre?escribe|"
    r"reemplaza|replace|inserta|insert|update|write|save|store|mark|rate)"
)
_INSTRUCTION = re.compile(
    r"\b(?:ignor\w*|olvid\w*|omit\w*|descart\w*|desobedec\w*|salt(?:a|ate|e|ese)|forget|disregard|override|"
    r"bypass|anula\w*)"
    r"\W+(?:[a-z]+\W+){0,4}?(?:instruccion\w*|instructions?|reglas|rules|prompts?|indicaciones|ordenes|directrices|"
    r"guidelines|configuracion|restricciones|politicas|filtros|contexto|system)\b"
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
    rf"|\b{_ORDER}\b[^.!?\n]{{0,40}}?\b(?:nivel de interes|nivel interes|momento optimo|(?:como|a|to|en|as|"
    rf"prospecto|lead)"
    r"\s+(?:caliente|hot)|puntaje|puntuacion|score|json|extractor|datos guardados|el campo|los campos|the field)\b"
    rf"|\b(?:pon|set|asigna|establece|fija)\s+(?:el |la |los |the |user\s+)?{_FIELDS}\s*(?:=|:|to|as|como|en|a)\s"
    r"|\b(?:pon|set|asigna|establece|fija)\s+(?:nombre|name|e?-?mail|telefono|phone|ocupacion)\b"
    rf"|\b{_FIELDS}\s*=\s*\S"
    r"|\b(?:a partir de ahora|desde ahora|de ahora en adelante|from now on)\b[^.!?\n]{0,20}?"
    r"\b(?:eres|actua\w*|registra\w*|responde\w*|vas a|you|tu nombre|el usuario|el nombre|el cliente|guarda\w*|"
    r"trata\w*)\b"
    r"|\b(?:actua como|finge (?:que|ser)|act as|pretend (?:to|that|you)|you are now|ahora eres|eres ahora|"
    r"simula (?:que|ser)|"
    r"nuevas instrucciones|nueva instruccion|new instructions?)\b"
    r"|\b(?:el|la|este|del) (?:usuario|usuaria|prospecto|lead) (?:se llama|es|tiene|dijo|dice|quiere|acepta)\b"
    r"|\b(?:el|la) cliente se llama\b"
    r"|\b(?:the user(?:'s)?|user's) (?:name|email|phone|is)\b"
    r"|\b(?:drop table|insert into|delete from|union select)\b|\bupdate\s+\w+\s+set\b|<\s*script"
)
# A fast first check: only a turn that contains one of these can match the pattern above.
_HINTS = (
    "ignor",
    "olvid",
    "omit",
    "descart",
    "desobed",
    "salta",
    "salte",
    "forget",
    "disregard",
    "overrid",
    "bypass",
    "anula",
    "system",
    "sistema",
    "asistente",
    "assistant",
    "developer",
    "admin",
    "root",
    "instruc",
    " ia",
    " ai",
    " bot",
    "modelo",
    "model",
    "llm",
    "gpt",
    "claude",
    "[inst",
    "im_start",
    "nivel",
    "momento",
    "nombre_",
    "dropped_",
    "arquetipo",
    "prompt",
    "jailbreak",
    "dan mode",
    "modo ",
    "score",
    "puntua",
    "puntaje",
    "json",
    "extractor",
    "datos guardados",
    "campo",
    "field",
    "caliente",
    " hot",
    "pon ",
    "set ",
    "asigna ",
    "establece ",
    "fija ",
    "=",
    "ahora",
    "from now",
    "actua",
    "finge",
    "act as",
    "pretend",
    "you are now",
    "simula",
    "usuari",
    "cliente",
    "prospecto",
    " lead",
    "the user",
    "user's",
    "drop table",
    "insert into",
    "delete from",
    "union select",
    "<",
)
_SENTENCE_END = re.compile(r"[.!?\n](?=\s|$)|\n")
_CODE_FENCE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_PASTED_LINE = re.compile(
    r"(?m)^(?:>.*|\[?\d{1,2}/\d{1,2}(?:/\d{2,4})?,? \d{1,2}:\d{2}.*|"
    r"-{3,} ?(?:mensaje reenviado|forwarded|mensaje original).*|(?:de|from|para|to|asunto|subject): .*)$"
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


def tampered_spans(folded: str) -> list[tuple[int, int]]:
    """Return the spans of a folded turn that are an instruction to the extractor or pasted data."""
    spans = _braces(folded)
    if "```" in folded:
        spans += [match.span() for match in _CODE_FENCE.finditer(folded)]
    if "\n" in folded or folded[:1] in ">[-0123456789":
        spans += [match.span() for match in _PASTED_LINE.finditer(folded)]
    if any(hint in folded for hint in _HINTS):
        match = _INSTRUCTION.search(folded)
        if match is not None:
            start = 0
            for boundary in _SENTENCE_END.finditer(folded, 0, match.start()):
                start = boundary.end()
            spans.append((start, len(folded)))
    return spans
