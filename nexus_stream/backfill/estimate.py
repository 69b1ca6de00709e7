"""Estimate the cost of a backfill before its start, and the amount that each batch reserves in the budget.

Batches cost half the list price ("50% discount on input and output", on the page that prices.py names). The prompt
cache's prices are halved too ("These multipliers stack with other pricing modifiers such as the Batch API discount",
https://platform.claude.com/docs/en/build-with-claude/prompt-caching). All functions are pure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

from nexus_stream.extraction.claude.calls import ORDINARY_CHARS
from nexus_stream.extraction.claude.prices import Price, TokenCounts, cost_usd
from nexus_stream.extraction.claude.prompt import Prompt

__all__ = ["BATCH_FACTOR", "Estimate", "Estimator", "batch_price"]

BATCH_FACTOR: Final = 0.5
# The same as in claude/calls.py: Spanish has three to four characters a token, emoji one token for two bytes.
_CHARS_PER_TOKEN: Final = 3.0
_BYTES_PER_TOKEN_AT_MOST: Final = 2.0
_LIKELY_OUTPUT_TOKENS: Final = 250


def batch_price(price: Price | None) -> Price | None:
    """Return the model's price in a batch."""
    if price is None:
        return None
    return replace(
        price,
        input=price.input * BATCH_FACTOR,
        output=price.output * BATCH_FACTOR,
        cache_read=price.cache_read * BATCH_FACTOR,
        cache_write=price.cache_write * BATCH_FACTOR,
    )


@dataclass(frozen=True, slots=True)
class Estimate:
    """The estimated cost of some requests, in USD.

    Attributes:
        low_usd: Cost if every request reads the prompt from the cache.
        high_usd: Cost if no request does. A batch's requests run at the same time, so the cost is between the two.
        at_most_usd: Like ``high_usd``, with every answer at its maximum length.
    """

    requests: int = 0
    low_usd: float = 0.0
    high_usd: float = 0.0
    at_most_usd: float = 0.0

    def __add__(self, other: Estimate) -> Estimate:
        return Estimate(
            self.requests + other.requests,
            self.low_usd + other.low_usd,
            self.high_usd + other.high_usd,
            self.at_most_usd + other.at_most_usd,
        )


class Estimator:
    """Estimates the cost of requests.

    Args:
        price: The price in a batch; None estimates everything as 0.
        prompt: The part that all requests share.
        max_tokens: Maximum length of an answer.
    """

    def __init__(self, price: Price | None, prompt: Prompt, max_tokens: int) -> None:
        self.price = price
        self._prompt_tokens = math.ceil((len(prompt.system) + len(str(prompt.schema))) / _CHARS_PER_TOKEN)
        self._max_tokens = max_tokens

    def ordinary(self) -> Estimate:
        """Estimate an ordinary request, that is one that is not short."""
        return self.of("x" * ORDINARY_CHARS)

    def likely(self, text: str) -> TokenCounts:
        """Estimate the tokens of one request whose prompt is in the cache."""
        tokens = math.ceil(len(text) / _CHARS_PER_TOKEN)
        return TokenCounts(tokens, _LIKELY_OUTPUT_TOKENS, cache_read_tokens=self._prompt_tokens)

    def of(self, text: str) -> Estimate:
        """Estimate one request with this conversation."""
        low = self.likely(text)
        high = TokenCounts(low.input_tokens, low.output_tokens, cache_write_tokens=self._prompt_tokens)
        at_most = TokenCounts(
            math.ceil(len(text.encode("utf-8", "replace")) / _BYTES_PER_TOKEN_AT_MOST),
            self._max_tokens,
            cache_write_tokens=self._prompt_tokens,
        )
        return Estimate(1, *(cost_usd(self.price, counts) for counts in (low, high, at_most)))
