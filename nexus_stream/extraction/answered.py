"""An answer that travels with its conversation: read in a batch elsewhere, checked here like any other answer.

From: ``nexus backfill``, in the header ``nexus-answer`` of a record on ``nexus-prospect-ingestion``. To: the enricher,
which uses the answer instead of calling a model. Order, duplicates, erasures, grounding and merging work as usual.
The header is trusted, like a command, because a browser cannot write to the topic: the gateway never copies a header
from a request. A digest binds the answer to its conversation. The user's own turns must still support every value.
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
    # The text of the dead letter: no personal data.
    message: Annotated[str, Field(max_length=500)]


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    version: Literal[1] = 1
    digest: str
    # Includes ``made_by`` and ``usage``: the cost is counted when the answer is stored.
    findings: Findings | None = None
    failure: _Failure | None = None


def encode_answer(digest: str, findings: Findings) -> bytes:
    """Encode the header's value for a conversation that was read.

    Args:
        digest: The conversation's digest (contracts/conversation.py).
        findings: The findings, with ``made_by`` set.
    """
    return _Answer(digest=digest, findings=findings).model_dump_json(exclude_none=True).encode()


def encode_failure(digest: str, error: PermanentError) -> bytes:
    """Encode the header's value for a conversation that cannot be read; the enricher makes it a dead letter."""
    failure = _Failure(reason=error.reason, message=str(error)[:500])
    return _Answer(digest=digest, failure=failure).model_dump_json(exclude_none=True).encode()


def findings_of(header: bytes) -> Findings | None:
    """Return the findings in a header; None if the header reports a failure."""
    return _Answer.model_validate_json(header).findings


class Answered:
    """An `Extractor` for one record whose answer came in a header.

    Args:
        header: The value of the header.
        digest: The digest of the record's conversation.
        made_by: The labels of the live extractor. They apply until the header is decoded.
    """

    def __init__(self, header: bytes, digest: str, labels: MadeBy) -> None:
        self._header = header
        self._digest = digest
        # Of the live extractor; findings carry their own in ``made_by``.
        self.labels = labels

    async def extract(self, turns: Sequence[Turn], region: str | None = None) -> Findings:
        """Return the findings in the header.

        Raises:
            PermanentError: the header reports that the conversation cannot be read.
            DecodeError: the header holds no answer, or the answer to another conversation. The header is not ignored,
                because a second reading would be paid twice. A redrive removes the header.
        """
        answer = self._decoded()
        if answer.digest != self._digest:
            raise DecodeError(f"{ANSWER_HEADER}: the answer is for another conversation", reason=Reason.WRONG_SHAPE)
        if answer.failure is not None:
            raise PermanentError(answer.failure.message, reason=answer.failure.reason)
        if answer.findings is None or answer.findings.made_by is None:
            raise DecodeError(f"{ANSWER_HEADER}: the header holds no answer", reason=Reason.WRONG_SHAPE)
        return answer.findings

    async def close(self) -> None:
        """Do nothing: there is nothing to release."""

    def _decoded(self) -> _Answer:
        if len(self._header) <= _MAX_BYTES:
            try:
                return _Answer.model_validate_json(self._header)
            except ValidationError:
                pass
        # Raised outside the except clause: the original error holds the findings, which are personal data.
        raise DecodeError(f"{ANSWER_HEADER}: not an answer of this version", reason=Reason.WRONG_SHAPE)
