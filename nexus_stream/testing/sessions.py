"""The session table in memory, with its changelog on a `BrokerPort`."""

from __future__ import annotations

from collections.abc import Awaitable

from nexus_stream.delivery.ports import BrokerPort
from nexus_stream.delivery.received import Assignment, Received
from tables.sessions import SessionState, decode_state, encode_state

__all__ = ["InMemorySessionTable"]


class InMemorySessionTable:
    """`SessionTablePort` without Faust.

    Attributes:
        values: Encoded states by key, as the local store would hold them.
    """

    def __init__(self, broker: BrokerPort, assignment: Assignment, changelog: str = "sessions-changelog") -> None:
        self.values: dict[bytes, bytes] = {}
        self._broker = broker
        self._assignment = assignment
        self._changelog = changelog

    def get(self, record: Received, key: bytes) -> SessionState | None:
        """See `SessionTablePort.get`."""
        self._assignment.require(record)
        raw = self.values.get(key)
        return None if raw is None else decode_state(raw)

    async def put(self, record: Received, key: bytes, state: SessionState) -> Awaitable[None]:
        """See `SessionTablePort.put`."""
        self._assignment.require(record)
        value = encode_state(state)
        return self._finish(record, key, value, await self._broker.send(self._changelog, key, value))

    async def _finish(self, record: Received, key: bytes, value: bytes, acknowledged: Awaitable[object]) -> None:
        await acknowledged
        self._assignment.require(record)
        self.values[key] = value

    def state(self, key: bytes) -> SessionState:
        """The state of a session.

        Raises:
            KeyError: there is none.
        """
        return decode_state(self.values[key])
