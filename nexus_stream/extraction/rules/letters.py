"""Names of letters, as people spell in Spanish, Portuguese and English."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["letter_of"]

_NAMES: Final[Mapping[str, str]] = {
    name: letter
    for letter, names in {
        "a": "a",
        "b": "be bi",
        "c": "ce ci",
        "d": "de di",
        "e": "e",
        "f": "efe ef fe",
        "g": "ge gi",
        "h": "hache agah aga aitch ache",
        "i": "i",
        "j": "jota jay",
        "k": "ka kay ca",
        "l": "ele el",
        "m": "eme em",
        "n": "ene en",
        "o": "o",
        "p": "pe pi",
        "q": "cu ku cue que",
        "r": "erre ere ar",
        "s": "ese esse ess",
        "t": "te ti tee",
        "u": "u",
        "v": "uve ve vi vee",
        "w": "dobleve uvedoble dablio",
        "x": "equis xis ex",
        "y": "ye ipsilon ipsilom igriega wye",
        "z": "zeta ceta ze zee zed",
    }.items()
    for name in names.split()
}


def letter_of(word: str) -> str | None:
    """The letter that a folded word is or names; None if it is another word."""
    if len(word) == 1:
        return word if word.isalpha() else None
    return _NAMES.get(word)
