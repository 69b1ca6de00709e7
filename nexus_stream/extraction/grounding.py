"""Check an extractor's findings against the user's words, and normalise the values that pass.

``dropped_fields`` stays in the record and is counted (``nexus_dropped_fields_total``). A value passes only if its
letters or digits come from the user's own words (evidence/). The assistant's text and tampering do not count.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from nexus_stream.contracts.prospect import Arquetipo, Objecion, Signal, SignalName
from nexus_stream.extraction.evidence.spoken import Place, Written
from nexus_stream.extraction.evidence.written_email import written_email
from nexus_stream.extraction.evidence.written_name import key_words, written_name
from nexus_stream.extraction.evidence.written_phone import written_phone
from nexus_stream.extraction.extractor import Findings, ReadByRules, Turn
from nexus_stream.extraction.rules.countries import Regions, regions_of
from nexus_stream.extraction.rules.doubts import is_doubtful_email, is_doubtful_phone
from nexus_stream.extraction.rules.lexicon import COMMON_WORDS, FOREIGN_RELATIONS
from nexus_stream.extraction.rules.ownership import RELATIONS
from nexus_stream.extraction.text import BLANK, UserTurn, clause_before, fold, user_turns, words_of

__all__ = ["OBJECTION_SIGNALS", "Checked", "check"]

OBJECTION_SIGNALS = {
    Objecion.PRICE: SignalName.OBJECION_PRICE,
    Objecion.TIME: SignalName.OBJECION_TIME,
    Objecion.TRUST: SignalName.OBJECION_TRUST,
    Objecion.MLM: SignalName.OBJECION_MLM,
}
# The signal of each value, and its correction. They are dropped together with their value.
_SIGNALS_OF = {
    "nombre": (SignalName.NOMBRE, SignalName.CORRECCION_NOMBRE),
    "email": (SignalName.EMAIL, SignalName.CORRECCION_EMAIL),
    "telefono": (SignalName.TELEFONO, SignalName.CORRECCION_TELEFONO),
    "ocupacion": (SignalName.OCUPACION,),
}
MAX_OCCUPATION_CHARS = 160
_STEM_CHARS = 4
# Places of an occupation's words that are looked at; more is an attack on CPU time.
_MAX_PLACES = 40
_WORD = re.compile(r"[a-z]+")


@dataclass(frozen=True, slots=True)
class Checked:
    """The values and signals of one extraction that passed the check, normalised.

    ``dropped_fields`` names the fields that failed, and those that the extractor had dropped itself.
    ``doubtful_fields`` names the contacts that the user corrected later, in words that could not be read.
    """

    nombre: str | None = None
    email: str | None = None
    telefono: str | None = None
    ocupacion: str | None = None
    objeciones: tuple[Objecion, ...] = ()
    arquetipo: Arquetipo | None = None
    signals: tuple[Signal, ...] = ()
    dropped_fields: tuple[str, ...] = ()
    doubtful_fields: tuple[str, ...] = ()


def check(findings: Findings, turns: Sequence[Turn], *, default_region: str) -> Checked:
    """Keep the findings that the user's turns support.

    Args:
        findings: The extractor's findings.
        turns: The turns that the extractor read.
        default_region: Country of phone numbers if the chat supports no other.
    """
    if isinstance(findings, ReadByRules):
        return _as_read(findings)
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

    regions = regions_of(prepared, default_region) if findings.telefono else Regions((default_region,))
    values = {
        "nombre": written_name(findings.nombre, prepared) if findings.nombre else None,
        "email": written_email(findings.email, prepared) if findings.email else None,
        "telefono": written_phone(findings.telefono, prepared, regions) if findings.telefono else None,
        "ocupacion": _occupation(findings.ocupacion, prepared) if findings.ocupacion else None,
    }
    claimed = dict(zip(values, claims, strict=True))
    for field, written in values.items():
        if written is not None:
            signals = _with_places(signals, _SIGNALS_OF[field][0], written)
            continue
        signals = [signal for signal in signals if signal.name not in _SIGNALS_OF[field]]
        claim = claimed[field]
        if claim is not None and claim.strip():
            dropped.append(field)

    evident = {signal.name for signal in signals}
    objections = tuple(kind for kind in Objecion if kind in findings.objeciones and OBJECTION_SIGNALS[kind] in evident)
    if len(objections) < len(set(findings.objeciones)):
        dropped.append("objeciones")
    kept = {OBJECTION_SIGNALS[kind] for kind in objections}
    signals = [signal for signal in signals if signal.name not in OBJECTION_SIGNALS.values() or signal.name in kept]
    return Checked(
        **{field: written.value if written is not None else None for field, written in values.items()},
        objeciones=objections,
        arquetipo=findings.arquetipo,
        signals=tuple(signals),
        dropped_fields=tuple(dict.fromkeys(dropped)),
        doubtful_fields=tuple(
            field
            for field in ("email", "telefono")
            if (found := values[field]) is not None and _is_doubtful(field, found, prepared, regions)
        ),
    )


def _is_doubtful(field: str, written: Written, prepared: Sequence[UserTurn], regions: Regions) -> bool:
    last = max(place.turn.index for place in written.places)
    if field == "email":
        return is_doubtful_email(written.value, last, prepared)
    return is_doubtful_phone(written.value, last, prepared, regions)


def _as_read(findings: ReadByRules) -> Checked:
    """The rules read their values in the user's words: looking for them again would find the same."""
    occupation = findings.ocupacion
    return Checked(
        nombre=findings.nombre,
        email=findings.email,
        telefono=findings.telefono,
        ocupacion=None if occupation is None else _plain_occupation(occupation),
        objeciones=findings.objeciones,
        arquetipo=findings.arquetipo,
        signals=findings.signals,
        doubtful_fields=findings.doubtful_fields,
    )


