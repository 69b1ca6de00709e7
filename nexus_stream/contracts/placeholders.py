"""Words that broken code leaves behind instead of an id: ``undefined``, ``[object Object]``, ``${sessionId}``.

An id that many visitors share would join strangers in one session or one person. So a placeholder is no id. This file
is the whole list; docs/reference/message-forms.md explains it. Pure.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

__all__ = ["is_no_tenant", "is_placeholder"]


def _words(*lines: str) -> frozenset[str]:
    return frozenset(word for line in lines for word in line.split())


# JavaScript, Python, PHP, Java, Go, C#, SQL: the text of "no value".
_NO_VALUE: Final = _words(
    "undefined undef unset null none nil nan void nothing missing empty blank infinity inf true false n/a",
    "indefinido indefinida nulo nula ninguno ninguna",
)
# Defaults of code, of forms and of API documentation.
_DEFAULTS: Final = _words(
    "unknown anonymous anon guest default unidentified notset placeholder string array object changeme desconocido",
    "desconocida anonimo anónimo anonima anónima invitado invitada",
)
# The variable's name instead of its value.
_NAMES: Final = _words(
    "id uid uuid guid fingerprint fingerprintid fingerprintjs sessionid chatid conversationid threadid",
    "visitorid userid username clientid customerid deviceid browserid leadid tenantid",
)
_WORDS: Final = _NO_VALUE | _DEFAULTS | _NAMES
# Alone they may be an id. Beside a word above they are part of a placeholder: ``session-undefined``, ``visitor_id``.
_PREFIXES: Final = _words(
    "session sess chat conversation thread visitor user client customer device browser lead person web fp your",
    "usuario sesion sesión visitante cliente",
)
# Of these, the ones that no site gives as an id.
_BARE: Final = _words("session visitor user usuario visitante")
# Whole ids that mean "no value", apart from words.
_NUMBERS: Final = frozenset({"0", "-1", "0.0", "-1.0", "-0", "-infinity", "-inf"})
# Of Google Analytics, JavaScript and documentation, without their signs.
_PHRASES: Final = frozenset(
    {"not set", "not available", "not found", "invalid date", "no id", "id here", "your id here", "session id here"}
)
# Hashes and encodings of "no value": the same for everybody.
_HASHED: Final = frozenset(
    text.lower()
    for word in ("", "undefined", "null", "NaN", "None", "[object Object]")
    for raw in [word.encode()]
    for text in (
        hashlib.md5(raw, usedforsecurity=False).hexdigest(),
        hashlib.sha1(raw, usedforsecurity=False).hexdigest(),
        hashlib.sha256(raw).hexdigest(),
        base64.b64encode(raw).decode(),
    )
    if text
)
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_SMALL_NUMBER_CHARS = 3
_BREAKS = re.compile(r"[\W_]+")
_SHAPES = re.compile(
    r"""
      .*\[object\s[\w ]+\].*                # String(object)
    | .*(\$\{|\{\{|<%|\#\{|%\().*           # an unfilled template: ${id}, {{id}}, <%= id %>, #{id}, %(id)s
    | [{<\[(][^\W\d]*[}>\])]                # {id}, <id>, [id], {}, [], ()
    | %[sdi]|\$[^\W\d]+                     # %s, $id
    | .*=>.*|(async\s+)?function\b.*\(.*     # a function's source
    | (class|symbol|promise)\b\s*\w*\s*[({<].*
    | [0\-]+                                 # the nil UUID
    | f{8}-f{4}-f{4}-f{4}-f{12}              # the max UUID
    | x{8}-x{4}-\wx{3}-\wx{3}-x{12}           # xxxxxxxx-xxxx-4xxx-yxxx-xxxxxxxxxxxx
    | [\W_]*                                 # no letter and no digit
    | (undefined|null|nan|none|nil){2,}      # two that were put together
    | :r[0-9a-z]+: | «r[0-9a-z]+» | _r_[0-9a-z]*_ | v(-\d+)+   # React's and Vue's useId: the same for every visitor
    | %!\w\(.*                               # Go: %!s(<nil>)
    | \[(async)?function.*\]                 # Node.js: [Function: id]
    | <[^>]+>                                # Python: <function f at 0x7f>
    | system\.\w+(\[\])? | optional\.empty | object\sid\s\#\d+   # C#, Java, PHP
    | \*\|.*\|\* | \{%.*%\}                 # Mailchimp, Twig
    """,
    re.VERBOSE | re.DOTALL,
)
_TENANT_NAMES: Final = frozenset({"tenantid", "tenant_id", "tenant-id", "[object object]"})
_QUOTES = " \t\"'`"
# A placeholder is shorter, and an id of this length has letters and digits.
_MAX_CHARS = 256
_ID_CHARS = 8


@lru_cache(maxsize=8192)  # each snapshot of a chat brings the same ids
def is_placeholder(text: str) -> bool:
    """Whether the text is no id. Case, quotes and white space around it do not count.

    A text of several words is a placeholder if every word is on the lists: ``session-undefined``, not ``session-7``.
    """
    given = unquote(text).strip(_QUOTES)
    plain = given.lower()
    if plain in _WORDS or plain in _BARE or plain in _NUMBERS or plain in _HASHED:
        return True
    if len(plain) > _MAX_CHARS or (plain.isalnum() and not plain.isalpha() and len(plain) >= _ID_CHARS):
        # Nearly every id: letters and digits.
        return False
    if _SHAPES.fullmatch(plain) is not None:
        return True
    words = [word for word in _BREAKS.split(_CAMEL.sub(" ", given).lower()) if word]
    if " ".join(words) in _PHRASES:
        return True
    return any(word in _WORDS for word in words) and all(
        word in _WORDS or word in _PREFIXES or (word.isdigit() and len(word) <= _SMALL_NUMBER_CHARS and _is_none(words))
        for word in words
    )


def _is_none(words: list[str]) -> bool:
    # ``undefined-0`` is a placeholder, ``guest-7`` may be an id.
    return any(word in _NO_VALUE for word in words)


def is_no_tenant(text: str) -> bool:
    """Whether the text means that there is no tenant. Shorter list: ``default`` or ``guest`` may name a tenant."""
    plain = text.strip(_QUOTES).lower()
    return plain in _NO_VALUE or plain in _TENANT_NAMES
