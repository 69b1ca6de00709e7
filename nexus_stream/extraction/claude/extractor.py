"""Extract a user's own data from a conversation with Claude.

From: the turns of one conversation, to the Messages API. To: `Findings`, every value with its span in a user's turn.
A conversation takes one request, or two if the first answer does not fit the schema. Each passes claude/calls.py.
Nothing is retried here: a `RetryableError` goes to the enricher's one retry loop, which waits while Claude is
unavailable. No text of a conversation is logged or put into an exception.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Final

import anthropic

from nexus_stream.errors import (
    ConfigurationError,
    ModelAnswerError,
    ModelRefusedError,
    ModelUnavailableError,
    Reason,
    SpendLimitError,
)
from nexus_stream.extraction.claude.answer import AnswerInvalidError, findings_from, parse_answer
from nexus_stream.extraction.claude.budget import Budget
from nexus_stream.extraction.claude.calls import Call, CallGate
from nexus_stream.extraction.claude.errors import Rejected, failure_from, is_spend_limit, was_never_sent
from nexus_stream.extraction.claude.outcomes import outcome_of
from nexus_stream.extraction.claude.prices import PRICES_AS_OF, Price, TokenCounts, cost_usd, load_prices, price_of
from nexus_stream.extraction.claude.prompt import load_prompt, turns_as_json
from nexus_stream.extraction.claude.reply import Meter, Reply, complete_text, read_reply
from nexus_stream.extraction.claude.request import ask_again, create_client, message_params
from nexus_stream.extraction.extractor import Findings, MadeBy, Turn
from nexus_stream.extraction.observer import ExtractionObserver, ModelCall, Unobserved
from nexus_stream.host.log import get_logger
from nexus_stream.settings import Settings

__all__ = ["EXTRACTOR_NAME", "ClaudeExtractor", "quiet_http_loggers"]

_log = get_logger(__name__)

EXTRACTOR_NAME: Final = "claude"

# At DEBUG the SDK and its transports log whole requests, and so whole conversations.
_HTTP_LOGGERS: Final[Mapping[str, int]] = {
    "anthropic": logging.INFO,
    "httpx": logging.WARNING,
    "httpx2": logging.WARNING,
    "httpcore": logging.WARNING,
    "httpcore2": logging.WARNING,
    "aiohttp": logging.INFO,
}

# The first request, and one more with the problems of the first answer.
_MAX_ASKS: Final = 2

_STOP_REASONS: Final = frozenset(
    {"end_turn", "max_tokens", "stop_sequence", "refusal", "model_context_window_exceeded", "pause_turn", "tool_use"}
)

# Sent to find out whether a request was rejected because of its conversation.
_HARMLESS: Final = (Turn("user", "Hola"),)


def quiet_http_loggers() -> None:
    """Raise the level of loggers that could log a conversation; a higher level stays."""
    for name, level in _HTTP_LOGGERS.items():
        for each in (name, *(child for child in logging.root.manager.loggerDict if child.startswith(f"{name}."))):
            named = logging.getLogger(each)
            if named.level == logging.NOTSET and each != name:
                continue  # inherits
            if named.level < level:
                named.setLevel(level)


class ClaudeExtractor:
    """An `Extractor` that calls Claude. Create one for each process: it limits its own concurrent calls.

    Args:
        settings: ``anthropic_api_key``, ``anthropic_base_url`` and all of ``claude_*``.
        prices: Replaces the dated table. A model without a price costs 0, which is logged once.
        budget: Counts the spending. By default the settings' caps apply until this process ends.
        observer: Notified of every request.

    Raises:
        ConfigurationError: the key is missing, the key or the address is malformed, or a budget has no price.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        prices: Mapping[str, Price] | None = None,
        budget: Budget | None = None,
        observer: ExtractionObserver | None = None,
    ) -> None:
        quiet_http_loggers()
        self._settings = settings
        self._prompt = load_prompt()
        self.labels = MadeBy(EXTRACTOR_NAME, settings.claude_model, self._prompt.version)
        self._price = price_of(
            settings.claude_model, load_prices(settings.claude_prices_file) if prices is None else prices
        )
        if self._price is None:
            _log.warning("model_price_unknown", model=settings.claude_model, prices_as_of=PRICES_AS_OF.isoformat())
        self.budget = budget or Budget(
            usd_per_hour=settings.budget_usd_per_hour,
            usd_per_day=settings.budget_usd_per_day,
            share=settings.claude_share,
        )
        self._gate = CallGate(
            settings,
            price=self._price,
            prompt_chars=len(self._prompt.system) + len(str(self._prompt.schema)),
            budget=self.budget,
        )
        self._observer = observer or Unobserved()
        self._slots = asyncio.Semaphore(settings.claude_concurrency)
        self._client = create_client(settings)

    async def close(self) -> None:
        """Close the connections, and write the spending."""
        self.budget.close()
        await self._client.close()

    async def extract(self, turns: Sequence[Turn], region: str | None = None) -> Findings:
        """Read one conversation, oldest turn first.

        Raises:
            ModelUnavailableError: Claude is limited, overloaded, slow or unreachable, or the connection broke; or the
                breaker, the spend limit or the budget (subclasses) holds calls. Try again later.
            ModelRefusedError: Claude declined the conversation, or ``claude_max_tokens`` cut the answer off.
            ModelAnswerError: two answers did not fit the schema.
            ConfigurationError: the key, the model, the address or the request itself is wrong, not the conversation.
        """
        if not any(turn.role == "user" and turn.content.strip() for turn in turns):
            # Only a user's own words count, so there is nothing to extract, and no model is called.
            return Findings(made_by=MadeBy(EXTRACTOR_NAME))
        # Again for each call: logging may have been configured since the last.
        quiet_http_loggers()
        async with self._slots:
            try:
                # The deadline starts at the first request: waiting for the allowance before it must not count.
                async with asyncio.timeout(None) as deadline:
                    return await self._read(turns, deadline)
            except TimeoutError:
                pass
        raise ModelUnavailableError("no result before the deadline (NEXUS_CLAUDE_DEADLINE_SECONDS)")

    async def _read(self, turns: Sequence[Turn], deadline: asyncio.Timeout) -> Findings:
        meter = Meter(self._price)
        conversation = turns_as_json(turns)
        problems: str | None = None
        for _ in range(_MAX_ASKS):
            text = await self._answer_text(conversation, meter, deadline, problems)
            try:
                answer = parse_answer(text)
            except AnswerInvalidError as error:
                problems = error.problems
                _log.warning("model_answer_invalid")
            else:
                return findings_from(answer, turns, meter.usage)
        raise ModelAnswerError(
            f"Claude's answer does not fit the schema, also after a second request: {problems}",
            reason=Reason.MODEL_ANSWER_INVALID,
        )

    async def _answer_text(
        self, conversation: str, meter: Meter, deadline: asyncio.Timeout, problems: str | None
    ) -> str:
        texts = [conversation]
        if problems is not None:
            # A new request with one user message: a model's answer cannot be continued or corrected in its own turn.
            texts.append(ask_again(problems))
        reply = await self._ask(texts, meter, deadline)
        if isinstance(reply, Rejected):
            raise await self._explain(reply, deadline)
        return complete_text(reply)

    async def _ask(self, texts: list[str], meter: Meter, deadline: asyncio.Timeout) -> Reply | Rejected:
        settings = self._settings
        async with self._gate.call("".join(texts)) as call:
            if deadline.when() is None:
                deadline.reschedule(asyncio.get_running_loop().time() + settings.claude_deadline_seconds)
            with self._observer.model_call(settings.claude_model, settings.claude_max_tokens) as span:
                started = time.monotonic()
                answer = await self._request(texts, meter, call)
                self._observer.request_ended(outcome_of(answer), time.monotonic() - started)
                if isinstance(answer, Reply):
                    _show(span, self._observer, answer, answer.tokens or call.likely, self._price)
                    return answer
                span.failed(str(answer.status) if isinstance(answer, Rejected) else type(answer).__name__)
        # Raised outside the except clauses, so that the SDK's error, which holds the request, is released.
        if isinstance(answer, Rejected):
            return answer
        raise answer

    async def _request(
        self, texts: list[str], meter: Meter, call: Call
    ) -> Reply | Rejected | ModelUnavailableError | ConfigurationError:
        settings = self._settings
        started = time.monotonic()
        try:
            # The SDK's timeout is per read: a body that arrives slowly would never reach it.
            async with asyncio.timeout(settings.claude_timeout_seconds):
                response = await self._client.messages.with_raw_response.create(
                    **message_params(settings, self._prompt, texts)
                )
            reply = read_reply(response.http_response.content)
        except TimeoutError:
            call.unanswered(sent=True)
            late = ModelUnavailableError("Claude did not answer in time (NEXUS_CLAUDE_TIMEOUT_SECONDS)")
            return late.of_kind("timeout")
        except anthropic.AnthropicError as error:
            failure = failure_from(error, retry_after_max_seconds=settings.claude_retry_after_max_seconds)
            if isinstance(error, anthropic.APIStatusError):
                call.refused(error.status_code, error.response.headers, failure)
            else:
                call.unanswered(sent=not was_never_sent(error))
            return failure
        if reply is None:
            call.unanswered(sent=True)
            not_a_message = ModelUnavailableError("Claude answered HTTP 200 with a body that is no message")
            return not_a_message.of_kind("bad_answer")
        tokens = reply.tokens or call.likely
        call.answered(tokens, response.headers)
        meter.add(tokens, time.monotonic() - started)
        return reply

    async def _explain(self, rejected: Rejected, deadline: asyncio.Timeout) -> Exception:
        """Find the cause of a rejected request: it is not the conversation if a harmless one is rejected too."""
        harmless = await self._ask([turns_as_json(_HARMLESS)], Meter(None), deadline)
        if not isinstance(harmless, Rejected):
            return ModelRefusedError(
                f"Claude does not accept this conversation: HTTP {rejected.status} (request {rejected.request_id})",
                reason=Reason.MODEL_REFUSED,
            )
        shown = (
            f"Claude: HTTP {harmless.status} for any conversation (request {harmless.request_id}): {harmless.detail}"
        )
        if is_spend_limit(harmless):
            pause_seconds = self._settings.claude_spend_limit_pause_seconds
            self._gate.breaker.spend_limit_reached(shown, pause_seconds)
            return SpendLimitError(shown, retry_after_seconds=pause_seconds, is_general=True)
        return ConfigurationError(f"{shown} Check NEXUS_CLAUDE_MODEL and NEXUS_CLAUDE_MAX_TOKENS.")


def _show(
    span: ModelCall, observer: ExtractionObserver, reply: Reply, tokens: TokenCounts, price: Price | None
) -> None:
    # Writing to the prompt cache is paid input.
    input_tokens, output_tokens = tokens.input_tokens + tokens.cache_write_tokens, tokens.output_tokens
    paid_usd = cost_usd(price, tokens)
    observer.paid(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cache_read_tokens=tokens.cache_read_tokens,
        cost_usd=paid_usd,
    )
    span.answered(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cache_read_tokens=tokens.cache_read_tokens,
        cost_usd=paid_usd,
        # Only a known stop reason is recorded: an unknown text from an answer could be anything.
        stop_reason=reply.stop_reason if reply.stop_reason in _STOP_REASONS else "other",
    )
