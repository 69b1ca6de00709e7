"""Merge the findings of a session's newest snapshot into the session's record: each record is cumulative.

An empty value never erases a known one. A value that the user corrects is replaced. Interest and moment are computed
again from the merged values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nexus_stream.contracts.prospect import Objecion, Prospect, Signal, SignalName
from nexus_stream.extraction import scoring
from nexus_stream.extraction.grounding import Checked
from nexus_stream.extraction.rules.name_words import PARTICLES
from nexus_stream.extraction.text import fold

__all__ = ["better_name", "fill", "merge", "merge_older"]

_OF_THE_NAME = frozenset({SignalName.NOMBRE, SignalName.CORRECCION_NOMBRE})
_SIGNALS_OF = {
    "nombre": _OF_THE_NAME,
    "email": frozenset({SignalName.EMAIL, SignalName.CORRECCION_EMAIL}),
    "telefono": frozenset({SignalName.TELEFONO, SignalName.CORRECCION_TELEFONO}),
    "ocupacion": frozenset({SignalName.OCUPACION}),
    "arquetipo": frozenset({SignalName.ARQUETIPO}),
}


def merge(
    known: Prospect | None, known_signals: Sequence[Signal], found: Checked
) -> tuple[Prospect, tuple[Signal, ...]]:
    """Return the session's record after one more extraction.

    Args:
        known: The record before the extraction; None for a new session.
        known_signals: The signals of the known record.
        found: The checked findings of the newest snapshot.

    Returns:
        The record and its signals, one signal for each signal name. The newest span wins, but an unconfirmed signal
        never replaces a confirmed one. If the known name of the person was kept, its old signals stay.
    """
    before = known or Prospect()
    corrected = any(signal.name is SignalName.CORRECCION_NOMBRE for signal in found.signals)
    nombre = better_name(before.nombre, found.nombre, corrected=corrected)
    newest = list(found.signals)
    if nombre != found.nombre:
        newest = [signal for signal in newest if signal.name not in _OF_THE_NAME]
    signals = _joined(known_signals, newest)
    arquetipo = found.arquetipo or before.arquetipo
    if before.arquetipo and _is_sure_of_archetype(known_signals) and not _is_sure_of_archetype(newest):
        arquetipo = before.arquetipo

    email = _not_blank(found.email) or before.email
    telefono = _not_blank(found.telefono) or before.telefono
    interest = scoring.score(nombre=nombre, email=email, telefono=telefono, signals=signals)
    prospect = Prospect(
        nombre=nombre,
        email=email,
        telefono=telefono,
        ocupacion=_not_blank(found.ocupacion) or before.ocupacion,
        nivel_interes=interest,
        objeciones=tuple(kind for kind in Objecion if kind in before.objeciones or kind in found.objeciones),
        arquetipo=arquetipo,
        momento_optimo=scoring.moment(interest),
    )
    return prospect, signals


def merge_older(
    known: Prospect, known_signals: Sequence[Signal], found: Checked
) -> tuple[Prospect, tuple[Signal, ...]]:
    """The same for findings of words that are older than the record: the record's values count as the newer ones."""
    older, signals = merge(None, (), found)
    newer = Checked(
        nombre=known.nombre,
        email=known.email,
        telefono=known.telefono,
        ocupacion=known.ocupacion,
        objeciones=known.objeciones,
        arquetipo=known.arquetipo,
        signals=tuple(known_signals),
    )
    return merge(older, signals, newer)


def fill(known: Prospect, known_signals: Sequence[Signal], found: Checked) -> tuple[Prospect, tuple[Signal, ...]]:
    """The same for what the offline rules read instead of a model: a known value stays.

    It is only replaced if the user corrected it, and a name also if the found one adds words to it.
    """
    evident = {signal.name for signal in found.signals}
    adds_to_name = known.nombre is None or set(_keys(known.nombre)) < set(_keys(found.nombre or ""))
    kept = {
        "nombre": not adds_to_name and SignalName.CORRECCION_NOMBRE not in evident,
        "email": known.email is not None and SignalName.CORRECCION_EMAIL not in evident,
        "telefono": known.telefono is not None and SignalName.CORRECCION_TELEFONO not in evident,
        "ocupacion": known.ocupacion is not None,
        "arquetipo": known.arquetipo is not None,
    }
    of_kept = {name for field, is_kept in kept.items() if is_kept for name in _SIGNALS_OF[field]}
    new = replace(
        found,
        nombre=None if kept["nombre"] else found.nombre,
        email=None if kept["email"] else found.email,
        telefono=None if kept["telefono"] else found.telefono,
        ocupacion=None if kept["ocupacion"] else found.ocupacion,
        arquetipo=None if kept["arquetipo"] else found.arquetipo,
        signals=tuple(signal for signal in found.signals if signal.name not in of_kept),
    )
    return merge(known, known_signals, new)


def _is_sure_of_archetype(signals: Sequence[Signal]) -> bool:
    told = [signal.confirmed for signal in signals if signal.name is SignalName.ARQUETIPO]
    return any(told) or not told


def _joined(known: Sequence[Signal], newest: Sequence[Signal]) -> tuple[Signal, ...]:
    joined: dict[SignalName, Signal] = {}
    for signal in (*known, *newest):
        if signal.confirmed or signal.name not in joined or not joined[signal.name].confirmed:
            joined[signal.name] = signal
    return tuple(joined.values())


def _not_blank(value: str | None) -> str | None:
    return value if value is not None and value.strip() else None


def _keys(name: str) -> list[str]:
    return [word for word in fold(name).split() if word not in PARTICLES]


def better_name(known: str | None, found: str | None, *, corrected: bool) -> str | None:
    """Choose which of two names to keep.

    - A name that is part of the known one never replaces it, even after a correction. The words of a correction stay
      in the chat, and a later answer may quote them for a shorter name.
    - Otherwise a correction by the user wins.
    - Without a correction, a name that contains the known one replaces it, and so does another full name. A different
      name without a surname does not.
    """
    if not _not_blank(found):
        return _not_blank(known)
    if not _not_blank(known):
        return found
    assert known is not None and found is not None  # noqa: S101, PT018 - neither is blank
    old, new = _keys(known), _keys(found)
    if set(new) < set(old):
        return known
    if corrected:
        return found
    if set(new) == set(old):
        return known
    if set(old) < set(new):
        return found
    return found if len(new) > 1 else known
