"""A snapshot of a conversation: the value of every record on ``nexus-prospect-ingestion``.

From: the gateway or any Kafka producer (the existing site's JSON). To: the enricher. Every message holds the whole
history. Unknown keys are ignored. ``content`` and ids have limits; a value over a limit is one clear error.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from nexus_stream.contracts.moments import iso_ms
from nexus_stream.contracts.session_key import TENANT_PATTERN, session_key
from nexus_stream.errors import DecodeError, Reason

__all__ = ["Conversation", "Limits", "Message", "Metadata", "cumulative_hashes", "decode", "digest", "mended"]

# In prospect_tracking a fingerprint with this prefix means a session without a fingerprint.
RESERVED_FINGERPRINT_PREFIX = "session:"


def _text_or_none(value: Any) -> Any:
    # Sites send "" for an unknown value: the same as a missing one.
    if isinstance(value, str) and not value.strip():
        return None
    return value


def _lenient_text(value: Any) -> Any:
    # Drop browser context that is not text: a bad value must not refuse a lead.
    return value[:2048].replace("\x00", "") if isinstance(value, str) and value.strip() else None


_Context = Annotated[str | None, BeforeValidator(_lenient_text)]
_PrintableText = Annotated[str, Field(min_length=1, pattern=r"^[^\x00-\x1f\x7f]+$")]
_Tenant = Annotated[str, Field(pattern=TENANT_PATTERN)]


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits on one snapshot."""

    body_bytes: int = 262_144
    turns: int = 200
    turn_chars: int = 8000
    id_chars: int = 256


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True, strict=False)


class Message(_Wire):
    """One turn. Extra keys such as ``timestamp`` are dropped."""

    role: Literal["user", "assistant"]
    content: str


class Metadata(_Wire):
    """The origin of the snapshot; ``enqueuedAt`` is the time by the gateway's clock."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True, populate_by_name=True)

    enqueued_at: Annotated[_Context, Field(alias="enqueuedAt")] = None
    producer_version: Annotated[_Context, Field(alias="producerVersion")] = None
    url: _Context = None
    user_agent: Annotated[_Context, Field(alias="userAgent")] = None
    tenant_id: Annotated[_Tenant | None, BeforeValidator(_text_or_none)] = None
    consent: Annotated[bool | None, BeforeValidator(_text_or_none)] = None


class Conversation(_Wire):
    """The request body, as posted and as stored on the topic."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True, populate_by_name=True)

    messages: Annotated[tuple[Message, ...], Field(min_length=1)]
    session_id: Annotated[_PrintableText, Field(alias="sessionId")]
    fingerprint: Annotated[_PrintableText | None, BeforeValidator(_text_or_none)] = None
    metadata: Annotated[Metadata, BeforeValidator(lambda value: {} if value is None else value)] = Metadata()

    @property
    def tenant_id(self) -> str:
        """The tenant; empty if there is none."""
        return self.metadata.tenant_id or ""

    @property
    def key(self) -> bytes:
        """The session key."""
        return session_key(self.tenant_id, self.session_id)

    @property
    def enqueued_at_ms(self) -> int | None:
        """``enqueuedAt`` as Unix milliseconds; None if it is missing or not a date."""
        moment_ms = iso_ms(self.metadata.enqueued_at)
        return None if moment_ms is None else max(0, moment_ms)


def decode(value: bytes | None, limits: Limits) -> Conversation:
    """Read the value of one ingestion record.

    Raises:
        DecodeError: with the reason (not JSON, wrong shape, over a limit) and the problem of each field.
    """
    if not value:
        raise DecodeError("the record has no value", reason=Reason.EMPTY)
    if len(value) > limits.body_bytes:
        raise DecodeError(
            f"{len(value)} bytes, at most {limits.body_bytes} are accepted (NEXUS_MAX_BODY_BYTES)",
            reason=Reason.TOO_LARGE,
        )
    try:
        conversation = _read(value)
    except ValidationError as error:
        raise _decode_error(error) from None
    _check_limits(conversation, limits)
    return conversation


def _read(value: bytes) -> Conversation:
    try:
        return Conversation.model_validate_json(value)
    except ValidationError as error:
        if not _is_no_json(error) or (mended_value := mended(value)) == value:
            raise
        return Conversation.model_validate_json(mended_value)


