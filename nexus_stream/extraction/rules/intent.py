"""Find intent to join ("quiero", "empezar", "inversión") and lack of interest in the user's words.

rules/extractor.py uses the spans. claude/answer.py checks Claude's quotes with the ``shows_…`` functions. scoring.py
gives points for both signals.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice

from nexus_stream.extraction.rules.lexicon import FOREIGN_RELATIONS
from nexus_stream.extraction.rules.ownership import RELATIONS
from nexus_stream.extraction.text import UserTurn, clause_before

__all__ = ["find_intent", "find_lack_of_interest", "shows_intent", "shows_lack_of_interest"]

_INTENT = re.compile(r"\b(?=[a-z])(?:[qk]u?iero|empezar|enpezar|inversion(?:es)?)\b")
# The same words in other forms and in English. A model understands them; the rules do not use them.
_INTENT_FORMS = re.compile(
    r"\b(?=[a-z])(?:[qk]u?(?:iero|isiera(?:mos)?|er(?:emos|er|r?ia(?:mos)?))|e[nm]p(?:i?e[zsc](?:ar(?:e|ia|emos|iamos)?|amos|"
    r"emos|ando)|ie[zs]o)|inver(?:t\w+|s(?:ion(?:es)?|or[a]?\b))|inviert\w+|quer(?:o|emos)|comec(?:ar|amos|emos)|"
    r"want|wanna|start(?:ed|ing)?|invest(?:ing|ments?)?)\b"
)
_NEGATED = re.compile(
    r"\b(?=[a-z])(?:no|nao|ni|nem|nunca|tampoco|not|never|(?:do|did|would|could|wo|ca)n'?t)\s+"
    r"(?:(?:really|ever|to|want|yet|lo|la|me|te|le|nos|se|es|que|yo|ya|creo|pienso|voy|puedo|podria|"
    r"quisiera|quiero|quero|estoy|"
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
    r"\b(?=[a-z])(?:no|nao|ni|nem|nunca|nada|not|never|\w+n'?t|sin|cero|ningun|poco|perdi(?:do)?|falta de|zero|lost)\b"
    # In the same clause: not across "no tengo plata, pero".
    r"(?:(?!\b(?:pero|aunque|but)\b)[^.!?;,\n]){0,40}$"
)
# Denied, a condition, or the quoted words of somebody else.
_NOT_MEANT = re.compile(r"\bno (?:es|digo|dije|significa|quiere decir)(?: que)?\s+$|\bsi\s+$|[\"«]\s?$")
_OF_ANOTHER = re.compile(
    rf"\b(?:mis?|sus?|minhas?|meus?|my|his|her) (?:{RELATIONS}|{FOREIGN_RELATIONS})\b[^.!?\n]{{0,30}}"
    r"\b(?:dij\w+|dic\w+|grit\w+|said|says|shouted|told|disse|diz|falou|gritou)\b[^.!?\n]{0,30}$"
)
# Words of one quote that are looked at; more is an attack on CPU time.
_MAX_WORDS = 20


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
            before = turn.folded[max(0, match.start() - 30) : match.start()]
            if not _NOT_MEANT.search(before) and not _is_told(turn, match.start()):
                return turn, match.start(), match.end()
    return None


def _is_told(turn: UserTurn, start: int) -> bool:
    """Whether the words are told of another person: "my wife just shouted: not interested"."""
    return _OF_ANOTHER.search(clause_before(turn.folded, start)) is not None


def _denied(turn: UserTurn, match: re.Match[str]) -> bool:
    # "no sé en qué inversión" only names the investment. Only wanting and starting can be denied.
    if match.group().startswith("invers"):
        return False
    return _NEGATED.search(turn.folded[max(0, match.start() - 60) : match.start()]) is not None


def shows_intent(turn: UserTurn, start: int, end: int) -> bool | None:
    """Whether a quote shows that the user wants to join; None if it has no word of intent.

    False: the turn denies each of its words ("no quiero empezar").
    """
    words = list(islice(_INTENT_FORMS.finditer(turn.folded, start, end), _MAX_WORDS))
    return any(not _denied(turn, match) for match in words) if words else None


def shows_lack_of_interest(turn: UserTurn, start: int, end: int) -> bool | None:
    """Whether a quote shows that the user is not interested; None if it has no word of interest.

    False: the turn does not deny the interest that the quote names ("me interesa mucho").
    """
    if "desinter" in turn.folded[start:end]:
        return True
    words = list(islice(_INTEREST.finditer(turn.folded, start, end), _MAX_WORDS))
    for match in words:
        before = turn.folded[max(0, match.start() - 60) : match.start()]
        if _LACK.search(before) and not _NOT_MEANT.search(before) and not _is_told(turn, match.start()):
            return True
    return False if words else None
