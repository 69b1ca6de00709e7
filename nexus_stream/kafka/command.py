"""``nexus topics plan|apply|check|acls``: show, create and verify the topics, and who may do what with them."""

from __future__ import annotations

import asyncio
import sys

import click

from nexus_stream.contracts.topics import declared_topics
from nexus_stream.kafka.permissions import PERMISSION_ROLES, PermissionRole, acl_commands
from nexus_stream.kafka.topics import apply_topics, compare_topics, require_topics
from nexus_stream.settings import load_settings

__all__ = ["command"]


@click.group(name="topics")
def command() -> None:
    """Plan, create and check the Kafka topics, and print who needs which permission."""


@command.command()
def plan() -> None:
    """Print every declared topic and what `apply` would do; changes nothing. Exit 1 when something differs."""
    settings = load_settings()
    differences = {difference.name: difference for difference in asyncio.run(compare_topics(settings))}
    for spec in declared_topics(settings):
        difference = differences.get(spec.name)
        action = "ok" if difference is None else ("create" if difference.missing else f"MISMATCH: {difference.detail}")
        click.echo(f"{spec.name}: {spec.partitions} partitions, replication {spec.replication_factor}: {action}")
        for option, value in spec.configs.items():
            click.echo(f"    {option}={value}")
    sys.exit(1 if differences else 0)


@command.command()
def apply() -> None:
    """Create the topics that are missing."""
    created = asyncio.run(apply_topics(load_settings()))
    click.echo(f"created: {', '.join(created)}" if created else "nothing to create")


@command.command()
def check() -> None:
    """Exit 0 when every topic is as declared, 2 with the differences otherwise."""
    asyncio.run(require_topics(load_settings()))
    click.echo("topics are as declared")


@command.command()
@click.option("--role", type=click.Choice(PERMISSION_ROLES), required=True, help="The process, or who runs the tools.")
@click.option("--principal", required=True, help="Who it logs in as, with Kafka's prefix: User:enricher.")
def acls(role: PermissionRole, principal: str) -> None:
    """Print the `kafka-acls.sh` commands that allow a principal what a role needs, and no more; changes nothing."""
    if ":" not in principal:
        raise click.BadParameter("begin with the type: User:NAME", param_hint="--principal")
    for line in acl_commands(load_settings(), role, principal):
        click.echo(line)
