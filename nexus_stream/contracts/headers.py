"""Record headers as they are published: names and meanings, one model a topic.

To: the AsyncAPI document and the header schemas, and tests that hold what the stages send against them. On the wire a
header is a name and bytes: every value here is UTF-8 text, and an optional header that is not there reads as "".
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from nexus_stream.errors import Reason

__all__ = ["DeadLetterHeaders", "EnrichedHeaders", "ErasedHeaders", "IngestionHeaders"]

_Digits = Annotated[str, Field(pattern=r"^[0-9]+$")]


class _Headers(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True, populate_by_name=True)


_TRACEPARENT = Annotated[
    str, Field(alias="traceparent", description="W3C Trace Context, where traces are exported: the span that sent this")
]


class IngestionHeaders(_Headers):
    """Headers of ``nexus-prospect-ingestion``. All are optional: a record without any is processed alike."""

    correlation_id: Annotated[
        str, Field(alias="correlation-id", description="the message id that the gateway answered with")
    ] = ""
    producer_version: Annotated[str, Field(alias="producer-version")] = ""
    hop: Annotated[
        str,
        Field(alias="nexus-hop", description="set on a record that was sent on to its session's own partition"),
    ] = ""
    traceparent: _TRACEPARENT = ""
    redrive: Annotated[
        str,
        Field(alias="nexus-redrive", description="set on a dead letter that an operator sent back: for which time"),
    ] = ""
    redrive_id: Annotated[
        str,
        Field(alias="nexus-redrive-id", description="the nexus-id of that dead letter"),
    ] = ""
    answer: Annotated[
        str,
        Field(
            alias="nexus-answer",
            description="what a batch read in this conversation (JSON, bound to it by its digest): no model is asked. "
            "Set by `nexus backfill`, never by the gateway",
        ),
    ] = ""
    command: Annotated[
        str,
        Field(
            alias="nexus-command",
            description="erase, lift or expire: then the value is no conversation but a session command",
        ),
    ] = ""


class EnrichedHeaders(_Headers):
    """Headers of ``prospects-enriched``: CloudEvents 1.0 in Kafka's binary content mode.

    The same ``ce_id`` means the same fact about the same session: a subscriber that has seen it may skip the record.
    """

    specversion: Annotated[Literal["1.0"], Field(alias="ce_specversion")]
    id: Annotated[
        str,
        Field(alias="ce_id", min_length=1, description="hash of session, snapshot, digest and fingerprint"),
    ]
    type: Annotated[Literal["nexus.prospect.enriched.v1"], Field(alias="ce_type")]
    source: Annotated[str, Field(alias="ce_source", min_length=1, description="the application that enriched")]
    time: Annotated[str, Field(alias="ce_time", description="enriched_at of the value, ISO 8601")]
    content_type: Annotated[Literal["application/json"], Field(alias="content-type")]
    correlation_id: Annotated[
        str, Field(alias="correlation-id", description="that of the ingestion record, if it had one")
    ] = ""
    traceparent: _TRACEPARENT = ""


class ErasedHeaders(_Headers):
    """Headers of an erased session on ``prospects-enriched``: CloudEvents 1.0, told from a prospect by ``ce_type``."""

    specversion: Annotated[Literal["1.0"], Field(alias="ce_specversion")]
    id: Annotated[str, Field(alias="ce_id", min_length=1, description="hash of session and request")]
    type: Annotated[Literal["nexus.prospect.erased.v1"], Field(alias="ce_type")]
    source: Annotated[str, Field(alias="ce_source", min_length=1, description="the application that erased")]
    time: Annotated[str, Field(alias="ce_time", description="erased_at of the value, ISO 8601")]
    content_type: Annotated[Literal["application/json"], Field(alias="content-type")]
    traceparent: _TRACEPARENT = ""


class DeadLetterHeaders(_Headers):
    """Headers of ``nexus-prospect-dlq``: those the record had, then these. Key and value are as received."""

    id: Annotated[
        str, Field(alias="nexus-id", description="topic-partition-offset: two letters of one record share it")
    ]
    reason: Annotated[Reason, Field(alias="nexus-reason")]
    error_class: Annotated[str, Field(alias="nexus-error-class", description="empty when there was no exception")]
    error: Annotated[str, Field(alias="nexus-error", max_length=500, description="what was wrong; no personal data")]
    attempts: Annotated[_Digits, Field(alias="nexus-attempts")]
    origin_topic: Annotated[str, Field(alias="nexus-origin-topic", min_length=1)]
    origin_partition: Annotated[_Digits, Field(alias="nexus-origin-partition")]
    origin_offset: Annotated[_Digits, Field(alias="nexus-origin-offset")]
    origin_timestamp: Annotated[
        str,
        Field(
            alias="nexus-origin-timestamp",
            pattern=r"^[0-9]*$",
            description="Kafka's time of the record that failed, Unix milliseconds",
        ),
    ] = ""
    failed_at: Annotated[str, Field(alias="nexus-failed-at", description="ISO 8601, UTC")]
