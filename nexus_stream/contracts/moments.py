"""Times as text: ISO 8601, and the short forms for operators."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

__all__ = ["iso_moment", "iso_ms", "parse_moment"]

_AGO = re.compile(r"(\d{1,6})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def iso_moment(text: str) -> datetime:
    """The moment of a text in ISO 8601; UTC unless the text says otherwise.

    Raises:
        ValueError: the text is none, or no such moment exists in UTC.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        return moment.replace(tzinfo=UTC)
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("out of range") from error


def iso_ms(text: Any) -> int | None:
    """The same as Unix milliseconds; None for everything else."""
    if not isinstance(text, str):
        return None
    try:
        return int(iso_moment(text).timestamp() * 1000)
    except ValueError:
        return None


def parse_moment(text: str, now: datetime) -> datetime:
    """Read an operator's moment: ISO 8601, or a time ago such as ``30m``, ``2h``.

    Raises:
        ValueError: it is neither.
    """
    ago = _AGO.fullmatch(text.strip())
    if ago is not None:
        return now - timedelta(seconds=int(ago[1]) * _SECONDS[ago[2]])
    try:
        return iso_moment(text.strip())
    except ValueError:
        raise ValueError("write a time as 2026-01-31T12:00:00Z, or as 90s, 30m, 2h or 7d ago") from None
