"""The load: many chats at once, each a growing history, sent at a rate until the faults are over.

From: a seed. To: the ingestion topic, or the gateway. What is not accepted is sent again, as a site's own retries and
its next message would: so everything noted in the ledger was acknowledged, and may have been stored twice.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import aiohttp
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from nexus_stream.kafka.clients import client_options
from nexus_stream.settings import Settings
from tests.chaos.claude_stand_in import REFUSED_WORD
from tests.chaos.ledger import SentLedger, SentSession

__all__ = ["GatewaySender", "Load", "Sender", "TopicSender"]

Sender = Callable[[bytes, bytes], Awaitable[None]]

_SENDERS = 8
_RETRY_SECONDS = 0.3


class TopicSender:
    """Produces like any Kafka client: ``acks=all``, a new producer when the old one failed."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer: AIOKafkaProducer | None = None
        self._lock = asyncio.Lock()
        self._may_send = asyncio.Event()
        self._may_send.set()
        self._sending = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def __call__(self, key: bytes, value: bytes) -> None:
        """Return once the broker has it."""
        while True:
            await self._may_send.wait()
            self._sending += 1
            self._idle.clear()
            producer = None
            try:
                async with self._lock:
                    if self._producer is None:
                        # One record a batch: the embedded broker's end offset misses the rest of a larger one.
                        fresh = AIOKafkaProducer(**client_options(self._settings), acks="all", max_batch_size=1)
                        try:
                            await fresh.start()
                        except BaseException:
                            await fresh.stop()
                            raise
                        self._producer = fresh
                    producer = self._producer
                await producer.send_and_wait(self._settings.ingestion_topic, value, key=key)
            except (TimeoutError, KafkaError, OSError):
                await self._discard(producer)
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                return
            finally:
                self._sending -= 1
                if not self._sending:
                    self._idle.set()

    async def hold(self) -> None:
        """Let what is being sent arrive, disconnect, and send nothing until `release`."""
        self._may_send.clear()
        await self._idle.wait()
        await self._discard(self._producer)

    def release(self) -> None:
        """Send again."""
        self._may_send.set()

    async def _discard(self, producer: AIOKafkaProducer | None) -> None:
        if producer is not None and self._producer is producer:
            self._producer = None
            await producer.stop()

    async def close(self) -> None:
        """Close the connections."""
        await self._discard(self._producer)


class GatewaySender:
    """Posts to the gateway, wherever it is now, until it answers 202."""

    def __init__(self, url: Callable[[], str]) -> None:
        self._url = url
        self._client = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=15))

    async def __call__(self, key: bytes, value: bytes) -> None:
        """Return once it said 202. The key is the gateway's business."""
        while True:
            try:
                async with self._client.post(
                    f"{self._url()}/api/nexus/producer", data=value, headers={"content-type": "application/json"}
                ) as answer:
                    if answer.status == 202:
                        return
                    assert answer.status in {429, 500, 503}, f"the gateway answered {answer.status}"
            except (TimeoutError, aiohttp.ClientError):
                pass
            await asyncio.sleep(_RETRY_SECONDS)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()


class Load:
    """Sends until it was told to finish and has sent at least ``snapshots``.

    Args:
        ledger: Told of everything accepted.
        send: How.
        snapshots: At least.
        snapshots_a_second: The rate.
        snapshots_a_session: How long a chat gets.
        open_sessions: How many chats go on at the same time.
        poison_every: One of so many records is poisoned; 0 for none.
        foreign_key_share: How many are keyed by something else than their session, as by the existing site.
        seed: Same seed, same chats.
    """

    def __init__(
        self,
        ledger: SentLedger,
        send: Sender,
        *,
        snapshots: int,
        snapshots_a_second: float,
        snapshots_a_session: int,
        open_sessions: int = 40,
        poison_every: int = 0,
        foreign_key_share: float = 0.1,
        first_session: int = 0,
        seed: int = 1,
    ) -> None:
        self._ledger = ledger
        self._send = send
        self._snapshots = snapshots
        self._interval_seconds = 1 / snapshots_a_second
        self._a_session = snapshots_a_session
        self._open_sessions = open_sessions
        self._poison_every = poison_every
        self._foreign_key_share = foreign_key_share
        self._random = random.Random(seed)  # noqa: S311 - repeatable, not secret
        self._next_session = first_session
        self._idle: list[SentSession] = []
        self._started = 0
        self._finish = asyncio.Event()
        self._next_at = time.monotonic()

    def finish(self) -> None:
        """Start no new chat once enough was sent, and end those that are open."""
        self._finish.set()

    async def run(self) -> None:
        """Send."""
        self._idle = [self._new_session() for _ in range(self._open_sessions)]
        self._next_at = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for _ in range(_SENDERS):
                group.create_task(self._send_some())

    async def _send_some(self) -> None:
        while not (self._finish.is_set() and self._started >= self._snapshots):
            if not self._idle:
                await asyncio.sleep(self._interval_seconds)
                continue
            await self._pace()
            if not self._idle:
                continue
            self._started += 1
            if self._poison_every and self._started % self._poison_every == 0:
                poison = self._ledger.poisoned(self._started // self._poison_every, REFUSED_WORD)
                await self._send(poison.key, poison.value)
                self._ledger.accept_poison(poison)
                continue
            # Taken out while it is sent, so that a chat's snapshots leave in order.
            session = self._idle.pop(self._random.randrange(len(self._idle)))
            await self._send_next(session)
            self._idle.append(session if session.accepted < self._a_session else self._new_session())

    async def _pace(self) -> None:
        now = time.monotonic()
        self._next_at = max(self._next_at, now - 1) + self._interval_seconds
        await asyncio.sleep(max(0.0, self._next_at - now))

    async def _send_next(self, session: SentSession) -> None:
        version = session.accepted + 1
        body = session.body(version)
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        body["metadata"] = {"enqueuedAt": now, "producerVersion": "chaos"}
        foreign = self._random.random() < self._foreign_key_share
        key = f"message-{session.number}-{version}" if foreign else session.session_id
        await self._send(key.encode(), json.dumps(body, ensure_ascii=False).encode())
        self._ledger.accept(session, version)

    def _new_session(self) -> SentSession:
        number = self._next_session
        self._next_session += 1
        # Every tenth chat is the second one of the person before; every seventh tells its fingerprint late.
        person = number - 1 if number % 10 == 9 else number
        return SentSession(number, f"person-{person}", late_fingerprint=number % 7 == 6)
