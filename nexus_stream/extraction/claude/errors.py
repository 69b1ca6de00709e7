"""Classify a failed call to Claude: wait, stop, or check the record.

The exceptions of the ``anthropic`` SDK become the three branches of nexus_stream/errors.py. The SDK's exceptions are
not kept as ``__cause__``: they hold the request with the whole conversation, and a traceback reporter would send it.
"""

from __future__ import annotations

import math
import re
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import anthropic

from nexus_stream.errors import ConfigurationError, ModelUnavailableError, SpendLimitError

__all__ = ["Rejected", "failure_from", "is_spend_limit", "retry_after_from", "was_never_sent"]

# 409: a conflict of concurrent requests. 499: the API saw the connection close.
_WAIT: Final = frozenset({408, 409, 429, 499})
# The rate limit and "overloaded" affect all calls. Another failure may be caused by this conversation.
_GENERAL: Final = frozenset({429, 503, 529})
# The request was read and rejected. The cause is the conversation, or the part that all requests share.
_REJECTED: Final = frozenset({400, 413, 422})
# A 429 that lasts until somebody raises a limit or the month ends: a retry after some seconds is useless.
_SPEND_LIMIT_CODES: Final = frozenset(
    {"contract_spend_limit_reached", "enforced_spend_limit_reached", "linked_organization_spend_limit_reached"}
)
_PAYMENT_REQUIRED: Final = 402
# The API's words for an owner's spend limit or an empty account; both are a plain 400. They are only read in the answer
# to the harmless request, and only decide between a pause and a stop: an unknown wording stops the worker.
_SPEND_WORDS: Final = re.compile(r"usage limit|spend|credit balance|billing", re.IGNORECASE)
# Errors of connecting: nothing was sent, so nothing can be billed.
_NEVER_SENT: Final = (ConnectionRefusedError, socket.gaierror, ssl.SSLError)
_FIXES: Final[Mapping[int, str]] = {
    401: "the key was refused. Set ANTHROPIC_API_KEY to a valid one.",
    403: "the key may not use this model. Check the key's workspace and NEXUS_CLAUDE_MODEL.",
    404: "the model or the address does not exist. Check NEXUS_CLAUDE_MODEL and ANTHROPIC_BASE_URL.",
}


@dataclass(frozen=True, slots=True)
class Rejected:
    """HTTP 400, 413 or 422: the status alone does not show whether the conversation is the cause.

    A spend limit set by the account's owner is a 400 of the same type, and wordings change, so the text is not
    interpreted. Instead the caller sends a second request with a harmless conversation.

    Attributes:
        detail: The API's own words. They may repeat the request: show them only if the request held no user's data.
    """

    status: int
    request_id: str
    detail: str


def failure_from(
    error: anthropic.AnthropicError, *, retry_after_max_seconds: float, now: datetime | None = None
) -> ModelUnavailableError | ConfigurationError | Rejected:
    """Classify an exception of the SDK.

    Args:
        error: Any exception of the SDK's own hierarchy.
        retry_after_max_seconds: The longest wait that is accepted.
        now: The start time for a ``retry-after`` date.
    """
    if isinstance(error, anthropic.APIStatusError):
        return _failure_from_status(error, retry_after_max_seconds, now or datetime.now(UTC))
    if isinstance(error, anthropic.APITimeoutError):
        return ModelUnavailableError("Claude did not answer in time").of_kind("timeout")
    if isinstance(error, (anthropic.APIError, anthropic.RetryableError)):
        # Connections refused or broken, and bodies that end early.
        broken = ModelUnavailableError(f"no connection to Claude, or it broke: {type(_root(error)).__name__}")
        return broken.of_kind("connection")
    # No request was made: bad credentials, a missing dependency, or a wrong use of the SDK.
    return ConfigurationError(f"Claude: the SDK refused the call ({type(error).__name__}). Check ANTHROPIC_API_KEY.")


def retry_after_from(headers: Mapping[str, str], *, max_seconds: float, now: datetime) -> float | None:
    """Read the wait in ``retry-after-ms`` or ``retry-after`` (seconds or a date, RFC 9110), capped; None if absent."""
    for name, divisor in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        text = headers.get(name)
        if text is None:
            continue
        seconds = _seconds(text, divisor, now)
        if seconds is not None:
            return min(max(0.0, seconds), max_seconds)
    return None


def _seconds(text: str, divisor: float, now: datetime) -> float | None:
    try:
        number = float(text) / divisor
    except ValueError:
        try:
            moment = parsedate_to_datetime(text)
        except ValueError:
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return (moment - now).total_seconds()
    return number if math.isfinite(number) else None


def _failure_from_status(
    error: anthropic.APIStatusError, retry_after_max_seconds: float, now: datetime
) -> ModelUnavailableError | ConfigurationError | Rejected:
    status = error.status_code
    request_id = str(error.request_id or "none")
    if error.error_code in _SPEND_LIMIT_CODES or status == _PAYMENT_REQUIRED:
        return SpendLimitError(
            f"Claude: HTTP {status}, the spend limit is reached (request {request_id}). Raise the account's limit or "
            "check its payment details in the Claude Console, or set NEXUS_EXTRACTOR=offline.",
            is_general=True,
        )
    if status in _WAIT or status >= 500:
        retry_after = retry_after_from(error.response.headers, max_seconds=retry_after_max_seconds, now=now)
        return ModelUnavailableError(
            f"Claude answered HTTP {status} (request {request_id})",
            retry_after_seconds=retry_after,
            is_general=status in _GENERAL,
        ).of_kind(str(status))
    if status in _REJECTED:
        return Rejected(status=status, request_id=request_id, detail=str(error.api_message or "")[:500])
    fix = _FIXES.get(status, "this answer is not from the API. Check ANTHROPIC_BASE_URL.")
    return ConfigurationError(f"Claude: HTTP {status} (request {request_id}), {fix}")


def is_spend_limit(rejected: Rejected) -> bool:
    """Whether a harmless request was rejected because the account's spend limit is reached."""
    return _SPEND_WORDS.search(rejected.detail) is not None


def was_never_sent(error: anthropic.AnthropicError) -> bool:
    """Whether the call failed before the request was sent, so that it cost nothing."""
    return isinstance(_root(error), _NEVER_SENT)


def _root(error: BaseException) -> BaseException:
    root = error
    while (cause := root.__cause__) is not None:
        root = cause
    return root
