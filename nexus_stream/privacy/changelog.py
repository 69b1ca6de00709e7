"""Find a person's session states in the changelog of the session table. The database may not have these sessions.

Only matching states stay in memory.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from nexus_stream.contracts.json_reading import json_object
from nexus_stream.kafka.changelog import require_readable_change
from nexus_stream.kafka.reading import TopicLog
from nexus_stream.privacy.people import Person
from nexus_stream.privacy.selector import Selector
from nexus_stream.settings import Settings

__all__ = ["States", "extend", "follow_states", "matches", "read_states"]

StoredState = dict[str, Any]


async def read_states(settings: Settings, wanted: Callable[[StoredState], bool]) -> dict[bytes, StoredState]:
    """Return the newest state of every session that ``wanted`` accepts.

    Raises:
        BrokerUnavailableError: the broker does not answer.
    """
    async with follow_states(settings, wanted) as states:
        return await states.newest()


@asynccontextmanager
async def follow_states(settings: Settings, wanted: Callable[[StoredState], bool]) -> AsyncIterator[States]:
    """Like `read_states`, for repeated reads: each read continues where the last one ended.

    Raises:
        BrokerUnavailableError: the broker does not answer.
    """
    async with TopicLog(settings, settings.sessions_changelog_topic) as log:
        yield States(log, wanted)


class States:
    """The newest states read so far. Use `follow_states` to make one.

    Attributes:
        records_read: Total number of records read.
    """

    def __init__(self, log: TopicLog, wanted: Callable[[StoredState], bool]) -> None:
        self._log = log
        self._wanted = wanted
        self._found: dict[bytes, StoredState] = {}
        self.records_read = 0

    async def newest(self) -> dict[bytes, StoredState]:
        """Read to the present end of the changelog. Later records are not read.

        Raises:
            BrokerUnavailableError: the broker does not answer.
            ConfigurationError: a record cannot be read. The message names it.
        """
        async for record in self._log.read():
            self.records_read += 1
            require_readable_change(record.topic, record.partition, record.offset, record.value)
            _take(self._found, record.key or b"", record.value, self._wanted)
        return dict(self._found)


def _take(
    found: dict[bytes, StoredState], key: bytes, value: bytes | None, wanted: Callable[[StoredState], bool]
) -> None:
    state = json_object(value)
    if state and wanted(state):
        found[key] = state
    else:
        found.pop(key, None)


def matches(state: StoredState, selector: Selector, person: Person) -> bool:
    """Whether a session belongs to the person. An erased session has only hashes."""
    if state.get("tenant_id", "") != person.tenant_id:
        return False
    if state.get("session_id") in person.session_ids:
        return True
    if not person.fingerprints.isdisjoint(state.get("fingerprints") or ()):
        return True
    hashes = (state.get("erasure") or {}).get("fingerprint_hashes") or ()
    if hashes and not set(person.fingerprint_hashes()).isdisjoint(hashes):
        return True
    # The record without what the offline rules read may still hold an earlier value.
    prospects = (state.get("prospect") or {}, (state.get("base") or {}).get("prospect") or {})
    if selector.kind == "email":
        return any(str(one.get("email") or "").strip().lower() == selector.value for one in prospects)
    return selector.kind == "phone" and any(selector.is_number(str(one.get("telefono") or "")) for one in prospects)


def extend(person: Person, states: Iterable[StoredState]) -> bool:
    """Add the sessions and their fingerprints to the person. Return whether any of them is new."""
    size = person.size
    for state in states:
        person.session_ids.add(state["session_id"])
        person.fingerprints.update(state.get("fingerprints") or ())
    return person.size != size
