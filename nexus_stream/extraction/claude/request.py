"""The one request to Claude, and the client that sends it.

claude/extractor.py sends the request at once, and nexus_stream/backfill sends it in a batch. Both send the same bytes,
so that their results are alike and they share the prompt cache.
"""

from __future__ import annotations

from typing import Final

import anthropic
from anthropic.types import TextBlockParam
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming

from nexus_stream.errors import ConfigurationError
from nexus_stream.extraction.claude.prompt import Prompt
from nexus_stream.settings import Settings

__all__ = ["ask_again", "create_client", "message_params"]

# Set here because the SDK would otherwise read ANTHROPIC_BASE_URL itself and ignore the settings.
_API_URL: Final = "https://api.anthropic.com"


def create_client(
    settings: Settings, *, timeout_seconds: float | None = None, strict: bool = False
) -> anthropic.AsyncAnthropic:
    """Create the SDK's client with its own retries off. The caller closes it.

    Args:
        settings: ``anthropic_api_key``, ``anthropic_base_url``, ``claude_timeout_seconds``.
        timeout_seconds: Replaces the setting.
        strict: Whether an answer that differs from the SDK's models is an error. Tests use it to check a stand-in.
            Not for production: a paid answer must not be lost because the API added a field.

    Raises:
        ConfigurationError: the key is missing, or the key or the address is malformed.
    """
    base_url = settings.anthropic_base_url or _API_URL
    if not base_url.startswith(("https://", "http://")):
        raise ConfigurationError("ANTHROPIC_BASE_URL: must start with https:// (or http:// for a stand-in).")
    return anthropic.AsyncAnthropic(
        api_key=_api_key(settings),
        base_url=base_url,
        timeout=timeout_seconds or settings.claude_timeout_seconds,
        max_retries=0,
        http_client=anthropic.DefaultAioHttpClient(),
        # Environment variables could make the SDK's own spans contain the conversation.
        open_telemetry=False,
        _strict_response_validation=strict,
    )


def message_params(settings: Settings, prompt: Prompt, texts: list[str]) -> MessageCreateParamsNonStreaming:
    """Build the request for one conversation.

    Args:
        settings: ``claude_model`` and ``claude_max_tokens``.
        prompt: The rules and the answer's schema.
        texts: The conversation and, after an invalid answer, the text of `ask_again`.
    """
    content: str | list[TextBlockParam] = (
        texts[0] if len(texts) == 1 else [{"type": "text", "text": text} for text in texts]
    )
    return {
        "model": settings.claude_model,
        "max_tokens": settings.claude_max_tokens,
        "system": [{"type": "text", "text": prompt.system, "cache_control": {"type": "ephemeral"}}],
        "messages": [{"role": "user", "content": content}],
        "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": prompt.schema}},
    }


def ask_again(problems: str) -> str:
    """Build the text that follows the conversation in the second request, after an invalid answer."""
    return (
        "An earlier answer to the array above was not accepted by the program that reads it. What was wrong: "
        f"{problems}. Answer again, with one JSON object that follows the schema exactly."
    )


def _api_key(settings: Settings) -> str:
    if settings.anthropic_api_key is None:
        raise ConfigurationError("ANTHROPIC_API_KEY: missing. Set it to extract with Claude, or use the offline rules.")
    key = settings.anthropic_api_key.get_secret_value().strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigurationError("ANTHROPIC_API_KEY: has characters that no key has. Copy the key again.")
    return key
