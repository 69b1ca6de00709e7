"""A session was erased, version 1: the other kind of record on ``prospects-enriched``.

From: the enricher, once its own table holds nothing of the session any more. To: the sink and every subscriber, who
delete what they stored of it (key = session key). Told from an enriched prospect by the header ``ce_type``.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from nexus_stream.contracts.headers import (
    ERASED_TYPE,
    Headers,
    event_headers,
)
from nexus_stream.contracts.session_key import session_key
from nexus_stream.contracts.subject import HASH_PATTERN, NO_NUL_PATTERN, require_iso
from nexus_stream.errors import DecodeError, Reason

__all__ = ["ErasedSession", "decode_erased"]


_Moment: TypeAlias = Annotated[str, AfterValidator(require_iso)]


def _hashes_alone(value: Any) -> Any:
    # What is no hash names no fingerprint: an erasure is not refused for it, nor is a state that an older version kept.
    if not isinstance(value, list | tuple):
        return value
    return [one for one in value if not isinstance(one, str) or re.fullmatch(HASH_PATTERN, one)]


class ErasedSession(BaseModel):
    """Delete everything of this session that is not newer than ``through_ms``."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    schema_version: Literal[1] = 1
    tenant_id: Annotated[str, Field(pattern=NO_NUL_PATTERN)] = ""
    session_id: Annotated[str, Field(min_length=1, pattern=NO_NUL_PATTERN)]
    fingerprint_hashes: Annotated[
        tuple[Annotated[str, Field(pattern=HASH_PATTERN)], ...],
        BeforeValidator(_hashes_alone),
        Field(description="SHA-256 of each fingerprint the session had: see docs/howto/privacy.md"),
    ] = ()
    reason: Annotated[
        Literal["request", "retention"],
        Field(description='"request": let nothing of the person back in; "retention": it was idle for too long'),
    ] = "request"
    through_ms: Annotated[
        int | None,
        Field(description="retention: snapshots up to this moment, Unix milliseconds; null: whatever is stored"),
    ] = None
    requested_at: Annotated[_Moment, Field(description="ISO 8601; a lift covers what was requested before it")]
    request_id: Annotated[str, Field(pattern=NO_NUL_PATTERN, description="the same for a repeated delivery")]
    erased_at: Annotated[_Moment, Field(description="ISO 8601 with milliseconds, UTC")]

    @property
    def key(self) -> bytes:
        """The session key."""
        return session_key(self.tenant_id, self.session_id)

    @property
    def value(self) -> bytes:
        """The record's value."""
        return self.model_dump_json().encode()

    def headers(self, source: str) -> Headers:
        """CloudEvents 1.0 binary headers; a re-emission carries the same id."""
        identity = ("erased", self.tenant_id, self.session_id, self.request_id)
        return event_headers(ERASED_TYPE, *identity, source=source, time=self.erased_at)


def decode_erased(value: bytes | None) -> ErasedSession:
    """Read an erased event.

    Raises:
        DecodeError: it is none.
    """
    if not value:
        raise DecodeError("the record has no value", reason=Reason.EMPTY)
    try:
        return ErasedSession.model_validate_json(value)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False, include_context=False)
        fields = ", ".join(".".join(map(str, problem["loc"]))[:80] for problem in problems[:10])
        raise DecodeError(f"not an erased session v1: {fields or 'not JSON'}", reason=Reason.WRONG_SHAPE) from None
