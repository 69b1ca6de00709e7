"""Whether the user says that they want in ("quiero", "empezar", "inversión"), or that they are not interested.

From: prepared user turns. To: offline_rules.py, as spans; scoring.py turns them into points.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from nexus_stream.extraction.text import UserTurn

__all__ = ["find_intent", "find_lack_of_interest"]

_INTENT = re.compile(r"\b(?:[qk]u?iero|empezar|enpezar|inversion(?:es)?)\b")
_NEGATED = re.compile(
    r"\b(?:no|ni|nunca|tampoco)\s+(?:(?:lo|la|me|te|le|nos|se|es|que|yo|ya|creo|pienso|voy|puedo|podria|"
    r"quisiera|quiero|estoy|"
    r"interesad[oa]|list[oa]|preparad[oa]|segur[oa]|interesa|gustaria|a|para|de|en|por|todavia|aun|deseo|"
    r"planeo)\s+){0,4}$"
)
_NOT_INTERESTED = re.compile(
    r"\bno (?:me|nos) (?:interesa|interesan|intereza|intereso|interesaria)\b"
    r"|\bno (?:estoy|estamos|ando|me encuentro) (?:(?:para nada|muy|realmente|nada|tan) )?interesad[oa]s?\b"
    r"|\b(?:no tengo|sin|cero|ningun) interes\b|\bnot interested\b|\b(?:ya )?perdi el interes\b"
)
_NOT_MEANT = re.compile(r"\bno (?:es|digo|dije|significa|quiere decir)(?: que)?\s+$|\bsi\s+$")


def find_intent(turns: Sequence[UserTurn]) -> tuple[UserTurn, int, int] | None:
    """Where the user first says that they want in."""
    for turn in turns:
        for match in _INTENT.finditer(turn.folded):
            # "no sé en qué inversión" names the thing; only wanting and starting can be denied.
            denied = not match.group().startswith("inv") and _NEGATED.search(
                turn.folded[max(0, match.start() - 60) : match.start()]
            )
            if not denied:
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
