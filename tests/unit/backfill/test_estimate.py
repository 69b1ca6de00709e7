"""Estimates of the cost at batch price."""

from __future__ import annotations

import pytest

from nexus_stream.backfill.estimate import Estimate, Estimator, batch_price
from nexus_stream.extraction.claude.prices import PRICES
from nexus_stream.extraction.claude.prompt import Prompt

PRICE = PRICES["claude-haiku-5-5"]


def test_a_batch_costs_half():
    half = batch_price(PRICE)
    assert half is not None
    for name in ("input", "output", "cache_read", "cache_write"):
        assert getattr(half, name) == pytest.approx(getattr(PRICE, name) / 2)
    assert half.long_prompt_tokens == PRICE.long_prompt_tokens
    assert batch_price(None) is None


def test_an_estimate_is_a_range_below_the_reserved_amount():
    estimator = Estimator(batch_price(PRICE), Prompt("x" * 2996, {}, "v"), 1000)
    estimate = estimator.of("y" * 300)
    # 100 tokens in, 250 out, 1,000 of the prompt, at half of 0.10, 0.50, 0.01 and 0.125 USD a million.
    assert estimate.low_usd == pytest.approx((100 * 0.10 + 250 * 0.50 + 1000 * 0.01) / 2e6)
    assert estimate.high_usd == pytest.approx((100 * 0.10 + 250 * 0.50 + 1000 * 0.125) / 2e6)
    assert estimate.at_most_usd == pytest.approx((150 * 0.10 + 1000 * 0.50 + 1000 * 0.125) / 2e6)


def test_estimates_add_up():
    total = sum([Estimate(1, 1.0, 2.0, 3.0), Estimate(2, 0.5, 0.5, 0.5)], Estimate())
    assert total == Estimate(3, 1.5, 2.5, 3.5)


def test_without_a_price_there_is_no_estimate():
    assert Estimator(None, Prompt("x", {}, "v"), 1000).of("y").high_usd == 0
