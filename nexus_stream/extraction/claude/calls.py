"""The gate before every call to Claude: breaker, budget and allowance. Each call's end updates all three.

This is no middleware of the SDK, because a middleware runs inside the call's timeout, and waiting for the allowance
must not use up that timeout. Nothing is retried here: the enricher has the one retry loop.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

from nexus_stream.errors import ConfigurationError, ModelUnavailableError, SpendLimitError
from nexus_stream.extraction.claude.breaker import Breaker
from nexus_stream.extraction.claude.budget import Budget
from nexus_stream.extraction.claude.limits import CallWeight, ClaudeLimits
from nexus_stream.extraction.claude.prices import Price, TokenCounts, cost_usd
from nexus_stream.extraction.claude.wanted import require_wanted
from nexus_stream.settings import Settings

__all__ = ["ORDINARY_CHARS", "Call", "CallGate"]


_RATE_LIMITED: Final = 429
_SERVER_ERRORS_FROM: Final = 500
# Wait after a 429 without retry-after. It applies to all calls.
_RATE_LIMITED_SECONDS: Final = 1.0
# Spanish in Latin letters has three to four characters a token. The answer's usage corrects the estimate.
_CHARS_PER_TOKEN: Final = 3.0
# For the hard cap. The worst case seen is one token for two bytes, with emoji and rare letters.
_BYTES_PER_TOKEN_AT_MOST: Final = 2.0
_FIRST_OUTPUT_TOKENS: Final = 250.0
# Length of an ordinary, not short conversation. A cap below its cost is a mistake in the settings.
ORDINARY_CHARS: Final = 2_000
_OUTPUT_AVERAGE_WEIGHT: Final = 0.1


class Call:
    """One call under way. Report its end once; a call without a reported end counts as paid.

    Attributes:
        weight: The estimate that was taken from the allowance.
        weight_at_most: The maximum use of the allowance, even if the answer reports more.
        likely: The estimated tokens, with those of the prompt: they count if the answer does not say its tokens.
        likely_usd: The cost that counts as spent if the end is unknown.
        at_most_usd: The reserved cost.
    """

    def __init__(
        self,
        gate: CallGate,
        weight: CallWeight,
        weight_at_most: CallWeight,
        likely: TokenCounts,
        likely_usd: float,
        at_most_usd: float,
    ) -> None:
        self.weight = weight
        self.weight_at_most = weight_at_most
        self.likely = likely
        self.likely_usd = likely_usd
        self.at_most_usd = at_most_usd
        self.is_ended = False
        self._gate = gate

    def answered(self, tokens: TokenCounts, headers: Mapping[str, str]) -> None:
        """Report HTTP 200 with a message."""
        self._gate.end(self, tokens, headers)
        self._gate.breaker.succeeded()

    def refused(self, status: int, headers: Mapping[str, str], failure: object) -> None:
        """Report another status: nothing was generated, so nothing is paid."""
        gate = self._gate
        gate.end(self, TokenCounts(), headers)
        if isinstance(failure, SpendLimitError):
            gate.breaker.spend_limit_reached(str(failure), gate.spend_limit_pause_seconds)
            failure.retry_after_seconds = gate.spend_limit_pause_seconds
        elif status >= _SERVER_ERRORS_FROM:
            gate.breaker.failed()
        else:
            gate.breaker.succeeded()
        if status == _RATE_LIMITED and isinstance(failure, ModelUnavailableError):
            gate.limits.hold(failure.retry_after_seconds or _RATE_LIMITED_SECONDS)

    def unanswered(self, *, sent: bool) -> None:
        """Report no answer, or an unreadable one. A request that was sent may have been billed."""
        self._gate.end(self, None if sent else TokenCounts(), {})
        self._gate.breaker.failed()


class CallGate:
    """Lets calls pass, one `Call` each.

    Args:
        settings: ``claude_*`` and ``budget_*``.
        price: The model's list price.
        prompt_chars: Length of the part that is the same in every request and read from the prompt cache.
        budget: Counts and caps the spending.

    Raises:
        ConfigurationError: there is a cap but no price; or one ordinary call costs more than the cap.
    """

    def __init__(self, settings: Settings, *, price: Price | None, prompt_chars: int, budget: Budget) -> None:
        if budget.has_caps and price is None:
            raise ConfigurationError(
                f"NEXUS_BUDGET_USD_PER_HOUR, NEXUS_BUDGET_USD_PER_DAY: no list price is known for "
                f"{settings.claude_model}, so no cap can be enforced. Add the price in NEXUS_CLAUDE_PRICES_FILE."
            )
        self.limits = ClaudeLimits(
            requests_per_minute=settings.claude_requests_per_minute,
            input_tokens_per_minute=settings.claude_input_tokens_per_minute,
            output_tokens_per_minute=settings.claude_output_tokens_per_minute,
            share=settings.claude_share,
        )
        self.breaker = Breaker(failures=settings.claude_breaker_failures, open_seconds=settings.claude_breaker_seconds)
        self.budget = budget
        self.spend_limit_pause_seconds = settings.claude_spend_limit_pause_seconds
        self._price = price
        self._max_tokens = settings.claude_max_tokens
        self._prompt_tokens = math.ceil(prompt_chars / _CHARS_PER_TOKEN)
        self._output_tokens = _FIRST_OUTPUT_TOKENS
        budget.require_room_for(self._prepare("x" * ORDINARY_CHARS).at_most_usd)

    @asynccontextmanager
    async def call(self, content: str) -> AsyncIterator[Call]:
        """Wait for this call's turn, and count the call even if it fails.

        Args:
            content: The request without the prompt; only its length is used.

        Raises:
            BudgetExhaustedError: the call could exceed a cap.
            OverBudgetError: the call could cost more than a whole cap.
            SpendLimitError: the account's spend limit is reached.
            ModelUnavailableError: Claude is unavailable, and this call is not the probe.
            NotWantedError: the answer is not needed any more.
        """
        call = self._prepare(content)
        # Before the queue, so that a call that cannot be made does not wait in it.
        self.breaker.check()
        self.budget.reserve(call.at_most_usd)
        try:
            await self.limits.take(call.weight)
            try:
                require_wanted()
                # Again: Claude may have become unavailable while this call waited.
                self.breaker.admit()
            except BaseException:
                self.limits.give_back(call.weight)
                raise
        except BaseException:
            self.budget.settle(call.at_most_usd, 0.0)
            raise
        try:
            yield call
        finally:
            if not call.is_ended:
                self.end(call, None, {})
                self.breaker.abandoned()

    def end(self, call: Call, tokens: TokenCounts | None, headers: Mapping[str, str]) -> None:
        """Settle a call's use of budget and allowance; unknown tokens count as estimated."""
        call.is_ended = True
        if headers:
            self.limits.learn(headers, answered=tokens is not None and tokens.output_tokens > 0)
        if tokens is None:
            self.budget.settle(call.at_most_usd, call.likely_usd)
            return
        self.budget.settle(call.at_most_usd, cost_usd(self._price, tokens))
        # Not more than the maximum: a wrong number from a proxy could otherwise block calls for days.
        used = CallWeight(
            min(tokens.input_tokens + tokens.cache_write_tokens, call.weight_at_most.input_tokens),
            min(tokens.output_tokens, call.weight_at_most.output_tokens),
        )
        self.limits.correct(call.weight, used)
        if used.output_tokens:
            self._output_tokens += _OUTPUT_AVERAGE_WEIGHT * (used.output_tokens - self._output_tokens)

    def _prepare(self, content: str) -> Call:
        weight = CallWeight(math.ceil(len(content) / _CHARS_PER_TOKEN), math.ceil(self._output_tokens))
        likely = TokenCounts(weight.input_tokens, weight.output_tokens, cache_read_tokens=self._prompt_tokens)
        at_most = TokenCounts(
            input_tokens=math.ceil(len(content.encode("utf-8", "replace")) / _BYTES_PER_TOKEN_AT_MOST),
            output_tokens=self._max_tokens,
            cache_write_tokens=self._prompt_tokens,
        )
        weight_at_most = CallWeight(at_most.input_tokens + at_most.cache_write_tokens, at_most.output_tokens)
        return Call(self, weight, weight_at_most, likely, cost_usd(self._price, likely), cost_usd(self._price, at_most))
