"""What every call to Claude passes through, in this one place: breaker, budget, allowance; and what its end teaches.

From: claude.py, around each request. The SDK's middleware would see the same, but inside the call's own timeout, which
waiting for the allowance must not use up. Nothing is tried again here: that is the enricher's one retry loop.
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

from nexus_stream.errors import ConfigurationError, ModelUnavailableError, SpendLimitError
from nexus_stream.extraction.claude.breaker import Breaker
from nexus_stream.extraction.claude.budget import Budget
from nexus_stream.extraction.claude.limits import ClaudeLimits, Weight
from nexus_stream.extraction.claude.prices import Price, TokenCounts, cost_usd
from nexus_stream.extraction.claude.wanted import require_wanted
from nexus_stream.settings import Settings

__all__ = ["ORDINARY_CHARS", "Call", "CallGate"]

logger = logging.getLogger(__name__)

_RATE_LIMITED: Final = 429
_SERVER_ERRORS_FROM: Final = 500
# A 429 without retry-after still means everybody.
_RATE_LIMITED_SECONDS: Final = 1.0
# Spanish in Latin letters has three to four characters a token; what an estimate misses, the answer corrects.
_CHARS_PER_TOKEN: Final = 3.0
# For the cap no call may break: emoji and rare letters take a token for two bytes at the worst seen.
_BYTES_PER_TOKEN_AT_MOST: Final = 2.0
_FIRST_OUTPUT_TOKENS: Final = 250.0
# Of a conversation that is not short: a cap under which it does not fit is a mistake.
ORDINARY_CHARS: Final = 2_000
_OUTPUT_AVERAGE_WEIGHT: Final = 0.1


class Call:
    """One call under way. Its end is told once; a call whose end nobody told counts as paid for.

    Attributes:
        weight: What it took from the allowance.
        weight_at_most: What it can use of it, whatever the answer says.
        likely_usd: What it counts as spent when its end is unknown.
        at_most_usd: What is reserved for it.
    """

    def __init__(
        self, gate: CallGate, weight: Weight, weight_at_most: Weight, likely_usd: float, at_most_usd: float
    ) -> None:
        self.weight = weight
        self.weight_at_most = weight_at_most
        self.likely_usd = likely_usd
        self.at_most_usd = at_most_usd
        self.is_ended = False
        self._gate = gate

    def answered(self, tokens: TokenCounts, headers: Mapping[str, str]) -> None:
        """HTTP 200 with a message."""
        self._gate.end(self, tokens, headers)
        self._gate.breaker.succeeded()

    def refused(self, status: int, headers: Mapping[str, str], failure: object) -> None:
        """Another status: nothing was generated, so nothing is paid."""
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
        """No answer, or none that can be read. What was sent may have been read and billed."""
        self._gate.end(self, None if sent else TokenCounts(), {})
        self._gate.breaker.failed()


class CallGate:
    """Lets calls through, one `Call` each.

    Args:
        settings: ``claude_*`` and ``budget_*``.
        price: The model's list price.
        prompt_chars: Of what is the same in every request and read from the prompt cache.
        budget: Where spending is counted and capped.

    Raises:
        ConfigurationError: there is a cap, and no price to keep it by; or not one ordinary call fits under it.
    """

    def __init__(self, settings: Settings, *, price: Price | None, prompt_chars: int, budget: Budget) -> None:
        if budget.has_caps and price is None:
            raise ConfigurationError(
                f"NEXUS_BUDGET_USD_PER_HOUR, NEXUS_BUDGET_USD_PER_DAY: no list price is known for "
                f"{settings.claude_model}, so no cap can be kept. Give it in NEXUS_CLAUDE_PRICES_FILE."
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
        """Wait for this call's turn, and count it whatever becomes of it.

        Args:
            content: What is sent besides the prompt; only its length is used.

        Raises:
            BudgetExhaustedError: it could break a cap.
            OverBudgetError: it could cost more than a whole cap.
            SpendLimitError: the account may spend no more.
            ModelUnavailableError: Claude is out, and this is not the probe.
            NotWantedError: nobody wants the answer any more.
        """
        call = self._prepare(content)
        # Before the queue, so that what cannot be called does not wait in it.
        self.breaker.check()
        self.budget.reserve(call.at_most_usd)
        try:
            await self.limits.take(call.weight)
            try:
                require_wanted()
                # Again: Claude may have gone out while this one waited.
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
        """Settle what a call took; unknown tokens count as estimated."""
        call.is_ended = True
        if headers:
            self.limits.learn(headers, answered=tokens is not None and tokens.output_tokens > 0)
        if tokens is None:
            self.budget.settle(call.at_most_usd, call.likely_usd)
            return
        self.budget.settle(call.at_most_usd, cost_usd(self._price, tokens))
        # No more than it can be: a proxy's nonsense would otherwise be waited off, for days.
        used = Weight(
            min(tokens.input_tokens + tokens.cache_write_tokens, call.weight_at_most.input_tokens),
            min(tokens.output_tokens, call.weight_at_most.output_tokens),
        )
        self.limits.correct(call.weight, used)
        if used.output_tokens:
            self._output_tokens += _OUTPUT_AVERAGE_WEIGHT * (used.output_tokens - self._output_tokens)

    def _prepare(self, content: str) -> Call:
        weight = Weight(math.ceil(len(content) / _CHARS_PER_TOKEN), math.ceil(self._output_tokens))
        likely = TokenCounts(weight.input_tokens, weight.output_tokens, cache_read_tokens=self._prompt_tokens)
        at_most = TokenCounts(
            input_tokens=math.ceil(len(content.encode("utf-8", "replace")) / _BYTES_PER_TOKEN_AT_MOST),
            output_tokens=self._max_tokens,
            cache_write_tokens=self._prompt_tokens,
        )
        weight_at_most = Weight(at_most.input_tokens + at_most.cache_write_tokens, at_most.output_tokens)
        return Call(self, weight, weight_at_most, cost_usd(self._price, likely), cost_usd(self._price, at_most))
