"""The records of the dead-letter topic: letters that the workers wrote, marks that operators left.

From: ``nexus-prospect-dlq``. To: marks.py, filters.py, printing.py; `mark_headers` goes back to the topic.

A mark stands in its letter's partition, after it, so it is never removed before its letter. It has the header
``nexus-marker`` and no ``nexus-reason``. Every letter has a reason, and headers that came with a record are kept on its
letter: so a sender cannot make a letter look like a mark.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from nexus_stream.common.moments import iso_moment
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

__all__ = ["Action", "Letter", "Mark", "mark_headers", "read_record"]

_MAX_NAME_CHARS = 100
# Beyond this a header is no count or time of ours; int() of long digits is slow, too.
_MAX_DIGITS = 15


class Action(StrEnum):
    """What an operator did with a letter: the value of ``nexus-marker``."""

    REDRIVEN = "redriven"
    DISCARDED = "discarded"


@dataclass(frozen=True, slots=True, repr=False)
class Letter:
    """One dead letter, with where it lies.

    Attributes:
        id: ``nexus-id``, topic-partition-offset of the record that failed.
        digest: Of key and value. Ids repeat when a topic is deleted and made again; id and digest together do not.
        partition: Of the dead-letter topic.
        offset: In that partition.
        headers: All of them: those the record had, then the failure's.
        redrives_before: How often what failed here had been redriven already, under earlier letter ids.
        origin_timestamp_ms: Kafka's time of the record that failed, or of the failure where that was not noted.
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
        """What all copies of the letter share."""
        return _identity(self.id, self.digest)

    @property
    def size_bytes(self) -> int:
        """Of key and value."""
        return len(self.key or b"") + len(self.value or b"")

    def __repr__(self) -> str:
        # Never the key or value: they are a person's.
        return f"<letter {self.id}>"


@dataclass(frozen=True, slots=True)
class Mark:
    """What an operator did with the letter of that identity."""

    identity: bytes
    action: Action
    by: str
    at: datetime


def read_record(
    partition: int, offset: int, timestamp_ms: int, key: bytes | None, value: bytes | None, headers: Headers
) -> Letter | Mark | None:
    """What a record of the dead-letter topic is; None when it is neither a letter nor a mark."""
    # As Kafka reads repeated headers: the last counts, and ours were appended last.
    named = {name: raw.decode("utf-8", "replace") for name, raw in headers}
    written_at = datetime.fromtimestamp(max(0, timestamp_ms) / 1000, UTC)
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
    """The headers of a mark; `read_record` reads them.

    Args:
        letter: What was acted on.
        action: What was done.
        by: Who did it.
        at: When.
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
    # 16 bytes a letter is all that a reader keeps of it in memory.
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
