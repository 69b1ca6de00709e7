"""A person in the session table, read from its changelog: what the database does not know (yet, or any more).

Only the states that match are kept in memory.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from nexus_stream.common.json_reading import json_object
from nexus_stream.kafka.reading import TopicLog
from nexus_stream.privacy.people import Person
from nexus_stream.privacy.selector import Selector
from nexus_stream.settings import Settings

__all__ = ["States", "extend", "follow_states", "matches", "read_states"]

State = dict[str, Any]


async def read_states(settings: Settings, wanted: Callable[[State], bool]) -> dict[bytes, State]:
    """The newest state of every session for which ``wanted`` holds.

    Raises:
        BrokerUnavailableError: the broker does not answer.
    """
    async with follow_states(settings, wanted) as states:
        return await states.newest()


@asynccontextmanager
async def follow_states(settings: Settings, wanted: Callable[[State], bool]) -> AsyncIterator[States]:
    """The same, for a caller that asks again and again: no record is read twice.

    Raises:
        BrokerUnavailableError: the broker does not answer.
    """
    async with TopicLog(settings, settings.sessions_changelog_topic) as log:
        yield States(log, wanted)


class States:
    """The newest states, as far as they were read. Made by `follow_states`.

    Attributes:
        records_read: In all.
    """

    def __init__(self, log: TopicLog, wanted: Callable[[State], bool]) -> None:
        self._log = log
        self._wanted = wanted
        self._found: dict[bytes, State] = {}
        self.records_read = 0

    async def newest(self) -> dict[bytes, State]:
        """Read on, up to where the changelog ends now.

        Raises:
            BrokerUnavailableError: the broker does not answer.
        """
        async for record in self._log.read():
            self.records_read += 1
            _take(self._found, record.key or b"", record.value, self._wanted)
        return dict(self._found)


def _take(found: dict[bytes, State], key: bytes, value: bytes | None, wanted: Callable[[State], bool]) -> None:
    state = json_object(value)
    if state and wanted(state):
        found[key] = state
    else:
        found.pop(key, None)


def matches(state: State, selector: Selector, person: Person) -> bool:
    """Whether a session is the person's; one that was erased is known by its hashes only."""
    if state.get("tenant_id", "") != person.tenant_id:
        return False
    if state.get("session_id") in person.session_ids:
        return True
    if not person.fingerprints.isdisjoint(state.get("fingerprints") or ()):
        return True
    hashes = (state.get("erasure") or {}).get("fingerprint_hashes") or ()
    if hashes and not set(person.fingerprint_hashes()).isdisjoint(hashes):
        return True
    prospect = state.get("prospect") or {}
    if selector.kind == "email":
        return str(prospect.get("email") or "").strip().lower() == selector.value
    return selector.kind == "phone" and selector.is_number(str(prospect.get("telefono") or ""))


def extend(person: Person, states: Iterable[State]) -> bool:
    """Add the sessions, and their fingerprints; whether there was anything new."""
    size = person.size
    for state in states:
        person.session_ids.add(state["session_id"])
        person.fingerprints.update(state.get("fingerprints") or ())
    return person.size != size
