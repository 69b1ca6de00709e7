"""The bodies of the gateway's HTTP API, for its OpenAPI document (openapi.py).

The gateway reads a body with `Conversation` and writes its answers as plain data. Tests compare both with these models:
what the gateway accepts and what it answers fits them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

__all__ = [
    "Accepted",
    "Healthy",
    "NotReady",
    "PostedConversation",
    "ReadyState",
    "Refusal",
    "Unhealthy",
]

_Id = Annotated[str | int, Field(description="Text, or a whole number, which is taken as text.")]
_PartOrText = str | dict[str, Any]


class _Posted(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="allow")


class PostedMessage(_Posted):
    """One turn, as the site's framework has it. Text of the user and of the assistant is read; the rest is left out."""

    role: str | None = Field(default=None, description="`user` or `assistant`, or a framework's word for it.")
    content: str | list[_PartOrText] | dict[str, Any] | None = Field(
        default=None, description="Text, or parts as OpenAI and Anthropic have them."
    )
    parts: list[_PartOrText] | None = Field(default=None, description="Parts, as the AI SDK has them.")


class PostedMetadata(_Posted):
    """The page and the visitor. Unknown keys are kept, up to a bound."""

    url: str | None = Field(default=None, description="The page; else the header `Referer`.")
    user_agent: str | None = Field(default=None, description="Else the header `User-Agent`.")
    consent: bool | None = Field(default=None, description="`false`: the conversation is not extracted.")


class PostedConversation(_Posted):
    """A snapshot: the whole history of one chat, every time."""

    messages: list[PostedMessage] = Field(min_length=1)
    session_id: _Id | None = Field(default=None, description="The chat. Never the same for two visitors. Required.")
    fingerprint: _Id | None = Field(default=None, description="The visitor's browser.")
    identity: _Id | None = Field(default=None, description="The visitor's id at the site. Also read in `metadata`.")
    identity_hash: str | None = Field(
        default=None,
        description="Proves `identity`: its HMAC-SHA256 with the site's secret, in hex. Also read in `metadata`.",
    )
    metadata: PostedMetadata | None = None


class _Answered(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel)


class KafkaPosition(_Answered):
    """Where the record is."""

    offset: int
    partition: int
    topic_name: str


class Accepted(_Answered):
    """The broker has the snapshot on all in-sync replicas."""

    status: Literal["accepted"]
    message_id: str = Field(pattern=r"^[A-Za-z0-9_-]{21}$")
    kafka: KafkaPosition
    message: str
    estimated_processing_time: str


class Refusal(_Answered):
    """Nothing was accepted."""

    error: str = Field(description="The problem, for a developer. The text may change, except the two oldest ones.")
    code: str = Field(description="The problem, for a program.")
    details: dict[str, str] = Field(default={}, description="The problem of each field.")


class Healthy(_Answered):
    """Snapshots are accepted."""

    status: Literal["healthy"]
    version: str
    role: Literal["message-producer"]
    transport: Literal["kafka"]
    topic: str
    kafka_configured: bool
    producer_connected: bool
    timestamp: str = Field(json_schema_extra={"format": "date-time"})


class Unhealthy(_Answered):
    """Snapshots are not accepted now."""

    status: Literal["unhealthy"]
    version: str
    error: str
    code: str


class ReadyState(_Answered):
    """The process serves."""

    status: Literal["live", "ready"]


class NotReady(_Answered):
    """A load balancer should send no requests now."""

    status: Literal["not ready"]
    error: str
    code: str
