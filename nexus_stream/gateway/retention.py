"""Refuse messages that the ingestion topic might delete before the enrichers read them.

From: the enrichers' committed offsets and the times of unprocessed records (kafka/group_offsets.py). While the oldest
unprocessed message is older than half the topic's retention, the gateway refuses messages and is not ready: a 202 would
promise too much. The gateway accepts messages again when the enrichers have caught up.
"""

from __future__ import annotations

import asyncio
import time

from nexus_stream.host.log import get_logger
from nexus_stream.kafka.group_offsets import GroupOffsets
from nexus_stream.settings import Settings

__all__ = ["RETRY_AFTER_SECONDS", "RetentionWatch"]

_log = get_logger(__name__)

# Catching up takes minutes, so an earlier retry is useless.
RETRY_AFTER_SECONDS = 60.0
_INTERVAL_SECONDS = 10.0
# One check may see an old record just before an enricher finishes it.
_CONFIRM_SECONDS = 2.0
_PROBLEM = "the oldest unprocessed message is older than half the retention"


class RetentionWatch:
    """Checks every few seconds while `run` runs. If the age is not known, messages are accepted.

    Args:
        settings: Broker, topic, retention, the enrichers' group.
        interval_seconds: Time between checks.
        confirm_seconds: Time before the second check that confirms a refusal.

    Attributes:
        problem: Why messages are refused; None while they are accepted.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        interval_seconds: float = _INTERVAL_SECONDS,
        confirm_seconds: float = _CONFIRM_SECONDS,
    ) -> None:
        self._offsets = GroupOffsets(settings, settings.enricher_app_id, settings.ingestion_topic)
        self._half_retention_ms = settings.ingestion_retention_hours * 1_800_000
        self._interval_seconds = interval_seconds
        self._confirm_seconds = confirm_seconds
        self._unknown_because: str | None = None
        self.problem: str | None = None

    async def run(self) -> None:
        """Check until cancelled."""
        try:
            while True:
                too_old = await self._is_too_old()
                if too_old and self.problem is None:
                    await asyncio.sleep(self._confirm_seconds)
                    too_old = await self._is_too_old()
                self._note(_PROBLEM if too_old else None)
                await asyncio.sleep(self._interval_seconds)
        finally:
            await self._offsets.close()

    async def _is_too_old(self) -> bool:
        too_old = await self._offsets.has_older(time.time_ns() // 1_000_000 - self._half_retention_ms)
        because = self._offsets.problem
        if because != self._unknown_because and because is not None:
            _log.info("retention_unknown", problem=because)
        self._unknown_because = because
        return bool(too_old)

    def _note(self, problem: str | None) -> None:
        if problem is not None and self.problem is None:
            _log.error("retention_refusing", problem=problem)
        elif problem is None and self.problem is not None:
            _log.info("retention_accepting")
        self.problem = problem