_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# Match every escape, so that the second half of an escaped backslash is not mistaken for the start of an escape.
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)


def mended(value: bytes) -> bytes:
    """Repair two faults of clients' JSON that parsers refuse; other bytes stay as they are.

    * Half an emoji: JavaScript cuts strings by length, and JSON.stringify escapes the remaining surrogate. U+FFFD
      replaces it.
    * A byte order mark, which a reader may ignore (RFC 8259, section 8.1).
    """
    return _ESCAPE.sub(_without_lone_surrogate, value.removeprefix(_BYTE_ORDER_MARK))


def _without_lone_surrogate(match: re.Match[bytes]) -> bytes:
    return rb"\ufffd" if match[1] else match[0]


def _is_no_json(error: ValidationError) -> bool:
    return any(problem["type"] == "json_invalid" for problem in error.errors(include_url=False, include_input=False))


def _decode_error(error: ValidationError) -> DecodeError:
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    if _is_no_json(error):
        return DecodeError("the value is not JSON", reason=Reason.NOT_JSON)
    # At most ten: a hostile body can be wrong in thousands of places.
    details = {".".join(str(part) for part in problem["loc"])[:80]: problem["msg"] for problem in problems[:10]}
    fields = ", ".join(details) or "the value"
    return DecodeError(f"not a conversation: {fields}", reason=Reason.WRONG_SHAPE, details=details)


def _check_limits(conversation: Conversation, limits: Limits) -> None:
    if len(conversation.messages) > limits.turns:
        raise DecodeError(
            f"{len(conversation.messages)} turns, at most {limits.turns} are accepted (NEXUS_MAX_TURNS)",
            reason=Reason.TOO_MANY_TURNS,
            details={"messages": f"at most {limits.turns} turns"},
        )
    for index, message in enumerate(conversation.messages):
        if len(message.content) > limits.turn_chars:
            raise DecodeError(
                f"turn {index} has {len(message.content)} characters, at most {limits.turn_chars} are accepted "
                "(NEXUS_MAX_TURN_CHARS)",
                reason=Reason.TURN_TOO_LONG,
                details={f"messages.{index}.content": f"at most {limits.turn_chars} characters"},
            )
    for name, text in (("sessionId", conversation.session_id), ("fingerprint", conversation.fingerprint)):
        if text is not None and len(text) > limits.id_chars:
            raise DecodeError(
                f"{name} is over {limits.id_chars} characters (NEXUS_MAX_ID_CHARS)",
                reason=Reason.WRONG_SHAPE,
                details={name: f"at most {limits.id_chars} characters"},
            )
    if conversation.fingerprint is not None and conversation.fingerprint.startswith(RESERVED_FINGERPRINT_PREFIX):
        raise DecodeError(
            f"fingerprint must not start with {RESERVED_FINGERPRINT_PREFIX!r}",
            reason=Reason.WRONG_SHAPE,
            details={"fingerprint": f"must not start with {RESERVED_FINGERPRINT_PREFIX!r}"},
        )


_HASH_BYTES = 6


def cumulative_hashes(messages: Sequence[Message]) -> list[str]:
    """One short hash per turn, over that turn and all turns before it.

    Equal hashes at position n mean that the first n turns are equal. So a snapshot extends another one if it has the
    other's last hash at the same position. 48 bits: within one session a chance collision needs about 10^7 turns.
    """
    running = hashlib.blake2b(digest_size=16)
    hashes: list[str] = []
    for message in messages:
        content = message.content.encode("utf-8", "surrogatepass")
        running.update(b"u" if message.role == "user" else b"a")
        running.update(len(content).to_bytes(4, "big"))
        running.update(content)
        hashes.append(running.copy().digest()[:_HASH_BYTES].hex())
    return hashes


def digest(conversation: Conversation) -> str:
    """A hash that is equal for equal snapshots: over turns, consent and tenant, not over fingerprint or times."""
    hasher = hashlib.blake2b(digest_size=16)
    for message in conversation.messages:
        content = message.content.encode("utf-8", "surrogatepass")
        hasher.update(b"u" if message.role == "user" else b"a")
        hasher.update(len(content).to_bytes(4, "big"))
        hasher.update(content)
    hasher.update(repr(conversation.metadata.consent).encode())
    hasher.update(conversation.tenant_id.encode())
    return hasher.hexdigest()
