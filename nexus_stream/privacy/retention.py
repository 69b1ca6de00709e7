"""Expire sessions that were idle for ``NEXUS_RETENTION_DAYS``.

From: the session table of the assigned partitions, read in slices. To: one expire command per idle session on
``nexus-prospect-ingestion``. The enricher checks the session again when it reads the command. So a session with a new
message stays.

A timer scans the table, because Faust's windowed tables do not expire entries recovered from the changelog.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

from nexus_stream.contracts.session_command import CommandKind, SessionCommand, derived_request_id
from nexus_stream.delivery.clock import Clock
from nexus_stream.delivery.ports import BrokerPort
from nexus_stream.delivery.received import Assignment
from nexus_stream.errors import RetryableError
from nexus_stream.host.log import get_logger
from tables.session_state import SessionState
from tables.sessions import SessionTablePort

__all__ = ["RetentionSweep"]

_log = get_logger(__name__)

_SWEEP_SECONDS = 3600.0
_DAY_MS = 86_400_000
# States to read and decode between two turns of the event loop. A slice takes a few milliseconds.
_SLICE = 200


class RetentionSweep:
    """Sweep once an hour.

    Args:
        table: The session table.
        assignment: The assigned partitions.
        broker: The broker for the commands.
        clock: The clock.
        topic: The ingestion topic.
        retention_days: How long a session may be idle.
    """

    def __init__(
        self,
        *,
        table: SessionTablePort,
        assignment: Assignment,
        broker: BrokerPort,
        clock: Clock,
        topic: str,
        retention_days: float,
    ) -> None:
        self._table = table
        self._assignment = assignment
        self._broker = broker
        self._clock = clock
        self._topic = topic
        self._retention_days = retention_days

    async def run(self) -> None:
        """Sweep until cancelled. The first sweep waits an hour, so that it does not slow down the start."""
        while True:
            await self._clock.sleep(_SWEEP_SECONDS)
            try:
                expired = await self.sweep()
            except RetryableError as error:
                _log.warning("retention sweep interrupted, the next sweep continues", error=str(error))
            else:
                _log.info("retention sweep done", sessions=expired)

    async def sweep(self) -> int:
        """Send a command for each idle session. Return the number of sessions."""
        idle_since_ms = self._clock.time_ms() - round(self._retention_days * _DAY_MS)
        sent: set[bytes] = set()
        for topic, partition in sorted(self._assignment.partitions):
            if topic != self._topic:
                continue
            epoch, after = self._assignment.epoch, None
            while self._assignment.epoch == epoch:
                states = self._table.scan(partition, after, _SLICE)
                acknowledgements: list[Any] = []
                for key, state in states:
                    # Keep the state of an erased session: this state suppresses the session.
                    if state.last_seen_ms > idle_since_ms or state.status == "erased" or key in sent:
                        continue
                    command = expire(state, idle_since_ms)
                    acknowledgements.append(
                        await self._broker.send(self._topic, command.key, command.value, headers=command.headers)
                    )
                    sent.add(key)
                await asyncio.gather(*acknowledgements)
                if len(states) < _SLICE:
                    break
                after = states[-1][0]
                await asyncio.sleep(0)
        return len(sent)


def expire(state: SessionState, idle_since_ms: int) -> SessionCommand:
    """Make the command that expires a session, unless the session has a message after ``idle_since_ms``."""
    return SessionCommand(
        command=CommandKind.EXPIRE,
        tenant_id=state.tenant_id,
        session_id=state.session_id,
        request_id=derived_request_id("expire", state.tenant_id, state.session_id, state.last_seen_ms, idle_since_ms),
        requested_by_hash="retention",
        requested_at=datetime.now(UTC),
        idle_since_ms=idle_since_ms,
        through_ms=max(idle_since_ms, state.snapshot_at_ms),
    )
