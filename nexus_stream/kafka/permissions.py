"""What each process may do at the broker, and no more: the list behind ``nexus topics acls``.

From: settings (names of topics and groups). To: ``kafka-acls.sh`` commands, docs/reference/kafka-permissions.md (a test
holds the two together), access.py (which compares it with what the broker says), and the tests' secured cluster.
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

# "topics" is who runs `nexus topics apply`; "tools" who runs dlq, privacy, backfill and doctor.
PermissionRole = Literal["gateway", "enricher", "sink", "console", "topics", "tools"]
PERMISSION_ROLES: tuple[PermissionRole, ...] = get_args(PermissionRole)
ResourceType = Literal["topic", "group"]
# Kafka's names. Read and Write bring Describe with them.
Operation = Literal["Read", "Write", "Create", "Describe", "DescribeConfigs"]


@dataclass(frozen=True, slots=True)
class Permission:
    """One topic or group and what is allowed on it.

    Attributes:
        resource: Which of the two.
        name: Its name, literally.
        operations: What is allowed.
        why: What it is for.
    """

    resource: ResourceType
    name: str
    operations: tuple[Operation, ...]
    why: str


def permissions(settings: Settings, role: PermissionRole) -> tuple[Permission, ...]:
    """The least that a role needs.

    Args:
        settings: Prefix of topics, app ids.
        role: Which process or tool.
    """
    ingestion, changelog = settings.ingestion_topic, settings.sessions_changelog_topic
    enriched, letters, status = settings.enriched_topic, settings.dead_letter_topic, settings.status_topic
    says_how_it_is = Permission("topic", status, ("Write",), "says how it is doing")
    match role:
        case "gateway":
            return (
                Permission("topic", ingestion, ("Write",), "publishes conversations"),
                says_how_it_is,
                Permission("group", settings.enricher_app_id, ("Describe",), "refuses what would expire unread"),
            )
        case "enricher":
            return (
                Permission("topic", ingestion, ("Read", "Write"), "reads conversations, sends strangers' keys home"),
                Permission("topic", changelog, ("Read", "Write"), "keeps and rebuilds the table"),
                Permission("topic", enriched, ("Write",), "publishes enriched prospects"),
                Permission("topic", letters, ("Write",), "sets records aside"),
                says_how_it_is,
                Permission("group", settings.enricher_app_id, ("Read",), "shares partitions, commits offsets"),
            )
        case "sink":
            return (
                Permission("topic", enriched, ("Read",), "reads enriched prospects"),
                Permission("topic", letters, ("Write",), "sets rows aside"),
                says_how_it_is,
                Permission("group", settings.sink_app_id, ("Read",), "shares partitions, commits offsets"),
            )
        case "console":
            return (
                Permission("topic", changelog, ("Read",), "shows sessions"),
                Permission("topic", enriched, ("Read", "Write"), "shows prospects, redrives to it"),
                Permission("topic", letters, ("Read", "Write"), "shows dead letters, marks what it did with them"),
                Permission("topic", status, ("Read",), "shows the processes"),
                Permission("topic", ingestion, ("Read", "Write"), "shows conversations, redrives and erases"),
                Permission("group", settings.enricher_app_id, ("Describe",), "shows how far the enrichers are"),
                Permission("group", settings.sink_app_id, ("Describe",), "shows how far the sinks are"),
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
                Permission("group", settings.enricher_app_id, ("Describe",), "asks how far the enrichers are"),
                Permission("group", settings.sink_app_id, ("Describe",), "asks how far the sinks are"),
            )


def acl_command(principal: str, permission: Permission, *, bootstrap_servers: str) -> str:
    """The ``kafka-acls.sh`` command that allows a principal this.

    Args:
        principal: As Kafka names it: ``User:enricher``.
        permission: What to allow.
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
    """All commands for a role, one a line."""
    return [
        acl_command(principal, permission, bootstrap_servers=settings.kafka_bootstrap_servers)
        for permission in permissions(settings, role)
    ]
