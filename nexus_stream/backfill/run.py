"""Run a backfill: create, poll, read and delete batches, and send the answers, in durable steps.

From: store.py. To: Anthropic's batches, and ``nexus-prospect-ingestion``: each conversation once, with its answer in
the header ``nexus-answer``. The enricher handles duplicates, order, erasures and grounding as for any record.

The steps of a chunk, and the effect of a kill right after each. No paid answer is lost or paid again:

1. ``intended`` is stored. The next start searches for the batch, and creates it if it does not exist.
2. The batch is created, but its id is not stored. The next start finds it by the custom ids in its results.
3. ``open``: the id is stored. The next start continues to poll.
4. Results are stored page by page. The next start reads them again and skips the stored ones.
5. ``read``: records are sent, acknowledged, then marked. After a kill some are sent twice: the enricher drops them.
6. The batch is deleted. A second deletion is no error.
7. ``closed``.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from anthropic.types.messages.batch_create_params import Request

from nexus_stream.backfill.asking import Asking
from nexus_stream.backfill.batches import Batch, Batches, UnknownOutcomeError
from nexus_stream.backfill.estimate import Estimator
from nexus_stream.backfill.fitting import Fitting
from nexus_stream.backfill.reading import Reader
from nexus_stream.backfill.records import Chunk, Counts, Item, ProgressDisplay, View
from nexus_stream.backfill.store import RunStore
from nexus_stream.errors import (
    BudgetExhaustedError,
    ConfigurationError,
    NexusError,
    OverBudgetError,
    PermanentError,
    RetryableError,
    SpendLimitError,
)
from nexus_stream.extraction.answered import findings_of
from nexus_stream.extraction.cache import FindingsCache, cache_key, encode_findings
from nexus_stream.extraction.claude.budget import Budget
from nexus_stream.kafka.sender import SenderPort
from nexus_stream.settings import Settings

__all__ = ["Pace", "Run"]

_SENDS_AT_A_TIME: Final = 100
# Maximum difference between this machine's clock and Anthropic's.
_CLOCK_SKEW_SECONDS: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Pace:
    """Sizes and times.

    Attributes:
        batch_requests: Maximum number of requests in a batch; the API accepts 100,000.
        batch_bytes: Maximum size of a batch; the API accepts 256 MB. A batch is in memory while it is sent.
        poll_seconds: Time between two polls of the batches.
        unknown_seconds: If a batch is not listed this long after the attempt to create it, it was not created.
        judge_again_seconds: Maximum age of the check against the session table when a batch is created.
    """

    batch_requests: int = 10_000
    batch_bytes: int = 64 * 1024 * 1024
    poll_seconds: float = 30.0
    unknown_seconds: float = 120.0
    judge_again_seconds: float = 600.0


class Run:
    """One run, from the state in its store to its end.

    Args:
        store: The state of the run.
        settings: Model, limits, topics.
        batches: The API.
        sender: Sends to the broker.
        judge: Skips items that the session table knows.
        budget: Counts and caps the spending.
        estimator: Estimates at the price in a batch.
        progress: Shows the progress.
        at_most_usd: Limit on the cost of the run.
        is_held: Whether the answers are only collected. They are sent by a later run.
        cache: The cache that the enrichers share, if any. An enricher that reads the original record before the new one
            finds the answer there.
        pace: Sizes and times.
    """

    def __init__(
        self,
        *,
        store: RunStore,
        settings: Settings,
        batches: Batches,
        sender: SenderPort,
        judge: Callable[[], Awaitable[None]],
        budget: Budget,
        estimator: Estimator,
        progress: ProgressDisplay,
        at_most_usd: float | None = None,
        is_held: bool = False,
        cache: FindingsCache | None = None,
        pace: Pace | None = None,
    ) -> None:
        self._store = store
        self._settings = settings
        self._batches = batches
        self._sender = sender
        self._judge = judge
        self._judged_at = float("-inf")
        self._budget = budget
        self._progress = progress
        self._is_held = is_held
        self._cache = cache
        self._pace = pace or Pace()
        self._asking = Asking(settings, store)
        self._reader = Reader(
            batches=batches,
            store=store,
            asking=self._asking,
            budget=budget,
            estimator=estimator,
            shown=self._show,
        )
        self._fitting = Fitting(
            store=store,
            asking=self._asking,
            estimator=estimator,
            budget=budget,
            batch_requests=self._pace.batch_requests,
            batch_bytes=self._pace.batch_bytes,
            at_most_usd=at_most_usd,
            over_cap=self._reader.failed,
        )
        # Batches that were checked and do not belong to this run.
        self._foreign_batches: set[str] = set()
        # Chunks whose batch certainly does not exist: no search is needed.
        self._not_created: set[int] = set()
        self._latest_end: float | None = None
        self._stop: NexusError | None = None
        self._began = time.monotonic()
        self._done_at_start = self._done()
        for chunk in (*store.chunks("intended"), *store.chunks("open")):
            with contextlib.suppress(BudgetExhaustedError, OverBudgetError):
                budget.reserve(chunk.reserved_usd)

    async def run(self) -> Counts:
        """Run until every conversation is on the topic and every batch is deleted.

        After each of these errors, the next run continues where this one stopped.

        Raises:
            SpendLimitError: the account's spend limit is reached.
            ConfigurationError: the key, the model or the address is wrong, not a conversation.
            BatchCancelledError: somebody cancelled a batch.
        """
        while True:
            pause = self._pace.poll_seconds
            try:
                await self._advance()
            except SpendLimitError:
                raise
            except RetryableError as error:
                self._progress.note(f"{error}; will retry")
                pause = max(pause, error.retry_after_seconds or 0.0)
            self._show()
            if self._is_finished():
                return self._store.counts()
            await asyncio.sleep(pause)

    async def _advance(self) -> None:
        # First finish the work that an earlier process left.
        await self._send_ready()
        await self._close_read()
        await self._read_ended()
        await self._send_ready()
        await self._close_read()
        if self._stop is not None:
            raise self._stop
        await self._create()

    def _is_finished(self) -> bool:
        counts = self._store.counts()
        waiting = counts.unfinished - (counts.states.get("ready", 0) if self._is_held else 0)
        return not waiting and not counts.open_batches and not self._store.chunks("read")

    # Creating

    async def _create(self) -> None:
        for chunk in self._store.chunks("intended"):
            if chunk.id not in self._not_created:
                found, is_decided = await self._search_batch(chunk)
                if found is not None:
                    self._mark_open(chunk, found)
                    continue
                if not is_decided:
                    return
                chunk = self._store.intend_again(chunk)  # noqa: PLW2901 - the same chunk with a new time
            items = self._items_of(chunk)
            if not await self._post(chunk, [self._asking.request(item, chunk.id) for item in items]):
                return
        while self._store.items("pending", limit=1):
            if time.monotonic() - self._judged_at > self._pace.judge_again_seconds:
                await self._judge()
                self._judged_at = time.monotonic()
                await self._send_ready()
                continue
            try:
                items, estimate = self._fitting.reserve()
            except BudgetExhaustedError as error:
                if not self._store.counts().open_batches:
                    raise
                self._progress.note(f"{error}; the remaining conversations wait")
                return
            if not items:
                # Send the items that became dead letters because they are over the cap.
                await self._send_ready()
                return
            chunk = self._store.intend(items, estimate.at_most_usd)
            if not await self._post(chunk, [self._asking.request(item, chunk.id) for item in items]):
                return
            self._show()

    def _items_of(self, chunk: Chunk) -> list[Item]:
        items: list[Item] = []
        while page := self._store.items("batched", chunk=chunk.id, after=items[-1].id if items else 0):
            items += page
        return items

    async def _post(self, chunk: Chunk, requests: list[Request]) -> bool:
        """Create a chunk's batch. Return whether it certainly exists."""
        self._not_created.discard(chunk.id)
        try:
            batch = await self._batches.create(requests)
        except UnknownOutcomeError as error:
            self._progress.note(f"no answer to the creation of a batch ({error}); checking whether it exists")
            return False
        except (RetryableError, ConfigurationError):
            self._not_created.add(chunk.id)
            raise
        self._mark_open(chunk, batch)
        return True

    def _mark_open(self, chunk: Chunk, batch: Batch) -> None:
        with self._store.transaction():
            self._store.set_chunk(chunk, "open", batch_id=batch.id)
        self._latest_end = max(self._latest_end or 0.0, batch.expires_at)

    async def _search_batch(self, chunk: Chunk) -> tuple[Batch | None, bool]:
        """Search for a batch whose creation was not confirmed. Return it, and whether the search is conclusive."""
        is_decided = time.time() - chunk.intended_at >= self._pace.unknown_seconds
        ours = self._store.batch_ids()
        for batch in await self._batches.created_since(chunk.intended_at - _CLOCK_SKEW_SECONDS):
            if batch.id in ours or batch.id in self._foreign_batches or batch.requests != chunk.requests:
                continue
            if not batch.has_ended:
                # Only the results show its owner. It may belong to this run, and a second batch could be paid twice.
                is_decided = False
                continue
            if batch.has_results and await self._is_ours(batch, chunk):
                return batch, True
            self._foreign_batches.add(batch.id)
        return None, is_decided

    async def _is_ours(self, batch: Batch, chunk: Chunk) -> bool:
        async with aclosing(self._batches.results(batch.id)) as results:
            async for ended in results:
                return ended.custom_id.startswith(self._store.prefix(chunk.id))
        return False

    # Reading

    async def _read_ended(self) -> None:
        for chunk in self._store.chunks("open"):
            assert chunk.batch_id is not None  # noqa: S101 - an open chunk has an id
            batch = await self._batches.retrieve(chunk.batch_id)
            if batch is None or (batch.has_ended and not batch.has_results):
                self._close_lost(chunk)
            elif batch.has_ended:
                self._stop = await self._reader.read(chunk, chunk.batch_id) or self._stop
            else:
                self._latest_end = max(self._latest_end or 0.0, batch.expires_at)

    def _close_lost(self, chunk: Chunk) -> None:
        """Close a chunk whose batch or results somebody deleted. Its answers are unknown, so nothing is paid again."""
        self._budget.settle(chunk.reserved_usd, chunk.reserved_usd)
        with self._store.transaction():
            for item in self._items_of(chunk):
                self._store.skip(item, "lost")
            self._store.set_chunk(chunk, "closed")
        self._progress.note(f"the results of batch {chunk.batch_id} were deleted: its conversations are skipped")

    # Sending

    async def _send_ready(self) -> None:
        while not self._is_held and (page := self._store.items("ready", limit=_SENDS_AT_A_TIME)):
            # Each item is a different session, so the order does not matter.
            results = await asyncio.gather(*map(self._send, page), return_exceptions=True)
            sent = [item for item, result in zip(page, results, strict=True) if result is None]
            with self._store.transaction():
                self._store.sent(sent)
                for item, result in zip(page, results, strict=True):
                    if isinstance(result, PermanentError):
                        self._store.skip(item, result.reason.value)
            self._show()
            for result in results:
                if isinstance(result, BaseException) and not isinstance(result, PermanentError):
                    raise result

    async def _send(self, item: Item) -> None:
        if item.answer is not None:
            await self._share_answer(item, item.answer)
        await self._sender.send(
            self._settings.ingestion_topic,
            item.session,
            item.value,
            timestamp_ms=item.timestamp_ms,
            headers=item.sent_headers,
        )

    async def _share_answer(self, item: Item, answer: bytes) -> None:
        """Put the answer into the enrichers' shared cache: an earlier record of the conversation finds it there."""
        if self._cache is not None and (findings := findings_of(answer)) is not None:
            await self._cache.put(cache_key(self._asking.made_by, self._asking.turns(item)), encode_findings(findings))

    async def _close_read(self) -> None:
        for chunk in self._store.chunks("read"):
            assert chunk.batch_id is not None  # noqa: S101 - a read chunk has an id
            await self._batches.delete(chunk.batch_id)
            with self._store.transaction():
                self._store.set_chunk(chunk, "closed")

    # Showing

    def _done(self) -> int:
        states = self._store.counts().states
        return states.get("sent", 0) + states.get("ready", 0)

    def _show(self) -> None:
        counts = self._store.counts()
        done = self._done() - self._done_at_start
        eta_seconds: float | None = None
        if done:
            eta_seconds = (time.monotonic() - self._began) / done * counts.unfinished
        self._progress.update(View(counts, eta_seconds, self._latest_end))
