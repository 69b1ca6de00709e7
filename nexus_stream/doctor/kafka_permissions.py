"""Check the login's Kafka permissions for each role. The findings contain the commands that grant missing ones."""

from __future__ import annotations

from collections.abc import Sequence

from nexus_stream.doctor.finding import Finding, error, ok, warning
from nexus_stream.kafka.access import denied_permissions, principal
from nexus_stream.kafka.permissions import Permission, acl_command, permissions
from nexus_stream.settings import Role, Settings

__all__ = ["check_permissions", "judge_permissions", "needed_topics"]


def needed_topics(settings: Settings, roles: frozenset[Role]) -> frozenset[str]:
    """Return the topics that these processes use."""
    return frozenset(
        one.name for role in roles if role != "tool" for one in permissions(settings, role) if one.resource == "topic"
    )


async def check_permissions(settings: Settings, roles: frozenset[Role], *, roles_are_named: bool) -> list[Finding]:
    """Check the permissions of each role.

    Args:
        settings: The settings with the login.
        roles: The processes to check.
        roles_are_named: Whether the operator named the roles. If not, each process may have its own login.
    """
    findings: list[Finding] = []
    for role in sorted(roles - {"tool"}):
        assert role != "tool"  # noqa: S101 - for the type checker
        denied = await denied_permissions(settings, role)
        if denied:
            findings.append(judge_permissions(settings, role, denied, roles_are_named=roles_are_named))
    return findings or [ok("kafka.permissions", f"the login has all permissions for: {_listed(sorted(roles))}")]


def judge_permissions(settings: Settings, role: str, denied: Sequence[Permission], *, roles_are_named: bool) -> Finding:
    """Judge one role's missing permissions."""
    who = principal(settings)
    listed = "; ".join(f"{one.resource} {one.name}: {', '.join(one.operations)}" for one in denied)
    found = f"{who} lacks permissions that the {role} needs: {listed}"
    fix = " && ".join(acl_command(who, one, bootstrap_servers=settings.kafka_bootstrap_servers) for one in denied)
    if roles_are_named:
        return error("kafka.permissions", found, f"The {role} ends with an authorization error.", fix)
    why = f"The {role} cannot run with this login. If it has its own login: run nexus doctor --role {role} with that."
    return warning("kafka.permissions", found, why, fix)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
