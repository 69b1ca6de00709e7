"""Find the user's occupation, and choose one of the six archetypes from it.

A trade may follow the user's name ("Felipe Villarreal, ingeniero civil"). Only the user's own present occupation
counts. The phrase is stored as typed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

from nexus_stream.contracts.prospect import Arquetipo
from nexus_stream.extraction.rules.lexicon import BUSINESSES, OCCUPATIONS
from nexus_stream.extraction.rules.occupation_cues import (
    ABOUT_ME,
    ACTIVITY,
    ALONE,
    BUSINESS_ENDING,
    COMMUNITY,
    COMMUNITY_ROLE,
    DEDICATED,
    DETERMINERS,
    HOME,
    HOME_OBJECT,
    IS,
    NEEDS_MORE,
    NO_BUSINESS,
    NO_OBJECT,
    NO_STUDY,
    NOT_ME,
    NOT_SELF,
    NOUN_BEFORE,
    ONLY_VEHICLES,
    OWNED_AFTER,
    OWNERS,
    OWNS,
    RETIRED,
    SELF_EMPLOYED,
    SOMEONES,
    STATUS,
    STATUS_WORD,
    STUDENT,
    STUDIES,
    TEACHING,
    WANTED,
    WEAK_END,
    WORD,
    WORKS_IN,
)
from nexus_stream.extraction.rules.occupation_phrases import (
    ASKS_OCCUPATION,
    answer_phrase,
    business_phrase,
    job_phrase,
    object_phrase,
    place_phrase,
)
from nexus_stream.extraction.rules.ownership import RELATIONS
from nexus_stream.extraction.text import UserTurn, clause_before

__all__ = ["Occupation", "find_archetype", "find_occupation", "find_occupations"]


class Weight(IntEnum):
    """How specific a phrase is about the occupation."""

    ANSWER = 1  # an answer to "¿a qué te dedicas?" that no rule knows
    STATUS = 2  # "independiente", "empleada"
    WORKPLACE = 3  # "trabajo en un banco"
    TRADE = 4  # a trade, a business, an activity, studies, the home


@dataclass(frozen=True, slots=True)
class Occupation:
    """One occupation of the user."""

    phrase: str
    turn: UserTurn
    start: int
    end: int
    weight: Weight
    archetype: Arquetipo | None


def _is_self(turn: UserTurn, start: int) -> bool:
    before = turn.folded[max(0, start - 12) : start]
    return not NOT_SELF.search(before)


def _found(
    turn: UserTurn, span: tuple[int, int], weight: Weight, archetype: Arquetipo | None, phrase: str | None = None
) -> Occupation:
    start, end = span
    return Occupation(phrase or turn.text[start:end].strip(), turn, start, end, weight, archetype)


def _trades(turn: UserTurn, name_end: int | None) -> Iterator[Occupation]:
    folded = turn.folded
    answering = ASKS_OCCUPATION.search(turn.asked) is not None
    for match in WORD.finditer(folded):
        word = match.group()
        if word not in OCCUPATIONS:
            continue
        start = match.start()
        before = clause_before(folded, start, limit_chars=80)
        cue = IS.search(before)
        if cue is None or not _is_self(turn, start - len(before) + cue.start()):
            continue
        if WEAK_END.search(before) and not re.search(r"\bso[yi]\b[^,;:(]*$", before):
            named = name_end is not None and re.fullmatch(
                r"[^a-z]{0,8}(?:(?:por (?:aca|aqui)|para servirle|mucho gusto|de [a-z]+|"
                r"desde [a-z]+)[^a-z]{1,8})?(?:una? |y )?",
                folded[name_end:start] if name_end <= start else "x",
            )
            first = start <= 2 or (not before.strip() and answering)
            if not (named or ABOUT_ME.search(before) or (first and (answering or start == 0))):
                continue
        if NOT_ME.search(before):
            continue
        span = job_phrase(turn, start)
        if word in NEEDS_MORE and span[1] == match.end():
            continue
        weight = Weight.STATUS if word in STATUS and span[1] == match.end() else Weight.TRADE
        role = COMMUNITY_ROLE.match(folded, start) is not None
        yield _found(turn, span, weight, Arquetipo.LIDER_COMUNIDAD if role else _archetype_of(word))


def _archetype_of(word: str) -> Arquetipo | None:
    if word in STUDENT:
        return Arquetipo.JOVEN_AMBICION
    if word in COMMUNITY:
        return Arquetipo.LIDER_COMUNIDAD
    if word in OWNERS:
        return Arquetipo.EMPRENDEDOR_DUENO_NEGOCIO
    if word in ALONE:
        return Arquetipo.INDEPENDIENTE_FREELANCER
    if word in ("housewife",):
        return Arquetipo.LIDER_HOGAR
    return None if word in RETIRED else Arquetipo.PROFESIONAL_VISION


def _businesses(turn: UserTurn) -> Iterator[Occupation]:
    folded = turn.folded
    for cue in OWNS.finditer(folded):
        determiners = DETERMINERS.match(folded, cue.end())
        start = determiners.end() if determiners else cue.end()
        noun = WORD.match(folded, start)
        if noun is None or not _is_self(turn, cue.start()):
            continue
        word = noun.group()
        singular = word[:-2] if word.endswith("es") and word[:-2] in BUSINESSES else word.removesuffix("s")
        if word in NO_BUSINESS or not ({word, singular} & BUSINESSES or BUSINESS_ENDING.match(word)):
            continue
        before = clause_before(folded, cue.start(), limit_chars=60)
        if WANTED.search(before) or SOMEONES.match(folded, noun.end()):
            continue
        span = business_phrase(turn, start)
        archetype = Arquetipo.EMPRENDEDOR_DUENO_NEGOCIO
        if cue.group("runs") and not re.search(r"\b(?:mi|mis|propi[oa])\b", folded[cue.end() : start]):
            # A manager may or may not own the shop: the user counts as the owner only if they say so.
            if not OWNED_AFTER.match(folded, span[1]):
                archetype = Arquetipo.PROFESIONAL_VISION
        elif re.match(r"(?:so[yi]|como|i'?m)?\s?(?:el |la |the )?(?:duen|prop|fund|cofund|owner|ceo)", cue.group()):
            owner = re.search(r"(?:duen|propiet|fund|cofund|owner|ceo)", cue.group())
            span = (cue.start() + (owner.start() if owner else 0), span[1])
        yield _found(turn, span, Weight.TRADE, archetype)


def _workplaces(turn: UserTurn) -> Iterator[Occupation]:
    for cue in WORKS_IN.finditer(turn.folded):
        if NOUN_BEFORE.search(turn.folded[max(0, cue.start() - 14) : cue.start()]) or not _is_self(turn, cue.start()):
            continue
        span = place_phrase(turn, cue.end())
        if span is not None:
            yield _found(turn, span, Weight.WORKPLACE, Arquetipo.PROFESIONAL_VISION)


def _activities(turn: UserTurn) -> Iterator[Occupation]:
    folded = turn.folded
    for cue in ACTIVITY.finditer(folded):
        before = folded[max(0, cue.start() - 14) : cue.start()]
        if re.search(
            r"\b(?:no|que|como|lo|la|si|antes|se|cuando|les|le|te|los|cuanto|donde|me|ya no|un|el|del|"
            r"mi)\s+$",
            before,
        ):
            continue
        verb = cue.group().split()[0]
        if verb in ("manejo", "conduzco"):
            if not ONLY_VEHICLES.match(folded, cue.end()):
                continue
        elif verb in ("doy", "dicto", "imparto", "ofrezco", "presto", "realizo"):
            if not TEACHING.match(folded, cue.end()) and not re.match(r"servicios? de", folded[cue.end() :]):
                continue
        elif NO_OBJECT.match(folded, cue.end()) and not re.match(
            r"(?:de todo un poco|la limpieza)\b", folded[cue.end() :]
        ):
            continue
        end = object_phrase(turn, cue.end())
        employed = re.search(
            r"\b(?:en|para) (?:una?|la|el) (?:empresa|compania|banco|almacen|restaurante|fabrica|agencia|"
            r"hospital|clinica|colegio)\b",
            folded[end : end + 40],
        )
        archetype = Arquetipo.PROFESIONAL_VISION if employed else Arquetipo.INDEPENDIENTE_FREELANCER
        yield _found(turn, (cue.start(), end), Weight.TRADE, archetype)


def _dedications(turn: UserTurn) -> Iterator[Occupation]:
    folded = turn.folded
    for cue in DEDICATED.finditer(folded):
        if not _is_self(turn, cue.start()):
            continue
        home = HOME_OBJECT.match(folded, cue.end())
        first = WORD.match(folded, cue.end())
        if home is not None:
            yield _found(turn, (cue.end(), object_phrase(turn, cue.end())), Weight.TRADE, Arquetipo.LIDER_HOGAR)
        elif first is not None and first.group() not in ("que", "nada", "lo", "mi", "ser", "esto", "eso", "todo"):
            gerund = cue.group("to") in ("haciendo", "vendiendo")
            start = cue.start("to") if gerund else cue.end()
            yield _found(
                turn, (start, object_phrase(turn, cue.end())), Weight.TRADE, Arquetipo.INDEPENDIENTE_FREELANCER
            )


def _home(turn: UserTurn) -> Iterator[Occupation]:
    for match in HOME.finditer(turn.folded):
        before = clause_before(turn.folded, match.start(), limit_chars=60)
        if not NOT_ME.search(before) and not re.search(r"\b(?:es|era|no soy)\s*(?:una?\s)?$", before):
            start = match.start() + (5 if match.group().startswith("soy h") or match.group().startswith("soy d") else 0)
            yield _found(turn, (start, match.end()), Weight.TRADE, Arquetipo.LIDER_HOGAR)


def _studies(turn: UserTurn) -> Iterator[Occupation]:
    folded = turn.folded
    for match in STUDIES.finditer(folded):
        before = folded[max(0, match.start() - 30) : match.start()]
        if match.group().startswith(("estudi", "curs")) and re.search(
            r"\b(?:un|el|mi|de|tu|su|del|que|no|al|los|este|en)\s+$", before
        ):
            continue
        if re.search(rf"\b{RELATIONS}\b[^.,]*$", before):
            continue
        what = match.group("what")
        if match.group().startswith("curso") and what is None:
            continue
        if what is not None and what.split()[0] not in NO_STUDY and what not in NO_STUDY:
            start = match.start("what")
            trimmed = (
                re.sub(r"\s(?:y|de|en|con|pero) ?[a-z]*$", "", what)
                if re.search(r"\by (?:trabajo|tengo|soy|vivo|vendo|me|quiero|mi|busco|hago)", what)
                else what
            )
            yield _found(
                turn,
                (match.start(), start + len(trimmed)),
                Weight.TRADE,
                Arquetipo.JOVEN_AMBICION,
                f"estudiante de {turn.text[start : start + len(trimmed)]}",
            )
        else:
            yield _found(turn, match.span(), Weight.TRADE, Arquetipo.JOVEN_AMBICION, "estudiante")


def _community(turn: UserTurn) -> Iterator[Occupation]:
    for match in COMMUNITY_ROLE.finditer(turn.folded):
        before = clause_before(turn.folded, match.start(), limit_chars=60)
        if NOT_ME.search(before) or not _is_self(turn, match.start()):
            continue
        span = match.span("role") if match.group("role") else match.span()
        if match.group("leads") == "tengo" and not re.search(
            r"iglesia|congregacion|ministerio|fundacion", match.group()
        ):
            continue
        phrase = turn.text[span[0] : span[1]]
        yield _found(turn, (span[0], span[0] + len(phrase.rstrip())), Weight.TRADE, Arquetipo.LIDER_COMUNIDAD)


def find_occupations(turns: Sequence[UserTurn], name: tuple[int, int] | None = None) -> list[Occupation]:
    """Find all occupations of the user, in order of position.

    Args:
        turns: The user's turns.
        name: The turn index and the end of the user's name, if it was found.
    """
    found: list[Occupation] = []
    for turn in turns:
        name_end = name[1] if name is not None and name[0] == turn.index else None
        here = [
            *_trades(turn, name_end),
            *_businesses(turn),
            *_workplaces(turn),
            *_activities(turn),
            *_dedications(turn),
        ]
        here += [*_home(turn), *_studies(turn), *_community(turn)]
        for match in STATUS_WORD.finditer(turn.folded):
            if _is_self(turn, match.start()):
                here.append(_found(turn, match.span("status"), Weight.STATUS, Arquetipo.INDEPENDIENTE_FREELANCER))
        if not here and ASKS_OCCUPATION.search(turn.asked):
            span = answer_phrase(turn)
            if span is not None:
                here.append(_found(turn, span, Weight.ANSWER, None))
        found += sorted(here, key=lambda one: (one.start, -one.end))
    return found


def find_occupation(occupations: Sequence[Occupation]) -> Occupation | None:
    """Choose the most specific occupation; among equals the first."""
    best: Occupation | None = None
    for one in occupations:
        if (
            best is None
            or one.weight > best.weight
            or (one.turn is best.turn and one.start <= best.start and one.end > best.end and one.weight == best.weight)
        ):
            best = one
    return best


def find_archetype(
    turns: Sequence[UserTurn], occupations: Sequence[Occupation]
) -> tuple[Arquetipo, UserTurn, int, int] | None:
    """Choose the archetype: owning a business outweighs a trade, and self-employment outweighs employment."""
    best = find_occupation(occupations)
    owner = next(
        (
            one
            for one in occupations
            if one.archetype is Arquetipo.EMPRENDEDOR_DUENO_NEGOCIO and one.weight is Weight.TRADE
        ),
        None,
    )
    chosen = owner or best
    if chosen is None:
        return None
    archetype = chosen.archetype
    if archetype is Arquetipo.PROFESIONAL_VISION or archetype is None:
        for turn in turns:
            match = SELF_EMPLOYED.search(turn.folded)
            if match is not None and _is_self(turn, match.start()):
                return Arquetipo.INDEPENDIENTE_FREELANCER, turn, match.start(), match.end()
    return (archetype, chosen.turn, chosen.start, chosen.end) if archetype is not None else None
