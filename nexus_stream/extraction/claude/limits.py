"""The account's allowance a minute: requests, input tokens, output tokens, and this worker's share of each.

From: settings and the ``anthropic-ratelimit-*`` headers of every answer. To: claude/calls.py, which takes from it
before each call and corrects it afterwards by what the answer says was used.

The vendor's buckets refill continuously and may be enforced over less than a minute, so the allowance is spent evenly:
a bucket holds a fraction of a second's worth, never the minute's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from aiolimiter import AsyncLimiter

__all__ = ["UNKNOWN_REQUESTS_PER_MINUTE", "Allowance", "ClaudeLimits", "Weight"]

# Until the first answer says better: what the smallest account has.
UNKNOWN_REQUESTS_PER_MINUTE: Final = 50
# Enough that a timer that fires late loses nothing, little enough that no limit over a second is broken.
_BURST_SECONDS: Final = 0.25
_LIMIT_HEADER: Final = "anthropic-ratelimit-{kind}-limit"
_MINUTE_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Weight:
    """What one call takes: itself and its tokens. Tokens read from the prompt cache are free of these limits."""

    input_tokens: int
    output_tokens: int


class Allowance:
    """An amount a minute, spent evenly. For one waiter at a time: `ClaudeLimits` lines them up.

    Args:
        per_minute: None for no limit.
    """

    def __init__(self, per_minute: float | None) -> None:
        # Taken too much or too little so far, by estimates that proved wrong: the next one pays.
        self._owed = 0.0
        self._bucket: AsyncLimiter | None = None
        self._per_minute: float | None = None
        self._waiting: asyncio.Future[None] | None = None
        self.set_rate(per_minute)

    @property
    def per_minute(self) -> float | None:
        """The rate now; None for no limit."""
        return self._per_minute

    def set_rate(self, per_minute: float | None) -> None:
        """Change the rate, also for who waits already: what is learned first is often ten times the assumption."""
        if per_minute == self._per_minute:
            return
        self._per_minute = per_minute
        if per_minute is None:
            self._bucket = None
        else:
            per_second = per_minute / _MINUTE_SECONDS
            capacity = max(1.0, per_second * _BURST_SECONDS)
            self._bucket = AsyncLimiter(capacity, capacity / per_second)
        if self._waiting is not None:
            self._waiting.cancel()

    async def take(self, amount: float) -> None:
        """Wait until the amount may be spent; cancelled, nothing was."""
        owed_before = self._owed
        owed = amount + owed_before
        self._owed = min(0.0, owed)
        remaining, taken = max(0.0, owed), 0.0
        try:
            while remaining > 0.0 and (bucket := self._bucket) is not None:
                # The bucket holds less than a long conversation needs.
                part = min(remaining, bucket.max_rate)
                if await self._acquired(bucket, part):
                    taken += part
                    remaining -= part
        except BaseException:
            self._owed += owed_before - min(0.0, owed) - taken
            raise

    async def _acquired(self, bucket: AsyncLimiter, amount: float) -> bool:
        """Whether the bucket gave it; not if the rate was changed meanwhile."""
        if bucket.has_capacity(amount):
            await bucket.acquire(amount)
            return True
        self._waiting = waiting = asyncio.ensure_future(bucket.acquire(amount))
        try:
            await asyncio.wait({waiting})
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled():
                self._owed -= amount  # it came in the same turn of the loop
            raise
        finally:
            self._waiting = None
            waiting.cancel()
        return not waiting.cancelled()

    def correct(self, taken: float, used: float) -> None:
        """What was taken for a call, and what it really used."""
        # Without a limit nothing is waited for, so nothing is owed either.
        if self._bucket is not None:
            self._owed += used - taken


class ClaudeLimits:
    """All three allowances; calls go through in the order in which they came.

    Args:
        requests_per_minute: The most this account is to use, as the two others; None to use what the API allows.
        input_tokens_per_minute: Without tokens read from the prompt cache.
        output_tokens_per_minute: As generated, not as allowed by max_tokens.
        share: This worker's part of the account's allowance.
    """

    def __init__(
        self,
        *,
        requests_per_minute: int | None = None,
        input_tokens_per_minute: int | None = None,
        output_tokens_per_minute: int | None = None,
        share: float = 1.0,
    ) -> None:
        self._share = share
        self._configured = {
            "requests": requests_per_minute,
            "input-tokens": input_tokens_per_minute,
            "output-tokens": output_tokens_per_minute,
        }
        self._requests = Allowance(share * (requests_per_minute or UNKNOWN_REQUESTS_PER_MINUTE))
        self._input = Allowance(_times(input_tokens_per_minute, share))
        self._output = Allowance(_times(output_tokens_per_minute, share))
        # One waits for the buckets, the others for the lock: so a long conversation is not overtaken for ever.
        self._turn = asyncio.Lock()
        self._held_until = float("-inf")

    @property
    def requests_per_minute(self) -> float | None:
        """This worker's part, as known now."""
        return self._requests.per_minute

    async def take(self, weight: Weight) -> None:
        """Wait for this call's turn. Cancelling it gives everything back."""
        async with self._turn:
            parts = ((self._requests, 1), (self._input, weight.input_tokens), (self._output, weight.output_tokens))
            taken: list[tuple[Allowance, int]] = []
            try:
                for allowance, amount in parts:
                    await allowance.take(amount)
                    taken.append((allowance, amount))
                await self._until_released()
            except BaseException:
                for allowance, amount in taken:
                    allowance.correct(amount, 0)
                raise

    async def _until_released(self) -> None:
        now = asyncio.get_running_loop().time
        # Again after each sleep: another answer may have asked for longer.
        while (seconds := self._held_until - now()) > 0:  # noqa: ASYNC110 - a time to wait for, no event
            await asyncio.sleep(seconds)

    def give_back(self, weight: Weight) -> None:
        """The call was not made after all."""
        self._requests.correct(1, 0)
        self.correct(weight, Weight(0, 0))

    def correct(self, estimated: Weight, used: Weight) -> None:
        """What the answer says was used."""
        self._input.correct(estimated.input_tokens, used.input_tokens)
        self._output.correct(estimated.output_tokens, used.output_tokens)

    def hold(self, seconds: float) -> None:
        """Let nobody through for this long: the API said so to one, and would say it to all."""
        self._held_until = max(self._held_until, asyncio.get_running_loop().time() + seconds)

    def learn(self, headers: Mapping[str, str], *, answered: bool) -> None:
        """Read the account's limits from an answer, errors included.

        Args:
            headers: The response's.
            answered: Whether it was a success: one without limits comes from a place that has none to tell.
        """
        if answered and _LIMIT_HEADER.format(kind="requests") not in headers and not self._configured["requests"]:
            self._requests.set_rate(None)
        for kind, allowance in (
            ("requests", self._requests),
            ("input-tokens", self._input),
            ("output-tokens", self._output),
        ):
            allowed = _positive(headers.get(_LIMIT_HEADER.format(kind=kind)))
            if allowed is not None:
                configured = self._configured[kind]
                allowance.set_rate(self._share * min(allowed, configured or allowed))


def _times(per_minute: int | None, share: float) -> float | None:
    return None if per_minute is None else per_minute * share


def _positive(text: str | None) -> int | None:
    # A limit of 0 is an account that may do nothing: its errors say so, and no bucket can be built of it.
    return int(text) if text is not None and text.isascii() and text.isdigit() and int(text) > 0 else None
