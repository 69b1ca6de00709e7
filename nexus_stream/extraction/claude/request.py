"""The one request that Claude is asked with, and the client that sends it.

From: the prompt, the settings and a conversation as JSON. To: claude.py, which sends it at once, and
``nexus_stream/backfill``, which sends it in a batch: the same bytes, so that both
read alike and share the prompt's cache.
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

# Named here because the SDK would otherwise read ANTHROPIC_BASE_URL by itself, past the settings.
_API_URL: Final = "https://api.anthropic.com"


def create_client(
    settings: Settings, *, timeout_seconds: float | None = None, strict: bool = False
) -> anthropic.AsyncAnthropic:
    """The SDK's client with its own retries off; close it when done.

    Args:
        settings: ``anthropic_api_key``, ``anthropic_base_url``, ``claude_timeout_seconds``.
        timeout_seconds: Instead of the setting.
        strict: Whether an answer that differs from the SDK's models is an error: for tests, which hold a stand-in to
            them. Not for production: what the API adds later must not cost an answer that was paid for.

    Raises:
        ConfigurationError: there is no key, or key or address cannot be one.
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
        # The SDK's own spans can be switched by environment variables to carry the conversation.
        open_telemetry=False,
        _strict_response_validation=strict,
    )


def message_params(settings: Settings, prompt: Prompt, texts: list[str]) -> MessageCreateParamsNonStreaming:
    """The request for one conversation.

    Args:
        settings: ``claude_model`` and ``claude_max_tokens``.
        prompt: The rules and the answer's schema.
        texts: The conversation, and after a bad answer what was wrong with it (`ask_again`).
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
    """What is added to the conversation after an answer that did not fit the schema."""
    return (
        "An earlier answer to the array above was not accepted by the program that reads it. What was wrong: "
        f"{problems}. Answer again, with one JSON object that follows the schema exactly."
    )


def _api_key(settings: Settings) -> str:
    if settings.anthropic_api_key is None:
        raise ConfigurationError("ANTHROPIC_API_KEY: needed to extract with Claude. Set it, or use offline rules.")
    key = settings.anthropic_api_key.get_secret_value().strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigurationError("ANTHROPIC_API_KEY: holds characters that no key has. Copy it again.")
    return key
