"""The extractor without a network: it refuses wrong settings at the start, and no logger can write a conversation."""

import logging

import pytest

from nexus_stream.errors import ConfigurationError
from nexus_stream.extraction.claude.extractor import ClaudeExtractor, quiet_http_loggers
from nexus_stream.extraction.claude.prompt import load_prompt
from nexus_stream.extraction.extractor import Extractor, Findings, MadeBy, Turn
from nexus_stream.settings import load_settings

KEY = "sk-test-0000"


@pytest.fixture
def restored_loggers():
    """The HTTP loggers; their levels are restored afterwards."""
    loggers = [logging.getLogger(name) for name in ("anthropic", "anthropic._base_client", "httpx2", "httpcore")]
    levels = [each.level for each in loggers]
    yield loggers
    for each, level in zip(loggers, levels, strict=True):
        each.setLevel(level)


def extractor(**environ) -> ClaudeExtractor:
    return ClaudeExtractor(load_settings(environ={"ANTHROPIC_API_KEY": KEY, **environ}))


async def test_it_is_an_extractor_with_a_versioned_prompt():
    claude: Extractor = extractor(NEXUS_CLAUDE_MODEL="claude-haiku-5-5")
    assert claude.labels == MadeBy("claude", "claude-haiku-5-5", load_prompt().version)
    await claude.close()


@pytest.mark.parametrize("turns", [[Turn("assistant", "Hola, ¿cómo te llamas?")], [Turn("user", " \n")]])
async def test_a_conversation_without_user_words_costs_nothing(turns):
    # No server listens at the address: a call would raise.
    claude = extractor(ANTHROPIC_BASE_URL="http://127.0.0.1:1")
    # No model was called, so the label has no model.
    assert await claude.extract(turns) == Findings(made_by=MadeBy("claude"))
    await claude.close()


@pytest.mark.parametrize(
    ("environ", "variable"),
    [
        ({"ANTHROPIC_API_KEY": ""}, "ANTHROPIC_API_KEY"),
        ({"ANTHROPIC_API_KEY": "sk-test\n-0000"}, "ANTHROPIC_API_KEY"),
        ({"ANTHROPIC_API_KEY": "sk-tést-0000"}, "ANTHROPIC_API_KEY"),
        ({"ANTHROPIC_BASE_URL": "api.example.com"}, "ANTHROPIC_BASE_URL"),
    ],
)
def test_settings_that_cannot_work_are_refused_at_the_start(environ, variable):
    with pytest.raises(ConfigurationError, match=variable) as caught:
        extractor(**environ)
    assert "0000" not in str(caught.value)


async def test_an_unknown_model_costs_nothing_and_is_logged_once(caplog):
    claude = extractor(NEXUS_CLAUDE_MODEL="claude-unheard-of")
    assert [record.getMessage() for record in caplog.records] == ["model_price_unknown"]
    await claude.close()


def test_loggers_that_write_conversations_are_raised(restored_loggers):
    for each in restored_loggers:
        each.setLevel(logging.DEBUG)
    logging.getLogger("httpcore").setLevel(logging.ERROR)

    quiet_http_loggers()

    assert all(not each.isEnabledFor(logging.DEBUG) for each in restored_loggers)
    assert logging.getLogger("httpcore").level == logging.ERROR


def test_a_budget_needs_a_price():
    with pytest.raises(ConfigurationError, match="NEXUS_CLAUDE_PRICES_FILE"):
        extractor(NEXUS_CLAUDE_MODEL="claude-of-tomorrow", NEXUS_BUDGET_USD_PER_HOUR="1")


@pytest.mark.parametrize("fallback", ["wait", "offline"])
def test_a_cap_under_which_nothing_could_be_read_is_refused_at_start(fallback):
    environ = {"NEXUS_BUDGET_USD_PER_HOUR": "0.001", "NEXUS_CLAUDE_SHARE": "0.25", "NEXUS_BUDGET_FALLBACK": fallback}
    with pytest.raises(ConfigurationError, match="NEXUS_BUDGET_USD_PER_HOUR"):
        extractor(**environ)


async def test_a_price_of_ones_own_makes_a_budget_possible(tmp_path):
    path = tmp_path / "prices.json"
    path.write_text('{"claude-of-tomorrow": {"input": 1, "output": 2, "cache_read": 0.1, "cache_write": 1.25}}')
    claude = extractor(
        NEXUS_CLAUDE_MODEL="claude-of-tomorrow",
        NEXUS_BUDGET_USD_PER_HOUR="1",
        NEXUS_CLAUDE_PRICES_FILE=str(path),
    )
    await claude.close()
