"""Check an extractor's findings against the user's words, and normalise the values that pass.

``dropped_fields`` stays in the record and is counted (``nexus_dropped_fields_total``). A value passes only if the
user's own words support it. The assistant's text and tampering do not count.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from nexus_stream.contracts.prospect import Arquetipo, Objecion, Signal, SignalName
from nexus_stream.extraction.extractor import Findings, Turn
from nexus_stream.extraction.rules.addresses import addresses_in, normalise_email
from nexus_stream.extraction.rules.countries import Regions, regions_of
from nexus_stream.extraction.rules.e164 import to_e164
from nexus_stream.extraction.rules.emails import find_email
from nexus_stream.extraction.rules.lexicon import COMMON_WORDS
from nexus_stream.extraction.rules.name_cues import ASKS_SURNAME, FILLER_SURNAME
from nexus_stream.extraction.rules.name_reading import PARTICLES, is_plausible_name, proper_case
from nexus_stream.extraction.rules.phones import find_phone, is_written
from nexus_stream.extraction.text import BLANK, UserTurn, fold, user_turns, words_of

__all__ = ["OBJECTION_SIGNALS", "Checked", "check"]

OBJECTION_SIGNALS = {
    Objecion.PRICE: SignalName.OBJECION_PRICE,
    Objecion.TIME: SignalName.OBJECION_TIME,
    Objecion.TRUST: SignalName.OBJECION_TRUST,
    Objecion.MLM: SignalName.OBJECION_MLM,
}
# These signals are dropped together with their value.
_SIGNALS_OF = {
    "nombre": {SignalName.NOMBRE, SignalName.CORRECCION_NOMBRE},
    "email": {SignalName.EMAIL, SignalName.CORRECCION_EMAIL},
    "telefono": {SignalName.TELEFONO, SignalName.CORRECCION_TELEFONO},
    "ocupacion": {SignalName.OCUPACION},
}
MAX_NAME_CHARS = 120
MAX_OCCUPATION_CHARS = 160
_STEM_CHARS = 4
# Bounds on turns that give a surname, and on places of a name in one turn. More than that is an attack on CPU time.
_MAX_ADDED_TURNS = 8
_MAX_PLACES = 20


@dataclass(frozen=True, slots=True)
class Checked:
    """The values and signals of one extraction that passed the check, normalised.

    ``dropped_fields`` names the fields that failed, and those that the extractor had dropped itself.
    """

    nombre: str | None = None
    email: str | None = None
    telefono: str | None = None
    ocupacion: str | None = None
    objeciones: tuple[Objecion, ...] = ()
    arquetipo: Arquetipo | None = None
    signals: tuple[Signal, ...] = ()
    dropped_fields: tuple[str, ...] = ()


def check(findings: Findings, turns: Sequence[Turn], *, default_region: str) -> Checked:
    """Keep the findings that the user's turns support.

    Args:
        findings: The extractor's findings.
        turns: The turns that the extractor read.
        default_region: Country of phone numbers written without a country code.
    """
    claims = (findings.nombre, findings.email, findings.telefono, findings.ocupacion)
    if not (any(claims) or findings.signals or findings.objeciones):
        # Nothing to check, so the turns are not prepared: preparing them is most of this function's cost.
        return Checked(arquetipo=findings.arquetipo, dropped_fields=tuple(dict.fromkeys(findings.dropped_fields)))
    prepared = user_turns(turns)
    contents = {turn.index: turn for turn in prepared}
    signals = [signal for signal in findings.signals if _is_in_user_turn(signal, contents, turns)]
    dropped = list(findings.dropped_fields)
    if findings.nombre is not None:
        proven = [signal for signal in signals if _fits_name(signal, contents, findings.nombre)]
        if len(proven) < len(signals):
            dropped.append(SignalName.CORRECCION_NOMBRE.value)
            signals = proven

    values = {
        "nombre": _name(findings.nombre, prepared, signals),
        "email": _email(findings.email, prepared),
        "telefono": _phone(findings.telefono, prepared, regions_of(prepared, default_region)),
        "ocupacion": _occupation(findings.ocupacion, prepared),
    }
    claimed = {
        "nombre": findings.nombre,
        "email": findings.email,
        "telefono": findings.telefono,
        "ocupacion": findings.ocupacion,
    }
    for field, value in values.items():
        if value is not None:
            continue
        signals = [signal for signal in signals if signal.name not in _SIGNALS_OF[field]]
        if claimed[field] and claimed[field].strip():  # type: ignore[union-attr]
            dropped.append(field)

    evident = {signal.name for signal in signals}
    objections = tuple(kind for kind in Objecion if kind in findings.objeciones and OBJECTION_SIGNALS[kind] in evident)
    if len(objections) < len(set(findings.objeciones)):
        dropped.append("objeciones")
    kept = {OBJECTION_SIGNALS[kind] for kind in objections}
    signals = [signal for signal in signals if signal.name not in OBJECTION_SIGNALS.values() or signal.name in kept]
    return Checked(
        nombre=values["nombre"],
        email=values["email"],
        telefono=values["telefono"],
        ocupacion=values["ocupacion"],
        objeciones=objections,
        arquetipo=findings.arquetipo,
        signals=tuple(signals),
        dropped_fields=tuple(dict.fromkeys(dropped)),
    )


def _is_in_user_turn(signal: Signal, prepared: dict[int, UserTurn], turns: Sequence[Turn]) -> bool:
    turn = prepared.get(signal.turn)
    if turn is None or not 0 <= signal.start < signal.end <= len(turns[signal.turn].content):
        return False
    start, end = turn.place(signal.start, signal.end)
    return turn.folded[start:end].strip(BLANK + " ") != ""


def _fits_name(signal: Signal, prepared: dict[int, UserTurn], name: str) -> bool:
    """Whether a signal fits this name: the words of a correction must contain part of the name."""
    if signal.name is not SignalName.CORRECCION_NOMBRE:
        return True
    turn = prepared[signal.turn]
    start, end = turn.place(signal.start, signal.end)
    return not set(_key_words(name)).isdisjoint(words_of(turn.folded[start:end]))


def _key_words(name: str) -> list[str]:
    return [word for word in words_of(fold(name)) if word not in PARTICLES]


def _name(name: str | None, prepared: Sequence[UserTurn], signals: Sequence[Signal]) -> str | None:
    if name is None or not name.strip() or len(name) > MAX_NAME_CHARS or not is_plausible_name(name):
        return None
    words = fold(name).split()
    typed = {turn.index: _typed_words(turn) for turn in prepared}
    spellings = [spelling for folded, written in typed.values() for spelling in _in_a_row(words, folded, written)]
    if not spellings:
        # A correction, or a surname given on request, is in another turn than the rest of the name.
        added = {signal.turn for signal in signals if signal.name is SignalName.CORRECCION_NOMBRE}
        added |= {
            turn.index for turn in prepared if FILLER_SURNAME.search(turn.folded) or ASKS_SURNAME.search(turn.asked)
        }
        for index in sorted(added)[-_MAX_ADDED_TURNS:]:
            others = [place for turn, place in typed.items() if turn != index]
            spellings += _in_two_places(words, dict(zip(*typed[index], strict=True)), others)
    if not spellings:
        return None
    # Use the user's own spelling, accents included. If there are several, prefer the extractor's.
    claimed = name.lower().split()
    same = [spelling for spelling in spellings if [word.lower() for word in spelling] == claimed]
    return proper_case((same or spellings)[0])


def _in_a_row(words: list[str], folded: list[str], written: list[str]) -> Iterator[list[str]]:
    count = len(words)
    for start, word in enumerate(folded):
        if word == words[0] and folded[start : start + count] == words:
            yield written[start : start + count]


def _in_two_places(
    words: list[str], added: dict[str, str], others: list[tuple[list[str], list[str]]]
) -> Iterator[list[str]]:
    """The name as written, if one turn has some of its words and another turn has the rest, side by side."""
    rest = {word for word in words if word not in added and word not in PARTICLES}
    if not rest or not any(word in added and word not in PARTICLES for word in words):
        return
    for folded, written in others:
        places = (start for start, word in enumerate(folded) if word in rest)
        for start in islice(places, _MAX_PLACES):
            # The window has as many words as the name: a corrected word may be in the middle.
            end = start + len(words)
            window = dict(zip(folded[start:end], written[start:end], strict=True))
            if rest <= window.keys():
                yield [added.get(word, window.get(word, word)) for word in words]


_NAME_WORD = re.compile(r"[^\W\d_]+(?:['.-][^\W\d_]+)*")
_ADDRESS = re.compile(r"\S+@\S+")


def _typed_words(turn: UserTurn) -> tuple[list[str], list[str]]:
    """The words of a turn, folded and as typed. Words in an e-mail address are left out: they are no given name."""
    folded = turn.folded
    if "@" in folded:
        folded = _ADDRESS.sub(lambda match: " " * len(match.group()), folded)
    spans = [match.span() for match in _NAME_WORD.finditer(folded)]
    return [folded[start:end] for start, end in spans], [turn.text[start:end] for start, end in spans]


def _email(email: str | None, prepared: Sequence[UserTurn]) -> str | None:
    address = normalise_email(email) if email else None
    if address is None:
        return None
    if any(written == address for turn in prepared for written, _, _ in addresses_in(turn)):
        return address
    found = find_email(prepared)
    return address if found is not None and found.address == address else None


def _phone(phone: str | None, prepared: Sequence[UserTurn], regions: Regions) -> str | None:
    e164 = to_e164(phone, regions.supported[0]) if phone else None
    if e164 is None:
        return None
    if any(is_written(turn, e164, regions) for turn in prepared):
        return e164
    found = find_phone(prepared, regions)
    return e164 if found is not None and found.e164 == e164 else None


def _occupation(occupation: str | None, prepared: Sequence[UserTurn]) -> str | None:
    if occupation is None:
        return None
    kept = " ".join(unicodedata.normalize("NFKC", occupation).split())
    if not kept or len(kept) > MAX_OCCUPATION_CHARS:
        return None
    # Compare stems: "barbero" matches "barber", "vende ropa" matches "vendo ropa".
    claimed = {word[:_STEM_CHARS] for word in words_of(fold(kept)) if len(word) > 2 and word not in COMMON_WORDS}
    claimed = claimed or {word[:_STEM_CHARS] for word in words_of(fold(kept))}
    said = {word[:_STEM_CHARS] for turn in prepared for word in words_of(turn.folded)}
    return kept if claimed & said else None
