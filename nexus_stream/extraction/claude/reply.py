"""One response of the Messages API: its text, its stop reason and its cost.

From: the body of an HTTP 200. This file has its own models, because the SDK does not validate, and the body may be a
proxy's page with status 200.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from nexus_stream.errors import ModelRefusedError, Reason
from nexus_stream.extraction.claude.prices import Price, TokenCounts, cost_usd
from nexus_stream.extraction.extractor import Usage

__all__ = ["Meter", "Reply", "complete_text", "read_reply"]

_Count = Annotated[int, Field(ge=0), BeforeValidator(lambda value: 0 if value is None else value)]


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class _Block(_Wire):
    type: str
    text: str | None = None


class _WireUsage(_Wire):
    input_tokens: _Count
    output_tokens: _Count
    cache_read_input_tokens: _Count = 0
    cache_creation_input_tokens: _Count = 0


class Reply(_Wire):
    """The used parts of a response."""

    content: tuple[_Block, ...]
    stop_reason: str
    usage: _WireUsage

    @property
    def text(self) -> str:
        """The joined text blocks; blocks of other types (thinking may come first) are skipped."""
        return "".join(block.text or "" for block in self.content if block.type == "text")

    @property
    def tokens(self) -> TokenCounts:
        """The billed tokens."""
        return TokenCounts(
            input_tokens=self.usage.input_tokens,
            output_tokens=self.usage.output_tokens,
            cache_read_tokens=self.usage.cache_read_input_tokens,
            cache_write_tokens=self.usage.cache_creation_input_tokens,
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
    """Return the text of a complete answer.

    Raises:
        ModelRefusedError: Claude declined the conversation, or the answer was cut off.
    """
    if reply.stop_reason == "refusal":
        raise ModelRefusedError("Claude declined to read this conversation", reason=Reason.MODEL_REFUSED)
    if reply.stop_reason in ("max_tokens", "model_context_window_exceeded"):
        raise ModelRefusedError(
            f"Claude stopped before its answer was complete ({reply.stop_reason}, NEXUS_CLAUDE_MAX_TOKENS)",
            reason=Reason.MODEL_TRUNCATED,
        )
    return reply.text
