"""The area ``claude``: key, model and price, and the API's answer to ``GET /v1/models``, which uses no tokens.

Findings never show the key or the API's own text.
"""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Mapping
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import anthropic

from nexus_stream.doctor.claude_models import MODELS_AS_OF, looks_like_a_model, retirement_of
from nexus_stream.doctor.finding import Finding, error, note, ok, warning
from nexus_stream.doctor.network import trouble_of
from nexus_stream.doctor.postgres_judging import judge_clock
from nexus_stream.doctor.running import REACH_SECONDS
from nexus_stream.errors import ConfigurationError
from nexus_stream.extraction.claude.errors import retry_after_from
from nexus_stream.extraction.claude.extractor import quiet_http_loggers
from nexus_stream.extraction.claude.prices import load_prices, price_of
from nexus_stream.extraction.claude.request import create_client
from nexus_stream.settings import Settings

__all__ = ["check_claude", "diagnose", "judge_model", "judge_setup"]

_SOON_DAYS: Final = 60
_REPLACEMENT: Final = "claude-haiku-5-5"
_API_URL: Final = "https://api.anthropic.com"
_KEY_PREFIX: Final = "sk-ant-"
_WHY_STOP: Final = "Enrichers stop or wait: no conversation is enriched."


async def check_claude(settings: Settings, *, offline: bool, today: date) -> list[Finding]:
    """Check key, model and price without the API, then query the API."""
    if not settings.use_claude:
        return judge_setup(settings)
    findings = [*judge_setup(settings), *judge_model(settings.claude_model, today), *_price(settings)]
    if not offline and settings.anthropic_api_key is not None:
        findings += await _query_api(settings)
    return findings


def judge_setup(settings: Settings) -> list[Finding]:
    """Judge whether Claude is used, and whether the key has a valid form."""
    if not settings.use_claude:
        if settings.extractor == "auto" and settings.env == "production":
            why = "The offline rules extract instead. They find less."
            fix = "ANTHROPIC_API_KEY, or NEXUS_EXTRACTOR=offline to confirm the offline rules"
            return [warning("claude.key", "NEXUS_EXTRACTOR=auto, but there is no key", why, fix)]
        return [note("claude.key", f"Claude is not used (NEXUS_EXTRACTOR={settings.extractor}), so no call is paid")]
    assert settings.anthropic_api_key is not None  # noqa: S101 - load_settings requires it
    key = settings.anthropic_api_key.get_secret_value()
    fix = "ANTHROPIC_API_KEY: copy it again from the Claude Console"
    if key != key.strip() or not key.isascii() or not key.isprintable() or " " in key:
        return [error("claude.key", "the key contains white space or invalid characters", _WHY_STOP, fix)]
    if settings.anthropic_base_url is None and not key.startswith(_KEY_PREFIX):
        return [warning("claude.key", f"the key does not begin with {_KEY_PREFIX}", "The API will refuse it.", fix)]
    return [ok("claude.key", "a key is set and has a valid form")]


def judge_model(model: str, today: date) -> list[Finding]:
    """Judge whether the model is or will be retired."""
    ends = retirement_of(model)
    fix = f"NEXUS_CLAUDE_MODEL={_REPLACEMENT} (then nexus evaluate on your own labelled conversations)"
    if ends is not None and ends <= today:
        return [error("claude.model", f"{model} was retired on {ends}", _WHY_STOP, fix)]
    if ends is not None:
        found = f"{model} will be retired on {ends}, in {(ends - today).days} days"
        make = warning if (ends - today).days <= _SOON_DAYS else note
        return [make("claude.model", found, "From that day on, every call fails.", fix)]
    if not looks_like_a_model(model):
        return [warning("claude.model", "NEXUS_CLAUDE_MODEL does not have the form of a model name", _WHY_STOP, fix)]
    return [ok("claude.model", f"{model}: no retirement date is known (table of {MODELS_AS_OF})")]


def _price(settings: Settings) -> list[Finding]:
    try:
        price = price_of(settings.claude_model, load_prices(settings.claude_prices_file))
    except ConfigurationError as failure:
        return [
            error("claude.price", str(failure), "No enricher starts.", "NEXUS_CLAUDE_PRICES_FILE: correct the file")
        ]
    if price is not None:
        return [ok("claude.price", f"{price.input:g} / {price.output:g} USD per million tokens in / out")]
    has_budget = settings.budget_usd_per_day is not None or settings.budget_usd_per_hour is not None
    entry = '{"input": …, "output": …, "cache_read": …, "cache_write": …}'
    fix = f'NEXUS_CLAUDE_PRICES_FILE: a JSON file with {{"{settings.claude_model}": {entry}}}'
    found = f"no price is known for {settings.claude_model}"
    if has_budget:
        return [error("claude.price", found, "A budget needs a price: no enricher starts.", fix)]
    return [warning("claude.price", found, "Every call counts as 0 USD, and no budget can work.", fix)]


