"""The circuit breaker: while Claude is unavailable, calls are held except one probe from time to time.

claude/calls.py reports how each call ended. While the breaker is open, callers get a `ModelUnavailableError` with a
``retry_after``, so that the enricher pauses. No library is used, for two reasons: in the half-open state exactly one
call may pass, and a spend limit must hold calls too.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from nexus_stream.errors import ModelUnavailableError, SpendLimitError
from nexus_stream.host.log import get_logger

__all__ = ["Breaker"]

_log = get_logger(__name__)

# Wait of the other callers during a probe. They can be many, so it is longer than a second.
_PROBING_SECONDS: Final = 5.0


class Breaker:
    """Counts failures in a row. Not thread-safe: use one for each event loop.

    Args:
        failures: Number of failures in a row that opens the breaker.
        open_seconds: Time without any call; then one probe is allowed.
        now: Seconds, monotonic.
    """

    def __init__(self, *, failures: int, open_seconds: float, now: Callable[[], float] = time.monotonic) -> None:
        self._threshold = failures
        self._open_seconds = open_seconds
        self._now = now
        self._failures = 0
        self._open_until: float | None = None
        self._is_probing = False
        self._spend_limit: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether calls are held, or only a probe is allowed."""
        return self._open_until is not None

    def check(self) -> None:
        """Raise if a call may not pass now.

        Raises:
            SpendLimitError: the account's spend limit is reached.
            ModelUnavailableError: Claude is unavailable.
        """
        if self._open_until is None:
            return
        wait_seconds = self._open_until - self._now()
        if wait_seconds <= 0 and self._is_probing:
            wait_seconds = _PROBING_SECONDS
        if wait_seconds <= 0:
            return
        if self._spend_limit is not None:
            raise SpendLimitError(self._spend_limit, retry_after_seconds=wait_seconds, is_general=True)
        raise ModelUnavailableError(
            f"Claude failed {self._failures} times in a row: calls are held",
            retry_after_seconds=wait_seconds,
            is_general=True,
        )

    def admit(self) -> None:
        """Let one call pass (as the probe, if the breaker is open), or raise as `check`. Report how the call ended."""
        self.check()
        if self._open_until is not None:
            self._is_probing = True

    def succeeded(self) -> None:
        """Claude answered, even if with an error of the request."""
        if self._open_until is not None:
            _log.info("claude_resumed")
        self._failures = 0
        self._open_until = None
        self._is_probing = False
        self._spend_limit = None

    def failed(self) -> None:
        """Claude gave no answer, or answered that it is unavailable."""
        self._failures += 1
        self._is_probing = False
        if self._failures < self._threshold or (self._open_until is not None and self._now() < self._open_until):
            return
        if self._open_until is None:
            _log.warning("claude_held", failures=self._failures, probe_every_seconds=self._open_seconds)
        self._open_until = self._now() + self._open_seconds

    def abandoned(self) -> None:
        """The call ended without showing whether Claude is available."""
        self._is_probing = False

    def spend_limit_reached(self, message: str, seconds: float) -> None:
        """Hold all calls for this time: no call succeeds until somebody raises the limit."""
        if self._spend_limit is None:
            _log.error("claude_spend_limit", problem=message, probe_every_seconds=seconds)
        self._spend_limit = message
        self._is_probing = False
        self._open_until = self._now() + seconds
