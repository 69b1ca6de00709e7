"""Servers that replace Claude: llmock (not ours) where possible, and our small stand-in for the rest."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from nexus_stream.contracts.headers import Headers
from nexus_stream.delivery.clock import SystemClock
from nexus_stream.delivery.outcomes import Outcome
from nexus_stream.delivery.received import Assignment, Received
from nexus_stream.delivery.stage import StageParts
from nexus_stream.enrichment.stage import Enrichment
from nexus_stream.extraction.claude.extractor import ClaudeExtractor
from nexus_stream.extraction.extractor import Extractor, Turn
from nexus_stream.settings import Settings, load_settings
from nexus_stream.testing.broker import InMemoryBroker
from nexus_stream.testing.sessions import InMemorySessionTable

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class StandIn:
    """OUR stand-in for the Messages API, for cases that llmock does not support. It proves nothing about the real API.

    Each request uses the next scripted handler; the last handler stays. Requests are stored as received.
    """

    url: str = ""
    handlers: list[Handler] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0

    def script(self, *handlers: Handler) -> None:
        """Set the answers to the next requests."""
        self.handlers = list(handlers)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one POST."""
        self.requests.append(await request.json())
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            handler = self.handlers.pop(0) if len(self.handlers) > 1 else self.handlers[0]
            return await handler(request)
        finally:
            self.in_flight -= 1

    @staticmethod
    def message(
        text: str = "", *, delay_seconds: float = 0.0, headers: dict[str, str] | None = None, **changes: Any
    ) -> Handler:
        """A response of the Messages API with one text block, or with ``changes``."""
        usage = {"input_tokens": 300, "output_tokens": 150}
        body = {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "claude-haiku-5-5",
            "content": [{"type": "text", "text": text}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": usage,
            **changes,
        }

        async def answer(_: web.Request) -> web.StreamResponse:
            await asyncio.sleep(delay_seconds)
            return web.json_response(body, headers=headers)

        return answer

    @staticmethod
    def raw(body: bytes, *, status: int = 200, content_type: str = "application/json", **headers: str) -> Handler:
        """A response with any bytes."""

        async def answer(_: web.Request) -> web.StreamResponse:
            return web.Response(body=body, status=status, content_type=content_type, headers=headers)

        return answer

    @staticmethod
    def error(status: int, kind: str, message: str = "no", code: str | None = None, **headers: str) -> Handler:
        """An error of the Messages API."""
        details = {"error_code": code} if code else None
        error = {"type": kind, "message": message, **({"details": details} if details else {})}
        return StandIn.raw(json.dumps({"type": "error", "error": error}).encode(), status=status, **headers)

    @staticmethod
    async def cut(request: web.Request) -> web.StreamResponse:
        """Close the connection before any answer."""
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    @staticmethod
    async def truncated(request: web.Request) -> web.StreamResponse:
        """End the body before its announced length."""
        response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": "5000"})
        await response.prepare(request)
        await response.write(b'{"id": "msg_1", "type": "message", "content": [{"type": "te')
        assert request.transport is not None
        request.transport.close()
        return response

    @staticmethod
    async def trickling(request: web.Request) -> web.StreamResponse:
        """Send a byte from time to time, for ever: no single read is slow."""
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.05)


@pytest.fixture
async def stand_in() -> AsyncIterator[StandIn]:
    """Our stand-in, listening on a free loopback port."""
    server = StandIn()
    app = web.Application()
    app.router.add_post("/v1/messages", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield server
    await runner.cleanup()


@pytest.fixture
def refusing_url() -> Iterator[str]:
    """An address that refuses connections: the port is bound, but no server listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
async def claude() -> AsyncIterator[Callable[..., ClaudeExtractor]]:
    """Creates extractors with the real SDK, and closes them."""
    made: list[ClaudeExtractor] = []

    def make(base_url: str, **overrides: Any) -> ClaudeExtractor:
        environ = {"ANTHROPIC_API_KEY": "sk-test-0000", "ANTHROPIC_BASE_URL": base_url}
        extractor = ClaudeExtractor(load_settings(environ=environ, **overrides))
        made.append(extractor)
        return extractor

    yield make
    for extractor in made:
        await extractor.close()


@dataclass
class Line:
    """The enricher's stage around an extractor, on in-memory parts and the real clock."""

    broker: InMemoryBroker
    outcomes: list[str] = field(default_factory=list)
    stopped_by: list[BaseException] = field(default_factory=list)
    stage: Enrichment | None = None
    posted: int = 0

    def outcome(self, record: Received, outcome: Outcome) -> None:
        """See `Observer`."""
        self.outcomes.append(type(outcome).__name__)

    def waiting(self, what: str, since_ms: int | None) -> None:
        """See `Observer`."""

    async def start(self, extractor: Extractor, settings: Settings) -> None:
        """Start with one assigned partition."""
        assignment = Assignment()
        self.stage = Enrichment(
            StageParts(
                broker=self.broker,
                assignment=assignment,
                clock=SystemClock(),
                observer=self,
                on_fatal=self.stopped_by.append,
            ),
            settings=settings,
            table=InMemorySessionTable(self.broker, assignment),
            extractor=extractor,
            source="/test",
        )
        self.stage.start()
        await self.stage.assigned([(settings.ingestion_topic, 0)])

    async def post(self, turns: Sequence[Turn], session: str = "s-1", **body: Any) -> None:
        """Submit one conversation."""
        messages = [{"role": turn.role, "content": turn.content} for turn in turns]
        await self.post_bytes(json.dumps({"messages": messages, "sessionId": session, **body}).encode())

    async def post_bytes(self, value: bytes | None, headers: Headers = ()) -> None:
        """Submit one record."""
        assert self.stage is not None
        record = self.stage.read("nexus-prospect-ingestion", 0, self.posted, 0, b"k", value, headers)
        self.posted += 1
        await self.stage.submit(record)

    async def until_done(self, count: int = 1, seconds: float = 30.0) -> None:
        """Wait until this number of records is done, or the worker was stopped."""
        async with asyncio.timeout(seconds):
            while len(self.outcomes) < count and not self.stopped_by:  # noqa: ASYNC110 - two things to wait for
                await asyncio.sleep(0.01)

    def enriched(self) -> list[dict[str, Any]]:
        """The emitted records."""
        return [json.loads(record.value or b"") for record in self.broker.records("prospects-enriched")]

    def reasons(self) -> list[str]:
        """The reasons of the dead letters."""
        letters = self.broker.records("nexus-prospect-dlq")
        return [dict(letter.headers)["nexus-reason"].decode() for letter in letters]


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    """A stage that the test starts with an extractor."""
    one = Line(InMemoryBroker())
    yield one
    if one.stage is not None:
        await one.stage.stop(drain_seconds=0.1)
