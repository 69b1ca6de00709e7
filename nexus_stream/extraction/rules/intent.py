"""Find intent to join ("quiero", "empezar", "inversión") and lack of interest in the user's words.

rules/extractor.py uses the spans. claude/answer.py checks Claude's quotes with the ``shows_…`` functions. scoring.py
gives points for both signals.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from nexus_stream.extraction.text import UserTurn

__all__ = ["find_intent", "find_lack_of_interest", "shows_intent", "shows_lack_of_interest"]

_INTENT = re.compile(r"\b(?=[a-z])(?:[qk]u?iero|empezar|enpezar|inversion(?:es)?)\b")
# The same words in other forms and in English. A model understands them; the rules do not use them.
_INTENT_FORMS = re.compile(
    r"\b(?=[a-z])(?:[qk]u?(?:iero|isiera(?:mos)?|er(?:emos|er|r?ia(?:mos)?))|e[nm]p(?:i?e[zsc](?:ar(?:e|ia|emos|iamos)?|amos|"
    r"emos|ando)|ie[zs]o)|inver(?:t\w+|s(?:ion(?:es)?|or[a]?\b))|inviert\w+|want|wanna|start(?:ed|ing)?|"
    r"invest(?:ing|ments?)?)\b"
)
_NEGATED = re.compile(
    r"\b(?=[a-z])(?:no|ni|nunca|tampoco|not|never|(?:do|did|would|could|wo|ca)n'?t)\s+(?:(?:really|ever|to|want|yet|lo|la|me|te|le|nos|se|es|que|yo|ya|creo|pienso|voy|puedo|podria|"
    r"quisiera|quiero|estoy|"
    r"interesad[oa]|list[oa]|preparad[oa]|segur[oa]|interesa|gustaria|a|para|de|en|por|todavia|aun|deseo|"
    r"planeo)\s+){0,4}$"
)
_NOT_INTERESTED = re.compile(
    r"\bno (?:me|nos) (?:interesa|interesan|intereza|intereso|interesaria)\b"
    r"|\bno (?:estoy|estamos|ando|me encuentro) (?:(?:para nada|muy|realmente|nada|tan) )?interesad[oa]s?\b"
    r"|\b(?:no tengo|sin|cero|ningun) interes\b|\bnot interested\b|\b(?:ya )?perdi el interes\b"
)
_INTEREST = re.compile(r"\b(?=[a-z])(?:interes|intere[zs]|interest)\w*")
_LACK = re.compile(
    r"\b(?=[a-z])(?:no|ni|nunca|nada|not|never|\w+n'?t|sin|cero|ningun|poco|perdi(?:do)?|falta de|zero|lost)\b"
    # In the same clause: not across "no tengo plata, pero".
    r"(?:(?!\b(?:pero|aunque|but)\b)[^.!?;,\n]){0,40}$"
)
# Denied, a condition, or the quoted words of somebody else.
_NOT_MEANT = re.compile(r"\bno (?:es|digo|dije|significa|quiere decir)(?: que)?\s+$|\bsi\s+$|[\"«]\s?$")


def find_intent(turns: Sequence[UserTurn]) -> tuple[UserTurn, int, int] | None:
    """Find the first place where the user wants to join."""
    for turn in turns:
        for match in _INTENT.finditer(turn.folded):
            if not _denied(turn, match):
                return turn, match.start(), match.end()
    return None


def find_lack_of_interest(turns: Sequence[UserTurn]) -> tuple[UserTurn, int, int] | None:
    """Find the first place where the user is not interested."""
    for turn in turns:
        if "inter" not in turn.folded:
            continue
        for match in _NOT_INTERESTED.finditer(turn.folded):
            if not _NOT_MEANT.search(turn.folded[max(0, match.start() - 30) : match.start()]):
                return turn, match.start(), match.end()
    return None


def _denied(turn: UserTurn, match: re.Match[str]) -> bool:
    # "no sé en qué inversión" only names the investment. Only wanting and starting can be denied.
    if match.group().startswith("invers"):
        return False
    return _NEGATED.search(turn.folded[max(0, match.start() - 60) : match.start()]) is not None


def shows_intent(turn: UserTurn, start: int, end: int) -> bool:
    """Whether a quote shows that the user wants to join: it has a word of intent that the turn does not deny."""
    return any(not _denied(turn, match) for match in _INTENT_FORMS.finditer(turn.folded, start, end))


def shows_lack_of_interest(turn: UserTurn, start: int, end: int) -> bool:
    """Whether a quote shows that the user is not interested: the turn denies the interest that the quote names."""
    for match in _INTEREST.finditer(turn.folded, start, end):
        before = turn.folded[max(0, match.start() - 60) : match.start()]
        if _LACK.search(before) and not _NOT_MEANT.search(before):
            return True
    return "desinter" in turn.folded[start:end]
