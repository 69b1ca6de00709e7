"""``nexus gateway``: serve the HTTP gateway until SIGTERM or SIGINT. ``nexus gateway key NAME``: make a server's key.

The address comes from ``NEXUS_GATEWAY_HOST`` and ``NEXUS_GATEWAY_PORT`` (or ``PORT``). The process serves at once, also
while the broker is down. It answers 503 until the broker is up.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import signal
import sys
import time

import click
from aiohttp import web

from nexus_stream.errors import BrokerUnavailableError, ConfigurationError
from nexus_stream.gateway.app import GATEWAY, create_app
from nexus_stream.gateway.protocol import GatewayRunner
from nexus_stream.gateway.publisher import Publisher
from nexus_stream.gateway.retention import RetentionWatch
from nexus_stream.gateway.server_keys import key_hash, new_key
from nexus_stream.gateway.status import gateway_status
from nexus_stream.host.log import get_logger
from nexus_stream.kafka.access import require_access
from nexus_stream.observability.exposition import serve_metrics
from nexus_stream.observability.logs import configure_logs
from nexus_stream.observability.metrics import ProcessStateCollector, announce_build, shown
from nexus_stream.observability.metrics_reading import ReadingCollector
from nexus_stream.observability.status import StatusPublisher, failed_status, process_id
from nexus_stream.observability.tracing import start_tracing
from nexus_stream.settings import Settings, load_settings

__all__ = ["command", "serve"]

_log = get_logger(__name__)

_BACKLOG = 1024
# Share of the stop time that is reserved for the last answers and for flushing the producer.
_FLUSH_SHARE = 0.3
_STATUS_STOP_SECONDS = 2.0
# The start waits at most this long for the broker's answer.
_ACCESS_SECONDS = 3.0


@click.group(name="gateway", invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """Serve the HTTP gateway."""
    if context.invoked_subcommand is not None:
        return
    settings = load_settings("gateway")
    configure_logs(settings)
    if sys.platform == "win32":
        asyncio.run(serve(settings))
    else:
        import uvloop

        uvloop.run(serve(settings))


@command.command()
@click.argument("name")
def key(name: str) -> None:
    """Make a key for the site's server and print it once, with its line for NEXUS_GATEWAY_SERVER_KEYS.

    NAME tells keys apart in the metrics, for example web-2027. To rotate: add the new line beside the old one, give the
    site the new key, and remove the old line when its count stays the same.
    """
    made = new_key()
    line = f"{name}:sha256:{key_hash(made)}"
    # The settings check the name.
    load_settings("tool", {"NEXUS_GATEWAY_SERVER_KEYS": line})
    click.echo(f"For the site's server, as a secret; it is not shown again:\n\n  {made}\n")
    click.echo(f"For the gateway, in NEXUS_GATEWAY_SERVER_KEYS, with a comma after an earlier one:\n\n  {line}")


async def serve(settings: Settings) -> None:
    """Run until a signal, then stop gracefully within ``gateway_stop_seconds``.

    1. Stop accepting connections.
    2. Finish the requests in flight. A request that is cut off here got no 202, so nothing was promised.
    3. Flush and close the producer.

    Raises:
        ConfigurationError: the process cannot listen on the address, or the broker refuses the login or a permission.
    """
    stop = _stop_signal()
    key = process_id("gateway", f"{settings.gateway_host}:{settings.port}")
    try:
        await _serve(settings, stop, key)
    except ConfigurationError as error:
        # The gateway usually refuses to start before its first status report.
        report = failed_status("gateway", key, type(error).__name__)
        await StatusPublisher(settings, key, report).say_once()
        raise


async def _serve(settings: Settings, stop: asyncio.Event, key: str) -> None:
    failed_by: str | None = None
    await _require_access(settings)
    publisher = Publisher(settings)
    tracing = start_tracing("gateway")
    retention = RetentionWatch(settings)
    app = create_app(settings, publisher, tracing=tracing, retention=retention)
    gateway = app[GATEWAY]
    await publisher.start()
    runner = GatewayRunner(app, shutdown_timeout=settings.gateway_stop_seconds * _FLUSH_SHARE / 3)
    report = gateway_status(settings, gateway, publisher, key)
    telling = StatusPublisher(settings, key, report, failed_by=lambda: failed_by)
    status = asyncio.create_task(telling.run(), name="gateway-status")
    watching = asyncio.create_task(retention.run(), name="gateway-retention")
    try:
        await runner.setup()
        site = web.TCPSite(runner, settings.gateway_host, settings.port, backlog=_BACKLOG)
        await _listen(site, settings)
        for host, port, *_ in runner.addresses:
            click.echo(f"gateway listening on http://{f'[{host}]' if ':' in host else host}:{port}")
        announce_build("gateway")
        # The metrics server also runs while the gateway stops, and answers /ready with "stopping".
        async with serve_metrics(settings, gateway.not_ready_because):
            with shown(ProcessStateCollector("gateway", gateway.state), ReadingCollector("gateway", gateway.facts)):
                await stop.wait()
                status.cancel()
                watching.cancel()
                deadline = time.monotonic() + settings.gateway_stop_seconds
                _log.info("gateway_stopping")
                await site.stop()
                drained = await gateway.drain(settings.gateway_stop_seconds * (1 - _FLUSH_SHARE))
                await runner.cleanup()
                await publisher.stop(max(0.1, deadline - time.monotonic()))
        _log.info("gateway_stopped", drained=drained)
    except Exception as error:
        failed_by = type(error).__name__
        raise
    finally:
        if not status.cancelling():
            # Cancel only once: a second cancel would interrupt its last report and leave its producer open.
            status.cancel()
        watching.cancel()
        await asyncio.wait([status, watching], timeout=_STATUS_STOP_SECONDS)
        await runner.cleanup()
        await publisher.stop(0.1)
        if tracing is not None:
            await tracing.close()


async def _require_access(settings: Settings) -> None:
    """Raise if the broker refuses access. If no broker answers, return: the gateway then answers 503."""
    with contextlib.suppress(BrokerUnavailableError, TimeoutError):
        async with asyncio.timeout(_ACCESS_SECONDS):
            await require_access(settings, "gateway")


def _stop_signal() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(number: int) -> None:
        # This restores the default action: a second signal ends the process at once.
        loop.remove_signal_handler(number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    return stop


async def _listen(site: web.TCPSite, settings: Settings) -> None:
    address = f"{settings.gateway_host}:{settings.port}"
    try:
        await site.start()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigurationError(
                f"NEXUS_GATEWAY_PORT (or PORT): {address} is taken by another process. Choose another port."
            ) from error
        raise ConfigurationError(
            f"NEXUS_GATEWAY_HOST, NEXUS_GATEWAY_PORT (or PORT): cannot listen on {address} ({error.strerror})."
        ) from error
