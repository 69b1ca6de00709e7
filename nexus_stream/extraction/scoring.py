"""Interest and moment, computed from a session's merged values and signals. Equal records always score the same."""

from __future__ import annotations

from collections.abc import Iterable

from nexus_stream.contracts.prospect import Momento, Signal, SignalName

__all__ = ["HIGHEST", "LOWEST", "bounded", "moment", "score"]

LOWEST, HIGHEST = 0.0, 10.0

NAME_POINTS = 2.0
PHONE_POINTS = 3.0
EMAIL_POINTS = 1.5
INTENT_POINTS = 2.0  # counted once, even if the user repeats it
LACK_OF_INTEREST_POINTS = -3.0

HOT_FROM, WARM_FROM = 7.0, 4.0


def bounded(value: float | None) -> float:
    """Limit ``value`` to 0..10; None and NaN become 0."""
    if value is None or value != value:
        return LOWEST
    return min(HIGHEST, max(LOWEST, float(value)))


def score(*, nombre: str | None, email: str | None, telefono: str | None, signals: Iterable[Signal]) -> float:
    """Compute the interest, 0 to 10. Only confirmed signals count."""
    names = {signal.name for signal in signals if signal.confirmed}
    points = 0.0
    points += NAME_POINTS if nombre else 0.0
    points += PHONE_POINTS if telefono else 0.0
    points += EMAIL_POINTS if email else 0.0
    points += INTENT_POINTS if SignalName.INTENCION in names else 0.0
    points += LACK_OF_INTEREST_POINTS if SignalName.DESINTERES in names else 0.0
    return bounded(points)


def moment(interest: float | None) -> Momento:
    """The moment (how ready the prospect is) that this interest means."""
    value = bounded(interest)
    if value >= HOT_FROM:
        return Momento.CALIENTE
    return Momento.TIBIO if value >= WARM_FROM else Momento.FRIO
