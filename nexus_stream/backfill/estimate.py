"""What a backfill will cost: before it is begun, and what a batch has to set aside of the budget.

From: the requests and the list prices. Batches cost half of them ("50% discount on input and output", on the page that
prices.py names), and the prompt cache's prices are halved as well ("These multipliers stack with other pricing
modifiers such as the Batch API discount", https://platform.claude.com/docs/en/build-with-claude/prompt-caching). Pure.
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
# As claude/calls.py has them: Spanish takes three to four characters a token, emoji one token for two bytes.
_CHARS_PER_TOKEN: Final = 3.0
_BYTES_PER_TOKEN_AT_MOST: Final = 2.0
_LIKELY_OUTPUT_TOKENS: Final = 250


def batch_price(price: Price | None) -> Price | None:
    """The same model's price in a batch."""
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
    """Of some requests, USD.

    Attributes:
        low_usd: If every request reads the prompt from the cache.
        high_usd: If none does; a batch's requests run at the same time, so it may be anything between.
        at_most_usd: If each answer is as long as it may be, too.
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
    """Estimates requests.

    Args:
        price: At batch price; None: everything is estimated as 0.
        prompt: What is the same in all of them.
        max_tokens: The longest answer.
    """

    def __init__(self, price: Price | None, prompt: Prompt, max_tokens: int) -> None:
        self.price = price
        self._prompt_tokens = math.ceil((len(prompt.system) + len(str(prompt.schema))) / _CHARS_PER_TOKEN)
        self._max_tokens = max_tokens

    def ordinary(self) -> Estimate:
        """One request that is not short."""
        return self.of("x" * ORDINARY_CHARS)

    def of(self, text: str) -> Estimate:
        """One request with this conversation."""
        tokens = math.ceil(len(text) / _CHARS_PER_TOKEN)
        low = TokenCounts(tokens, _LIKELY_OUTPUT_TOKENS, cache_read_tokens=self._prompt_tokens)
        high = TokenCounts(tokens, _LIKELY_OUTPUT_TOKENS, cache_write_tokens=self._prompt_tokens)
        at_most = TokenCounts(
            math.ceil(len(text.encode("utf-8", "replace")) / _BYTES_PER_TOKEN_AT_MOST),
            self._max_tokens,
            cache_write_tokens=self._prompt_tokens,
        )
        return Estimate(1, *(cost_usd(self.price, counts) for counts in (low, high, at_most)))
