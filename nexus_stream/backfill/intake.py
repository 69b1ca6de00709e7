"""Load a backfill's input: the newest snapshot of each session, in the form in which it will be sent.

From: lines of a file, or records of the ingestion topic (topic.py). To: store.py. As in the enricher, content decides
first which of two snapshots is newer, and clocks decide second.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson

from nexus_stream.backfill.records import Item, origin_headers
from nexus_stream.backfill.store import RunStore
from nexus_stream.contracts.conversation import decode, digest, mended
from nexus_stream.contracts.headers import Headers
from nexus_stream.contracts.limits import Limits, enricher_limits
from nexus_stream.delivery.ordering import Relation, relate
from nexus_stream.delivery.received import Received
from nexus_stream.delivery.settling import Snapshot
from nexus_stream.errors import DecodeError, Reason
from nexus_stream.settings import Settings

__all__ = ["Intake", "enricher_limits", "snapshot_of", "take_lines"]

_HOUR_MS = 3_600_000
_SHOWN_PROBLEMS = 5


def snapshot_of(topic: str, item: Item, limits: Limits, headers: Headers = ()) -> Snapshot:
    """Build the snapshot as the enricher will see it, except its position on the topic."""
    # No partition has this offset, so the table cannot take it for a record that it knows.
    headers = (*origin_headers(item.timestamp_ms), *headers)
    record = Received(topic, -1, -1, item.timestamp_ms, item.session, item.value, headers, epoch=0)
    return Snapshot.of(record, decode(item.value, limits))


@dataclass(slots=True)
class Intake:
    """Loads snapshots into the store.

    Args:
        store: Receives the snapshots.
        settings: Topic and limits.
        now_ms: Unix milliseconds.

    Attributes:
        taken: Number of valid snapshots.
        problems: The first invalid snapshots, with their reasons and without their text.
        refused: Number of invalid snapshots, by reason.
    """

    store: RunStore
    settings: Settings
    now_ms: int
    taken: int = 0
    problems: list[str] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)

    def take(self, place: str, value: bytes | None, said_at_ms: int, headers: Headers = ()) -> None:
        """Store one snapshot, unless there is a newer one of its session.

        Args:
            place: Its position in the input, for the report.
            value: The body.
            said_at_ms: The time of the snapshot, if the body has no ``enqueuedAt``.
            headers: The headers of its record.
        """
        limits = enricher_limits(self.settings)
        # Mended first, because the parser below is strict.
        value = mended(value or b"")
        try:
            conversation = decode(value, limits)
            if conversation.enqueued_at_ms is None:
                value = _with_enqueued_at(value, _iso(said_at_ms))
                conversation = decode(value, limits)
        except DecodeError as error:
            self.refused[error.reason.value] += 1
            if len(self.problems) < _SHOWN_PROBLEMS:
                self.problems.append(f"{place}: {error.reason.value} ({error})")
            return
        self.taken += 1
        known = self.store.find(conversation.key)
        timestamp_ms = self._timestamp_ms(conversation.enqueued_at_ms or said_at_ms)
        if known is not None:
            topic, headers_of_both = self.settings.ingestion_topic, origin_headers(timestamp_ms)
            record = Received(topic, -1, self.taken, timestamp_ms, conversation.key, value, headers_of_both, epoch=0)
            new, old = Snapshot.of(record, conversation), snapshot_of(topic, known, limits)
            relation = relate(new, old)
            if relation is Relation.PRECEDES:
                # Older words that the newer snapshot's site had cut off.
                whole = _with_earlier(known.value, old.behind(new, max_turns=None))
                fingerprint = known.fingerprint or conversation.fingerprint
                self._put(known.session, whole, known.headers, known.timestamp_ms, fingerprint)
                return
            if relation not in {Relation.EXTENDS, Relation.RETOLD, Relation.LATER}:
                if known.fingerprint is None and conversation.fingerprint is not None:
                    self._put(known.session, known.value, known.headers, known.timestamp_ms, conversation.fingerprint)
                return
            value = _with_earlier(value, new.behind(old, max_turns=None))
        inherited = known.fingerprint if known is not None else None
        kept = tuple(header for header in headers if not header[0].startswith("nexus-"))
        self._put(conversation.key, value, kept, timestamp_ms, conversation.fingerprint or inherited)

    def answered(self, value: bytes | None, label: str) -> None:
        """Note an answer of an earlier run of ``--again`` that waits on the topic, so that it is not paid again."""
        try:
            conversation = decode(mended(value or b""), enricher_limits(self.settings))
        except DecodeError:
            return
        self.store.put_on_the_way(digest(conversation), label)

    def erase(self, session: bytes) -> None:
        """Drop a session that was erased after its snapshots."""
        self.store.drop(session)

    def _put(self, session: bytes, value: bytes, headers: Headers, timestamp_ms: int, fingerprint: str | None) -> None:
        conversation = decode(value, enricher_limits(self.settings))
        if fingerprint is not None and conversation.fingerprint is None:
            # Only an earlier snapshot has the fingerprint, and only the newest one is sent: copy it.
            body = orjson.loads(value)
            value = orjson.dumps({**body, "fingerprint": fingerprint})
        self.store.put_snapshot(session, value, headers, timestamp_ms, fingerprint)

    def _timestamp_ms(self, said_at_ms: int) -> int:
        """The record's timestamp: the snapshot's time, but recent enough that the topic's retention keeps it."""
        oldest_ms = self.now_ms - self.settings.ingestion_retention_hours * _HOUR_MS // 3
        return min(self.now_ms, max(oldest_ms, said_at_ms))


def _with_earlier(value: bytes, whole: Snapshot | None) -> bytes:
    """The body, with the turns that its site cut off: only the newest snapshot of a session is read."""
    if whole is None or not whole.earlier:
        return value
    turns = [{"role": message.role, "content": message.content} for message in whole.messages]
    return orjson.dumps({**orjson.loads(value), "messages": turns})


def take_lines(intake: Intake, lines: Iterable[bytes], said_at_ms: int) -> None:
    """Load a JSON-lines file: one body of a POST a line."""
    for number, line in enumerate(lines, start=1):
        text = line.strip().removeprefix(b"\xef\xbb\xbf")
        if text:
            intake.take(f"line {number}", text, said_at_ms)


def _with_enqueued_at(value: bytes, moment: str) -> bytes:
    try:
        body: dict[str, Any] = orjson.loads(value)
    except orjson.JSONDecodeError:
        # For example NaN, which the records' own parser accepts.
        raise DecodeError("the value is not JSON", reason=Reason.NOT_JSON) from None
    metadata = body.get("metadata")
    # The records' own reader ignores metadata that is no object.
    return orjson.dumps(
        {**body, "metadata": {**(metadata if isinstance(metadata, dict) else {}), "enqueuedAt": moment}}
    )


def _iso(unix_ms: int) -> str:
    return datetime.fromtimestamp(unix_ms / 1000, UTC).isoformat(timespec="milliseconds")
