"""How often what an extractor claimed was dropped, because it does not stand in the user's own turns.

From: the outcome of every record that was extracted, once it is durable. To: Prometheus.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from prometheus_client import Counter

from nexus_stream.contracts.prospect import SignalName

__all__ = ["DroppedFields"]

_DROPPED = Counter(
    "nexus_dropped_fields_total", "Values an extractor claimed that no turn of the user holds, by field", ["field"]
)

# A record that was read elsewhere brings names of its own along: they must not make labels.
_OTHER: Final = "other"
_FIELDS: Final = (
    "objeciones",
    *(name.value for name in SignalName if not name.value.startswith("objecion_")),
    _OTHER,
)


class DroppedFields:
    """Counts them, by field. All of them are shown from the start, so that the first of a kind is an increase."""

    def __init__(self) -> None:
        self._fields = {field: _DROPPED.labels(field) for field in _FIELDS}

    def count(self, fields: Iterable[str]) -> None:
        """Count what was dropped from one record."""
        for field in fields:
            (self._fields.get(field) or self._fields[_OTHER]).inc()
