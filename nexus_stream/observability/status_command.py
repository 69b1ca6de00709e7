"""``nexus status forget``: declare that a process, or all of a type, will not come back, so that its alert ends.

To: ``nexus-status``. The command writes the null value that a process itself writes when it stops in order. Every
console that reads the topic then ends the alert. A process that reports again appears again.
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
    """The status records of the processes."""


@command.command(name="forget")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
def forget_command(names: tuple[str, ...]) -> None:
    """End the alerts about processes that will not come back.

    NAME is a process id, or a type (`gateway`, `enricher`, `sink`) that should not run now.

    Needs the Write permission on the status topic: run it in the environment of a gateway or a worker. A live process
    reports again within two seconds, and its alert starts again when it dies.
    """
    for name in names:
        if not _NAME.fullmatch(name):
            raise click.BadParameter(
                f"{name} is neither a process type nor a process id. The alert and the console's overview show both."
            )
    asyncio.run(forget(load_settings(), names))
    click.echo(f"forgotten: {', '.join(names)}")


async def forget(settings: Settings, names: tuple[str, ...]) -> None:
    """Write the null value of each name.

    Raises:
        AccessDeniedError: the broker refuses the login.
        BrokerUnavailableError: the broker did not acknowledge; some names may be forgotten already.
        TopicMismatchError: the status topic is missing.
    """
    await require_login(settings)
    if not await status_topic_exists(settings):
        raise TopicMismatchError(f"There is no topic {settings.status_topic}. Run `nexus topics apply`.")
    async with Sender(settings) as sender:
        for name in names:
            await sender.send(settings.status_topic, name.encode(), None)
