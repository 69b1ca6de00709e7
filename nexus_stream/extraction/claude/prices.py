"""The cost of a call at list price: ``cost_usd`` in every enriched record, and the amounts of the budget.

The table is dated and names its source. An account's real price may differ (batches, contracts), so the cost is an
upper estimate and not a bill. ``NEXUS_CLAUDE_PRICES_FILE`` overrides the table.

All figures are from the "Pricing" table of `PRICES_SOURCE`, USD per million tokens:

| claude-haiku-5-5 | prompts up to 100,000 tokens | prompts over 100,000 tokens |
|---|---|---|
| input | 0.10 | 0.50 |
| output | 0.50 | 2.50 |
| 5m cache write | 0.125 | 0.625 |
| cache read | 0.01 | 0.05 |

So for a long prompt every price is five times as high. The page does not define the length of a prompt. The more
expensive reading is assumed: all input counts, read from the cache or not.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

from nexus_stream.errors import ConfigurationError

__all__ = ["PRICES", "PRICES_AS_OF", "PRICES_SOURCE", "Price", "TokenCounts", "cost_usd", "load_prices", "price_of"]

PRICES_AS_OF: Final = date(2026, 11, 24)
PRICES_SOURCE: Final = "https://platform.claude.com/docs/en/models/haiku-5-5/overview"

_PER_MILLION = 1_000_000

# A dated release costs what its family costs: claude-haiku-5-5-20261007.
_RELEASE_DATE = re.compile(r"-\d{8}$")


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """Tokens of one answer, as the API counts them: the three kinds of input do not overlap."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Price:
    """USD per million tokens.

    Attributes:
        cache_write: Price of the five-minute cache, the only one that is used.
        long_prompt_tokens: From this number of input tokens (all kinds) every price is multiplied.
        long_prompt_factor: The multiplier.
    """

    input: float
    output: float
    cache_read: float
    cache_write: float
    long_prompt_tokens: int | None = None
    long_prompt_factor: float = 1.0


PRICES: Final[Mapping[str, Price]] = {
    "claude-haiku-5-5": Price(
        input=0.10,
        output=0.50,
        cache_read=0.01,
        cache_write=0.125,
        # "For prompts over 100,000 tokens" every price is five times as high, for output too.
        long_prompt_tokens=100_001,
        long_prompt_factor=5.0,
    ),
}


def price_of(model: str, prices: Mapping[str, Price] = PRICES) -> Price | None:
    """Return the model's price; None if the table does not have the model."""
    return prices.get(model) or prices.get(_RELEASE_DATE.sub("", model))


def load_prices(path: Path | None) -> Mapping[str, Price]:
    """Read a JSON file, ``{"model": {"input": 0.1, "output": 0.5, ...}}``, and merge it over the built-in table.

    Raises:
        ConfigurationError: the file cannot be read, or a price is missing, negative or not finite.
    """
    if path is None:
        return PRICES
    try:
        own = TypeAdapter(dict[str, Price]).validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"NEXUS_CLAUDE_PRICES_FILE: {path} cannot be read ({error.strerror}).") from error
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        problems = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in details[:5])
        raise ConfigurationError(f"NEXUS_CLAUDE_PRICES_FILE: {problems}.") from None
    for model, price in own.items():
        amounts = (price.input, price.output, price.cache_read, price.cache_write, price.long_prompt_factor)
        if any(not math.isfinite(amount) or amount < 0 for amount in amounts):
            raise ConfigurationError(f"NEXUS_CLAUDE_PRICES_FILE: {model}: no price can be negative or infinite.")
    return {**PRICES, **own}


def cost_usd(price: Price | None, tokens: TokenCounts) -> float:
    """Compute the cost in USD at list price; 0 without a price."""
    if price is None:
        return 0.0
    prompt_tokens = tokens.input_tokens + tokens.cache_read_tokens + tokens.cache_write_tokens
    is_long = price.long_prompt_tokens is not None and prompt_tokens >= price.long_prompt_tokens
    cost = (
        tokens.input_tokens * price.input
        + tokens.output_tokens * price.output
        + tokens.cache_read_tokens * price.cache_read
        + tokens.cache_write_tokens * price.cache_write
    )
    return cost * (price.long_prompt_factor if is_long else 1.0) / _PER_MILLION
