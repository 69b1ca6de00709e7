"""Record headers: their names, their meaning, and one model per topic.

The AsyncAPI document and the header schemas are made from the models. On the wire a header is a name and bytes. Every
value here is UTF-8 text, and a missing optional header reads as "".
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from nexus_stream.errors import Reason

__all__ = ["DeadLetterHeaders", "EnrichedHeaders", "ErasedHeaders", "Headers", "IngestionHeaders", "event_headers"]

# As a record carries them.
Headers = tuple[tuple[str, bytes], ...]

# Requests and records

CORRELATION_ID_HEADER: Final = "correlation-id"
PRODUCER_VERSION_HEADER: Final = "producer-version"
# W3C Trace Context.
TRACEPARENT_HEADER: Final = "traceparent"

# Ingestion

# Set on a record that was rerouted to its session's partition.
HOP_HEADER: Final = "nexus-hop"
# Set on a dead letter that was sent back: the enricher extracts it again although its digest is known.
REDRIVE_HEADER: Final = "nexus-redrive"
# The id of that dead letter.
REDRIVE_ID_HEADER: Final = "nexus-redrive-id"
ANSWER_HEADER: Final = "nexus-answer"
# The labels of an answer that replaces the reading of another model or prompt.
AGAIN_HEADER: Final = "nexus-again"
# The labels of that reading. The answer replaces no other one.
AGAIN_OF_HEADER: Final = "nexus-again-of"
COMMAND_HEADER: Final = "nexus-command"

# Dead letters

LETTER_ID_HEADER: Final = "nexus-id"
REASON_HEADER: Final = "nexus-reason"
ERROR_CLASS_HEADER: Final = "nexus-error-class"
ERROR_HEADER: Final = "nexus-error"
ATTEMPTS_HEADER: Final = "nexus-attempts"
ORIGIN_TOPIC_HEADER: Final = "nexus-origin-topic"
ORIGIN_PARTITION_HEADER: Final = "nexus-origin-partition"
ORIGIN_OFFSET_HEADER: Final = "nexus-origin-offset"
# Kafka's time of the failed record. A redrive restores it, because it orders a snapshot without a time of its own.
ORIGIN_TIMESTAMP_HEADER: Final = "nexus-origin-timestamp"
FAILED_AT_HEADER: Final = "nexus-failed-at"
# Marks that an operator leaves beside a dead letter.
MARKER_HEADER: Final = "nexus-marker"
DIGEST_HEADER: Final = "nexus-digest"
MARKED_BY_HEADER: Final = "nexus-marked-by"
MARKED_AT_HEADER: Final = "nexus-marked-at"

# CloudEvents 1.0, Kafka's binary content mode

EVENT_VERSION_HEADER: Final = "ce_specversion"
EVENT_ID_HEADER: Final = "ce_id"
EVENT_TYPE_HEADER: Final = "ce_type"
EVENT_SOURCE_HEADER: Final = "ce_source"
EVENT_TIME_HEADER: Final = "ce_time"
CONTENT_TYPE_HEADER: Final = "content-type"
ENRICHED_TYPE: Final = "nexus.prospect.enriched.v1"
ERASED_TYPE: Final = "nexus.prospect.erased.v1"


def event_headers(
    event_type: str, *identity: str, source: str, time: str, correlation_id: str | None = None
) -> Headers:
    """The CloudEvents headers of a record.

    Args:
        event_type: `ENRICHED_TYPE` or `ERASED_TYPE`.
        identity: The parts that make the event unique. Equal parts give an equal id.
        source: The application that sends it.
        time: ISO 8601.
        correlation_id: The gateway's message id, if the record has one.
    """
    headers = {
        EVENT_VERSION_HEADER: "1.0",
        EVENT_ID_HEADER: hashlib.sha256("\x00".join(identity).encode()).hexdigest()[:32],
        EVENT_TYPE_HEADER: event_type,
        EVENT_SOURCE_HEADER: source,
        EVENT_TIME_HEADER: time,
        CONTENT_TYPE_HEADER: "application/json",
    }
    if correlation_id:
        headers[CORRELATION_ID_HEADER] = correlation_id
    return tuple((name, value.encode()) for name, value in headers.items())


_Digits = Annotated[str, Field(pattern=r"^[0-9]+$")]


class _Headers(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True, populate_by_name=True)


_Traceparent = Annotated[
    str,
    Field(alias=TRACEPARENT_HEADER, description="W3C Trace Context, if traces are exported: the sender's span"),
]


class IngestionHeaders(_Headers):
    """Headers of ``nexus-prospect-ingestion``. All are optional: a record without headers is processed too."""

    correlation_id: Annotated[
        str, Field(alias=CORRELATION_ID_HEADER, description="the message id in the gateway's answer")
    ] = ""
    producer_version: Annotated[str, Field(alias=PRODUCER_VERSION_HEADER)] = ""
    hop: Annotated[
        str,
        Field(alias=HOP_HEADER, description="set on a record that was rerouted to its session's partition"),
    ] = ""
    traceparent: _Traceparent = ""
    redrive: Annotated[
        str,
        Field(alias=REDRIVE_HEADER, description="set on a redriven dead letter: the number of this redrive, from 1"),
    ] = ""
    redrive_id: Annotated[
        str,
        Field(alias=REDRIVE_ID_HEADER, description="the nexus-id of that dead letter"),
    ] = ""
    origin_timestamp: Annotated[
        str,
        Field(
            alias=ORIGIN_TIMESTAMP_HEADER,
            description="set on a record that is sent again (rerouted, redriven): when it was first received, Unix "
            "milliseconds",
        ),
    ] = ""
    answer: Annotated[
        str,
        Field(
            alias=ANSWER_HEADER,
            description="a batch's answer for this conversation (JSON, bound to it by its digest), so that no model is "
            "called. Set by `nexus backfill`, never by the gateway",
        ),
    ] = ""
    again: Annotated[
        str,
        Field(
            alias=AGAIN_HEADER,
            description="extractor, model and prompt of the answer, which replaces what another one read. Set by "
            "`nexus backfill --again`",
        ),
    ] = ""
    again_of: Annotated[
        str,
        Field(
            alias=AGAIN_OF_HEADER,
            description="extractor, model and prompt of the reading that this answer may replace",
        ),
    ] = ""
    command: Annotated[
        str,
        Field(
            alias=COMMAND_HEADER,
            description="erase, lift or expire; the value is then a session command, not a conversation",
        ),
    ] = ""


class EnrichedHeaders(_Headers):
    """Headers of ``prospects-enriched``: CloudEvents 1.0 in Kafka's binary content mode.

    The same ``ce_id`` means the same event: a subscriber that has processed it may skip the record.
    """

    specversion: Annotated[Literal["1.0"], Field(alias=EVENT_VERSION_HEADER)]
    id: Annotated[
        str,
        Field(alias=EVENT_ID_HEADER, min_length=1, description="hash of session, snapshot, digest and fingerprint"),
    ]
    type: Annotated[Literal["nexus.prospect.enriched.v1"], Field(alias=EVENT_TYPE_HEADER)]
    source: Annotated[str, Field(alias=EVENT_SOURCE_HEADER, min_length=1, description="the application that enriched")]
    time: Annotated[str, Field(alias=EVENT_TIME_HEADER, description="enriched_at of the value, ISO 8601")]
    content_type: Annotated[Literal["application/json"], Field(alias=CONTENT_TYPE_HEADER)]
    correlation_id: Annotated[
        str, Field(alias=CORRELATION_ID_HEADER, description="the correlation id of the ingestion record, if any")
    ] = ""
    traceparent: _Traceparent = ""


class ErasedHeaders(_Headers):
    """Headers of an erased session on ``prospects-enriched``: CloudEvents 1.0. ``ce_type`` is not a prospect's."""

    specversion: Annotated[Literal["1.0"], Field(alias=EVENT_VERSION_HEADER)]
    id: Annotated[str, Field(alias=EVENT_ID_HEADER, min_length=1, description="hash of session and request")]
    type: Annotated[Literal["nexus.prospect.erased.v1"], Field(alias=EVENT_TYPE_HEADER)]
    source: Annotated[str, Field(alias=EVENT_SOURCE_HEADER, min_length=1, description="the application that erased")]
    time: Annotated[str, Field(alias=EVENT_TIME_HEADER, description="erased_at of the value, ISO 8601")]
    content_type: Annotated[Literal["application/json"], Field(alias=CONTENT_TYPE_HEADER)]
    traceparent: _Traceparent = ""


