"""A command about one session: a record on ``nexus-prospect-ingestion`` that is not a conversation.

From: ``nexus privacy``, the enricher's retention sweep, the sink (a new session of an erased person). To: the enricher
that owns the session key. Only the header ``nexus-command`` distinguishes it from a conversation; the gateway copies no
header of a browser. It has the key of the session's conversations, so it is read in order with them.
"""

from __future__ import annotations

import hashlib
import uuid
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from nexus_stream.contracts.headers import COMMAND_HEADER, Headers
from nexus_stream.contracts.session_key import TENANT_PATTERN, session_key
from nexus_stream.contracts.subject import HASH_PATTERN, NO_NUL_PATTERN
from nexus_stream.errors import DecodeError, Reason

__all__ = ["CommandKind", "SessionCommand", "decode_command"]

_MAX_BYTES = 65_536


class CommandKind(StrEnum):
    """What to do with the session."""

    ERASE = "erase"  # forget all data of the session, and suppress the session from now on
    UNBLOCK = "lift"  # accept later turns again; the wire keeps its first word
    EXPIRE = "expire"  # forget an idle session; later turns are accepted


class SessionCommand(BaseModel):
    """The value of a command record. Its only personal data is the session's id."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    schema_version: Annotated[int, Field(ge=1, le=1)] = 1
    command: CommandKind
    tenant_id: Annotated[str, Field(pattern=TENANT_PATTERN)] = ""
    session_id: Annotated[str, Field(min_length=1, max_length=1024, pattern=NO_NUL_PATTERN)]
    request_id: Annotated[
        str,
        Field(
            min_length=8,
            max_length=64,
            pattern=NO_NUL_PATTERN,
            description="the same for a repeated delivery, which then has no effect",
        ),
    ]
    requested_by_hash: Annotated[str, Field(max_length=64)] = ""
    requested_at: Annotated[datetime, Field(description="lift: turns after this moment are accepted")]
    fingerprint_hashes: Annotated[
        tuple[Annotated[str, Field(pattern=HASH_PATTERN)], ...],
        Field(max_length=256, description="erase: further fingerprints of the person, hashed"),
    ] = ()
    idle_since_ms: Annotated[
        int | None, Field(description="expire: only if no snapshot came after this moment, Unix milliseconds")
    ] = None
    through_ms: Annotated[
        int | None, Field(description="expire: data up to this moment is deleted, Unix milliseconds")
    ] = None

    @model_validator(mode="after")
    def _expire_needs_idle_since(self) -> SessionCommand:
        if self.command is CommandKind.EXPIRE and self.idle_since_ms is None:
            raise ValueError("expire needs idle_since_ms")
        return self

    @property
    def key(self) -> bytes:
        """The session key."""
        return session_key(self.tenant_id, self.session_id)

    @property
    def requested_at_ms(self) -> int:
        """``requested_at`` as Unix milliseconds."""
        moment = self.requested_at if self.requested_at.tzinfo else self.requested_at.replace(tzinfo=UTC)
        return round(moment.timestamp() * 1000)

    @property
    def value(self) -> bytes:
        """The record's value."""
        return self.model_dump_json(exclude_none=True).encode()

    @property
    def headers(self) -> Headers:
        """The record's headers."""
        return ((COMMAND_HEADER, self.command.value.encode()),)

    @staticmethod
    def new_request_id() -> str:
        """A new id for one request of an operator."""
        return uuid.uuid4().hex


def decode_command(value: bytes | None, header: bytes) -> SessionCommand:
    """Read a command record.

    Raises:
        DecodeError: the value is not a session command, or header and value name different commands.
    """
    if not value:
        raise DecodeError("the command has no value", reason=Reason.EMPTY)
    if len(value) > _MAX_BYTES:
        raise DecodeError(f"the command has {len(value)} bytes, at most {_MAX_BYTES}", reason=Reason.TOO_LARGE)
    try:
        command = SessionCommand.model_validate_json(value)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False, include_context=False)
        fields = ", ".join(".".join(map(str, problem["loc"]))[:80] for problem in problems[:10])
        raise DecodeError(f"not a session command: {fields or 'not JSON'}", reason=Reason.WRONG_SHAPE) from None
    if command.command.value.encode() != header:
        raise DecodeError(f"the header {COMMAND_HEADER} names another command", reason=Reason.WRONG_SHAPE)
    return command


def derived_request_id(*parts: object) -> str:
    """A request id computed from the cause of the request: if the cause is read again, the id is the same."""
    return hashlib.sha256("\x00".join(map(str, parts)).encode("utf-8", "replace")).hexdigest()[:32]