async def _query_api(settings: Settings) -> list[Finding]:
    """Retrieve the model. On HTTP 404, list the available models."""
    quiet_http_loggers()
    place = settings.anthropic_base_url or _API_URL
    try:
        client = create_client(settings, timeout_seconds=REACH_SECONDS)
    except ConfigurationError as failure:
        return [error("claude.reachable", str(failure), _WHY_STOP, "Do what the message says.")]
    findings: list[Finding] = []
    async with client:
        asked_at = datetime.now(UTC)
        try:
            async with asyncio.timeout(REACH_SECONDS):
                answer = await client.models.with_raw_response.retrieve(settings.claude_model)
        except anthropic.NotFoundError as failure:
            findings += await _unknown_model(client, settings.claude_model, place)
            headers: Mapping[str, str] = failure.response.headers
        except (anthropic.AnthropicError, TimeoutError) as failure:
            if isinstance(failure, anthropic.APIStatusError):
                findings += _clock(failure.response.headers, asked_at)
            return [diagnose(failure, place, settings.claude_model), *findings]
        else:
            headers = answer.headers
            findings.append(ok("claude.reachable", f"{place}: the API accepts the key for {settings.claude_model}"))
    return findings + _clock(headers, asked_at)


async def _unknown_model(client: anthropic.AsyncAnthropic, model: str, place: str) -> list[Finding]:
    try:
        async with asyncio.timeout(REACH_SECONDS):
            known = [each.id async for each in client.models.list(limit=100)]
    except (anthropic.AnthropicError, TimeoutError):
        found = f"{place}: HTTP 404 for the model and for the list of models"
        why = "The address is not the API's. Or it is a gateway without this list; then nothing is wrong."
        return [warning("claude.reachable", found, why, "ANTHROPIC_BASE_URL: check it (default: the vendor's API)")]
    close = difflib.get_close_matches(model, known, n=1) or [_REPLACEMENT]
    found = f"{place} does not know the model {model} (it knows {len(known)} models)"
    return [
        ok("claude.reachable", f"{place}: the API accepts the key"),
        error("claude.model", found, _WHY_STOP, f"NEXUS_CLAUDE_MODEL={close[0]}"),
    ]


def diagnose(failure: BaseException, place: str, model: str) -> Finding:
    """Explain why the API did not answer the request."""
    check = "claude.reachable"
    if isinstance(failure, anthropic.APIStatusError):
        status = failure.status_code
        if status == 429 or status >= 500:
            wait = retry_after_from(failure.response.headers, max_seconds=3600, now=datetime.now(UTC))
            asks = f", asks to wait {wait:.0f} s" if wait else ""
            why = "The account is at its limit, or the API is overloaded. Enrichers wait and continue by themselves."
            fix = "If this lasts: NEXUS_CLAUDE_REQUESTS_PER_MINUTE below the account's limit, or raise that limit"
            return warning(check, f"{place}: HTTP {status}{asks}", why, fix)
        found, fix = {
            401: ("the key is refused", "ANTHROPIC_API_KEY: set a valid key; this one was revoked or is not the API's"),
            402: (
                "the account has reached its spend limit",
                "Raise the spend limit or check the payment details in the Claude Console",
            ),
            403: (
                f"the key may not use {model}",
                "Check the key's workspace in the Claude Console, and NEXUS_CLAUDE_MODEL",
            ),
        }.get(status, ("an unexpected answer", "ANTHROPIC_BASE_URL: check that it is the API's"))
        return error(check, f"{place}: HTTP {status}, {found}", _WHY_STOP, fix)
    root: BaseException = failure
    while (cause := root.__cause__ or root.__context__) is not None and not isinstance(root, OSError):
        root = cause
    if isinstance(failure, anthropic.APITimeoutError):
        root = TimeoutError()
    trouble = trouble_of(root, place)
    fix = f"ANTHROPIC_BASE_URL, or this machine's internet access (proxy, firewall): {trouble.fix}."
    return error(check, trouble.found, _WHY_STOP, fix)


def _clock(headers: Mapping[str, str], asked_at: datetime) -> list[Finding]:
    """Compare the clock with the ``Date`` header, which has whole seconds."""
    text = headers.get("date")
    if text is None:
        return []
    try:
        theirs = parsedate_to_datetime(text)
    except ValueError:
        return []
    answered_at = datetime.now(UTC)
    took_seconds = (answered_at - asked_at).total_seconds()
    if theirs.tzinfo is None:
        theirs = theirs.replace(tzinfo=UTC)
    ahead_seconds = (answered_at - theirs).total_seconds() - took_seconds / 2 - 0.5
    return [judge_clock("claude.clock", "the API", ahead_seconds, took_seconds + 1)]
