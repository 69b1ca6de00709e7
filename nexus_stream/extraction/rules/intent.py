"""Whether the user says that they want in ("quiero", "empezar", "inversión"), or that they are not interested.

From: prepared user turns. To: rules/extractor.py, as spans; claude/answer.py asks of each quote whether it shows them.
scoring.py turns them into points.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from nexus_stream.extraction.text import UserTurn

__all__ = ["find_intent", "find_lack_of_interest", "shows_intent", "shows_lack_of_interest"]

_INTENT = re.compile(r"\b(?:[qk]u?iero|empezar|enpezar|inversion(?:es)?)\b")
# The same words in other forms and in English, which a model understands and the rules leave alone.
_INTENT_FORMS = re.compile(
    r"\b(?:[qk]u?(?:iero|isiera(?:mos)?|er(?:emos|er|r?ia(?:mos)?))|e[nm]p(?:i?e[zsc](?:ar(?:e|ia|emos|iamos)?|amos|"
    r"emos|ando)|ie[zs]o)|inver(?:t\w+|s(?:ion(?:es)?|or[a]?\b))|inviert\w+|want|wanna|start(?:ed|ing)?|"
    r"invest(?:ing|ments?)?)\b"
)
_NEGATED = re.compile(
    r"\b(?:no|ni|nunca|tampoco|not|never|(?:do|did|would|could|wo|ca)n'?t)\s+(?:(?:really|ever|to|want|yet|lo|la|me|te|le|nos|se|es|que|yo|ya|creo|pienso|voy|puedo|podria|"
    r"quisiera|quiero|estoy|"
    r"interesad[oa]|list[oa]|preparad[oa]|segur[oa]|interesa|gustaria|a|para|de|en|por|todavia|aun|deseo|"
    r"planeo)\s+){0,4}$"
)
_NOT_INTERESTED = re.compile(
    r"\bno (?:me|nos) (?:interesa|interesan|intereza|intereso|interesaria)\b"
    r"|\bno (?:estoy|estamos|ando|me encuentro) (?:(?:para nada|muy|realmente|nada|tan) )?interesad[oa]s?\b"
    r"|\b(?:no tengo|sin|cero|ningun) interes\b|\bnot interested\b|\b(?:ya )?perdi el interes\b"
)
_INTEREST = re.compile(r"\b(?:interes|intere[zs]|interest)\w*")
_LACK = re.compile(
    r"\b(?:no|ni|nunca|nada|not|never|\w+n'?t|sin|cero|ningun|poco|perdi(?:do)?|falta de|zero|lost)\b"
    # In the same breath: not across "no tengo plata, pero".
    r"(?:(?!\b(?:pero|aunque|but)\b)[^.!?;,\n]){0,40}$"
)
_NOT_MEANT = re.compile(r"\bno (?:es|digo|dije|significa|quiere decir)(?: que)?\s+$|\bsi\s+$")


def find_intent(turns: Sequence[UserTurn]) -> tuple[UserTurn, int, int] | None:
    """Where the user first says that they want in."""
    for turn in turns:
        for match in _INTENT.finditer(turn.folded):
            if not _denied(turn, match):
                return turn, match.start(), match.end()
    return None


def find_lack_of_interest(turns: Sequence[UserTurn]) -> tuple[UserTurn, int, int] | None:
    """Where the user says that they are not interested."""
    for turn in turns:
        if "inter" not in turn.folded:
            continue
        for match in _NOT_INTERESTED.finditer(turn.folded):
            if not _NOT_MEANT.search(turn.folded[max(0, match.start() - 30) : match.start()]):
                return turn, match.start(), match.end()
    return None


def _denied(turn: UserTurn, match: re.Match[str]) -> bool:
    # "no sé en qué inversión" names the thing; only wanting and starting can be denied.
    if match.group().startswith("invers"):
        return False
    return _NEGATED.search(turn.folded[max(0, match.start() - 60) : match.start()]) is not None


def shows_intent(turn: UserTurn, start: int, end: int) -> bool:
    """Whether a quote says that the user wants in: one of the score's words, which the turn does not deny."""
    return any(not _denied(turn, match) for match in _INTENT_FORMS.finditer(turn.folded, start, end))


def shows_lack_of_interest(turn: UserTurn, start: int, end: int) -> bool:
    """Whether a quote says that the user is not interested: the turn denies an interest that the quote names."""
    for match in _INTEREST.finditer(turn.folded, start, end):
        before = turn.folded[max(0, match.start() - 60) : match.start()]
        if _LACK.search(before) and not _NOT_MEANT.search(before):
            return True
    return "desinter" in turn.folded[start:end]
