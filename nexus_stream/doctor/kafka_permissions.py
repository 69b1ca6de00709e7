"""Whether the login may do at the broker what the processes need, role by role.

From: access.py, which asks the broker. To: findings with the commands that grant what is missing.
"""

from __future__ import annotations

from collections.abc import Sequence

from nexus_stream.doctor.finding import Finding, error, ok, warning
from nexus_stream.kafka.access import denied_permissions, principal
from nexus_stream.kafka.permissions import Permission, acl_command, permissions
from nexus_stream.settings import Role, Settings

__all__ = ["check_permissions", "judge_permissions", "needed_topics"]


def needed_topics(settings: Settings, roles: frozenset[Role]) -> frozenset[str]:
    """The topics these processes touch."""
    return frozenset(
        one.name for role in roles if role != "tool" for one in permissions(settings, role) if one.resource == "topic"
    )


async def check_permissions(settings: Settings, roles: frozenset[Role], *, is_asked_for: bool) -> list[Finding]:
    """Ask for each role.

    Args:
        settings: With the login.
        roles: Whose needs.
        is_asked_for: Whether the roles were named: else each process may well have a login of its own.
    """
    findings: list[Finding] = []
    for role in sorted(roles - {"tool"}):
        assert role != "tool"  # noqa: S101 - for the type checker
        denied = await denied_permissions(settings, role)
        if denied:
            findings.append(judge_permissions(settings, role, denied, is_asked_for=is_asked_for))
    return findings or [ok("kafka.permissions", f"the login may do what {_listed(sorted(roles))} need(s)")]


def judge_permissions(settings: Settings, role: str, denied: Sequence[Permission], *, is_asked_for: bool) -> Finding:
    """One role's missing permissions."""
    who = principal(settings)
    listed = "; ".join(f"{one.resource} {one.name}: {', '.join(one.operations)}" for one in denied)
    found = f"{who} lacks what the {role} needs: {listed}"
    fix = " && ".join(acl_command(who, one, bootstrap_servers=settings.kafka_bootstrap_servers) for one in denied)
    if is_asked_for:
        return error("kafka.permissions", found, f"The {role} ends with an authorization error.", fix)
    why = f"The {role} cannot run with this login. If it has one of its own: nexus doctor --role {role} with that."
    return warning("kafka.permissions", found, why, fix)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
