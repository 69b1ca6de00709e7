"""Find a person's session states in the changelog of the session table. The database may not have these sessions.

From: ``<app>-sessions-changelog``, from its beginning to its end, without a consumer group. Only matching states stay
in memory.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from nexus_stream.errors import BrokerUnavailableError
from nexus_stream.kafka.clients import client_options, stop_consumer
from nexus_stream.privacy.people import Person
from nexus_stream.privacy.selector import Selector
from nexus_stream.settings import Settings

__all__ = ["States", "extend", "follow_states", "matches", "read_states"]

State = dict[str, Any]
_POLL_MS = 500


async def read_states(settings: Settings, wanted: Callable[[State], bool]) -> dict[bytes, State]:
    """Return the newest state of every session that ``wanted`` accepts.

    Raises:
        BrokerUnavailableError: the broker does not answer.
    """
    async with follow_states(settings, wanted) as states:
        return await states.newest()


@asynccontextmanager
async def follow_states(settings: Settings, wanted: Callable[[State], bool]) -> AsyncIterator[States]:
    """Like `read_states`, for repeated reads: each read continues where the last one ended."""
    topic = settings.sessions_changelog_topic
    consumer = AIOKafkaConsumer(
        **client_options(settings), group_id=None, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    partitions = [TopicPartition(topic, number) for number in range(settings.topic_partitions)]
    try:
        with _unavailable(topic):
            await consumer.start()
            consumer.assign(partitions)
            await consumer.seek_to_beginning()
        yield States(consumer, partitions, wanted)
    finally:
        await stop_consumer(consumer)


class States:
    """The newest states read so far. Use `follow_states` to make one.

    Attributes:
        records_read: Total number of records read.
    """

    def __init__(
        self, consumer: AIOKafkaConsumer, partitions: list[TopicPartition], wanted: Callable[[State], bool]
    ) -> None:
        self._consumer = consumer
        self._partitions = partitions
        self._wanted = wanted
        self._found: dict[bytes, State] = {}
        self.records_read = 0

    async def newest(self) -> dict[bytes, State]:
        """Read to the present end of the changelog. Under load, new records never stop, so later ones are not read.

        Raises:
            BrokerUnavailableError: the broker does not answer.
        """
        with _unavailable(self._partitions[0].topic):
            ends = await self._consumer.end_offsets(self._partitions)
            while not all([await self._consumer.position(tp) >= end for tp, end in ends.items()]):
                batches = await self._consumer.getmany(timeout_ms=_POLL_MS, max_records=1000)
                for records in batches.values():
                    self.records_read += len(records)
                    for record in records:
                        _take(self._found, record.key or b"", record.value, self._wanted)
        return dict(self._found)


@contextmanager
def _unavailable(topic: str) -> Iterator[None]:
    try:
        yield
    except (KafkaError, OSError, TimeoutError) as error:
        raise BrokerUnavailableError(f"{topic} cannot be read: {type(error).__name__}") from error


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
    prospect = state.get("prospect") or {}
    if selector.kind == "email":
        return str(prospect.get("email") or "").strip().lower() == selector.value
    return selector.kind == "phone" and selector.is_number(str(prospect.get("telefono") or ""))


def extend(person: Person, states: Iterable[State]) -> bool:
    """Add the sessions and their fingerprints to the person. Return whether any of them is new."""
    size = person.size
    for state in states:
        person.session_ids.add(state["session_id"])
        person.fingerprints.update(state.get("fingerprints") or ())
    return person.size != size
