"""Find the country that the chat supports for a phone number without a country code.

In this order: where the user says they are, the code of another number that the user typed, the language of the chat,
then the country of the tenant or the site. A country that the user only mentions comes last: it counts for a number
that is no number of the other countries.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Final

import phonenumbers

from nexus_stream.extraction.rules.lexicon import any_of, word_list
from nexus_stream.extraction.text import UserTurn, words_of

__all__ = ["Regions", "beside", "named_in", "regions_of"]


def _read_places() -> Mapping[str, tuple[str, ...]]:
    places: dict[str, tuple[str, ...]] = {}
    for line in (files(__package__) / "words" / "countries.txt").read_text(encoding="utf-8").splitlines():
        regions, _, names = line.partition(" ")
        for name in names.split(","):
            places.setdefault(name.strip(), tuple(regions.split("/")))
    return places


# Folded names of countries, their people and their large cities, with ISO 3166 codes: several countries have a Córdoba.
_PLACES: Final = _read_places()
_PLACE = any_of(_PLACES)
_NAMED = re.compile(_PLACE)
_FILLER = r"(?:la |el |los |las |o |a |the |ciudad de |cidade de |city of |barrio |aca |aqui |aca en |aqui en )*"
# The user is there.
_LIVES = re.compile(
    r"\b(?=[a-z])(?:vivo|vivimos|viviendo|vivendo|resido|radico|radicad[oa]|moro|moramos|estoy|estamos|estou|ando|to|fico|"
    r"me encuentro|me mude|"
    r"(?:les |le |te |os )?(?:escribo|hablo|falo|contacto)|soy|somos|sou|trabajo|trabalho|"
    r"i(?:'m| am)(?: (?:living|based|located))?|i live|we live|we are|living|based|from|moved(?= to)|"
    r"tengo (?:mi )?\w+|ubicad[oa]s?)"
    rf"(?:,? [a-z]+){{0,5}}?,? (?:en|de|del|desde|em|do|da|no|na|in|to|from|por|cerca de|near) "
    rf"{_FILLER}(?P<place>{_PLACE})"
    rf"|\b(?:desde|direto de|directo de|aca en|aqui en|por aca en|por aqui en|aqui de|daqui de|aca de|aqui em|here in) "
    rf"{_FILLER}(?P<from>{_PLACE})"
    rf"|^\W*(?:[a-z]+\W{{1,2}}){{0,5}}[a-z]+, (?:de|desde|from|do|da) {_FILLER}(?P<after>{_PLACE})(?=[.,;!\n]|$)"
    rf"|\b(?:soy|sou|somos|i'?m|i am) (?:un |una |a )?(?P<people>{_PLACE})"
    rf"|\bmi (?:ciudad|pais) es {_FILLER}(?P<mine>{_PLACE})"
)
_MOVED = re.compile(
    r"\b(?=[a-z])(?:vivo|vivimos|viviendo|vivendo|resido|radic\w+|moro|me mude|i live|living|based|moved|estoy|estamos|"
    r"me encuentro)\b"
)
_NOT_THERE = re.compile(
    r"\b(?=[a-z])(?:no|nao|not|quiero|quisiera|vivia|vivi|estuve|viaj\w+|ir|fui|mi [a-z]+ (?:vive|esta)|ella|el|antes)"
    r"\b[^.,;]{0,25}$"
)
_ASKS_PLACE = re.compile(
    r"\b(?=[a-z])(?:de |en |desde |em )?(?:que|qual|cual|what|which) (?:pais|ciudad|cidade|parte|estado|country|city|"
    r"state|lugar)\b"
    r"|\b(?:de|desde|en) donde\b|\bonde (?:voce )?(?:mora|fica|esta)\b|\bde onde\b|\bwhere (?:are|do) you\b"
    r"|\bdonde (?:vives?|estas?|te encuentras|se encuentra|queda|resides?|os encontrais)\b"
    r"|\b(?:ciudad|pais|cidade)\W{0,3}\?"
)
_ANSWER_CHARS = 60
_CODE = re.compile(r"(?:\+|(?<![\d.,])00)\s?\(?(\d[\d\s().-]{7,20}\d)")
_WORDS: Final = {language: word_list(language) for language in ("portuguese", "english", "spanish")}
# Only words that the other languages do not have.
_OWN_WORDS: Final = {
    language: words.difference(*(other for name, other in _WORDS.items() if name != language))
    for language, words in _WORDS.items()
}
_MIN_WORDS = 3


@dataclass(frozen=True, slots=True)
class Regions:
    """ISO 3166 codes of the countries to which a number without a country code may belong, the first best.

    Attributes:
        supported: What the chat supports, then the default; without repetitions.
        mentioned: Countries that the user only names. They count if a number is valid in no supported country.
    """

    supported: tuple[str, ...]
    mentioned: tuple[str, ...] = ()

    def first(self, *regions: str) -> Regions:
        """The same with these countries in front."""
        return Regions(tuple(dict.fromkeys((*regions, *self.supported))), self.mentioned)


def named_in(folded: str) -> list[str]:
    """The countries that a folded text names, in its order."""
    return list(dict.fromkeys(region for match in _NAMED.finditer(folded) for region in _PLACES[match.group()]))


_NUMBER = r"(?:numer\w*|cel\w*|whats\w*|wsp|wpp|zap\w*|tel\w*|movil|linea|chip|sim|number|phone|line)"
_BESIDE_BEFORE = re.compile(
    rf"\b{_NUMBER}(?: [a-z]+){{0,2}} (?:de|del|do|da|en|em|from|of) {_FILLER}(?P<place>{_PLACE})\W*(?:es|e|is)?\W*$"
)
_BESIDE_ADJECTIVE = re.compile(
    rf"\b(?:{_NUMBER} (?P<place>{_PLACE})|(?P<before>{_PLACE}) {_NUMBER})\W*(?:es|e|is)?\W*$"
)
_BESIDE_AFTER = re.compile(rf"\W{{0,2}}(?:\(|de |del |en |from )(?P<place>{_PLACE})")


def beside(before: str, after: str) -> list[str]:
    """The countries that the words right before or after a number give to it: "mi número de México es", "(Chile)"."""
    found = _BESIDE_BEFORE.search(before) or _BESIDE_ADJECTIVE.search(before) or _BESIDE_AFTER.match(after)
    if found is None:
        return []
    groups = found.groupdict()
    return list(_PLACES[groups.get("place") or groups["before"]])


def regions_of(turns: Sequence[UserTurn], default_region: str) -> Regions:
    """The countries that the user's turns support.

    Args:
        turns: The user's turns, prepared.
        default_region: The country of the tenant or the site.
    """
    supported: list[Sequence[str]] = []
    came_from: list[Sequence[str]] = []
    mentioned: list[str] = []
    for turn in turns:
        named = named_in(turn.folded)
        if not named:
            continue
        mentioned += named
        for regions, lives_there in _told(turn):
            (supported if lives_there else came_from).append(regions)
    # The newest place is where the user is now. Who says both lives where they live, not where they come from.
    found = [region for regions in (*reversed(supported), *reversed(came_from)) for region in regions]
    found += _of_codes(turns)
    language, is_sure = _of_language(turns)
    if language is not None:
        (found if is_sure else mentioned).append(language)
    found.append(default_region)
    unique = tuple(dict.fromkeys(found))
    return Regions(unique, tuple(region for region in dict.fromkeys(mentioned) if region not in unique))


def _told(turn: UserTurn) -> Iterator[tuple[Sequence[str], bool]]:
    """Yield the countries of each place where the user says they are, and whether they live there."""
    folded = turn.folded
    for match in _LIVES.finditer(folded):
        if _NOT_THERE.search(folded[max(0, match.start() - 40) : match.start()]):
            continue
        place = (
            match.group("place")
            or match.group("from")
            or match.group("people")
            or match.group("mine")
            or match.group("after")
        )
        yield _PLACES[place], _MOVED.search(match.group()) is not None or match.group("from") is not None
    if len(folded) <= _ANSWER_CHARS and _ASKS_PLACE.search(turn.asked):
        place = _NAMED.search(folded)
        if place is not None:
            yield _PLACES[place.group()], True


def _of_codes(turns: Sequence[UserTurn]) -> list[str]:
    found: list[str] = []
    for turn in turns:
        if "+" not in turn.folded and "00" not in turn.folded:
            continue
        for match in list(_CODE.finditer(turn.folded))[:8]:
            region = _region_of_number("+" + re.sub(r"\D", "", match.group(1)))
            if region is not None:
                found.append(region)
    return found


@lru_cache(maxsize=1024)
def _region_of_number(number: str) -> str | None:
    try:
        parsed = phonenumbers.parse(number)
    except phonenumbers.NumberParseException:
        return None
    region = phonenumbers.region_code_for_number(parsed)
    return str(region) if region else None


def _of_language(turns: Sequence[UserTurn]) -> tuple[str | None, bool]:
    """Brazil for a chat in Portuguese, the United States for one in English, else None; and whether that is sure."""
    # The assistant speaks the language of the page.
    texts = [text for turn in turns for text in (turn.folded, turn.asked)]
    words = {word for text in texts for word in words_of(text[:1_000])}
    counts = {language: len(words & own) for language, own in _OWN_WORDS.items()}
    portuguese, english, spanish = counts["portuguese"], counts["english"], counts["spanish"]
    if portuguese and portuguese > english and portuguese > spanish - 1:
        return "BR", portuguese > 1 and portuguese > spanish
    if english >= _MIN_WORDS and english > 2 * spanish and english > portuguese:
        return "US", True
    return None, False