class DeadLetterHeaders(_Headers):
    """Headers of ``nexus-prospect-dlq``: the record's own headers, then these. Key and value are as received."""

    id: Annotated[
        str, Field(alias=LETTER_ID_HEADER, description="topic-partition-offset: equal for two letters of one record")
    ]
    reason: Annotated[Reason, Field(alias=REASON_HEADER)]
    error_class: Annotated[str, Field(alias=ERROR_CLASS_HEADER, description="empty when there was no exception")]
    error: Annotated[str, Field(alias=ERROR_HEADER, max_length=500, description="the problem; no personal data")]
    attempts: Annotated[_Digits, Field(alias=ATTEMPTS_HEADER)]
    origin_topic: Annotated[str, Field(alias=ORIGIN_TOPIC_HEADER, min_length=1)]
    origin_partition: Annotated[_Digits, Field(alias=ORIGIN_PARTITION_HEADER)]
    origin_offset: Annotated[_Digits, Field(alias=ORIGIN_OFFSET_HEADER)]
    origin_timestamp: Annotated[
        str,
        Field(
            alias=ORIGIN_TIMESTAMP_HEADER,
            pattern=r"^[0-9]*$",
            description="Kafka's time of the failed record, Unix milliseconds",
        ),
    ] = ""
    failed_at: Annotated[str, Field(alias=FAILED_AT_HEADER, description="ISO 8601, UTC")]
