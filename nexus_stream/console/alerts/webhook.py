"""Post the begin and the end of each alert to the operator's webhook, signed according to Standard Webhooks.

To: ``NEXUS_ALERT_WEBHOOK_URL``. Delivery is at-least-once and in order. Every try has the same ``webhook-id``, so a
receiver can recognise a repeat. A receiver that is down, slow or wrong can only fill a bounded queue and raise a
counter. Signature: https://www.standardwebhooks.com, symmetric (``v1``).
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import aiohttp
import orjson
from standardwebhooks import Webhook as Signer

from nexus_stream import __version__
from nexus_stream.console.alerts.book import AlertEvent
from nexus_stream.host.log import get_logger
from nexus_stream.settings import Settings

__all__ = ["AlertMessage", "Webhook", "message_of"]

_log = get_logger(__name__)

_MAX_QUEUED = 200
_TIMEOUT_SECONDS = 10.0
_RETRY_MIN_SECONDS = 1.0
_RETRY_MAX_SECONDS = 300.0
# Older messages are useless.
_MAX_AGE_SECONDS = 24 * 3600.0
# A message that the receiver refuses must not delay the following ones for a day.
_MAX_REFUSALS = 5
_RETRY_STATUSES = (408, 425, 429)


@dataclass(frozen=True, slots=True)
class AlertMessage:
    """One message: its id, its JSON body, and its creation time (Unix seconds)."""

    id: str
    body: str
    created_s: float


def message_of(event: AlertEvent, runbook_url: str) -> AlertMessage:
    """Make the message of an event. It contains figures, and a role or a hashed process id, but no personal data.

    The id is derived from the event. So a console that was killed after the post repeats the message with the same id.
    """
    alert = event.alert
    body = orjson.dumps(
        {
            "alert": alert.kind.value,
            "where": alert.where,
            "state": event.state,
            "value": round(alert.value, 6),
            "threshold": round(alert.threshold, 6),
            "since": datetime.fromtimestamp(alert.since_ms / 1000, UTC).isoformat(timespec="milliseconds"),
            "runbook": f"{runbook_url}{alert.kind.value}",
        }
    )
    name = f"{alert.kind.value}|{alert.where}|{alert.since_ms}|{event.state}"
    return AlertMessage(f"msg_{hashlib.sha256(name.encode()).hexdigest()[:32]}", body.decode(), event.at_ms / 1000)


class Webhook:
    """A queue of messages, and the task that posts them.

    Args:
        settings: The settings with address and secret; both are set.
        pending: The messages that were not posted when the console last stopped.
        on_change: Called after a message has left the queue.
        retry_min_seconds: The first pause after a failure. Each further pause doubles.

    Attributes:
        failures: Number of failed tries and of dropped messages.
    """

    def __init__(
        self,
        settings: Settings,
        pending: Iterable[AlertMessage] = (),
        *,
        on_change: Callable[[], Awaitable[None]],
        retry_min_seconds: float = _RETRY_MIN_SECONDS,
    ) -> None:
        assert settings.alert_webhook_url is not None  # noqa: S101 - Settings wants both or neither
        assert settings.alert_webhook_secret is not None  # noqa: S101
        self._url = settings.alert_webhook_url.get_secret_value()
        self._signer = Signer(settings.alert_webhook_secret.get_secret_value())
        self._on_change = on_change
        self._retry_min_seconds = retry_min_seconds
        self._queue: deque[AlertMessage] = deque(pending)
        self._offered = asyncio.Event()
        self._offered.set()
        self.failures = 0

    @property
    def pending(self) -> tuple[AlertMessage, ...]:
        """The messages that are not posted yet, oldest first."""
        return tuple(self._queue)

    def offer(self, message: AlertMessage) -> None:
        """Queue a message. This never waits and never fails. A full queue drops its oldest messages."""
        self._queue.append(message)
        while len(self._queue) > _MAX_QUEUED:
            self._give_up(self._queue.popleft(), "queue full")
        self._offered.set()

    async def run(self) -> None:
        """Post until cancelled."""
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)
        headers = {"Content-Type": "application/json", "User-Agent": f"nexus-stream/{__version__}"}
        # No cookies, no proxy from the environment. No redirects: they would send the signed body to another address.
        async with aiohttp.ClientSession(
            timeout=timeout, headers=headers, cookie_jar=aiohttp.DummyCookieJar()
        ) as session:
            while True:
                await self._offered.wait()
                self._offered.clear()
                while self._queue:
                    await self._deliver(session, self._queue[0])
                    await self._on_change()

    async def _deliver(self, session: aiohttp.ClientSession, message: AlertMessage) -> None:
        """Try until the message is accepted or dropped. It is then no longer in the queue."""
        pause_seconds = self._retry_min_seconds
        refusals = 0
        while self._queue and self._queue[0] is message:
            problem, refused = await self._post(session, message)
            if problem is None:
                break
            self.failures += 1
            refusals += refused
            if refusals >= _MAX_REFUSALS or time.time() - message.created_s > _MAX_AGE_SECONDS:
                self._give_up(message, problem)
                break
            _log.warning("webhook not delivered, tried again", webhook_id=message.id, problem=problem)
            await asyncio.sleep(pause_seconds * random.uniform(0.8, 1.2))  # noqa: S311 - jitter, no secret
            pause_seconds = min(2 * pause_seconds, _RETRY_MAX_SECONDS)
        # During the tries, a full queue may have dropped the message.
        if self._queue and self._queue[0] is message:
            self._queue.popleft()

    async def _post(self, session: aiohttp.ClientSession, message: AlertMessage) -> tuple[str | None, bool]:
        """Post the message. Return the problem, or None, and whether the receiver refused it permanently."""
        now, body = datetime.now(UTC), message.body.encode()
        headers = {
            "webhook-id": message.id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": self._signer.sign(message.id, now, message.body),
        }
        try:
            async with session.post(self._url, data=body, headers=headers, allow_redirects=False) as answer:
                status = answer.status
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            # The error's message may quote the address, which may contain a token.
            return type(error).__name__, False
        if 200 <= status < 300:
            return None, False
        return f"HTTP {status}", 300 <= status < 500 and status not in _RETRY_STATUSES

    def _give_up(self, message: AlertMessage, problem: str) -> None:
        self.failures += 1
        _log.error("webhook given up", webhook_id=message.id, problem=problem)
