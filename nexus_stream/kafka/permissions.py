"""The least permissions that each process needs at the broker; ``nexus topics acls`` prints them as commands.

access.py compares them with the broker's answer. A test compares docs/reference/kafka-permissions.md with them.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Literal, get_args

from nexus_stream.settings import Settings

__all__ = [
    "PERMISSION_ROLES",
    "Operation",
    "Permission",
    "PermissionRole",
    "ResourceType",
    "acl_command",
    "acl_commands",
    "permissions",
]

# "topics" is the user of `nexus topics apply`; "tools" is the user of `nexus dlq`, privacy, backfill and doctor.
PermissionRole = Literal["gateway", "enricher", "sink", "console", "topics", "tools"]
PERMISSION_ROLES: tuple[PermissionRole, ...] = get_args(PermissionRole)
ResourceType = Literal["topic", "group"]
# Kafka's names. Read and Write include Describe.
Operation = Literal["Read", "Write", "Create", "Describe", "DescribeConfigs"]


@dataclass(frozen=True, slots=True)
class Permission:
    """The allowed operations on one topic or group.

    Attributes:
        resource: The type.
        name: The full name, without wildcards.
        operations: The allowed operations.
        why: Their purpose.
    """

    resource: ResourceType
    name: str
    operations: tuple[Operation, ...]
    why: str


def permissions(settings: Settings, role: PermissionRole) -> tuple[Permission, ...]:
    """Return the permissions that a role needs, and no others.

    Args:
        settings: Prefix of topics, app ids.
        role: Process or kind of command.
    """
    ingestion, changelog = settings.ingestion_topic, settings.sessions_changelog_topic
    enriched, letters, status = settings.enriched_topic, settings.dead_letter_topic, settings.status_topic
    reports_status = Permission("topic", status, ("Write",), "reports its status")
    match role:
        case "gateway":
            return (
                Permission("topic", ingestion, ("Write",), "publishes conversations"),
                reports_status,
                Permission("group", settings.enricher_app_id, ("Describe",), "refuses messages that may expire"),
            )
        case "enricher":
            return (
                Permission("topic", ingestion, ("Read", "Write"), "reads conversations, reroutes wrong keys"),
                Permission("topic", changelog, ("Read", "Write"), "keeps and rebuilds the table"),
                Permission("topic", enriched, ("Write",), "publishes enriched prospects"),
                Permission("topic", letters, ("Write",), "writes dead letters"),
                reports_status,
                Permission("group", settings.enricher_app_id, ("Read",), "shares partitions, commits offsets"),
            )
        case "sink":
            return (
                Permission("topic", enriched, ("Read",), "reads enriched prospects"),
                Permission("topic", letters, ("Write",), "writes dead letters"),
                reports_status,
                Permission("group", settings.sink_app_id, ("Read",), "shares partitions, commits offsets"),
            )
        case "console":
            return (
                Permission("topic", changelog, ("Read",), "shows sessions"),
                Permission("topic", enriched, ("Read", "Write"), "shows prospects, redrives to it"),
                Permission("topic", letters, ("Read", "Write"), "shows and marks dead letters"),
                Permission("topic", status, ("Read",), "shows the processes"),
                Permission("topic", ingestion, ("Read", "Write"), "shows conversations, redrives and erases"),
                Permission("group", settings.enricher_app_id, ("Describe",), "shows the enrichers' lag"),
                Permission("group", settings.sink_app_id, ("Describe",), "shows the sinks' lag"),
            )
        case "topics":
            return tuple(
                Permission("topic", name, ("Create", "Describe", "DescribeConfigs"), "creates and checks the topic")
                for name in (ingestion, changelog, enriched, letters, status)
            )
        case "tools":
            return (
                Permission("topic", ingestion, ("Read", "Write", "DescribeConfigs"), "redrives, erases, backfills"),
                Permission("topic", changelog, ("Read", "DescribeConfigs"), "finds a person's sessions"),
                Permission("topic", enriched, ("Write", "DescribeConfigs"), "redrives"),
                Permission("topic", letters, ("Read", "Write", "DescribeConfigs"), "lists and marks dead letters"),
                Permission("topic", status, ("Describe", "DescribeConfigs"), "checks the topic"),
                Permission("group", settings.enricher_app_id, ("Describe",), "reads the enrichers' committed offsets"),
                Permission("group", settings.sink_app_id, ("Describe",), "reads the sinks' committed offsets"),
            )


def acl_command(principal: str, permission: Permission, *, bootstrap_servers: str) -> str:
    """The ``kafka-acls.sh`` command that grants a permission.

    Args:
        principal: Kafka's name of the user: ``User:enricher``.
        permission: The permission to grant.
        bootstrap_servers: The cluster.
    """
    operations = [part for operation in permission.operations for part in ("--operation", operation)]
    return shlex.join(
        [
            *("kafka-acls.sh", "--bootstrap-server", bootstrap_servers, "--command-config", "admin.properties"),
            *("--add", "--allow-principal", principal, *operations),
            *(f"--{permission.resource}", permission.name),
        ]
    )


def acl_commands(settings: Settings, role: PermissionRole, principal: str) -> list[str]:
    """All commands for a role, one per line."""
    return [
        acl_command(principal, permission, bootstrap_servers=settings.kafka_bootstrap_servers)
        for permission in permissions(settings, role)
    ]
