"""Serve ``/metrics``, ``/live`` and ``/ready`` on a separate port, because the main port is public.

To: a scraper and a supervisor, on ``NEXUS_METRICS_HOST``:``NEXUS_METRICS_PORT``. Used by the gateway and the console; a
worker has the same pages on its Faust web port (worker/app.py). No page holds personal data.
"""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import click
from aiohttp import web
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.exposition import choose_encoder

from nexus_stream.errors import ConfigurationError
from nexus_stream.settings import Settings

__all__ = ["exposition", "serve_metrics"]

_STOP_SECONDS = 1.0


def exposition(accept: str, registry: CollectorRegistry = REGISTRY) -> tuple[bytes, str]:
    """All metrics of this process, in the format the ``Accept`` header prefers.

    Returns:
        The body and its full ``Content-Type``: Prometheus 3 refuses a type without a version.
    """
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


@asynccontextmanager
async def serve_metrics(settings: Settings, ready: Callable[[], str | None] | None = None) -> AsyncIterator[str | None]:
    """Serve the three pages while the context is open.

    Args:
        settings: ``metrics_host`` and ``metrics_port``. Without a port no page is served; 0 means any free port.
        ready: Returns why the process is not ready, None if it is. Without this function it is always ready.

    Yields:
        The address, for example ``http://127.0.0.1:9464``; None if no page is served.

    Raises:
        ConfigurationError: the process cannot listen on the address.
    """
    if settings.metrics_port is None:
        yield None
        return
    app = web.Application()
    app.router.add_get("/metrics", _metrics)
    app.router.add_get("/live", _live)
    app.router.add_get("/ready", _ready_page(ready))
    # A scrape is not worth a log line.
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_STOP_SECONDS)
    try:
        await runner.setup()
        await _listen(web.TCPSite(runner, settings.metrics_host, settings.metrics_port), settings)
        host, port = runner.addresses[0][:2]
        address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        click.echo(f"metrics on {address}/metrics")
        yield address
    finally:
        await runner.cleanup()


async def _listen(site: web.TCPSite, settings: Settings) -> None:
    address = f"{settings.metrics_host}:{settings.metrics_port}"
    try:
        await site.start()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigurationError(
                f"NEXUS_METRICS_PORT: {address} is taken by another process. On one host the gateway and the console "
                "each need a port of their own; 0 takes any free one."
            ) from error
        raise ConfigurationError(
            f"NEXUS_METRICS_HOST, NEXUS_METRICS_PORT: cannot listen on {address} ({error.strerror})."
        ) from error


async def _metrics(request: web.Request) -> web.Response:
    body, content_type = exposition(request.headers.get("Accept", ""))
    return web.Response(body=body, headers={"Content-Type": content_type})


async def _live(request: web.Request) -> web.Response:
    # An answer is the proof: these pages run on the same event loop as the work.
    return web.json_response({"live": True})


def _ready_page(ready: Callable[[], str | None] | None) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def page(request: web.Request) -> web.Response:
        reason = None if ready is None else ready()
        return web.json_response({"ready": reason is None, "reason": reason}, status=200 if reason is None else 503)

    return page
