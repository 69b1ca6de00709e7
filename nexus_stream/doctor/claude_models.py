"""Retirement dates of Claude models. Pure functions.

Sources: the vendor's deprecation page as of `MODELS_AS_OF`, then the table in the installed SDK. If a key is set, the
doctor also queries the API. But only this table works offline and before the retirement day.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime
from typing import Final

__all__ = ["MODELS_AS_OF", "RETIRED", "looks_like_a_model", "retirement_of"]

MODELS_AS_OF: Final = date(2026, 11, 24)

RETIRED: Final[Mapping[str, date]] = {
    "claude-1": date(2024, 11, 6),
    "claude-instant-1": date(2024, 11, 6),
    "claude-2.0": date(2025, 7, 21),
    "claude-2.1": date(2025, 7, 21),
    "claude-3-sonnet-20240229": date(2025, 7, 21),
    "claude-3-5-sonnet-20240620": date(2025, 10, 28),
    "claude-3-5-sonnet-20241022": date(2025, 10, 28),
    "claude-3-opus-20240229": date(2026, 1, 5),
    "claude-sonnet-4-20250514": date(2026, 6, 15),
    "claude-sonnet-4-0": date(2026, 6, 15),
    "claude-sonnet-4-5": date(2026, 11, 30),
    "claude-sonnet-4-5-20250929": date(2026, 11, 30),
}

_ORDINAL: Final = re.compile(r"(?<=\d)(st|nd|rd|th)\b")
_NAME: Final = re.compile(r"^claude-[a-z0-9.-]{1,80}$")


def retirement_of(model: str) -> date | None:
    """Return the model's retirement date, or None if no date is known."""
    return RETIRED.get(model) or _from_sdk(model)


def looks_like_a_model(model: str) -> bool:
    """Whether the text has the form of a model name."""
    return _NAME.fullmatch(model) is not None


def _from_sdk(model: str) -> date | None:
    try:
        from anthropic._data import DEPRECATED_MODELS
    except ImportError:
        # The table is not part of the SDK's public interface. Without it, only our own table is used.
        return None
    text = DEPRECATED_MODELS.get(model)
    if text is None:
        return None
    try:
        return datetime.strptime(_ORDINAL.sub("", text), "%B %d, %Y").date()  # noqa: DTZ007 - a day, no moment
    except ValueError:
        return None
