"""Read the results of a batch, and decide the next step of each conversation.

The results come in any order, and some may have been read before a kill. They are written to store.py page by page, so
that a kill loses no answer.

| result | first time | second time |
|---|---|---|
| an answer that fits the schema | sent with the answer | sent with the answer |
| an answer that does not fit the schema | next batch, with the problems | dead letter ``model_answer_invalid`` |
| declined, or cut off | dead letter ``model_refused``, ``model_truncated`` | |
| server error, expired, missing | next batch | sent without an answer: read live |
| request rejected, others accepted | dead letter ``model_refused`` | |
| all requests rejected | the run stops: configuration | |
| cancelled | the run stops | |

A conversation that has a record already is left as it is, where it would become a dead letter or be read live.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Final

from nexus_stream.backfill.asking import Asking
from nexus_stream.backfill.batches import Batches, Ended, Kind
from nexus_stream.backfill.estimate import Estimator
from nexus_stream.backfill.records import Chunk, Item
from nexus_stream.backfill.store import RunStore
from nexus_stream.errors import (
    ConfigurationError,
    ModelAnswerError,
    ModelRefusedError,
    NexusError,
    PermanentError,
    Reason,
)
from nexus_stream.extraction.answered import encode_answer, encode_failure
from nexus_stream.extraction.claude.answer import AnswerInvalidError, findings_from, parse_answer
from nexus_stream.extraction.claude.budget import Budget
from nexus_stream.extraction.claude.prices import TokenCounts, cost_usd
from nexus_stream.extraction.claude.reply import Reply, complete_text
from nexus_stream.extraction.extractor import Usage

__all__ = ["ANSWERED", "LEFT", "LIVE", "BatchCancelledError", "Reader"]

# Outcomes of an item. A dead letter has its reason as the outcome.
ANSWERED: Final = "answered"
LIVE: Final = "live"
LEFT: Final = "left"

_MAX_ATTEMPTS: Final = 2
_PAGE: Final = 200


class BatchCancelledError(NexusError):
    """Somebody cancelled a batch at Anthropic: no other batch is created until the command is run again."""


class Reader:
    """Reads the results of one batch after the other.

    Args:
        batches: The API.
        store: The state of the run.
        asking: Gives the conversations of the requests.
        budget: Counts the cost of the answers.
        estimator: Knows the price in a batch, and the tokens of an answer that does not say them.
        shown: Called after every page.
    """

    def __init__(
        self,
        *,
        batches: Batches,
        store: RunStore,
        asking: Asking,
        budget: Budget,
        estimator: Estimator,
        shown: Callable[[], None],
    ) -> None:
        self._batches = batches
        self._store = store
        self._asking = asking
        self._budget = budget
        self._estimator = estimator
        self._shown = shown

    async def read(self, chunk: Chunk, batch_id: str) -> NexusError | None:
        """Store every result. Return an error if the run must stop.

        Raises:
            ModelUnavailableError: the results broke off. The stored results stay; read the batch again.
        """
        ids = self._store.by_custom_id(chunk)
        page: list[tuple[int, Ended]] = []
        rejected: list[tuple[int, Ended]] = []
        spent_usd, successes, is_canceled = 0.0, 0, False
        async with aclosing(self._batches.results(batch_id)) as results:
            async for ended in results:
                number = ids.pop(ended.custom_id, None)
                if number is None:
                    continue
                if ended.reply is not None:
                    successes += 1
                    spent_usd += cost_usd(self._estimator.price, self._tokens(self._store.item(number), ended.reply))
                is_canceled |= ended.kind is Kind.CANCELED
                (rejected if ended.kind is Kind.REJECTED else page).append((number, ended))
                if len(page) >= _PAGE:
                    self._keep(page)
                    page = []
                    self._shown()
        self._keep(page)
        # Before the chunk is marked: after a kill between the two, the cost counts twice and not zero times.
        self._budget.settle(chunk.reserved_usd, spent_usd)
        self._budget.close()
        blamed = bool(successes) or self._store.counts().cost_usd > 0
        with self._store.transaction():
            for number, ended in rejected:
                item = self._store.item(number)
                if blamed:
                    self.failed(item, _rejection(ended))
                else:
                    self._store.again(item, item.problems, counts=False)
            for number in ids.values():
                # Missing from the results.
                item = self._store.item(number)
                if item.state == "batched":
                    self._try_again(item)
            self._store.set_chunk(chunk, "read")
        if rejected and not blamed:
            return ConfigurationError(
                f"Claude rejected all requests of a batch ({rejected[0][1].detail}), so no conversation is the cause. "
                "Check NEXUS_CLAUDE_MODEL, NEXUS_CLAUDE_MAX_TOKENS and the account, then run the command again."
            )
        if is_canceled:
            return BatchCancelledError(f"Batch {batch_id} was cancelled at Anthropic. Its answers so far are sent.")
        return None

    def _keep(self, page: list[tuple[int, Ended]]) -> None:
        with self._store.transaction():
            for number, ended in page:
                item = self._store.item(number)
                # Another state means that the result was stored before a kill.
                if item.state == "batched":
                    self._keep_one(item, ended)

    def _keep_one(self, item: Item, ended: Ended) -> None:
        if ended.kind is Kind.CANCELED:
            self._store.again(item, item.problems, counts=False)
            return
        if ended.reply is None:
            self._try_again(item)
            return
        tokens = self._tokens(item, ended.reply)
        paid = (tokens.input_tokens + tokens.cache_write_tokens, tokens.output_tokens, tokens.cache_read_tokens)
        item = self._store.spent(item, tokens=paid, cost_usd=cost_usd(self._estimator.price, tokens))
        try:
            answer = parse_answer(complete_text(ended.reply))
        except ModelRefusedError as error:
            self.failed(item, error)
        except AnswerInvalidError as error:
            if item.attempts < _MAX_ATTEMPTS:
                self._store.again(item, error.problems, counts=True)
            else:
                self.failed(item, _invalid(error.problems))
        else:
            usage = Usage(item.input_tokens, item.output_tokens, item.cache_read_tokens, item.cost_usd)
            findings = replace(findings_from(answer, self._asking.turns(item), usage), made_by=self._asking.made_by)
            self._store.ready(item, ANSWERED, encode_answer(self._asking.digest(item), findings))

    def _tokens(self, item: Item, reply: Reply) -> TokenCounts:
        # The conversation of an item that was sent before a kill is gone.
        return reply.tokens or self._estimator.likely("".join(self._asking.texts(item)) if item.value else "")

    def _try_again(self, item: Item) -> None:
        """Try the item in the next batch, and after that live."""
        if item.attempts < _MAX_ATTEMPTS:
            self._store.again(item, item.problems, counts=True)
        elif item.improves:
            self._store.skip(item, LEFT)
        else:
            self._store.ready(item, LIVE, None)

    def failed(self, item: Item, error: PermanentError) -> None:
        """Make a dead letter of an item that cannot be read. Call it in a transaction."""
        if item.improves:
            # The record stays: a dead letter would be worse.
            if error.reason is not Reason.OVER_BUDGET:
                self._store.leave(self._asking.digest(item), self._asking.made_by.label)
            self._store.skip(item, LEFT)
        else:
            self._store.ready(item, error.reason.value, encode_failure(self._asking.digest(item), error))


def _rejection(ended: Ended) -> ModelRefusedError:
    return ModelRefusedError(
        f"Claude does not accept this conversation in a batch: {ended.detail}", reason=Reason.MODEL_REFUSED
    )


def _invalid(problems: str) -> ModelAnswerError:
    return ModelAnswerError(
        f"Claude's answer does not fit the schema, also after a second request: {problems}",
        reason=Reason.MODEL_ANSWER_INVALID,
    )
