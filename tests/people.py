"""Made-up people and what they say, some of it hostile; and looking for any of it in what must hold none.

Deterministic. Names are syllables, addresses are of example domains, numbers are 555 ones: every value is unique, so
that finding one anywhere means that it leaked.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

__all__ = ["Person", "found_in", "people"]

_SYLLABLES = ("ba", "ce", "di", "fo", "gu", "ka", "le", "mi", "no", "pu", "ra", "se", "ti", "vo", "xu", "za")
_ASKED = ("¿Con quién hablo?", "¿Cómo te contacto?", "¿A qué te dedicas?")
# What a needle is found by first; shorter ones are not looked for.
_WINDOW = 8


@dataclass(frozen=True, slots=True)
class Person:
    """One visitor.

    Attributes:
        word: A word that occurs nowhere else, in each of their sentences.
        secrets: Everything of theirs that no log may hold.
    """

    index: int
    name: str
    email: str
    phone: str
    trade: str
    word: str
    session: str
    fingerprint: str

    @property
    def turns(self) -> list[dict[str, str]]:
        """A conversation in which they say all of it."""
        said = (
            f"Hola, me llamo {self.name}, de {self.word}ville",
            f"{self.email} o al {self.phone[:3]} {self.phone[3:6]} {self.phone[6:]} de {self.word}",
            f"vendo {self.trade}, quiero empezar aunque lo de {self.word} me parece muy caro",
        )
        turns = []
        for asked, answer in zip(_ASKED, said, strict=True):
            turns += [{"role": "assistant", "content": asked}, {"role": "user", "content": answer}]
        return turns

    @property
    def secrets(self) -> list[str]:
        given, surname = self.name.split()
        spaced = f"{self.phone[:3]} {self.phone[3:6]} {self.phone[6:]}"
        return [
            given,
            surname,
            self.email.partition("@")[0],
            self.phone,
            spaced,
            self.trade,
            self.word,
            self.session,
            self.fingerprint,
            f"lo de {self.word}",
        ]

    def body(self, turns: int | None = None, **changed: Any) -> dict[str, Any]:
        """What the site posts of them."""
        return {
            "messages": self.turns[: turns or None],
            "sessionId": self.session,
            "fingerprint": self.fingerprint,
            "metadata": {"url": f"https://example.com/{self.word}?mail={self.email}", "userAgent": f"{self.word}/1.0"},
            **changed,
        }


def people(count: int, seed: int = 20260101) -> list[Person]:
    """That many, the same each time."""
    chance = random.Random(seed)  # noqa: S311 - repeatable, not secret
    taken: set[str] = set()

    def word() -> str:
        while True:
            made = "".join(chance.choice(_SYLLABLES) for _ in range(6))
            if made not in taken:
                taken.add(made)
                return made

    return [
        Person(
            index=index,
            name=f"{word().capitalize()} {word().capitalize()}",
            email=f"{word()}.{index}@example.com",
            phone=f"30{index % 10}555{index:04d}",
            trade=word(),
            word=word(),
            # Ids as some sites make them: of what they know.
            session=f"{word()}-sesion-{index}" if index % 3 else f"chat {word().capitalize()} {index}",
            fingerprint=f"huella-{word()}-{index}",
        )
        for index in range(count)
    ]


def found_in(text: str, secrets: Iterable[str]) -> list[str]:
    """Which of the secrets a text holds, in any case, also where it is escaped as JSON or ``%xx``."""
    lowered = text.lower()
    lowered += re.sub(r"\\u([0-9a-f]{4})", lambda match: chr(int(match[1], 16)), lowered) if "\\u" in lowered else ""
    by_start: dict[str, list[str]] = {}
    for secret in secrets:
        if len(secret) >= _WINDOW:
            by_start.setdefault(secret.lower()[:_WINDOW], []).append(secret)
    # A window at a time: ten thousand searches of some megabytes would take a minute.
    windows = {lowered[start : start + _WINDOW] for start in range(len(lowered) - _WINDOW + 1)} & by_start.keys()
    return sorted(secret for window in windows for secret in by_start[window] if secret.lower() in lowered)
