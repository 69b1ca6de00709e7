"""An erased session, version 1: the second kind of record on ``prospects-enriched``.

From: the enricher, after its own table holds no data of the session. To: the sink and every subscriber, which then
delete their data of the session (key = session key). The header ``ce_type`` distinguishes it from an enriched prospect.
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


def _only_hashes(value: Any) -> Any:
    # Drop values that are not hashes: they must not refuse an erasure, nor the stored state of an older version.
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
        BeforeValidator(_only_hashes),
        Field(description="SHA-256 of each fingerprint of the session: see docs/howto/privacy.md"),
    ] = ()
    reason: Annotated[
        Literal["request", "retention"],
        Field(
            description='"request": the person is suppressed from now on; "retention": the session was idle too long'
        ),
    ] = "request"
    through_ms: Annotated[
        int | None,
        Field(description="retention: erase snapshots up to this moment, Unix milliseconds; null: erase all"),
    ] = None
    requested_at: Annotated[_Moment, Field(description="ISO 8601; a later lift undoes the suppression")]
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
        """CloudEvents 1.0 binary headers. The same event has the same id when it is emitted again."""
        identity = ("erased", self.tenant_id, self.session_id, self.request_id)
        return event_headers(ERASED_TYPE, *identity, source=source, time=self.erased_at)


def decode_erased(value: bytes | None) -> ErasedSession:
    """Read an erased event.

    Raises:
        DecodeError: the value is not an erased event.
    """
    if not value:
        raise DecodeError("the record has no value", reason=Reason.EMPTY)
    try:
        return ErasedSession.model_validate_json(value)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False, include_context=False)
        fields = ", ".join(".".join(map(str, problem["loc"]))[:80] for problem in problems[:10])
        raise DecodeError(f"not an erased session v1: {fields or 'not JSON'}", reason=Reason.WRONG_SHAPE) from None
