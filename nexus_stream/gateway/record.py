"""Build the record for ``nexus-prospect-ingestion`` from a request's body and headers.

The value is the client's JSON with more fields in ``metadata``. The gateway checks that value with the enricher's own
function. So the enricher can read every record that the gateway accepts.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

import orjson

from nexus_stream.contracts.conversation import Limits, decode, mended
from nexus_stream.contracts.session_key import TENANT_PATTERN
from nexus_stream.errors import DecodeError, Reason
from nexus_stream.gateway.identity import ClaimedIdentity, take_identity
from nexus_stream.gateway.refusal import RequestRefusedError

__all__ = ["MESSAGES_REQUIRED", "SESSION_REQUIRED", "IngestionRecord", "RequestContext", "ingestion_record"]

# The messages of the existing site: its callers may compare them.
MESSAGES_REQUIRED = "Messages array is required and cannot be empty"
SESSION_REQUIRED = "sessionId is required"

_UNKNOWN = "unknown"
_MAX_CONTEXT_CHARS = 2048
_MAX_EXTRA_KEYS = 50
_MAX_EXTRA_KEY_CHARS = 128
_MAX_EXTRA_VALUE_BYTES = 2048
_SET_BY_GATEWAY = frozenset({"enqueuedAt", "producerVersion", "url", "userAgent", "tenant_id"})
_TENANT = re.compile(TENANT_PATTERN)


@dataclass(frozen=True, slots=True)
class RequestContext:
    """Data of the request besides its body: header values as received, None if absent."""

    enqueued_at: str
    producer_version: str
    tenant_id: str | None = None
    referer: str | None = None
    user_agent: str | None = None
    identity_secrets: tuple[bytes, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class IngestionRecord:
    """Key and value for the topic, and the identity that the visitor claims."""

    key: bytes
    value: bytes
    identity: ClaimedIdentity | None = None


def ingestion_record(body: bytes, context: RequestContext, limits: Limits) -> IngestionRecord:
    """Check the body and build the record.

    Raises:
        RequestRefusedError: 400 with the problem of each field, 413 if the value is over ``limits.body_bytes``.
    """
    data = _parse(body)
    _require_existing_fields(data)
    identity = take_identity(data, context.identity_secrets)
    metadata = data.get("metadata")
    if metadata is None or isinstance(metadata, dict):
        data["metadata"] = _enriched(metadata or {}, context) | ({} if identity is None else identity.metadata)
    # Any other type stays: `decode` reports it.
    try:
        value = orjson.dumps(data)
    except orjson.JSONEncodeError:
        raise _too_deep() from None
    try:
        conversation = decode(value, limits)
    except DecodeError as error:
        raise _refusal(error) from error
    return IngestionRecord(conversation.key, value, identity)


def _parse(body: bytes) -> dict[str, Any]:
    try:
        data = _loaded(body)
    except orjson.JSONDecodeError as error:
        raise _not_json(error) from None
    if not isinstance(data, dict):
        raise RequestRefusedError(
            400, "The body must be a JSON object", {"body": "must be an object"}, code="body_not_object"
        )
    return data


def _loaded(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        mended_body = mended(body)
        if mended_body == body:
            raise
        return orjson.loads(mended_body)


def _require_existing_fields(data: dict[str, Any]) -> None:
    messages = data.get("messages")
    if messages == []:
        raise RequestRefusedError(400, MESSAGES_REQUIRED, code="messages_required")
    if not isinstance(messages, list):
        problem = "Field required" if messages is None else "must be an array"
        raise RequestRefusedError(400, MESSAGES_REQUIRED, {"messages": problem}, code="messages_required")
    session_id = data.get("sessionId")
    if session_id is None or (isinstance(session_id, str) and not session_id.strip()):
        raise RequestRefusedError(400, SESSION_REQUIRED, code="session_id_required")


def _enriched(metadata: dict[str, Any], context: RequestContext) -> dict[str, Any]:
    enriched = _bounded_extras(metadata)
    enriched["enqueuedAt"] = context.enqueued_at
    enriched["producerVersion"] = context.producer_version
    enriched["url"] = _first_text(metadata.get("url"), context.referer)
    enriched["userAgent"] = _first_text(metadata.get("userAgent"), context.user_agent)
    # Only from the header, which the site's own server sets: a page must not choose a tenant in its body.
    tenant_id = (context.tenant_id or "").strip()
    if tenant_id:
        if not _TENANT.fullmatch(tenant_id):
            raise RequestRefusedError(
                400,
                "x-tenant-id is not a tenant id",
                {"x-tenant-id": "letters, digits, '_', '.' and '-' only, at most 64"},
                code="tenant_invalid",
            )
        enriched["tenant_id"] = tenant_id
    return enriched


def _bounded_extras(metadata: dict[str, Any]) -> dict[str, Any]:
    """The site's own keys, without those over a limit: a dropped key is better than a refused lead."""
    extras: dict[str, Any] = {}
    for key, value in metadata.items():
        if key in _SET_BY_GATEWAY or len(key) > _MAX_EXTRA_KEY_CHARS:
            continue
        if len(extras) == _MAX_EXTRA_KEYS:
            break
        try:
            if len(orjson.dumps(value)) <= _MAX_EXTRA_VALUE_BYTES:
                extras[key] = value
        except orjson.JSONEncodeError:
            continue
    return extras


def _first_text(*candidates: object) -> str:
    for candidate in candidates:
        if isinstance(candidate, str) and candidate.strip():
            # Header bytes that are not UTF-8 arrive as lone surrogates.
            return candidate[:_MAX_CONTEXT_CHARS].encode("utf-8", "replace").decode()
    return _UNKNOWN


def _not_json(error: json.JSONDecodeError) -> RequestRefusedError:
    # Only the position, not the parser's message: an answer must never repeat anything of the body.
    return RequestRefusedError(
        400,
        "The body is not valid JSON",
        {"body": f"not JSON at line {error.lineno}, column {error.colno}"},
        code="body_not_json",
    )


def _too_deep() -> RequestRefusedError:
    return RequestRefusedError(
        400, "The body is nested too deeply", {"body": "nested too deeply"}, code="body_too_deep"
    )


def _refusal(error: DecodeError) -> RequestRefusedError:
    match error.reason:
        case Reason.TOO_LARGE:
            return RequestRefusedError(
                413, f"The body with its metadata is over the limit: {error}", code="body_too_large"
            )
        case Reason.NOT_JSON:
            # The body was valid JSON above, so only the depth is left: `decode` has a lower limit on depth.
            return _too_deep()
        case _:
            return RequestRefusedError(400, str(error), error.details, code="conversation_invalid")
