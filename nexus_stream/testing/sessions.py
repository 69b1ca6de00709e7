"""The session table in memory, with its changelog on a `BrokerPort`."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

from nexus_stream.delivery.ports import BrokerPort
from nexus_stream.delivery.received import Assignment, Received
from tables.session_state import SessionState, decode_state, encode_state

__all__ = ["InMemorySessionTable"]


class InMemorySessionTable:
    """A `SessionTablePort` without Faust.

    Attributes:
        values: Encoded states by key, as in the local store.
        purged: Keys for which `purge` was called.
    """

    def __init__(self, broker: BrokerPort, assignment: Assignment, changelog: str = "sessions-changelog") -> None:
        self.values: dict[bytes, bytes] = {}
        self.purged: set[bytes] = set()
        self._broker = broker
        self._assignment = assignment
        self._changelog = changelog

    def get(self, record: Received, key: bytes) -> SessionState | None:
        """See `SessionTablePort.get`."""
        self._assignment.require(record)
        raw = self.values.get(key)
        return None if raw is None else decode_state(raw)

    async def put(self, record: Received, key: bytes, state: SessionState | None) -> Awaitable[object]:
        """See `SessionTablePort.put`."""
        self._assignment.require(record)
        value = None if state is None else encode_state(state)
        return self._finish(record, key, value, await self._broker.send(self._changelog, key, value))

    async def _finish(self, record: Received, key: bytes, value: bytes | None, acknowledged: Awaitable[object]) -> None:
        await acknowledged
        self._assignment.require(record)
        if value is None:
            self.values.pop(key, None)
        else:
            self.values[key] = value

    async def purge(self, record: Received, keys: Sequence[bytes]) -> None:
        """See `SessionTablePort.purge`. Only records the keys: memory keeps no old values."""
        self._assignment.require(record)
        self.purged.update(keys)

    def scan(self, partition: int, after: bytes | None, limit: int) -> list[tuple[bytes, SessionState]]:
        """See `SessionTablePort.scan`. Here every partition has all keys."""
        keys = sorted(key for key in self.values if after is None or key > after)
        return [(key, decode_state(self.values[key])) for key in keys[:limit]]

    def state(self, key: bytes) -> SessionState:
        """Return the state of a session.

        Raises:
            KeyError: the session has no state.
        """
        return decode_state(self.values[key])