def _with_places(signals: Sequence[Signal], name: SignalName, written: Written) -> list[Signal]:
    """The signals, with evidence for a value in the turns where it stands: a quote of other turns shows nothing."""
    turns = {place.turn.index for place in written.places}
    kept = [signal for signal in signals if signal.name is not name or signal.turn in turns]
    if any(signal.name is name for signal in kept):
        return kept
    return [*kept, *(_signal(name, place) for place in written.places)]


def _signal(name: SignalName, place: Place) -> Signal:
    start, end = place.turn.span(place.start, place.end)
    return Signal(name=name, turn=place.turn.index, start=start, end=end)


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
    return not set(key_words(name)).isdisjoint(words_of(turn.folded[start:end]))


# "Mi tío es pastor": the words before the trade name another person. "Cuido a mi mamá" names the user's own work.
_RELATIVE = re.compile(
    rf"(?:\b([a-z]+) )?\b(?:mis?|sus?|un|una|el|la|minhas?|meus?|my) (?:[a-z]+ )?(?:{RELATIONS}|{FOREIGN_RELATIONS})\b"
)
_NOT_THE_SUBJECT = frozenset({"a", "de", "con", "para", "por", "com", "with", "of", "for", "to"})
_OWN = re.compile(r"\b(?:yo|soy|sou|eu|i|i'm|me|trabajo|trabalho|tengo|tenho|mio|mia)\b")


def _plain_occupation(occupation: str) -> str | None:
    plain = " ".join(unicodedata.normalize("NFKC", occupation).split())
    return plain if plain and len(plain) <= MAX_OCCUPATION_CHARS else None


def _occupation(occupation: str, prepared: Sequence[UserTurn]) -> Written | None:
    kept = _plain_occupation(occupation)
    if kept is None:
        return None
    # Compare stems: "barbero" matches "barber", "vende ropa" matches "vendo ropa".
    claimed = {word[:_STEM_CHARS] for word in words_of(fold(kept)) if len(word) > 2 and word not in COMMON_WORDS}
    claimed = claimed or {word[:_STEM_CHARS] for word in words_of(fold(kept))}
    places = [
        Place(turn, *match.span())
        for turn in prepared
        for match in _WORD.finditer(turn.folded)
        if match.group()[:_STEM_CHARS] in claimed
    ]
    own = [place for place in places[-_MAX_PLACES:] if not _is_of_another(place)]
    return Written(kept, tuple(own[:1])) if own else None


def _is_of_another(place: Place) -> bool:
    before = re.split(r"[,;]", clause_before(place.turn.folded, place.start))[-1]
    told = any(match.group(1) not in _NOT_THE_SUBJECT for match in _RELATIVE.finditer(before))
    return told and _OWN.search(before) is None
