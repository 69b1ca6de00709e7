"""Dead letters: a record set aside as it was received, with why, when and from where in its headers.

From: the enricher and the sink. To: ``nexus-prospect-dlq`` (key and value as received). The id is
topic-partition-offset, so a letter sent twice after a crash is recognisably one.
"""

from __future__ import annotations

from nexus_stream.delivery.received import Headers, Received
from nexus_stream.errors import PermanentError, Reason
from nexus_stream.extraction.answered import ANSWER_HEADER

__all__ = [
    "HOP_HEADER",
    "ORIGIN_TIMESTAMP_HEADER",
    "REDRIVE_HEADER",
    "REDRIVE_ID_HEADER",
    "letter_headers",
    "letter_id",
]

# Set on a record that was sent on to its session's partition.
HOP_HEADER = "nexus-hop"
# Set on a dead letter that was sent back: it is extracted again although its digest is known.
REDRIVE_HEADER = "nexus-redrive"
# The id of that dead letter.
REDRIVE_ID_HEADER = "nexus-redrive-id"
# Kafka's time of the record, which orders a snapshot that says no time itself: a redrive restores it.
ORIGIN_TIMESTAMP_HEADER = "nexus-origin-timestamp"

_MAX_ERROR_CHARS = 500


def letter_id(record: Received) -> str:
    """The same for every letter of one record."""
    return f"{record.topic}-{record.partition}-{record.offset}"


def letter_headers(record: Received, error: PermanentError | Reason, *, attempts: int, failed_at: str) -> Headers:
    """The headers of a dead letter: those of the record, then ours.

    Args:
        record: What is set aside.
        error: Why; its message holds no personal data.
        attempts: How often the step was tried.
        failed_at: ISO 8601, UTC.
    """
    if isinstance(error, Reason):
        reason, error_class, message = error, "", ""
    else:
        reason, error_class, message = error.reason, type(error).__name__, str(error)
    ours = {
        "nexus-id": letter_id(record),
        "nexus-reason": reason.value,
        "nexus-error-class": error_class,
        "nexus-error": message[:_MAX_ERROR_CHARS],
        "nexus-attempts": str(attempts),
        "nexus-origin-topic": record.topic,
        "nexus-origin-partition": str(record.partition),
        "nexus-origin-offset": str(record.offset),
        ORIGIN_TIMESTAMP_HEADER: str(max(0, record.timestamp_ms)),
        "nexus-failed-at": failed_at,
    }
    # An answer that came along is a person's data, and headers are shown; a redrive asks anew anyway.
    kept = tuple(header for header in record.headers if header[0] not in ours and header[0] != ANSWER_HEADER)
    return kept + tuple((name, value.encode()) for name, value in ours.items())
