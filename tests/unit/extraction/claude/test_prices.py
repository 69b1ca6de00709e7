"""The cost in USD at list price."""

from dataclasses import replace

import pytest

from nexus_stream.errors import ConfigurationError
from nexus_stream.extraction.claude.prices import (
    PRICES,
    PRICES_AS_OF,
    PRICES_SOURCE,
    Price,
    TokenCounts,
    cost_usd,
    load_prices,
    price_of,
)
from nexus_stream.settings import Settings

HAIKU = PRICES["claude-haiku-5-5"]
MILLION = 1_000_000


def test_the_default_model_has_a_price_and_the_table_a_date():
    assert price_of(Settings().claude_model) is HAIKU
    assert PRICES_AS_OF.year >= 2026


def test_a_dated_release_costs_what_its_family_costs():
    assert price_of("claude-haiku-5-5-20261007") is HAIKU
    assert price_of("claude-haiku-5-5-preview") is None
    assert price_of("claude-haiku-5") is None


def test_a_custom_table_replaces_the_built_in_one():
    own = Price(input=1, output=2, cache_read=3, cache_write=4)
    assert price_of("my-model", {"my-model": own}) is own
    assert price_of("claude-haiku-5-5", {"my-model": own}) is None


@pytest.mark.parametrize(
    ("tokens", "usd_of_a_million"),
    [
        (TokenCounts(input_tokens=1000), 0.10),
        (TokenCounts(output_tokens=1000), 0.50),
        (TokenCounts(cache_read_tokens=1000), 0.01),
        (TokenCounts(cache_write_tokens=1000), 0.125),
    ],
)
def test_each_kind_of_token_has_its_price(tokens, usd_of_a_million):
    assert cost_usd(HAIKU, tokens) == pytest.approx(usd_of_a_million * 1000 / MILLION)


def test_one_call_for_a_rich_six_turn_chat_meets_the_goal_of_15_cents_per_thousand():
    # Estimated, not measured: six turns of 25 tokens with their JSON around them, the prompt read from the cache, and
    # an answer as long as the prompt's own example (555 characters of JSON at 3 characters a token).
    tokens = TokenCounts(input_tokens=6 * (25 + 15), cache_read_tokens=1_700, output_tokens=185)
    assert 1000 * cost_usd(HAIKU, tokens) == pytest.approx(0.1335)
    assert 1000 * cost_usd(HAIKU, tokens) <= 0.15


def test_a_very_long_prompt_costs_five_times_as_much():
    at = TokenCounts(input_tokens=99_000, cache_read_tokens=1_000, output_tokens=10)
    over = TokenCounts(input_tokens=99_001, cache_read_tokens=1_000, output_tokens=10)
    assert cost_usd(HAIKU, at) == pytest.approx((99_000 * 0.10 + 1_000 * 0.01 + 10 * 0.50) / MILLION)
    assert cost_usd(HAIKU, over) == pytest.approx((99_001 * 0.50 + 1_000 * 0.05 + 10 * 2.50) / MILLION)


def test_each_price_is_the_one_on_the_named_page():
    """The figures of that page, per million tokens: for prompts up to 100,000 tokens, and for longer ones."""
    assert PRICES_SOURCE == "https://platform.claude.com/docs/en/models/haiku-5-5/overview"
    printed = {
        "input_tokens": (0.10, 0.50),
        "output_tokens": (0.50, 2.50),
        "cache_write_tokens": (0.125, 0.625),
        "cache_read_tokens": (0.01, 0.05),
    }
    long = TokenCounts(input_tokens=100_001)
    for kind, (short_usd, long_usd) in printed.items():
        assert cost_usd(HAIKU, TokenCounts(**{kind: 1000})) == pytest.approx(short_usd * 1000 / MILLION)
        more = replace(long, **{kind: getattr(long, kind) + 1000})
        assert cost_usd(HAIKU, more) - cost_usd(HAIKU, long) == pytest.approx(long_usd * 1000 / MILLION)


def test_without_a_price_the_cost_is_nothing():
    assert cost_usd(None, TokenCounts(input_tokens=5)) == 0.0


def test_a_file_of_prices_overrides_and_adds(tmp_path):
    path = tmp_path / "prices.json"
    path.write_text('{"mine": {"input": 1, "output": 2, "cache_read": 0, "cache_write": 1.25}}')
    prices = load_prices(path)
    assert prices["mine"] == Price(input=1, output=2, cache_read=0, cache_write=1.25)
    assert prices["claude-haiku-5-5"] is HAIKU
    assert load_prices(None) is PRICES


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"mine": {"input": 1}}',
        '{"mine": {"input": -1, "output": 2, "cache_read": 0, "cache_write": 1}}',
        '{"mine": {"input": NaN, "output": 2, "cache_read": 0, "cache_write": 1}}',
    ],
)
def test_invalid_prices_are_refused(tmp_path, text):
    path = tmp_path / "prices.json"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match="NEXUS_CLAUDE_PRICES_FILE"):
        load_prices(path)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_prices(tmp_path / "missing.json")
