"""``nexus dev`` and ``nexus dev reset``."""

from __future__ import annotations

import asyncio
import sys

import click

from nexus_stream.embedded.dev import Dev, claim
from nexus_stream.embedded.plan import refuse_in_production, user_environment
from nexus_stream.embedded.state import DevDirectory
from nexus_stream.embedded.terminal import Terminal

__all__ = ["command"]

# Four ports are used from the base. Only root may listen below 1024.
_PORT_BASES = click.IntRange(1024, 65_532)


@click.group(name="dev", invoke_without_command=True)
@click.option("--ephemeral", is_flag=True, help="Start with an empty database and remove it at the end.")
@click.option(
    "--port-base",
    type=_PORT_BASES,
    metavar="N",
    help="Gateway at N, console at N+1, broker at N+2, database at N+3. Default: the usual ports, or free ones.",
)
@click.pass_context
def command(context: click.Context, ephemeral: bool, port_base: int | None) -> None:
    """Run everything in this terminal, with an embedded broker and database. Data is kept in ./.nexus."""
    if context.invoked_subcommand is not None:
        return
    terminal = Terminal()
    # Checked before the files of an earlier run are changed.
    refuse_in_production(user_environment())
    directory = DevDirectory(ephemeral=ephemeral)
    with claim(directory, terminal):
        sys.exit(asyncio.run(_run(directory, terminal, port_base, ephemeral)))


async def _run(directory: DevDirectory, terminal: Terminal, port_base: int | None, ephemeral: bool) -> int:
    return await Dev(directory, terminal, port_base=port_base, ephemeral=ephemeral).run()


@command.command()
def reset() -> None:
    """Delete ./.nexus: the database, local table data and logs. Not possible while `nexus dev` runs."""
    terminal = Terminal()
    directory = DevDirectory()
    with claim(directory, terminal):
        removed = directory.reset()
    listing = ", ".join(str(path.relative_to(directory.root.parent)) for path in removed)
    terminal.say(f"removed {listing}" if removed else "nothing to remove")
