"""A snapshot of a conversation: the value of every record on ``nexus-prospect-ingestion``.

From: the gateway or any Kafka producer (the existing site's JSON). To: the enricher. Every message holds the whole
history. Unknown keys are ignored. These classes are the plain form, which the gateway writes. `decode` reads every form
(plain_form.py), and cuts what is over a limit (cutting.py).
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import from_json, to_json

from nexus_stream.contracts.cutting import Cut, Spoken, cut_turns
from nexus_stream.contracts.limits import Limits
from nexus_stream.contracts.message_forms import LEFT_OUT_KINDS
from nexus_stream.contracts.moments import iso_ms
from nexus_stream.contracts.placeholders import is_no_tenant, is_placeholder
from nexus_stream.contracts.plain_form import (
    MAX_IDENTITY_CHARS,
    RESERVED_FINGERPRINT_PREFIX,
    Noticed,
    plain_form,
    require_few_elements,
)
from nexus_stream.contracts.refusal_codes import RefusalCode
from nexus_stream.contracts.session_key import TENANT_PATTERN, session_key
from nexus_stream.errors import DecodeError, Reason

__all__ = [
    "Conversation",
    "Limits",
    "Message",
    "Metadata",
    "decode",
    "digest",
    "mended",
    "read",
]


def _blank_or(value: Any) -> Any:
    # Sites send "" for an unknown value: the same as a missing one.
    return None if isinstance(value, str) and not value.strip() else value


def _missing_or(value: Any) -> Any:
    # Likewise {}, what a promise becomes that was not awaited, and PHP's [].
    return None if value == {} or value == [] else _blank_or(value)


# Words of consent banners. What is none of them is refused: nobody may guess a consent.
_CONSENT = {
    **dict.fromkeys(("undefined", "null", "none", "nan", "unset", "pending"), None),
    **dict.fromkeys(("si", "sí", "granted", "accepted", "allow"), True),
    **dict.fromkeys(("denied", "rejected", "declined", "deny"), False),
}


def _consent_or(value: Any) -> Any:
    return (
        _CONSENT.get(value.strip().lower(), value) if isinstance(value, str) and value.strip() else _missing_or(value)
    )


def _lenient_text(value: Any) -> Any:
    # Drop browser context that is not text: a bad value must not refuse a lead.
    if not isinstance(value, str) or not value or value.isspace():
        return None
    return (
        value
        if len(value) <= _MAX_CONTEXT_CHARS and "\x00" not in value
        else value[:_MAX_CONTEXT_CHARS].replace("\x00", "")
    )


_MAX_CONTEXT_CHARS = 2048
# The largest integer that JSON, SQLite and JavaScript all hold exactly.
_MAX_COUNT = 2**53

_Context = Annotated[str | None, BeforeValidator(_lenient_text)]
_PrintableText = Annotated[str, Field(min_length=1, pattern=r"^[^\x00-\x1f\x7f]+$")]
_Identity = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]+$", max_length=MAX_IDENTITY_CHARS)]
_Tenant = Annotated[str, Field(pattern=TENANT_PATTERN)]


def _lenient_cut(value: Any) -> Any:
    try:
        return Cut.model_validate(value)
    except ValidationError:
        return None


def _lenient_counts(value: Any) -> Any:
    if not isinstance(value, dict):
        return None
    counts = {kind: value.get(kind) for kind in LEFT_OUT_KINDS}
    return {kind: count for kind, count in counts.items() if type(count) is int and 0 < count <= _MAX_COUNT}


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True, strict=False)


class Message(_Wire):
    """One turn. Extra keys such as ``timestamp`` are dropped."""

    role: Literal["user", "assistant"]
    content: str


class Metadata(_Wire):
    """The origin of the snapshot; ``enqueuedAt`` is the time by the gateway's clock.

    Fields are read by their names on the wire only: ``identity_proven`` of a page must not pass for the gateway's word.
    """

    enqueued_at: Annotated[_Context, Field(alias="enqueuedAt")] = None
    producer_version: Annotated[_Context, Field(alias="producerVersion")] = None
    url: _Context = None
    user_agent: Annotated[_Context, Field(alias="userAgent")] = None
    tenant_id: Annotated[_Tenant | None, BeforeValidator(_blank_or)] = None
    consent: Annotated[bool | None, BeforeValidator(_consent_or)] = None
    identity: Annotated[_Identity | None, BeforeValidator(_blank_or)] = None
    identity_proven: Annotated[
        bool,
        BeforeValidator(lambda value: value is True),
        Field(alias="identityProven", description="set by the gateway"),
    ] = False
    cut: Annotated[Cut | None, BeforeValidator(_lenient_cut), Field(description="what the gateway cut")] = None
    left_out: Annotated[
        Mapping[str, int] | None,
        BeforeValidator(_lenient_counts),
        Field(alias="leftOut", description="turns and parts that the gateway did not read, by kind"),
    ] = None


class Conversation(_Wire):
    """The plain form: as the gateway stores it on the topic. More forms are read: docs/reference/message-forms.md."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True, populate_by_name=True)

    # Other forms are read once more anyway, and a hostile body can be wrong in a million places.
    messages: Annotated[tuple[Message, ...], Field(min_length=1, fail_fast=True)]
    session_id: Annotated[_PrintableText, Field(alias="sessionId")]
    fingerprint: Annotated[_PrintableText | None, BeforeValidator(_blank_or)] = None
    metadata: Annotated[Metadata, BeforeValidator(lambda value: {} if value is None else value)] = Metadata()

    @property
    def cut(self) -> Cut | None:
        """What was cut, here and by the gateway; None if nothing was."""
        return self.metadata.cut

    @property
    def left_out(self) -> Mapping[str, int]:
        """Turns and parts that were not read, here and by the gateway, by kind."""
        return self.metadata.left_out or {}

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
        DecodeError: with reason and code (not JSON, no session, no text, too large) and the problem of each field.
    """
    return read(value, limits)[0]


def read(value: bytes | None, limits: Limits) -> tuple[Conversation, Noticed | None]:
    """Like `decode`; also returns what was left out, ignored or cut here, None if nothing was.

    Raises:
        DecodeError: see `decode`.
    """
    size, body_bytes = len(value or b""), limits.body_bytes
    if not value:
        raise DecodeError("the record has no value", reason=Reason.EMPTY, code=RefusalCode.BODY_NOT_JSON)
    if size > body_bytes and size > limits.wire_bytes:
        raise DecodeError(
            f"{size} bytes, at most {limits.read_bytes} are accepted (NEXUS_MAX_BODY_BYTES)",
            reason=Reason.TOO_LARGE,
            code=RefusalCode.BODY_TOO_LARGE,
        )
    noticed: Noticed | None = None
    try:
        conversation = Conversation.model_validate_json(value)
        is_plain, fits = _checked(conversation, limits)
    except ValidationError:
        is_plain = False
    if not is_plain:
        noticed = Noticed()
        conversation = _read_any_form(value, limits, noticed)
        _, fits = _checked(conversation, limits)
    if fits and size <= body_bytes:
        return conversation, noticed
    noticed = noticed or Noticed()
    return _cut(conversation, limits, noticed), noticed


def _checked(conversation: Conversation, limits: Limits) -> tuple[bool, bool]:
    """Whether a conversation needs no other reading, and whether its turns are within the limits."""
    messages, metadata, id_chars = conversation.messages, conversation.metadata, limits.id_chars
    session_id, fingerprint, identity = conversation.session_id, conversation.fingerprint, metadata.identity
    # The patterns of the fields have refused control characters. This runs for every record, so it calls little.
    is_plain = (
        len(session_id) <= id_chars
        and not is_placeholder(session_id)
        and (
            fingerprint is None
            or (
                len(fingerprint) <= id_chars
                and not fingerprint.startswith(RESERVED_FINGERPRINT_PREFIX)
                and not is_placeholder(fingerprint)
            )
        )
        and (metadata.tenant_id is None or not is_no_tenant(metadata.tenant_id))
        and (identity is None or (len(identity) <= id_chars and not is_placeholder(identity)))
    )
    fits, turn_chars = len(messages) <= limits.turns, limits.turn_chars
    for message in messages:
        content = message.content
        if not content or content.isspace():
            is_plain = False
        elif len(content) > turn_chars:
            fits = False
    return is_plain, fits


def _read_any_form(value: bytes, limits: Limits, noticed: Noticed) -> Conversation:
    require_few_elements(value)
    form = plain_form(_parsed(value), limits, noticed)
    metadata = dict(form.metadata)
    plain = {
        "messages": [{"role": turn.role, "content": turn.content} for turn in form.turns],
        "sessionId": form.session_id,
        "fingerprint": form.fingerprint,
        "metadata": metadata,
    }
    if noticed.left_out:
        metadata["leftOut"] = noticed.left_out + Counter(_lenient_counts(metadata.get("leftOut")))
    try:
        return Conversation.model_validate(plain)
    except ValidationError as error:
        raise _decode_error(error) from None


def _parsed(value: bytes) -> Any:
    for candidate in (value, mended(value)):
        try:
            return from_json(candidate)
        except ValueError as error:
            problem = str(error)
    if "recursion limit" in problem:
        raise DecodeError("the value is nested too deeply", reason=Reason.NOT_JSON, code=RefusalCode.BODY_TOO_DEEP)
    raise DecodeError("the value is not JSON", reason=Reason.NOT_JSON, code=RefusalCode.BODY_NOT_JSON)


def _cut(conversation: Conversation, limits: Limits, noticed: Noticed) -> Conversation:
    messages, metadata = conversation.messages, conversation.metadata
    kept, noticed.cut = cut_turns(
        messages,
        max_turns=limits.turns,
        max_chars=limits.turn_chars,
        max_bytes=limits.body_bytes,
        size_of=_json_bytes,
    )
    if not noticed.cut:
        return conversation
    cut = noticed.cut if metadata.cut is None else metadata.cut.joined(noticed.cut, kept)
    return conversation.model_copy(
        update={
            "messages": tuple(Message(role=messages[index].role, content=content) for index, content in kept),
            "metadata": metadata.model_copy(update={"cut": cut}),
        }
    )


def _json_bytes(turn: Spoken, content: str) -> int:
    return len(to_json({"role": turn.role, "content": content})) + 1


_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# Match every escape, so that the second half of an escaped backslash is not mistaken for the start of an escape. Right
# ones are matched in runs, which saves a call for each.
_ESCAPE = re.compile(
    rb"(?:\\(?:[^u]|u(?![dD][89a-fA-F][0-9a-fA-F]{2})|u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}))+"
    rb"|\\(u[dD][89a-fA-F][0-9a-fA-F]{2})",
    re.DOTALL,
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


def _decode_error(error: ValidationError) -> DecodeError:
    """Of a conversation in the plain form: only tenant and consent can still be wrong."""
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    details = {".".join(str(part) for part in problem["loc"])[:80]: problem["msg"] for problem in problems[:10]}
    code = RefusalCode.TENANT_INVALID if "metadata.tenant_id" in details else RefusalCode.CONVERSATION_INVALID
    return DecodeError(
        f"not a conversation: {', '.join(details)}", reason=Reason.WRONG_SHAPE, details=details, code=code
    )


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
