"""An answer that travels with its conversation: read elsewhere, in a batch, and checked here like any other.

From: ``nexus backfill``, in the header ``nexus-answer`` of a record on ``nexus-prospect-ingestion``. To: the enricher,
which takes it instead of calling a model; order, duplicates, erasures, grounding and merging are its own as ever.
Trusted like a command, by being on the topic: the gateway sets no header that a browser names. It is bound to its
conversation by the digest, and whatever it claims still has to stand in the user's own turns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nexus_stream.contracts.headers import ANSWER_HEADER
from nexus_stream.errors import DecodeError, PermanentError, Reason
from nexus_stream.extraction.extractor import Findings, MadeBy, Turn

__all__ = ["Answered", "encode_answer", "encode_failure", "findings_of"]

# A dozen values with their spans take 2 KB.
_MAX_BYTES: Final = 65_536


class _Failure(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    reason: Reason
    # What the letter says: no personal data.
    message: Annotated[str, Field(max_length=500)]


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    version: Literal[1] = 1
    digest: str
    # With ``made_by`` and ``usage``: what it cost is counted where it is stored.
    findings: Findings | None = None
    failure: _Failure | None = None


def encode_answer(digest: str, findings: Findings) -> bytes:
    """The header's value for a conversation that was read.

    Args:
        digest: Of the conversation (contracts/conversation.py).
        findings: With ``made_by`` set.
    """
    return _Answer(digest=digest, findings=findings).model_dump_json(exclude_none=True).encode()


def encode_failure(digest: str, error: PermanentError) -> bytes:
    """The header's value for a conversation that cannot be read: the enricher sets it aside with this reason."""
    failure = _Failure(reason=error.reason, message=str(error)[:500])
    return _Answer(digest=digest, failure=failure).model_dump_json(exclude_none=True).encode()


def findings_of(header: bytes) -> Findings | None:
    """What a header says was found; None if it says that nothing could be read."""
    return _Answer.model_validate_json(header).findings


class Answered:
    """An `Extractor` for one record that knows what was read in it.

    Args:
        header: The value of the header.
        digest: Of the conversation beside it.
        made_by: Who answers when there is no header: its labels are this one's until the answer is looked at.
    """

    def __init__(self, header: bytes, digest: str, made_by: MadeBy) -> None:
        self._header = header
        self._digest = digest
        self._made_by = made_by

    @property
    def name(self) -> str:
        """Of the live extractor; findings carry their own in ``made_by``."""
        return self._made_by.extractor

    @property
    def model(self) -> str | None:
        """Of the live extractor."""
        return self._made_by.model

    @property
    def prompt_version(self) -> str | None:
        """Of the live extractor."""
        return self._made_by.prompt_version

    async def extract(self, turns: Sequence[Turn]) -> Findings:
        """What the header holds.

        Raises:
            PermanentError: it says that the conversation cannot be read.
            DecodeError: it is no answer, or one to another conversation. Not passed over: reading the conversation
                again would be paid twice. A redrive takes the header off.
        """
        answer = self._decoded()
        if answer.digest != self._digest:
            raise DecodeError(f"{ANSWER_HEADER}: it answers another conversation", reason=Reason.WRONG_SHAPE)
        if answer.failure is not None:
            raise PermanentError(answer.failure.message, reason=answer.failure.reason)
        if answer.findings is None or answer.findings.made_by is None:
            raise DecodeError(f"{ANSWER_HEADER}: it holds no answer", reason=Reason.WRONG_SHAPE)
        return answer.findings

    async def close(self) -> None:
        """There is nothing to release."""

    def _decoded(self) -> _Answer:
        if len(self._header) <= _MAX_BYTES:
            try:
                return _Answer.model_validate_json(self._header)
            except ValidationError:
                pass
        # Raised here, not in the except clause: the original holds what was found, a person's data.
        raise DecodeError(f"{ANSWER_HEADER}: it is no answer of this version", reason=Reason.WRONG_SHAPE)
