"""``nexus status forget``: say that a process, or all of a type, will not come back, so that nobody misses it.

To: ``nexus-status``, the null value that the process itself writes when it stops as it was told. Every console that
follows the topic ends the alert. Who reports again is known again.
"""

from __future__ import annotations

import asyncio
import re

import click

from nexus_stream.errors import TopicMismatchError
from nexus_stream.kafka.access import require_login
from nexus_stream.kafka.sender import Sender
from nexus_stream.observability.status import status_topic_exists
from nexus_stream.settings import Settings, load_settings

__all__ = ["command", "forget"]

_NAME = re.compile(r"(gateway|enricher|sink)(-[0-9a-f]{8}-[0-9a-f]{6})?")


@click.group(name="status")
def command() -> None:
    """What processes say of themselves."""


@command.command(name="forget")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
def forget_command(names: tuple[str, ...]) -> None:
    """Miss these no longer: a process by its id, or a type (`gateway`, `enricher`, `sink`) that is meant to be away.

    Needs Write on the status topic: run it in the environment of a gateway or a worker. What lives reports again
    within two seconds, and is missed again when it dies.
    """
    for name in names:
        if not _NAME.fullmatch(name):
            raise click.BadParameter(
                f"{name} is neither a type nor a process id. They stand in the alert and in the console's overview."
            )
    asyncio.run(forget(load_settings(), names))
    click.echo(f"forgotten: {', '.join(names)}")


async def forget(settings: Settings, names: tuple[str, ...]) -> None:
    """Write the null value of each name.

    Raises:
        AccessDeniedError: it does not let us in.
        BrokerUnavailableError: the broker did not acknowledge; some may be forgotten.
        TopicMismatchError: there is no such topic.
    """
    await require_login(settings)
    if not await status_topic_exists(settings):
        raise TopicMismatchError(f"There is no topic {settings.status_topic}. Run `nexus topics apply`.")
    async with Sender(settings) as sender:
        for name in names:
            await sender.send(settings.status_topic, name.encode(), None)
