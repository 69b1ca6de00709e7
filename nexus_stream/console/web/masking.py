"""People's data as a viewer sees it: enough to tell two apart, too little to reach anyone.

From: rows of the index. To: pages, exports and the API, before anything is rendered.
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
    """The first four characters, and never more than half of them."""
    return fingerprint and fingerprint[: min(4, len(fingerprint) // 2)] + _HIDDEN


def mask_url(url: str | None) -> str | None:
    """The host alone: paths and queries can hold anything."""
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
# Never in a masked row: the state in full, and the words it is searched by.
_REMOVED = ("state", "search_text")


def mask_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the session table, masked."""
    return {
        name: _MASKS[name](value) if name in _MASKS and isinstance(value, str) else value
        for name, value in row.items()
        if name not in _REMOVED
    }


def mask_prospect(prospect: Mapping[str, Any]) -> dict[str, Any]:
    """A prospect record, masked; what is no text of its own stays."""
    return mask_row(prospect)
