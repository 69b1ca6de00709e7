"""Query the broker every few seconds for the offsets of the enrichers' and the sinks' groups.

The monitor's clients join no group. So lag and age are right even if no worker runs, when they matter most.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from nexus_stream.host.log import get_logger
from nexus_stream.kafka.group_offsets import GroupOffsets, GroupStanding
from nexus_stream.settings import Settings

__all__ = ["LagMonitor"]

_log = get_logger(__name__)

_INTERVAL_SECONDS = 3.0


class LagMonitor:
    """Keep the groups' offsets current, as long as `run` runs.

    Attributes:
        groups: The consumer group of each role.
        standings: The offsets of each role's group. None if the broker does not answer.
    """

    def __init__(self, settings: Settings) -> None:
        self.groups = {"enricher": settings.enricher_app_id, "sink": settings.sink_app_id}
        self._offsets = {
            "enricher": GroupOffsets(settings, settings.enricher_app_id, settings.ingestion_topic),
            "sink": GroupOffsets(settings, settings.sink_app_id, settings.enriched_topic),
        }
        self.standings: Mapping[str, GroupStanding | None] = dict.fromkeys(self.groups)

    async def run(self) -> None:
        """Query until cancelled."""
        try:
            while True:
                answers = await asyncio.gather(*(offsets.ask() for offsets in self._offsets.values()))
                standings = dict(zip(self._offsets, answers, strict=True))
                for role, standing in standings.items():
                    if (standing is None) != (self.standings[role] is None):
                        problem = self._offsets[role].problem
                        _log.info("group lag availability changed", group=self.groups[role], problem=problem)
                self.standings = standings
                await asyncio.sleep(_INTERVAL_SECONDS)
        finally:
            await asyncio.gather(*(offsets.close() for offsets in self._offsets.values()))
