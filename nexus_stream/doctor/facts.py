"""What one area learns and another one judges with.

From: kafka_checks.py. To: capacity_checks.py, after all areas are done.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Facts"]


@dataclass(slots=True)
class Facts:
    """Measured on this run; None where nobody could tell.

    Attributes:
        records_last_day: That the ingestion topic received in the last 24 h.
        records_last_hour: The same in the last hour.
        enrichers: Members of their consumer group.
        sinks: Members of theirs.
        connections_free: That PostgreSQL, or the pooler before it, has left for sinks and console.
        connections_of: Whose limit that is.
    """

    records_last_day: int | None = None
    records_last_hour: int | None = None
    enrichers: int | None = None
    sinks: int | None = None
    connections_free: int | None = None
    connections_of: str = ""
