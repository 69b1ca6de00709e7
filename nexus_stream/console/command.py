"""``nexus console``: serve the web view of table state and watch the stream, until SIGTERM or SIGINT.

One process runs the indexer, the lag monitor, the alert watch and the pages. Exit code 0: stopped by a signal. 1: a
part of the console failed.
"""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import sys

import click
from aiohttp import web

from nexus_stream.command_line import quiet_broker_client
from nexus_stream.console.index.emissions import EmissionWriter
from nexus_stream.console.index.indexer import Indexer
from nexus_stream.console.index.letters import LetterWriter
from nexus_stream.console.index.processes import ProcessWriter
from nexus_stream.console.index.read_model import ReadModel
from nexus_stream.console.metrics import ConsoleCollector
from nexus_stream.console.web.access import Access
from nexus_stream.console.web.app import make_app
from nexus_stream.console.web.context import CONTEXT
from nexus_stream.errors import ConfigurationError
from nexus_stream.host.log import get_logger
from nexus_stream.observability.exposition import serve_metrics
from nexus_stream.observability.logs import configure_logs
from nexus_stream.observability.metrics import announce_build, shown
from nexus_stream.settings import Settings, load_settings

__all__ = ["command", "open_model", "serve"]

_log = get_logger(__name__)

_STOP_SECONDS = 5.0


@click.command(name="console")
def command() -> None:
    """Serve the web view of table state."""
    settings = load_settings("console")
    configure_logs(settings)
    quiet_broker_client()
    sys.exit(asyncio.run(serve(settings)))


def open_model(settings: Settings) -> ReadModel:
    """Open the read model, with a writer for each topic other than the changelog.

    Raises:
        ConfigurationError: another console uses the data folder, or the folder cannot be written.
    """
    return ReadModel(
        settings.data_dir / "console",
        settings.sessions_changelog_topic,
        {
            settings.enriched_topic: EmissionWriter(settings.console_max_events),
            settings.dead_letter_topic: LetterWriter(
                settings.console_max_letters, settings.dead_letter_retention_hours
            ),
            settings.status_topic: ProcessWriter(settings.status_topic),
        },
    )


async def serve(settings: Settings) -> int:
    """Run until a signal. Return the exit code.

    Raises:
        ConfigurationError: the port is in use, or another console uses the data folder.
    """
    Access(settings).require_safe_host(settings.console_host)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop(number: signal.Signals) -> None:
        stopping.set()
        # Without a handler, a second signal ends the process at once.
        loop.remove_signal_handler(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)

    try:
        model = await asyncio.to_thread(open_model, settings)
    except sqlite3.Error as error:
        raise ConfigurationError(
            f"NEXUS_DATA_DIR: the console's index cannot be opened ({error}). The index is only a cache: "
            f"deleting {settings.data_dir / 'console'} loses nothing."
        ) from error
    # No access log: addresses contain search texts, which may be personal data.
    app = make_app(settings, model)
    context = app[CONTEXT]
    runner = web.AppRunner(
        app,
        access_log=None,
        shutdown_timeout=_STOP_SECONDS,
        # End a live view as soon as its browser disconnects, not at the next event.
        handler_cancellation=True,
    )
    working = [
        asyncio.create_task(Indexer(settings, model).run(), name="console-indexer"),
        asyncio.create_task(context.lag.run(), name="console-lag"),
        asyncio.create_task(context.alerts.run(), name="console-alerts"),
    ]
    waiting = asyncio.create_task(stopping.wait())
    try:
        await runner.setup()
        site = web.TCPSite(runner, settings.console_host, settings.console_port)
        try:
            await site.start()
        except OSError as error:
            raise ConfigurationError(
                f"NEXUS_CONSOLE_PORT: {settings.console_host}:{settings.console_port} cannot be used "
                f"({error.strerror}). Choose another port, or 0 for any free one."
            ) from error
        click.echo(f"console listening on {_address(runner)}")
        announce_build("console")
        async with serve_metrics(settings, lambda: _not_ready_because(model)):
            with shown(ConsoleCollector(context.lag, context.alerts)):
                await asyncio.wait({*working, waiting}, return_when=asyncio.FIRST_COMPLETED)
        # These tasks never end normally. A console without alerts must not look alive.
        for task in working:
            if task.done():
                cause = None if task.cancelled() else task.exception()
                _log.error("console stops: one of its tasks ended", part=task.get_name(), exc_info=cause)
                return 1
        return 0
    finally:
        waiting.cancel()
        for task in working:
            task.cancel()
        await asyncio.gather(*working, waiting, return_exceptions=True)
        await runner.cleanup()
        await asyncio.to_thread(model.close)


def _not_ready_because(model: ReadModel) -> str | None:
    freshness = model.freshness()
    return None if freshness.caught_up_at_ms else freshness.problem or "the view is not complete yet"


def _address(runner: web.AppRunner) -> str:
    host, port = runner.addresses[0][:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
