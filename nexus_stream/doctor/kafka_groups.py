"""Judge the consumer groups: their members, their lag, and the age of the lag against the retention. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata

from nexus_stream.doctor.finding import Finding, error, note, ok, warning
from nexus_stream.kafka.group_offsets import GroupStanding

__all__ = ["GroupFound", "group_found", "judge_backlog", "judge_group"]

# The assignor of Faust's workers, and also the prefix of their client id.
_ASSIGNOR: Final = "faust"
_HOUR_MS: Final = 3_600_000
_SHOWN_MEMBERS: Final = 3
_GROUP_FORBIDDEN: Final = 30
# From this share of the retention, a backlog is an error. The console's alert uses the same share.
_URGENT: Final = 0.5
_SOON: Final = 0.25


@dataclass(frozen=True, slots=True)
class GroupFound:
    """A consumer group as its coordinator describes it.

    Attributes:
        foreign: Members that are not our workers: client id and host, and their topics if known.
    """

    name: str
    state: str
    members: int
    foreign: tuple[str, ...]
    is_forbidden: bool = False


def group_found(described: Sequence[Any], topic: str) -> GroupFound:
    """Parse one group's entry of a DescribeGroups answer.

    Args:
        described: ``error_code, group, state, protocol_type, protocol, members``.
        topic: The topic that our workers of this group read.
    """
    error_code, name, state, protocol_type, protocol, members = described[:6]
    foreign = []
    for member_id, client_id, host, metadata, _ in members:
        topics = _subscription(metadata)
        # The embedded broker reports neither protocol nor client id, but its member ids begin with the client id.
        client = client_id or member_id
        is_faust = protocol == _ASSIGNOR if protocol else client.startswith(_ASSIGNOR)
        if protocol_type != "consumer" or not is_faust or (topics is not None and topic not in topics):
            where = f" at {host.lstrip('/')}" if host else ""
            reads = f", reads {', '.join(topics[:3])}" if topics else ""
            foreign.append(f"{client}{where}{reads}")
    return GroupFound(name, state, len(members), tuple(foreign), error_code == _GROUP_FORBIDDEN)


def _subscription(metadata: bytes) -> list[str] | None:
    if not metadata:
        return None
    try:
        return list(ConsumerProtocolMemberMetadata.decode(metadata).subscription)
    except Exception:
        # Another client uses another layout. Then only the protocol's name decides.
        return None


def judge_group(group: GroupFound, variable: str) -> list[Finding]:
    """Judge whether the group has foreign members, and whether it has workers.

    Args:
        group: The group.
        variable: The setting with the group's name.
    """
    if group.is_forbidden:
        fix = f"kafka-acls.sh --add --allow-principal User:<login> --operation Read --group {group.name}"
        found = f"group {group.name}: this login may not describe it"
        return [error("kafka.group_forbidden", found, "The workers cannot join the group.", fix)]
    if group.foreign:
        shown = "; ".join(group.foreign[:_SHOWN_MEMBERS])
        found = f"group {group.name}: {len(group.foreign)} member(s) are not our workers ({shown})"
        why = "They own partitions and commit offsets, so the workers skip records without an error."
        fix = (
            f"Stop these members, or give the workers their own group: {variable}=<another id> (then `nexus topics "
            "apply`)."
        )
        return [error("kafka.group_foreign", found, why, fix)]
    if group.members == 0:
        return [note("kafka.group", f"group {group.name}: no worker runs", "Records wait until a worker starts.")]
    return [ok("kafka.group", f"group {group.name}: {group.members} worker(s), {group.state.lower()}")]


def judge_backlog(standing: GroupStanding, retention_ms: float, now_ms: float, *, alert_lag: int) -> list[Finding]:
    """Judge the lag, and the age of the oldest unfinished record against the topic's retention.

    Args:
        standing: The group's offsets on its topic.
        retention_ms: The topic's retention; 0 or less means no limit.
        now_ms: Unix milliseconds.
        alert_lag: A larger lag is a warning.
    """
    findings = []
    topic, group, waiting = standing.topic, standing.group, standing.lag - standing.lost
    if standing.lost:
        found = f"{topic}: {standing.lost} record(s) were deleted before group {group} read them"
        why = "These conversations are lost, unless they were skipped on purpose."
        fix = "Send them again if you can; raise the topic's retention above your longest outage."
        findings.append(error("kafka.lost", found, why, fix))
    age_ms = 1000 * standing.oldest_age_seconds(now_ms)
    if 0 < _SOON * retention_ms < age_ms:
        found = (
            f"{topic}: the oldest unfinished record of group {group} is "
            f"{age_ms / _HOUR_MS:.1f} h old, {age_ms / retention_ms:.0%} of the retention"
        )
        fix = (
            "Start or add workers, check which service they wait for (console, overview), or keep records longer: "
            f"kafka-configs.sh --alter --entity-type topics --entity-name {topic} --add-config "
            f"retention.ms={int(2 * retention_ms)}"
        )
        make = error if age_ms > _URGENT * retention_ms else warning
        findings.append(make("kafka.retention", found, "Records unread at the end of the retention are lost.", fix))
    elif waiting > alert_lag:
        found = f"{topic}: {waiting} record(s) wait for group {group}"
        fix = "See docs/howto/troubleshooting.md; add workers up to the number of partitions."
        findings.append(warning("kafka.lag", found, "Prospects arrive late.", fix))
    if not findings:
        findings.append(ok("kafka.lag", f"{topic}: {waiting} record(s) wait for group {group}"))
    return findings
