"""An OTLP/HTTP receiver, not the SDK's own: what a collector would get from our processes.

From: exports as protobuf over HTTP, decoded with opentelemetry-proto. To: tests of traces.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

__all__ = ["Collector", "ReceivedSpan", "in_a_thread"]


@dataclass(frozen=True)
class ReceivedSpan:
    """One span, with the service that made it."""

    service: str
    span: Span

    @property
    def trace_id(self) -> str:
        return self.span.trace_id.hex()

    @property
    def attributes(self) -> dict[str, Any]:
        return {entry.key: getattr(entry.value, entry.value.WhichOneof("value")) for entry in self.span.attributes}


@dataclass
class Collector:
    """An OTLP/HTTP receiver on a loopback port; use it as an async context manager.

    Attributes:
        spans: Every span that was exported, in the order of arrival.
        bodies: The exports as they came.
    """

    spans: list[ReceivedSpan] = field(default_factory=list)
    url: str = ""
    bodies: list[bytes] = field(default_factory=list)
    _runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=2**26)
        app.router.add_post("/v1/traces", self.take)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def take(self, request: web.Request) -> web.Response:
        """Take one export."""
        body = await request.read()
        self.bodies.append(body)
        message = ExportTraceServiceRequest.FromString(body)
        for resource in message.resource_spans:
            named = {entry.key: entry.value.string_value for entry in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans += [ReceivedSpan(named["service.name"], span) for span in scope.spans]
        return web.Response(body=b"", content_type="application/x-protobuf")

    def of_trace(self, trace_id: str) -> list[ReceivedSpan]:
        """What arrived of a trace so far."""
        return [received for received in self.spans if received.trace_id == trace_id]

    def one(self, trace_id: str, name: str) -> ReceivedSpan:
        (found,) = [received for received in self.of_trace(trace_id) if received.span.name == name]
        return found


@contextmanager
def in_a_thread(*services: AbstractAsyncContextManager[Any]) -> Iterator[None]:
    """Serve in a thread with a loop of its own, so that a test may block."""
    loop = asyncio.new_event_loop()
    stop, started = asyncio.Event(), threading.Event()

    async def serve() -> None:
        async with AsyncExitStack() as stack:
            for service in services:
                await stack.enter_async_context(service)
            started.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert started.wait(20), "the services did not start"
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)
        loop.close()
