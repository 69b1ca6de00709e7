"""The breaker: while Claude is out, nobody calls it except one probe now and then.

From: claude/calls.py, which tells it how each call ended. To: a `ModelUnavailableError` with a ``retry_after`` for
whoever asks meanwhile, so that the enricher pauses. Ours and not a library's: a half-open one lets a single call
through, and a spend limit holds calls too.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from nexus_stream.errors import ModelUnavailableError, SpendLimitError

__all__ = ["Breaker"]

logger = logging.getLogger(__name__)

# While a probe is under way the others come back after this; many of them wait, so not every second.
_PROBING_SECONDS: Final = 5.0


class Breaker:
    """Counts failures in a row; not thread-safe, one for an event loop.

    Args:
        failures: So many in a row open it.
        open_seconds: For this long nobody calls; then one does.
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
        """Raise if a call would not be let through now.

        Raises:
            SpendLimitError: the account may spend no more.
            ModelUnavailableError: Claude is out.
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
        """Let one call through, as the probe if it is open; else raise as `check`. Its end must be told."""
        self.check()
        if self._open_until is not None:
            self._is_probing = True

    def succeeded(self) -> None:
        """Claude answered, whatever it answered."""
        if self._open_until is not None:
            logger.info("Claude answers again", extra={"event": "claude_resumed"})
        self._failures = 0
        self._open_until = None
        self._is_probing = False
        self._spend_limit = None

    def failed(self) -> None:
        """No answer, or one that says Claude is out."""
        self._failures += 1
        self._is_probing = False
        if self._failures < self._threshold or (self._open_until is not None and self._now() < self._open_until):
            return
        if self._open_until is None:
            logger.warning(
                "Claude is out, calls are held until a probe succeeds",
                extra={"event": "claude_held", "failures": self._failures, "probe_every_seconds": self._open_seconds},
            )
        self._open_until = self._now() + self._open_seconds

    def abandoned(self) -> None:
        """The call ended without saying anything about Claude."""
        self._is_probing = False

    def spend_limit_reached(self, message: str, seconds: float) -> None:
        """Hold all calls this long: no call succeeds until somebody raises the limit."""
        if self._spend_limit is None:
            logger.error(
                "the account's spend limit is reached, calls are held until it is raised: %s",
                message,
                extra={"event": "claude_spend_limit", "probe_every_seconds": seconds},
            )
        self._spend_limit = message
        self._is_probing = False
        self._open_until = self._now() + seconds
