"""Read JSON of an unknown form. A value of another type is read as empty, and nothing is raised."""

from __future__ import annotations

from typing import Any

import orjson

__all__ = ["items", "json_object", "mapping", "number", "text"]


def json_object(raw: bytes | str | None) -> dict[str, Any]:
    """The JSON object in a text; an empty object for anything else."""
    try:
        return mapping(orjson.loads(raw or b"null"))
    except orjson.JSONDecodeError:
        return {}


def mapping(value: Any) -> dict[str, Any]:
    """The value, if it is an object."""
    return value if isinstance(value, dict) else {}


def items(value: Any) -> list[Any]:
    """The value, if it is an array."""
    return value if isinstance(value, list) else []


def text(value: Any) -> str | None:
    """The value, if it is a text and not empty."""
    return value if isinstance(value, str) and value else None


def number(value: Any) -> float | None:
    """The value, if it is a number."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
