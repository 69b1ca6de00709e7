"""Headers of a dead letter: the record as received, plus the reason, the time and the origin.

From: the enricher and the sink. To: ``nexus-prospect-dlq`` (key and value as received). The id is
topic-partition-offset, so a letter that is sent twice after a crash keeps one id.
"""

from __future__ import annotations

from nexus_stream.contracts.headers import (
    ANSWER_HEADER,
    ATTEMPTS_HEADER,
    ERROR_CLASS_HEADER,
    ERROR_HEADER,
    FAILED_AT_HEADER,
    LETTER_ID_HEADER,
    ORIGIN_OFFSET_HEADER,
    ORIGIN_PARTITION_HEADER,
    ORIGIN_TIMESTAMP_HEADER,
    ORIGIN_TOPIC_HEADER,
    REASON_HEADER,
    Headers,
)
from nexus_stream.delivery.received import Received
from nexus_stream.errors import PermanentError, Reason

__all__ = [
    "letter_headers",
    "letter_id",
]


_MAX_ERROR_CHARS = 500
# Of a time in Unix milliseconds.
_MAX_DIGITS = 13


def letter_id(record: Received) -> str:
    """The id of a record's dead letter: the same each time."""
    return f"{record.topic}-{record.partition}-{record.offset}"


def letter_headers(record: Received, error: PermanentError | Reason, *, attempts: int, failed_at: str) -> Headers:
    """The headers of a dead letter: the record's headers, then the headers about the failure.

    Args:
        record: The record that failed.
        error: The reason; its message holds no personal data.
        attempts: Number of attempts.
        failed_at: ISO 8601, UTC.
    """
    if isinstance(error, Reason):
        reason, error_class, message = error, "", ""
    else:
        reason, error_class, message = error.reason, type(error).__name__, str(error)
    about_failure = {
        LETTER_ID_HEADER: letter_id(record),
        REASON_HEADER: reason.value,
        ERROR_CLASS_HEADER: error_class,
        ERROR_HEADER: message[:_MAX_ERROR_CHARS],
        ATTEMPTS_HEADER: str(attempts),
        ORIGIN_TOPIC_HEADER: record.topic,
        ORIGIN_PARTITION_HEADER: str(record.partition),
        ORIGIN_OFFSET_HEADER: str(record.offset),
        ORIGIN_TIMESTAMP_HEADER: str(_first_received_ms(record)),
        FAILED_AT_HEADER: failed_at,
    }
    # Drop an extracted answer: it holds personal data, and the console shows headers. A redrive calls the model again.
    kept = tuple(header for header in record.headers if header[0] not in about_failure and header[0] != ANSWER_HEADER)
    return kept + tuple((name, value.encode()) for name, value in about_failure.items())


def _first_received_ms(record: Received) -> int:
    """When the record was first received. A forged header can only make that earlier."""
    claimed = record.header(ORIGIN_TIMESTAMP_HEADER) or b""
    received_ms = max(0, record.timestamp_ms)
    return min(received_ms, int(claimed)) if claimed.isdigit() and len(claimed) <= _MAX_DIGITS else received_ms
