"""A person in the session table, read from its changelog: what the database does not know (yet, or any more).

From: ``<app>-sessions-changelog``, from its beginning to its end, without a group. To: erasing.py and the export. Only
what matches is kept in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from nexus_stream.errors import BrokerUnavailableError
from nexus_stream.kafka import client_options, stop_consumer
from nexus_stream.privacy.people import Person
from nexus_stream.privacy.selector import Selector
from nexus_stream.settings import Settings

__all__ = ["extend", "matches", "read_states"]

State = dict[str, Any]
_POLL_MS = 500


async def read_states(settings: Settings, wanted: Callable[[State], bool]) -> dict[bytes, State]:
    """The newest state of every session for which ``wanted`` holds.

    Raises:
        BrokerUnavailableError: the broker does not answer.
    """
    topic = settings.sessions_changelog_topic
    consumer = AIOKafkaConsumer(
        **client_options(settings), group_id=None, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    found: dict[bytes, State] = {}
    try:
        await consumer.start()
        partitions = [TopicPartition(topic, number) for number in range(settings.topic_partitions)]
        consumer.assign(partitions)
        await consumer.seek_to_beginning()
        ends = await consumer.end_offsets(partitions)
        while True:
            batches = await consumer.getmany(timeout_ms=_POLL_MS, max_records=1000)
            for records in batches.values():
                for record in records:
                    _take(found, record.key or b"", record.value, wanted)
            # Up to where it ended at the start: under load it is never quiet.
            if all([await consumer.position(tp) >= end for tp, end in ends.items()]):
                return found
    except (KafkaError, OSError, TimeoutError) as error:
        raise BrokerUnavailableError(f"{topic} cannot be read: {type(error).__name__}") from error
    finally:
        await stop_consumer(consumer)


def _take(found: dict[bytes, State], key: bytes, value: bytes | None, wanted: Callable[[State], bool]) -> None:
    try:
        state = orjson.loads(value) if value else None
    except orjson.JSONDecodeError:
        state = None
    if isinstance(state, dict) and wanted(state):
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
        return str(prospect.get("email") or "").lower() == selector.value
    return selector.kind == "phone" and prospect.get("telefono") == selector.value


def extend(person: Person, states: Iterable[State]) -> bool:
    """Add the sessions, and their fingerprints; whether there was anything new."""
    size = person.size
    for state in states:
        person.session_ids.add(state["session_id"])
        person.fingerprints.update(state.get("fingerprints") or ())
    return person.size != size
