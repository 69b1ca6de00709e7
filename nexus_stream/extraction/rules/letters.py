"""Names of letters, as people spell in Spanish, Portuguese and English."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["SPOKEN", "letter_of"]

_NAMES: Final[dict[str, str]] = {
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
# Other words of a sentence more often than letters: they name a letter only where nothing but a letter can stand.
_WORDS: Final = frozenset(
    [
        "ar",
        "bi",
        "ca",
        "ci",
        "cue",
        "di",
        "ef",
        "el",
        "em",
        "en",
        "ess",
        "ex",
        "fe",
        "gi",
        "jay",
        "kay",
        "ku",
        "pi",
        "tee",
        "ti",
        "vi",
    ]
)
_PHRASES: Final[dict[str, str]] = {
    name: letters
    for letters, names in {
        "b": "be larga,be grande,be alta,ve larga,ve grande",
        "i": "i latina",
        "v": "be corta,be chica,ve corta,ve chica,ve baja",
        "w": "doble uve,uve doble,doble ve,doble u,ve doble",
        "y": "i griega,y griega,ye griega",
        "ch": "che",
        "ll": "elle,doble ele",
        "nn": "doble ene",
        "rr": "doble erre",
        "ss": "doble ese",
        "tt": "doble te",
    }.items()
    for name in names.split(",")
}
# Names of letters that a sentence can be searched for, with the letters that they stand for.
SPOKEN: Final[Mapping[str, str]] = {
    name: letters for name, letters in (_NAMES | _PHRASES).items() if len(name) > 1 and name not in _WORDS
}


def letter_of(word: str) -> str | None:
    """The letter that a folded word is or names; None if it is another word."""
    if len(word) == 1:
        return word if word.isalpha() else None
    return _NAMES.get(word)
