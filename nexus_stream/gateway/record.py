"""Build the record for ``nexus-prospect-ingestion`` from a request's body and headers.

The value is the conversation in the plain form, cut to the limits, with small keys of the client and the gateway's
``metadata``. So files and tool results never reach the topic. The gateway checks the value with the enricher's own
function. So the enricher can read every record that the gateway accepts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from nexus_stream.contracts.conversation import Limits, decode, mended
from nexus_stream.contracts.cutting import Cut, CutTurn, cut_turns
from nexus_stream.contracts.message_forms import PlainTurn
from nexus_stream.contracts.placeholders import is_no_tenant
from nexus_stream.contracts.plain_form import NOT_EMPTY, Noticed, PlainForm, plain_form, require_few_elements
from nexus_stream.contracts.refusal_codes import RefusalCode
from nexus_stream.contracts.session_key import TENANT_PATTERN
from nexus_stream.errors import DecodeError
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
# All extra keys together, as a share of a record.
_EXTRAS_SHARE = 8
# If a history must be cut to the record's bytes, this much is left for the rest, so that the cut does not depend on it.
_REST_BYTES = 16_384
_MIN_TURN_BYTES = 64
_ID_KEYS = ("sessionId", "session_id", "id", "fingerprint")
_PLAIN_KEYS = frozenset({"messages", "sessionId", "session_id", "fingerprint", "metadata"})
_SET_BY_GATEWAY = frozenset(
    {"enqueuedAt", "producerVersion", "url", "userAgent", "tenant_id", "identityProven", "cut", "leftOut"}
)
# Read later, so no other key may crowd them out.
_KEPT_FIRST = ("consent",)
_CODES = {code.value: code for code in RefusalCode}
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
    """Key and value for the topic, the identity that the visitor claims, and what was left out, ignored or cut."""

    key: bytes
    value: bytes
    noticed: Noticed
    identity: ClaimedIdentity | None = None


def ingestion_record(body: bytes, context: RequestContext, limits: Limits) -> IngestionRecord:
    """Read the body and build the record.

    Raises:
        RequestRefusedError: 400 with the problem of each field, 413 if it cannot be cut to ``limits.body_bytes``.
    """
    noticed = Noticed()
    try:
        require_few_elements(body)
        data = _parse(body)
        identity = take_identity(data, context.identity_secrets)
        form = plain_form(data, limits, noticed)
        rest = _extras(data, _PLAIN_KEYS, limits) | {"sessionId": form.session_id}
        if form.fingerprint is not None:
            rest["fingerprint"] = form.fingerprint
        claimed = {} if identity is None else identity.metadata
        rest["metadata"] = _enriched(form.metadata, context, limits, noticed) | claimed
        value = _fitted(form, rest, limits, noticed)
        return IngestionRecord(decode(value, limits).key, value, noticed, identity)
    except DecodeError as error:
        raise _refusal(error) from error


def _fitted(form: PlainForm, rest: dict[str, Any], limits: Limits, noticed: Noticed) -> bytes:
    kept, cut = cut_turns(form.turns, max_turns=limits.turns, max_chars=limits.turn_chars)
    value = _value(form.turns, kept, cut, rest, noticed)
    if len(value) > limits.body_bytes:
        rest_bytes = len(_value(form.turns, (), Cut(turns=2**52, characters=2**52, until=2**52), rest, noticed))
        room = limits.body_bytes - max(rest_bytes, min(_REST_BYTES, limits.body_bytes // 4))
        if room < _MIN_TURN_BYTES:
            raise RequestRefusedError(
                413, "The body without its messages is over the limit", code=RefusalCode.BODY_TOO_LARGE
            )
        kept, cut = cut_turns(
            form.turns, max_turns=limits.turns, max_chars=limits.turn_chars, max_bytes=room, size_of=_turn_bytes
        )
        value = _value(form.turns, kept, cut, rest, noticed)
    noticed.cut = cut
    return value


def _value(
    turns: Sequence[PlainTurn], kept: Sequence[CutTurn], cut: Cut, rest: dict[str, Any], noticed: Noticed
) -> bytes:
    metadata = dict(rest["metadata"])
    if cut:
        metadata["cut"] = cut.model_dump()
    if noticed.left_out:
        metadata["leftOut"] = dict(noticed.left_out)
    messages = [_plain_message(turns[position], content) for position, content in kept]
    return _dumped({"messages": messages, **rest, "metadata": metadata})


def _dumped(value: object) -> bytes:
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        raise _too_deep() from None


def _plain_message(turn: PlainTurn, content: str) -> dict[str, Any]:
    message: dict[str, Any] = {"role": turn.role, "content": content}
    if turn.timestamp is not None:
        message["timestamp"] = turn.timestamp
    return message


def _turn_bytes(turn: PlainTurn, content: str) -> int:
    return len(orjson.dumps(_plain_message(turn, content))) + 1


def _parse(body: bytes) -> dict[str, Any]:
    try:
        data = _loaded(body)
    except orjson.JSONDecodeError as error:
        raise _not_json(error) from None
    if isinstance(data, dict) and any(isinstance(data.get(key), float) for key in _ID_KEYS):
        data = _with_exact_ids(data, body)
    if not isinstance(data, dict):
        raise RequestRefusedError(
            400, "The body must be a JSON object", {"body": "must be an object"}, code=RefusalCode.BODY_NOT_OBJECT
        )
    return data


def _with_exact_ids(data: dict[str, Any], body: bytes) -> dict[str, Any]:
    """Ids of over 64 bits as they were sent: orjson rounds them, and two of them would be one."""
    try:
        exact = json.loads(mended(body))
    except (ValueError, RecursionError):
        return data
    return {**data, **{key: exact[key] for key in _ID_KEYS if key in exact}}


def _loaded(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        mended_body = mended(body)
        if mended_body == body:
            raise
        return orjson.loads(mended_body)


def _enriched(metadata: dict[str, Any], context: RequestContext, limits: Limits, noticed: Noticed) -> dict[str, Any]:
    enriched = _extras(metadata, _SET_BY_GATEWAY, limits, _KEPT_FIRST)
    enriched["enqueuedAt"] = context.enqueued_at
    enriched["producerVersion"] = context.producer_version
    enriched["url"] = _first_text(metadata.get("url"), context.referer)
    enriched["userAgent"] = _first_text(metadata.get("userAgent"), context.user_agent)
    # A tenant in the body does not count, so what it holds is not noticed either.
    noticed.ignored.pop("tenant_id", None)
    # Only from the header, which the site's own server sets: a page must not choose a tenant in its body.
    tenant_id = (context.tenant_id or "").strip()
    if tenant_id and is_no_tenant(tenant_id):
        noticed.ignored["tenant_id"] = "placeholder"
    elif tenant_id:
        if not _TENANT.fullmatch(tenant_id):
            raise RequestRefusedError(
                400,
                "x-tenant-id is not a tenant id",
                {"x-tenant-id": "letters, digits, '_', '.' and '-' only, at most 64"},
                code=RefusalCode.TENANT_INVALID,
            )
        enriched["tenant_id"] = tenant_id
    return enriched


def _extras(
    fields: dict[str, Any], others: frozenset[str], limits: Limits, first: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The site's own keys, without those over a limit: a dropped key is better than a refused lead.

    Raises:
        RequestRefusedError: a value is nested too deeply.
    """
    extras: dict[str, Any] = {}
    room = limits.body_bytes // _EXTRAS_SHARE
    for key in (*(key for key in first if key in fields), *(key for key in fields if key not in first)):
        if key in others or len(key) > _MAX_EXTRA_KEY_CHARS or fields[key] is None:
            continue
        if len(extras) == _MAX_EXTRA_KEYS:
            break
        size = len(_dumped(fields[key]))
        if size <= min(_MAX_EXTRA_VALUE_BYTES, room):
            extras[key] = fields[key]
            room -= size + len(key)
    return extras


