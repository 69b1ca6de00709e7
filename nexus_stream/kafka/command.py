"""``nexus topics plan|apply|check|acls``: show, create and verify the topics, and print the permissions they need."""

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
    """Plan, create and check the Kafka topics, and print the permissions of each role."""


@command.command()
def plan() -> None:
    """Print every declared topic and what `apply` would do. Changes nothing. Exit 1 if a topic differs."""
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
    """Create the missing topics."""
    created = asyncio.run(apply_topics(load_settings()))
    click.echo(f"created: {', '.join(created)}" if created else "nothing to create")


@command.command()
def check() -> None:
    """Exit 0 if every topic is as declared; otherwise print the differences and exit 2."""
    asyncio.run(require_topics(load_settings()))
    click.echo("topics are as declared")


@command.command()
@click.option("--role", type=click.Choice(PERMISSION_ROLES), required=True, help="A process, or a kind of command.")
@click.option("--principal", required=True, help="The Kafka user of that role, with Kafka's prefix: User:enricher.")
def acls(role: PermissionRole, principal: str) -> None:
    """Print the `kafka-acls.sh` commands that grant a principal the permissions of a role. Changes nothing."""
    if ":" not in principal:
        raise click.BadParameter("the type must come first: User:NAME", param_hint="--principal")
    for line in acl_commands(load_settings(), role, principal):
        click.echo(line)
