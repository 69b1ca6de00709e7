"""Compare the broker's topics and their options with the declared ones. Pure functions.

``nexus topics check`` compares only topics and partition counts, which a worker needs to start. This module also
compares replication, retention and sizes, whose problems appear later.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from nexus_stream.contracts.topics import TopicSpec, declared_topics, max_record_bytes
from nexus_stream.doctor.finding import Finding, Severity, error, note, ok, warning
from nexus_stream.settings import Settings

__all__ = ["TopicFound", "judge_topics", "topics_found"]

_FORBIDDEN: Final = 29
# The size limit of a record if none is declared: Kafka's default.
_USUAL_MAX_BYTES: Final = 1_048_588
_COPIES_IN_PRODUCTION: Final = 3
# A value below the declared one loses data or blocks writes. A higher value is the operator's choice.
_AT_LEAST: Final = frozenset({"retention.ms", "max.message.bytes", "min.insync.replicas"})


@dataclass(frozen=True, slots=True)
class TopicFound:
    """A topic as the broker describes it.

    Attributes:
        copies: The lowest number of replicas of any partition.
        in_sync: The lowest number of in-sync replicas of any partition.
        without_leader: The number of partitions without a leader.
        configs: The topic's options. None if the broker does not show them.
    """

    name: str
    partitions: int
    copies: int
    in_sync: int
    without_leader: int
    is_forbidden: bool = False
    configs: Mapping[str, str] | None = None


def topics_found(described: Sequence[Mapping[str, Any]], configs: Mapping[str, Mapping[str, str]]) -> list[TopicFound]:
    """Combine the broker's answers.

    Args:
        described: The answer to a metadata request.
        configs: Topic -> options, for the topics whose options are known.
    """
    found = []
    for topic in described:
        partitions = topic["partitions"]
        if topic["error_code"] not in {0, _FORBIDDEN}:
            continue
        found.append(
            TopicFound(
                topic["topic"],
                len(partitions),
                min((len(partition["replicas"]) for partition in partitions), default=0),
                min((len(partition["isr"]) for partition in partitions), default=0),
                sum(partition["leader"] < 0 for partition in partitions),
                topic["error_code"] == _FORBIDDEN,
                configs.get(topic["topic"]),
            )
        )
    return found


def judge_topics(
    settings: Settings, found: Collection[TopicFound], needed: Collection[str], *, is_embedded: bool = False
) -> list[Finding]:
    """Compare the topics. All topics that are as declared share one finding.

    Args:
        settings: The settings that declare the topics.
        found: The topics of the broker.
        needed: The names of the topics to compare.
        is_embedded: Whether this is the embedded broker, which has no replicas.
    """
    by_name = {topic.name: topic for topic in found}
    findings: list[Finding] = []
    for spec in (each for each in declared_topics(settings) if each.name in needed):
        topic = by_name.get(spec.name)
        if topic is None:
            findings.append(_missing(spec))
        elif topic.is_forbidden:
            findings.append(_forbidden(spec))
        else:
            findings += _shape(settings, spec, topic, is_embedded=is_embedded)
            if topic.configs is not None:
                findings += _options(settings, spec, topic.configs)
    silent = [topic.name for topic in found if topic.configs is None and not topic.is_forbidden]
    if silent:
        why = "Retention, sizes and cleanup policies were not compared."
        fix = "Allow DescribeConfigs on the topics, or compare `nexus topics plan` with the provider's web page."
        findings.append(
            note("kafka.topic_options", f"the broker does not show the options of {_names(silent)}", why, fix)
        )
    if not any(finding.severity.rank >= Severity.WARNING.rank for finding in findings):
        findings.insert(0, ok("kafka.topics", f"all {len(by_name)} topics are as declared"))
    return findings


def _missing(spec: TopicSpec) -> Finding:
    found = f"{spec.name} is missing ({spec.partitions} partitions are needed)"
    why = "Workers refuse to start without it."
    return error("kafka.topic_missing", found, why, "nexus topics apply (look first: nexus topics plan)")


def _forbidden(spec: TopicSpec) -> Finding:
    why = "The processes that use the topic end with an authorization error."
    fix = (
        f"kafka-acls.sh --add --allow-principal User:<login> --operation Describe --topic {spec.name} (and Read, Write)"
    )
    found = f"{spec.name}: this login may not see the topic, or the topic is missing"
    return error("kafka.topic_forbidden", found, why, fix)


def _shape(settings: Settings, spec: TopicSpec, topic: TopicFound, *, is_embedded: bool) -> list[Finding]:
    findings = []
    if spec.partition_count_is_fixed and topic.partitions != spec.partitions:
        found = f"{spec.name} has {topic.partitions} partitions, NEXUS_TOPIC_PARTITIONS says {spec.partitions}"
        why = "A session's history would be split: no worker starts. Ingestion topic and changelog must agree."
        fix = f"NEXUS_TOPIC_PARTITIONS={topic.partitions} if all topics have this count, else docs/reference/topics.md"
        findings.append(error("kafka.topic_partitions", found, why, fix))
    if topic.without_leader:
        found = f"{spec.name}: {topic.without_leader} partition(s) have no leader"
        why = "These partitions can neither be written nor read."
        findings.append(error("kafka.topic_leader", found, why, "Start the brokers that hold their replicas."))
    if is_embedded:
        return findings
    needed = int(spec.configs.get("min.insync.replicas", "1"))
    if topic.configs is not None and topic.configs.get("min.insync.replicas", "").isdigit():
        needed = int(topic.configs["min.insync.replicas"])
    if topic.in_sync < needed and not topic.without_leader:
        found = f"{spec.name}: {topic.in_sync} copies are in sync, writes need {needed}"
        why = "Every write with acks=all is refused: the gateway answers 503."
        findings.append(error("kafka.topic_in_sync", found, why, "Start the broker that is down."))
    if topic.copies < spec.replication_factor:
        found = f"{spec.name} has {topic.copies} copies, NEXUS_TOPIC_REPLICATION_FACTOR says {spec.replication_factor}"
        fix = "kafka-reassign-partitions.sh with more replicas, or set the variable to the actual number"
        findings.append(warning("kafka.topic_replication", found, _why_copies(topic.copies), fix))
    elif settings.env == "production" and topic.copies < _COPIES_IN_PRODUCTION:
        make = error if topic.copies < 2 else warning
        fix = f"kafka-reassign-partitions.sh to {_COPIES_IN_PRODUCTION} replicas, and NEXUS_TOPIC_REPLICATION_FACTOR=3"
        findings.append(
            make("kafka.topic_replication", f"{spec.name} has {topic.copies} copies", _why_copies(topic.copies), fix)
        )
    return findings


def _why_copies(copies: int) -> str:
    if copies <= 1:
        return "The loss of one disk loses accepted conversations."
    return "If one broker is down and another one fails, accepted conversations are lost."


def _options(settings: Settings, spec: TopicSpec, configs: Mapping[str, str]) -> list[Finding]:
    findings = []
    declared = dict(spec.configs)
    declared.setdefault("max.message.bytes", str(_USUAL_MAX_BYTES))
    for option, wanted in declared.items():
        actual = configs.get(option)
        if actual is None or _fits(option, wanted, actual):
            continue
        findings.append(_option_differs(settings, spec, option, wanted, actual))
    return findings


def _fits(option: str, wanted: str, actual: str) -> bool:
    if option in _AT_LEAST:
        # -1 means no limit.
        return actual == "-1" or int(actual) >= int(wanted)
    if option == "cleanup.policy":
        return set(actual.replace(" ", "").split(",")) == set(wanted.split(","))
    if option == "message.timestamp.type":
        return actual == wanted
    # segment.ms and max.compaction.lag.ms: a higher value keeps deleted data on disk for longer.
    return int(actual) <= int(wanted)


def _option_differs(settings: Settings, spec: TopicSpec, option: str, wanted: str, actual: str) -> Finding:
    found = f"{spec.name}: {option}={actual}, but {wanted} is declared"
    fix = (
        f"kafka-configs.sh --bootstrap-server {settings.kafka_bootstrap_servers} --alter --entity-type topics "
        f"--entity-name {spec.name} --add-config {option}={'[' + wanted + ']' if ',' in wanted else wanted}"
    )
    check = "kafka.topic_option"
    match option:
        case "cleanup.policy" if "compact" in actual and "compact" not in wanted:
            return error(check, found, "Compaction deletes records of the same key before they are read.", fix)
        case "cleanup.policy" if "compact" not in actual:
            return error(check, found, "State is deleted by age: sessions are extracted and paid for again.", fix)
        case "max.message.bytes" if int(actual) < max_record_bytes(settings):
            why = f"Records may have {max_record_bytes(settings)} bytes (NEXUS_MAX_BODY_BYTES). The topic refuses them."
            return error(check, found, why, f"{fix}; or lower NEXUS_MAX_BODY_BYTES")
        case "retention.ms":
            why = "Kafka deletes records earlier than the setting says. Alerts and outage limits rely on the setting."
            return warning(check, found, why, f"{fix}; or set the NEXUS_…_RETENTION_HOURS variable to the actual value")
        case "min.insync.replicas":
            return warning(check, found, "A write is acknowledged with fewer copies than declared.", fix)
        case "message.timestamp.type":
            why = "Ages and the retention follow the producers' clocks. A time that cannot be right is not believed."
            return note(check, found, why, fix)
        case "max.compaction.lag.ms" | "segment.ms":
            return note(check, found, "An erased person's records stay on disk longer than documented.", fix)
        case _:
            return warning(check, found, "The topic does not behave as documented.", fix)


def _names(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{len(names)} topics"