def _first_text(*candidates: object) -> str:
    for candidate in candidates:
        if isinstance(candidate, str) and candidate.strip():
            # Header bytes that are not UTF-8 arrive as lone surrogates.
            return candidate[:_MAX_CONTEXT_CHARS].encode("utf-8", "replace").decode()
    return _UNKNOWN


def _not_json(error: json.JSONDecodeError) -> RequestRefusedError:
    if "depth limit" in error.msg:
        return _too_deep()
    # Only the position, not the parser's message: an answer must never repeat anything of the body.
    return RequestRefusedError(
        400,
        "The body is not valid JSON",
        {"body": f"not JSON at line {error.lineno}, column {error.colno}"},
        code=RefusalCode.BODY_NOT_JSON,
    )


def _too_deep() -> RequestRefusedError:
    return RequestRefusedError(
        400, "The body is nested too deeply", {"body": "nested too deeply"}, code=RefusalCode.BODY_TOO_DEEP
    )


def _refusal(error: DecodeError) -> RequestRefusedError:
    # The existing site's two answers have no details.
    code = _CODES.get(error.code or "", RefusalCode.CONVERSATION_INVALID)
    match code:
        case RefusalCode.MESSAGES_REQUIRED:
            details = error.details if NOT_EMPTY not in error.details.values() else {}
            return RequestRefusedError(code.status, MESSAGES_REQUIRED, details, code=code)
        case RefusalCode.SESSION_ID_REQUIRED:
            return RequestRefusedError(code.status, SESSION_REQUIRED, code=code)
        case RefusalCode.BODY_TOO_DEEP:
            # `decode` has a lower limit on depth than the parser above.
            return _too_deep()
        case _:
            return RequestRefusedError(code.status, str(error), error.details, code=code)
