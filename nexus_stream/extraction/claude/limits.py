"""The account's allowance per minute (requests, input tokens, output tokens), and this worker's share of each.

The limits come from the settings and from the ``anthropic-ratelimit-*`` headers of every answer. claude/calls.py takes
an estimate before each call, and corrects it afterwards with the usage in the answer.

The vendor's buckets refill continuously and may be enforced over less than a minute. So the allowance is spent evenly:
a bucket holds the allowance of a fraction of a second, never of a whole minute.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from aiolimiter import AsyncLimiter

__all__ = ["UNKNOWN_REQUESTS_PER_MINUTE", "Allowance", "CallWeight", "ClaudeLimits"]

# The smallest account's limit, assumed until the first answer.
UNKNOWN_REQUESTS_PER_MINUTE: Final = 50
# Long enough that a late timer loses nothing; short enough that no limit per second is exceeded.
_BURST_SECONDS: Final = 0.25
_LIMIT_HEADER: Final = "anthropic-ratelimit-{kind}-limit"
_MINUTE_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class CallWeight:
    """The tokens that one call uses. These limits do not count tokens read from the prompt cache."""

    input_tokens: int
    output_tokens: int


class Allowance:
    """An amount per minute, spent evenly. Only one caller may wait at a time: `ClaudeLimits` has the queue.

    Args:
        per_minute: None for no limit.
    """

    def __init__(self, per_minute: float | None) -> None:
        # Error of past estimates: used but not taken, negative if too much was taken. The next caller pays it.
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
        """Change the rate, also for a waiting caller: the first known limit is often ten times the assumption."""
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
        """Wait until the amount may be spent. If cancelled, nothing is spent."""
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
        """Take the amount from the bucket; False if the rate changed while waiting."""
        if bucket.has_capacity(amount):
            await bucket.acquire(amount)
            return True
        self._waiting = waiting = asyncio.ensure_future(bucket.acquire(amount))
        try:
            await asyncio.wait({waiting})
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled():
                self._owed -= amount  # the bucket gave it in the same iteration of the event loop
            raise
        finally:
            self._waiting = None
            waiting.cancel()
        return not waiting.cancelled()

    def correct(self, taken: float, used: float) -> None:
        """Correct a call's estimate to its real use."""
        # Without a limit no caller waits, so nothing is owed.
        if self._bucket is not None:
            self._owed += used - taken


class ClaudeLimits:
    """All three allowances. Calls pass in the order of their arrival.

    Args:
        requests_per_minute: Limit of the account; None for the API's limit. The next two are the same for tokens.
        input_tokens_per_minute: Does not count tokens read from the prompt cache.
        output_tokens_per_minute: Counts generated tokens, not the maximum of max_tokens.
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
        # One caller waits for the buckets, the others for the lock. So short calls cannot overtake a long one for ever.
        self._turn = asyncio.Lock()
        self._held_until = float("-inf")

    @property
    def requests_per_minute(self) -> float | None:
        """This worker's part, as currently known."""
        return self._requests.per_minute

    async def take(self, weight: CallWeight) -> None:
        """Wait for this call's turn. If cancelled, everything is given back."""
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
        # Check again after each sleep: another answer may have extended the hold.
        while (seconds := self._held_until - now()) > 0:  # noqa: ASYNC110 - waits for a time, not for an event
            await asyncio.sleep(seconds)

    def give_back(self, weight: CallWeight) -> None:
        """Give back the weight of a call that was not made."""
        self._requests.correct(1, 0)
        self.correct(weight, CallWeight(0, 0))

    def correct(self, estimated: CallWeight, used: CallWeight) -> None:
        """Correct the estimate to the usage that the answer reports."""
        self._input.correct(estimated.input_tokens, used.input_tokens)
        self._output.correct(estimated.output_tokens, used.output_tokens)

    def hold(self, seconds: float) -> None:
        """Hold all calls for this time: the limit that the API reported to one call applies to all."""
        self._held_until = max(self._held_until, asyncio.get_running_loop().time() + seconds)

    def learn(self, headers: Mapping[str, str], *, answered: bool) -> None:
        """Read the account's limits from an answer, errors included.

        Args:
            headers: The headers of the response.
            answered: Whether it was a success. A success without limit headers means that the server has no limits.
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
    # A limit of 0 means an account that may do nothing. Its errors show that, and no bucket can have the rate 0.
    return int(text) if text is not None and text.isascii() and text.isdigit() and int(text) > 0 else None
