"""The part of Anthropic's Message Batches API that a backfill needs.

To: ``/v1/messages/batches`` through the SDK. From: batches and results. The SDK's failures become the errors of
nexus_stream/errors.py. Results are parsed with our own models, because the SDK does not validate them.
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
# Every request would fail like this: the cause is not a conversation.
_ACCOUNT_ERRORS: Final = frozenset(
    {"authentication_error", "permission_error", "billing_error", "not_found_error", "request_too_large"}
)


class UnknownOutcomeError(Exception):
    """It is unknown whether the batch was created. Search for it; do not create it again."""


class Kind(StrEnum):
    """How one request of a batch ended."""

    SUCCEEDED = "succeeded"
    REJECTED = "rejected"  # not accepted, because of its conversation or of the part that all requests share
    FAILED = "failed"  # a server error, expired, or not in the results: nothing was paid
    CANCELED = "canceled"


@dataclass(frozen=True, slots=True)
class Ended:
    """One result.

    Attributes:
        reply: The reply of a success; None if the result is no message.
        detail: The kind of error, if it is no success.
    """

    custom_id: str
    kind: Kind
    reply: Reply | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Batch:
    """The state of a batch at Anthropic."""

    id: str
    created_at: float
    expires_at: float
    has_ended: bool
    has_results: bool
    requests: int
    done: int

    @classmethod
    def of(cls, batch: MessageBatch) -> Batch:
        """Convert the SDK's model."""
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
    """The client of the Message Batches API.

    Args:
        client: The SDK's client with its own retries off: a batch that is created twice is paid twice.
        settings: ``claude_retry_after_max_seconds``.
    """

    def __init__(self, client: anthropic.AsyncAnthropic, settings: Settings) -> None:
        self._client = client
        self._retry_after_max_seconds = settings.claude_retry_after_max_seconds

    async def create(self, requests: list[Request]) -> Batch:
        """Create a batch.

        Raises:
            UnknownOutcomeError: the batch may have been created.
            ModelUnavailableError: the batch was not created; try later.
            SpendLimitError: the batch was not created; somebody must raise the spend limit first.
            ConfigurationError: the key, the model, the address or the requests are wrong.
        """
        try:
            return Batch.of(await self._client.messages.batches.create(requests=requests))
        except anthropic.AnthropicError as error:
            if isinstance(error, anthropic.APIStatusError) and error.status_code < _SERVER_ERRORS_FROM:
                failure = self._failure(error)
            elif isinstance(error, anthropic.APIError):
                # Also for a refused connection: a search takes a minute and is always safe.
                failure = UnknownOutcomeError(type(error).__name__)
            else:
                failure = self._failure(error)
        # Raised outside the except clause, so that the SDK's error, which holds the conversations, is released.
        raise failure

    async def retrieve(self, batch_id: str) -> Batch | None:
        """Fetch a batch; None if it does not exist (any more)."""
        try:
            return Batch.of(await self._client.messages.batches.retrieve(batch_id))
        except anthropic.AnthropicError as error:
            if isinstance(error, anthropic.APIStatusError) and error.status_code == _NOT_FOUND:
                return None
            failure = self._failure(error)
        raise failure

    async def created_since(self, moment: float) -> list[Batch]:
        """List the workspace's batches that were created at that time or later, newest first."""
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
        """Yield every result, in any order.

        Raises:
            ModelUnavailableError: the results broke off; read them again from the start.
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
            # A body that ends early, or a line that is not JSON.
            failure = ModelUnavailableError(f"the results of {batch_id} broke off: {type(error).__name__}")
        except Exception as error:
            # The SDK does not wrap the transport's errors while a body is read.
            if not type(error).__module__.startswith(("httpx", "httpcore", "aiohttp")):
                raise
            failure = ModelUnavailableError(f"the results of {batch_id} broke off: {type(error).__name__}")
        else:
            return
        raise failure

    async def delete(self, batch_id: str) -> None:
        """Delete a batch that has ended, with everything that Anthropic stores of it; a missing batch is no error."""
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
            # The API's own words are left out: they may repeat the request.
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
