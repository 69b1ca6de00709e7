"""Every error of the SDK is classified: wait, stop, or check the record."""

from collections.abc import Iterator
from datetime import UTC, datetime

import anthropic
import httpx2
import pytest

from nexus_stream.errors import ConfigurationError, ModelUnavailableError, SpendLimitError
from nexus_stream.extraction.claude.errors import (
    Rejected,
    failure_from,
    is_spend_limit,
    retry_after_from,
    was_never_sent,
)

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
SECRET = "quien escribe es irma@example.com"
REQUEST = httpx2.Request("POST", "https://api.example.com/v1/messages", content=SECRET.encode())


def status_error(status, *, headers=None, code=None, kind=anthropic.APIStatusError):
    body = {"type": "error", "error": {"type": "x", "message": SECRET, "details": {"error_code": code}}}
    response = httpx2.Response(status, headers={"request-id": "req_1", **(headers or {})}, request=REQUEST, json=body)
    return kind(SECRET, response=response, body=body)


def classify(error, cap=60.0):
    return failure_from(error, retry_after_max_seconds=cap, now=NOW)


@pytest.mark.parametrize("status", [408, 409, 429, 499, 500, 501, 502, 503, 504, 529, 599])
def test_limits_and_outages_mean_wait(status):
    failure = classify(status_error(status, headers={"retry-after": "7"}))
    assert isinstance(failure, ModelUnavailableError)
    assert failure.retry_after_seconds == 7.0


@pytest.mark.parametrize(
    ("status", "fix"),
    [
        (401, "ANTHROPIC_API_KEY"),
        (403, "NEXUS_CLAUDE_MODEL"),
        (404, "NEXUS_CLAUDE_MODEL"),
        (405, "ANTHROPIC_BASE_URL"),
        (307, "ANTHROPIC_BASE_URL"),
    ],
)
def test_errors_that_no_conversation_causes_stop_with_a_fix(status, fix):
    failure = classify(status_error(status))
    assert isinstance(failure, ConfigurationError)
    assert fix in str(failure)


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_rejected_request_is_undecided(status):
    assert classify(status_error(status)) == Rejected(status=status, request_id="req_1", detail=SECRET)


@pytest.mark.parametrize(
    ("status", "code"),
    [(429, "contract_spend_limit_reached"), (429, "enforced_spend_limit_reached"), (402, None)],
)
def test_a_spend_limit_is_no_rate_limit(status, code):
    failure = classify(status_error(status, code=code, headers={"retry-after": "1"}))
    assert isinstance(failure, SpendLimitError)
    assert failure.is_general
    assert "spend limit" in str(failure)


@pytest.mark.parametrize(
    ("detail", "is_it"),
    [
        ("You have reached your specified API usage limits. You will regain access on 2026-12-01.", True),
        ("Your credit balance is too low to access the API. Please go to Plans & Billing.", True),
        ("max_tokens: 9000 > 8192, which is the maximum allowed number of output tokens", False),
        ("", False),
    ],
)
def test_a_rejected_harmless_request_shows_a_spend_limit(detail, is_it):
    assert is_spend_limit(Rejected(status=400, request_id="req_1", detail=detail)) is is_it


@pytest.mark.parametrize(("status", "is_general"), [(429, True), (529, True), (503, True), (500, False), (408, False)])
def test_only_general_failures_do_not_count_as_an_attempt(status, is_general):
    failure = classify(status_error(status))
    assert isinstance(failure, ModelUnavailableError)
    assert failure.is_general is is_general


def test_a_refused_connection_sent_nothing():
    refused, cut = (anthropic.APIConnectionError(request=REQUEST) for _ in range(2))
    refused.__cause__ = ConnectionRefusedError()
    cut.__cause__ = ConnectionResetError()
    assert was_never_sent(refused)
    assert not was_never_sent(cut)
    assert not was_never_sent(anthropic.APITimeoutError(request=REQUEST))


def test_a_ramp_limit_is_a_rate_limit():
    failure = classify(status_error(429, code="ramp_limit_exceeded", headers={"retry-after": "3"}))
    assert isinstance(failure, ModelUnavailableError)
    assert failure.retry_after_seconds == 3.0


def test_connection_errors_mean_wait_and_name_their_root():
    cut = anthropic.APIConnectionError(request=REQUEST)
    cut.__cause__ = ConnectionResetError(SECRET)
    failure = classify(cut)
    assert isinstance(failure, ModelUnavailableError)
    assert "ConnectionResetError" in str(failure)
    assert isinstance(classify(anthropic.APITimeoutError(request=REQUEST)), ModelUnavailableError)


def _every(kind: type[anthropic.AnthropicError]) -> Iterator[type[anthropic.AnthropicError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _every(child)


@pytest.mark.parametrize("kind", sorted(set(_every(anthropic.AnthropicError)), key=lambda kind: kind.__name__))
def test_every_error_of_the_sdk_has_a_branch_and_leaks_nothing(kind):
    if issubclass(kind, anthropic.APIStatusError):
        error = status_error(getattr(kind, "status_code", 500), kind=kind)
    elif issubclass(kind, anthropic.APIError):
        error = kind.__new__(kind)
        anthropic.APIError.__init__(error, SECRET, REQUEST, body=SECRET)
    else:
        error = kind.__new__(kind, SECRET)

    failure = classify(error)

    if isinstance(failure, Rejected):
        assert failure.status in (400, 413, 422)
        return
    assert isinstance(failure, (ModelUnavailableError, ConfigurationError))
    assert SECRET not in str(failure)
    assert failure.__cause__ is None
    # An unexpected status would get the message for proxies.
    assert "this answer is not from the API" not in str(failure) or getattr(kind, "status_code", 500) in (412, 431)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "12"}, 12.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "3600"}, 60.0),
        ({"retry-after": "-5"}, 0.0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after-ms": "x", "retry-after": "2"}, 2.0),
        ({"retry-after": "Tue, 24 Nov 2026 12:00:30 GMT"}, 30.0),
        ({"retry-after": "Tue, 24 Nov 2026 11:00:00 GMT"}, 0.0),
    ],
)
def test_retry_after_is_read_and_capped(headers, seconds):
    assert retry_after_from(headers, max_seconds=60.0, now=NOW) == seconds
