"""Mask personal data for viewers: enough to tell two people apart, but not enough to contact anyone.

Pages, exports and the API mask rows before they render them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

__all__ = ["mask_email", "mask_fingerprint", "mask_name", "mask_phone", "mask_prospect", "mask_row", "mask_url"]

_HIDDEN = "•••"


def mask_name(name: str | None) -> str | None:
    """``Carlos Núñez`` -> ``C••• N•••``."""
    return name and " ".join(word[0] + _HIDDEN for word in name.split()[:4])


def mask_email(email: str | None) -> str | None:
    """``carlos@example.com`` -> ``c•••@•••``."""
    return email and f"{email[0]}{_HIDDEN}@{_HIDDEN}"


def mask_phone(phone: str | None) -> str | None:
    """``+573005550102`` -> ``•••02``."""
    return phone and _HIDDEN + phone[-2:]


def mask_fingerprint(fingerprint: str | None) -> str | None:
    """Keep the first four characters, but at most half of the text."""
    return fingerprint and fingerprint[: min(4, len(fingerprint) // 2)] + _HIDDEN


def mask_url(url: str | None) -> str | None:
    """Keep only the host: paths and queries may contain personal data."""
    if not url or "://" not in url:
        return url and _HIDDEN
    try:
        return urlsplit(url).hostname or _HIDDEN
    except ValueError:
        return _HIDDEN


_MASKS: Mapping[str, Callable[[str | None], str | None]] = {
    "nombre": mask_name,
    "email": mask_email,
    "telefono": mask_phone,
    "fingerprint": mask_fingerprint,
    "first_url": mask_url,
    "ocupacion": lambda value: value and _HIDDEN,
}
# Removed from masked rows: the full state, and the search text.
_REMOVED = ("state", "search_text")


def mask_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a masked row of the session table."""
    return {
        name: _MASKS[name](value) if name in _MASKS and isinstance(value, str) else value
        for name, value in row.items()
        if name not in _REMOVED
    }


def mask_prospect(prospect: Mapping[str, Any]) -> dict[str, Any]:
    """Return a masked prospect record. Values that are not free text stay."""
    return mask_row(prospect)
