"""Count the extracted values that were dropped, because no turn of the user holds them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from prometheus_client import Counter

from nexus_stream.contracts.prospect import SignalName

__all__ = ["DroppedFields"]

_DROPPED = Counter(
    "nexus_dropped_fields_total", "Values an extractor claimed that no turn of the user holds, by field", ["field"]
)

# A record that was extracted elsewhere may name other fields: they must not become labels.
_OTHER: Final = "other"
_FIELDS: Final = (
    "objeciones",
    *(name.value for name in SignalName if not name.value.startswith("objecion_")),
    _OTHER,
)


class DroppedFields:
    """Counts dropped values by field. All series exist from the start, so the first value counts as an increase."""

    def __init__(self) -> None:
        self._fields = {field: _DROPPED.labels(field) for field in _FIELDS}

    def count(self, fields: Iterable[str]) -> None:
        """Count the dropped fields of one record."""
        for field in fields:
            (self._fields.get(field) or self._fields[_OTHER]).inc()
