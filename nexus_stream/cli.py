"""The ``nexus`` command: a table of subcommands. Each subcommand's module is loaded only when it is called.

A `NexusError` ends a command with its message and no traceback: exit code 2 for a configuration error, else 1.
"""

from __future__ import annotations

import importlib
import sys

import click

from nexus_stream import __version__
from nexus_stream.errors import ConfigurationError, NexusError

__all__ = ["main"]

_COMMANDS = {
    "backfill": ("nexus_stream.backfill.command:command", "Read many conversations with Claude at half price."),
    "capacity": ("nexus_stream.doctor.capacity_command:command", "Compute the resources and the cost of a load."),
    "console": ("nexus_stream.console.command:command", "Serve the web view of table state."),
    "contracts": ("nexus_stream.contracts.command:command", "Write or check the published schemas."),
    "demo": (
        "nexus_stream.embedded.demo_command:command",
        "Post a few conversations to `nexus dev` and watch the rows.",
    ),
    "dev": (
        "nexus_stream.embedded.command:command",
        "Run everything in this terminal, with an embedded broker and database.",
    ),
    "dlq": ("nexus_stream.dead_letters.command:command", "List, show, redrive and discard dead letters."),
    "doctor": (
        "nexus_stream.doctor.command:command",
        "Check the configuration and every connection, and show the fixes.",
    ),
    "evaluate": ("nexus_stream.extraction.evaluate_command:command", "Score an extractor on labelled conversations."),
    "extract": (
        "nexus_stream.extraction.extract_command:command",
        "Read one conversation and show the record and its evidence.",
    ),
    "gateway": ("nexus_stream.gateway.command:command", "Serve the HTTP gateway."),
    "healthcheck": ("nexus_stream.observability.healthcheck_command:command", "Check whether a process is ready."),
    "migrate": ("nexus_stream.supabase.command:command", "Apply the database migrations."),
    "privacy": ("nexus_stream.privacy.command:command", "Export, erase or unblock a person's data."),
    "status": ("nexus_stream.observability.status_command:command", "Remove a process that will not come back."),
    "topics": ("nexus_stream.kafka.command:command", "Plan, create and check the Kafka topics."),
}


class _LazyGroup(click.Group):
    """Loads a subcommand's module when it is called, so that `nexus --help` loads none."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module_name, _, attribute = _COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module_name), attribute)
        assert isinstance(command, click.Command)  # noqa: S101 - the table has only commands
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, _COMMANDS[name][1]) for name in self.list_commands(ctx)])


@click.group(cls=_LazyGroup)
@click.version_option(__version__, prog_name="nexus")
def _nexus() -> None:
    """nexus-stream: chat conversations in, one current record per prospect out."""


def main() -> None:
    """Run the command line. Exit with 2 on a configuration error and 1 on another `NexusError`; print its message."""
    try:
        _nexus()
    except NexusError as error:
        click.echo(str(error), err=True)
        sys.exit(2 if isinstance(error, ConfigurationError) else 1)
