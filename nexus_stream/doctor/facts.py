"""Measurements of the areas, used by capacity_checks.py after all areas are done."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MeasuredFacts"]


@dataclass(slots=True)
class MeasuredFacts:
    """The measurements of this run. None means unknown.

    Attributes:
        records_last_day: Records that the ingestion topic received in the last 24 h.
        records_last_hour: Records that the ingestion topic received in the last hour.
        enrichers: Members of the enrichers' consumer group.
        sinks: Members of the sinks' consumer group.
        connections_free: Free connections of PostgreSQL, or of its pooler, for sinks and console.
        connections_of: The name of the limit.
    """

    records_last_day: int | None = None
    records_last_hour: int | None = None
    enrichers: int | None = None
    sinks: int | None = None
    connections_free: int | None = None
    connections_of: str = ""
