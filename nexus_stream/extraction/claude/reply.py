"""One response of the Messages API: its text, its stop reason and its cost.

From: the body of an HTTP 200. This file has its own models, because the SDK does not validate, and the body may be a
proxy's page with status 200. A proxy may also leave out ``usage`` or ``stop_reason``: both are then unknown, and the
answer is used.
"""

from __future__ import annotations

import functools
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from nexus_stream.errors import ModelRefusedError, Reason
from nexus_stream.extraction.claude.prices import Price, TokenCounts, cost_usd
from nexus_stream.extraction.extractor import Usage
from nexus_stream.host.log import get_logger

__all__ = ["Meter", "Reply", "complete_text", "read_reply"]

_log = get_logger(__name__)

_Count = Annotated[int, Field(ge=0), BeforeValidator(lambda value: 0 if value is None else value)]


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class _Block(_Wire):
    type: str
    text: str | None = None


class _WireUsage(_Wire):
    input_tokens: Annotated[int, Field(ge=0)] | None = None
    output_tokens: Annotated[int, Field(ge=0)] | None = None
    cache_read_input_tokens: _Count = 0
    cache_creation_input_tokens: _Count = 0


class Reply(_Wire):
    """The used parts of a response."""

    content: tuple[_Block, ...]
    stop_reason: str | None = None
    usage: _WireUsage | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Reply:
        if not self.content and self.stop_reason is None:
            raise ValueError("no message")
        return self

    @property
    def text(self) -> str:
        """The joined text blocks; blocks of other types (thinking may come first) are skipped."""
        return "".join(block.text or "" for block in self.content if block.type == "text")

    @property
    def tokens(self) -> TokenCounts | None:
        """The billed tokens; None if the response does not say them."""
        usage = self.usage
        if usage is None or usage.input_tokens is None or usage.output_tokens is None:
            _note_missing("usage")
            return None
        return TokenCounts(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cache_read_tokens=usage.cache_read_input_tokens,
            cache_write_tokens=usage.cache_creation_input_tokens,
        )


class Meter:
    """Adds up the cost of the calls of one extraction."""

    def __init__(self, price: Price | None) -> None:
        self._price = price
        self._input_tokens = self._output_tokens = self._cache_read_tokens = 0
        self._cost_usd = self._seconds = 0.0

    def add(self, tokens: TokenCounts, seconds: float) -> None:
        """Count one call."""
        # Writing to the cache is paid input: without it the token counts would not explain the cost.
        self._input_tokens += tokens.input_tokens + tokens.cache_write_tokens
        self._output_tokens += tokens.output_tokens
        self._cache_read_tokens += tokens.cache_read_tokens
        self._cost_usd += cost_usd(self._price, tokens)
        self._seconds += seconds

    @property
    def usage(self) -> Usage:
        """The sum so far."""
        return Usage(
            input_tokens=self._input_tokens,
            output_tokens=self._output_tokens,
            cache_read_tokens=self._cache_read_tokens,
            cost_usd=self._cost_usd,
            latency_ms=round(self._seconds * 1000, 3),
        )


def read_reply(body: bytes) -> Reply | None:
    """Parse the response in a body; None if the body is no response."""
    try:
        return Reply.model_validate_json(body)
    except ValidationError:
        return None


def complete_text(reply: Reply) -> str:
    """Return the text of a complete answer. If the stop reason is unknown, a cut-off answer does not parse.

    Raises:
        ModelRefusedError: Claude declined the conversation, or the answer was cut off.
    """
    if reply.stop_reason is None:
        _note_missing("stop_reason")
    if reply.stop_reason == "refusal":
        raise ModelRefusedError("Claude declined to read this conversation", reason=Reason.MODEL_REFUSED)
    if reply.stop_reason in ("max_tokens", "model_context_window_exceeded"):
        raise ModelRefusedError(
            f"Claude stopped before its answer was complete ({reply.stop_reason}, NEXUS_CLAUDE_MAX_TOKENS)",
            reason=Reason.MODEL_TRUNCATED,
        )
    return reply.text


@functools.cache
def _note_missing(field: str) -> None:
    """Log once per process that responses come without this field."""
    _log.warning("model_reply_incomplete", missing=field)
