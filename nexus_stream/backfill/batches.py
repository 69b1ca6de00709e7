"""Anthropic's Message Batches, as far as a backfill needs them.

From: run.py. To: ``/v1/messages/batches`` through the SDK, and its failures as our own errors. Results are read with
our own models: the SDK builds its own without validating them.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import anthropic
from anthropic.types.messages import MessageBatch
from anthropic.types.messages.batch_create_params import Request
from pydantic import ValidationError

from nexus_stream.errors import ConfigurationError, ModelUnavailableError
from nexus_stream.extraction.claude.errors import Rejected, failure_from
from nexus_stream.extraction.claude.reply import Reply
from nexus_stream.settings import Settings

__all__ = ["Batch", "Batches", "Ended", "Kind", "UnknownOutcomeError"]

_SERVER_ERRORS_FROM: Final = 500
_NOT_FOUND: Final = 404
# Every request would meet these: no conversation is at fault.
_ACCOUNT_ERRORS: Final = frozenset(
    {"authentication_error", "permission_error", "billing_error", "not_found_error", "request_too_large"}
)


class UnknownOutcomeError(Exception):
    """Whether the batch was created is not known: it must be looked for, not created again."""


class Kind(StrEnum):
    """How one request of a batch ended."""

    SUCCEEDED = "succeeded"
    REJECTED = "rejected"  # not accepted: by its conversation's fault, or by what all requests have in common
    FAILED = "failed"  # the server's fault, expired, or not in the results: nothing was paid
    CANCELED = "canceled"


@dataclass(frozen=True, slots=True)
class Ended:
    """One result.

    Attributes:
        reply: Of a success; None if what came is no message.
        detail: Of another end: the kind of error.
    """

    custom_id: str
    kind: Kind
    reply: Reply | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as the API describes it."""

    id: str
    created_at: float
    expires_at: float
    has_ended: bool
    has_results: bool
    requests: int
    done: int

    @classmethod
    def of(cls, batch: MessageBatch) -> Batch:
        """Of the SDK's."""
        counts = batch.request_counts
        done = counts.succeeded + counts.errored + counts.expired + counts.canceled
        return cls(
            id=batch.id,
            created_at=_unix(batch.created_at),
            expires_at=_unix(batch.expires_at),
            has_ended=batch.processing_status == "ended",
            has_results=batch.results_url is not None,
            requests=done + counts.processing,
            done=done,
        )


class Batches:
    """The API.

    Args:
        client: Without retries of its own: creating a batch twice would be paid twice.
        settings: ``claude_retry_after_max_seconds``.
    """

    def __init__(self, client: anthropic.AsyncAnthropic, settings: Settings) -> None:
        self._client = client
        self._retry_after_max_seconds = settings.claude_retry_after_max_seconds

    async def create(self, requests: list[Request]) -> Batch:
        """Create a batch.

        Raises:
            UnknownOutcomeError: it may have been created.
            ModelUnavailableError: it was not, try later; SpendLimitError: nor will it be until somebody acts.
            ConfigurationError: key, model, address or the requests.
        """
        try:
            return Batch.of(await self._client.messages.batches.create(requests=requests))
        except anthropic.AnthropicError as error:
            if isinstance(error, anthropic.APIStatusError) and error.status_code < _SERVER_ERRORS_FROM:
                failure = self._failure(error)
            elif isinstance(error, anthropic.APIError):
                # Also a refused connection: looking for it costs a minute, and is never wrong.
                failure = UnknownOutcomeError(type(error).__name__)
            else:
                failure = self._failure(error)
        # Here, so that the SDK's error, which holds the conversations, is let go.
        raise failure

    async def retrieve(self, batch_id: str) -> Batch | None:
        """A batch; None if there is none of that id (any more)."""
        try:
            return Batch.of(await self._client.messages.batches.retrieve(batch_id))
        except anthropic.AnthropicError as error:
            if isinstance(error, anthropic.APIStatusError) and error.status_code == _NOT_FOUND:
                return None
            failure = self._failure(error)
        raise failure

    async def created_since(self, moment: float) -> list[Batch]:
        """Every batch of the workspace that was created then or later, newest first."""
        found: list[Batch] = []
        try:
            async for batch in self._client.messages.batches.list(limit=100):
                one = Batch.of(batch)
                if one.created_at < moment:
                    break
                found.append(one)
        except anthropic.AnthropicError as error:
            failure = self._failure(error)
        else:
            return found
        raise failure

    async def results(self, batch_id: str) -> AsyncGenerator[Ended, None]:
        """Every result, in no order.

        Raises:
            ModelUnavailableError: they broke off; read them again from the start.
        """
        failure: Exception
        try:
            lines = await self._client.messages.batches.results(batch_id)
            try:
                async for entry in lines:
                    yield _ended(entry.model_dump(mode="json", warnings=False))
            finally:
                await lines.close()
        except anthropic.AnthropicError as error:
            failure = self._failure(error)
        except (OSError, ValueError) as error:
            # A body that ends early, or a line that is no JSON.
            failure = ModelUnavailableError(f"the results of {batch_id} broke off: {type(error).__name__}")
        except Exception as error:
            # The transport's own errors pass the SDK while a body is read.
            if not type(error).__module__.startswith(("httpx", "httpcore", "aiohttp")):
                raise
            failure = ModelUnavailableError(f"the results of {batch_id} broke off: {type(error).__name__}")
        else:
            return
        raise failure

    async def delete(self, batch_id: str) -> None:
        """Delete a batch that has ended, with all that Anthropic keeps of it; one that is gone is no error."""
        try:
            await self._client.messages.batches.delete(batch_id)
        except anthropic.AnthropicError as error:
            if isinstance(error, anthropic.APIStatusError) and error.status_code == _NOT_FOUND:
                return
            failure = self._failure(error)
        else:
            return
        raise failure

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    def _failure(self, error: anthropic.AnthropicError) -> Exception:
        failure = failure_from(error, retry_after_max_seconds=self._retry_after_max_seconds)
        if isinstance(failure, Rejected):
            # Not its own words: they may repeat what was sent.
            return ConfigurationError(
                f"Claude: HTTP {failure.status} for a batch (request {failure.request_id}). Check NEXUS_CLAUDE_MODEL, "
                "NEXUS_CLAUDE_MAX_TOKENS and the account's credit."
            )
        return failure


def _ended(entry: dict[str, Any]) -> Ended:
    custom_id = str(entry.get("custom_id", ""))
    result: dict[str, Any] = entry.get("result") or {}
    kind = result.get("type")
    if kind == "succeeded":
        try:
            return Ended(custom_id, Kind.SUCCEEDED, Reply.model_validate(result.get("message")))
        except ValidationError:
            return Ended(custom_id, Kind.FAILED, detail="no message")
    if kind == "errored":
        error = ((result.get("error") or {}).get("error") or {}).get("type", "unknown")
        rejected = error == "invalid_request_error" or error in _ACCOUNT_ERRORS
        return Ended(custom_id, Kind.REJECTED if rejected else Kind.FAILED, detail=str(error))
    return Ended(custom_id, Kind.CANCELED if kind == "canceled" else Kind.FAILED, detail=str(kind))


def _unix(moment: datetime | None) -> float:
    return time.time() if moment is None else moment.timestamp()
