"""The records of the dead-letter topic: letters from the workers and marks from operators.

From and to: ``nexus-prospect-dlq``.

A mark is in the partition of its letter and comes after it. So retention never removes a mark before its letter. A mark
has the header ``nexus-marker`` and no ``nexus-reason``. Every letter has a ``nexus-reason``. A letter also keeps the
headers of its record. So a sender cannot make a letter look like a mark.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from nexus_stream.contracts.headers import (
    ATTEMPTS_HEADER,
    DIGEST_HEADER,
    ERROR_CLASS_HEADER,
    ERROR_HEADER,
    FAILED_AT_HEADER,
    LETTER_ID_HEADER,
    MARKED_AT_HEADER,
    MARKED_BY_HEADER,
    MARKER_HEADER,
    ORIGIN_TIMESTAMP_HEADER,
    ORIGIN_TOPIC_HEADER,
    REASON_HEADER,
    REDRIVE_HEADER,
    Headers,
)
from nexus_stream.contracts.moments import iso_moment

__all__ = ["Action", "Letter", "Mark", "mark_headers", "read_record"]

_MAX_NAME_CHARS = 100
# Longer numbers are not counts from nexus-stream. int() of many digits is also slow.
_MAX_DIGITS = 15


class Action(StrEnum):
    """An operator's action on a letter: the value of ``nexus-marker``."""

    REDRIVEN = "redriven"
    DISCARDED = "discarded"


@dataclass(frozen=True, slots=True, repr=False)
class Letter:
    """One dead letter and its position in the topic.

    Attributes:
        id: ``nexus-id``: topic-partition-offset of the failed record.
        digest: Hash of key and value. Ids repeat if a topic is deleted and made again. Id and digest together do not.
        partition: The partition in the dead-letter topic.
        offset: The offset in that partition.
        headers: All headers: first the original record's, then the failure's.
        redrives_before: How often this content was already redriven under earlier letter ids.
        origin_timestamp_ms: Kafka's time of the failed record; if that is not recorded, the time of the failure.
    """

    id: str
    digest: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    reason: str
    error_class: str
    error: str
    attempts: int
    redrives_before: int
    origin_topic: str
    origin_timestamp_ms: int
    failed_at: datetime

    @property
    def identity(self) -> bytes:
        """The identity that all copies of the letter share."""
        return _identity(self.id, self.digest)

    @property
    def size_bytes(self) -> int:
        """The size of key and value."""
        return len(self.key or b"") + len(self.value or b"")

    def __repr__(self) -> str:
        # Key and value are personal data.
        return f"<letter {self.id}>"


@dataclass(frozen=True, slots=True)
class Mark:
    """An operator's action on the letter with this identity."""

    identity: bytes
    action: Action
    by: str
    at: datetime


def read_record(
    partition: int, offset: int, timestamp_ms: int, key: bytes | None, value: bytes | None, headers: Headers
) -> Letter | Mark | None:
    """Parse a record of the dead-letter topic. Return None if it is neither a letter nor a mark."""
    # The last of repeated headers counts. The worker appended its headers last.
    named = {name: raw.decode("utf-8", "replace") for name, raw in headers}
    written_at = datetime.fromtimestamp(timestamp_ms / 1000, UTC)
    letter_id = named.get(LETTER_ID_HEADER, "")
    if not letter_id:
        return None
    if REASON_HEADER not in named:
        try:
            action = Action(named.get(MARKER_HEADER, ""))
        except ValueError:
            return None
        return Mark(
            identity=_identity(letter_id, named.get(DIGEST_HEADER, "")),
            action=action,
            by=named.get(MARKED_BY_HEADER, "")[:_MAX_NAME_CHARS],
            at=_moment(named.get(MARKED_AT_HEADER, ""), written_at),
        )
    failed_at = _moment(named.get(FAILED_AT_HEADER, ""), written_at)
    return Letter(
        id=letter_id,
        digest=_digest(key, value),
        partition=partition,
        offset=offset,
        key=key,
        value=value,
        headers=headers,
        reason=named[REASON_HEADER],
        error_class=named.get(ERROR_CLASS_HEADER, ""),
        error=named.get(ERROR_HEADER, ""),
        attempts=_count(named.get(ATTEMPTS_HEADER, "")),
        redrives_before=_count(named.get(REDRIVE_HEADER, "")),
        origin_topic=named.get(ORIGIN_TOPIC_HEADER, ""),
        origin_timestamp_ms=_count(named.get(ORIGIN_TIMESTAMP_HEADER, "")) or round(failed_at.timestamp() * 1000),
        failed_at=failed_at,
    )


def mark_headers(letter: Letter, action: Action, *, by: str, at: datetime) -> Headers:
    """Return the headers of a mark. `read_record` parses them.

    Args:
        letter: The letter.
        action: The operator's action.
        by: The operator's name.
        at: The time of the action.
    """
    ours = {
        MARKER_HEADER: action.value,
        LETTER_ID_HEADER: letter.id,
        DIGEST_HEADER: letter.digest,
        MARKED_BY_HEADER: by[:_MAX_NAME_CHARS],
        MARKED_AT_HEADER: at.astimezone(UTC).isoformat(timespec="milliseconds"),
    }
    return tuple((name, value.encode()) for name, value in ours.items())


def _identity(letter_id: str, digest: str) -> bytes:
    # A reader keeps only these 16 bytes per letter in memory.
    return hashlib.blake2b(f"{letter_id}\x00{digest}".encode(), digest_size=16).digest()


def _digest(key: bytes | None, value: bytes | None) -> str:
    hasher = hashlib.blake2b(digest_size=16)
    for part in (key, value):
        hasher.update(b"\x00" if part is None else b"\x01" + len(part).to_bytes(8, "big") + part)
    return hasher.hexdigest()


def _count(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS else 0


def _moment(text: str, otherwise: datetime) -> datetime:
    try:
        return iso_moment(text)
    except ValueError:
        return otherwise
