"""The topics this software needs, and how a broker's topics compare with them.

From: settings. To: `nexus topics plan|apply|check`, `nexus dev`, and the workers, which refuse to start on a mismatch.
Topics are never left to a broker's defaults; the changelog is created here too, because Faust requires it to have
exactly as many partitions as the ingestion topic (``PartitionsMismatch``, faust/tables/base.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    InvalidConfigurationError,
    InvalidPartitionsError,
    InvalidReplicationFactorError,
    KafkaError,
    PolicyViolationError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    for_code,
)

from nexus_stream.errors import AccessDeniedError, BrokerUnavailableError, ConfigurationError, TopicMismatchError
from nexus_stream.kafka.access import principal, require_login, unseen_topics
from nexus_stream.kafka.clients import client_options
from nexus_stream.kafka.permissions import PermissionRole, permissions
from nexus_stream.settings import Settings, provider_of

__all__ = [
    "COMPACTION_LAG_HOURS",
    "TopicDifference",
    "TopicSpec",
    "apply_topics",
    "compare_topics",
    "declared_topics",
    "max_record_bytes",
    "require_topics",
    "segment_hours",
]

_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS
_UNFIT = (InvalidConfigurationError, InvalidPartitionsError, InvalidReplicationFactorError, PolicyViolationError)
# A former value of a session's state is gone from the changelog this long after its successor, at the latest.
COMPACTION_LAG_HOURS = 24


def segment_hours(retention_hours: int) -> int:
    """How long a delete-policy topic writes one file: a record is kept for its retention and this, at the most.

    Kafka deletes whole files, each once its newest record is too old; left alone, it writes one for seven days.
    """
    return max(1, min(24, retention_hours // 3))


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """One topic as it must be. ``configs`` uses Kafka's own option names and string values."""

    name: str
    partitions: int
    replication_factor: int
    configs: dict[str, str] = field(default_factory=dict)
    # A key decides a record's partition in these topics, so a changed count would split a session's history.
    partition_count_is_fixed: bool = False


@dataclass(frozen=True, slots=True)
class TopicDifference:
    """What is wrong with one topic. ``missing`` topics can be created; the rest needs an operator."""

    name: str
    missing: bool
    detail: str


def max_record_bytes(settings: Settings) -> int:
    """The largest record anyone sends: a body at its limit, or its dead letter with the headers that say why."""
    return max(1_048_588, settings.max_body_bytes * 2 + 65_536)


def declared_topics(settings: Settings) -> tuple[TopicSpec, ...]:
    """Every topic, in the order a message meets them, with the options the provider takes."""
    provider = provider_of(settings)
    return tuple(replace(spec, configs=provider.fit_options(spec.configs)) for spec in _wanted_topics(settings))


def _wanted_topics(settings: Settings) -> tuple[TopicSpec, ...]:
    replication = settings.topic_replication_factor
    # One copy may be down while all writes still succeed.
    durable = {"min.insync.replicas": str(max(1, replication - 1))}
    delete = {**durable, "cleanup.policy": "delete"}
    max_bytes = str(max_record_bytes(settings))
    return (
        TopicSpec(
            settings.ingestion_topic,
            settings.topic_partitions,
            replication,
            {
                **delete,
                "retention.ms": str(settings.ingestion_retention_hours * _HOUR_MS),
                "segment.ms": str(segment_hours(settings.ingestion_retention_hours) * _HOUR_MS),
                "max.message.bytes": max_bytes,
            },
            partition_count_is_fixed=True,
        ),
        TopicSpec(
            settings.sessions_changelog_topic,
            settings.topic_partitions,
            replication,
            # Bounded lag, so that an erased person's old state is gone from the log within a day.
            {**durable, "cleanup.policy": "compact", "max.compaction.lag.ms": str(COMPACTION_LAG_HOURS * _HOUR_MS)},
            partition_count_is_fixed=True,
        ),
        TopicSpec(
            settings.enriched_topic,
            settings.topic_partitions,
            replication,
            {
                **delete,
                "retention.ms": str(settings.enriched_retention_hours * _HOUR_MS),
                "segment.ms": str(segment_hours(settings.enriched_retention_hours) * _HOUR_MS),
            },
            # A session's records keep their order only while they stay on one partition.
            partition_count_is_fixed=True,
        ),
        TopicSpec(
            settings.dead_letter_topic,
            1,
            replication,
            {
                **delete,
                "retention.ms": str(settings.dead_letter_retention_hours * _HOUR_MS),
                "segment.ms": str(segment_hours(settings.dead_letter_retention_hours) * _HOUR_MS),
                "max.message.bytes": max_bytes,
            },
        ),
        TopicSpec(
            settings.status_topic,
            1,
            replication,
            # The newest record of each process is all there is to know; one that was killed is forgotten after a day.
            {**durable, "cleanup.policy": "compact,delete", "retention.ms": str(_DAY_MS), "segment.ms": str(_HOUR_MS)},
        ),
    )


async def compare_topics(settings: Settings, role: PermissionRole = "topics") -> list[TopicDifference]:
    """What differs between the broker's topics and the declared ones; empty when all is well.

    Args:
        settings: Broker, names, counts.
        role: Compare the topics that this role works with: "topics" are all of them.

    Raises:
        AccessDeniedError: the broker does not let us in.
        BrokerUnavailableError: the broker cannot be reached.
    """
    seen_by_role = {one.name for one in permissions(settings, role) if one.resource == "topic"}
    specs = [spec for spec in declared_topics(settings) if spec.name in seen_by_role]
    admin = await _admin(settings)
    try:
        existing = set(await admin.list_topics())
        described = await admin.describe_topics([spec.name for spec in specs if spec.name in existing])
    except KafkaError as error:
        raise BrokerUnavailableError(f"topics cannot be listed: {type(error).__name__}") from error
    finally:
        await admin.close()
    missing = [spec.name for spec in specs if spec.name not in existing]
    # Kafka lists only what may be described.
    unseen = await unseen_topics(settings, missing) if missing else set()
    partitions = {topic["topic"]: len(topic["partitions"]) for topic in described if not topic["error_code"]}
    differences = []
    for spec in specs:
        found = partitions.get(spec.name, 0)
        if spec.name in unseen:
            detail = "missing, or may not be seen: allow Describe on it (`nexus topics acls`)"
            differences.append(TopicDifference(spec.name, False, detail))
        elif found == 0:
            differences.append(TopicDifference(spec.name, True, f"missing; {spec.partitions} partitions are needed"))
        elif spec.partition_count_is_fixed and found != spec.partitions:
            differences.append(
                TopicDifference(
                    spec.name,
                    False,
                    f"{found} partitions, NEXUS_TOPIC_PARTITIONS says {spec.partitions}",
                )
            )
    return differences


async def apply_topics(settings: Settings) -> list[str]:
    """Create the topics that are missing and return their names. Never changes or deletes one.

    Raises:
        AccessDeniedError: the broker does not let us in, or does not allow it.
        BrokerUnavailableError: the broker cannot be reached.
        ConfigurationError: the broker takes no topic like that; with its reason.
        TopicMismatchError: a topic exists with another partition count.
    """
    differences = await compare_topics(settings)
    _raise_on_mismatch([difference for difference in differences if not difference.missing])
    missing = {difference.name for difference in differences}
    admin = await _admin(settings)
    try:
        new_topics = [
            NewTopic(spec.name, spec.partitions, spec.replication_factor, topic_configs=spec.configs)
            for spec in declared_topics(settings)
            if spec.name in missing
        ]
        if new_topics:
            response = await admin.create_topics(new_topics)
            _raise_on_refusal(settings, response.topic_errors)
    except KafkaError as error:
        raise BrokerUnavailableError(f"topics cannot be created: {type(error).__name__}") from error
    finally:
        await admin.close()
    return sorted(missing)


def _raise_on_refusal(settings: Settings, topic_errors: list[tuple[str, int, str]]) -> None:
    refused = {
        name: (code, *details)
        for name, code, *details in topic_errors
        if code not in {0, TopicAlreadyExistsError.errno}
    }
    if not refused:
        return
    reasons = "; ".join(
        f"{name}: {for_code(code).__name__}{''.join(f' ({text})' for text in details if text)}"
        for name, (code, *details) in refused.items()
    )
    codes = {code for code, *_ in refused.values()}
    if codes & {TopicAuthorizationFailedError.errno, ClusterAuthorizationFailedError.errno}:
        raise AccessDeniedError(
            f"Topics were not created, which {principal(settings)} may not do: {reasons}. Allow it with the commands "
            f"of `nexus topics acls --role topics --principal {principal(settings)}`, or run this as somebody who may."
        )
    if codes & {error.errno for error in _UNFIT}:
        raise ConfigurationError(
            f"The broker takes no topic like that: {reasons}. See NEXUS_TOPIC_REPLICATION_FACTOR, "
            "NEXUS_TOPIC_PARTITIONS, and NEXUS_KAFKA_PROVIDER for a managed cluster."
        )
    raise BrokerUnavailableError(f"topics were not created: {reasons}")


async def require_topics(settings: Settings, role: PermissionRole = "topics") -> None:
    """Refuse to go on unless every topic that the role works with is there as declared.

    Raises:
        AccessDeniedError: the broker does not let us in.
        BrokerUnavailableError: the broker cannot be reached.
        TopicMismatchError: with each difference and the command to run.
    """
    _raise_on_mismatch(await compare_topics(settings, role))


def _raise_on_mismatch(differences: list[TopicDifference]) -> None:
    if differences:
        listing = "\n".join(f"  - {difference.name}: {difference.detail}" for difference in differences)
        raise TopicMismatchError(
            f"The broker's topics are not as declared:\n{listing}\n"
            "Run `nexus topics plan` to see what would be created, then `nexus topics apply`. "
            "A partition count cannot be changed in place: see docs/reference/topics.md."
        )


async def _admin(settings: Settings) -> AIOKafkaAdminClient:
    # First, since the client says the same of a refused login and of a broker that is down.
    await require_login(settings)
    admin = AIOKafkaAdminClient(**client_options(settings))
    try:
        await admin.start()
    except KafkaError as error:
        await admin.close()
        raise BrokerUnavailableError(
            f"No broker answers at {settings.kafka_bootstrap_servers} (NEXUS_KAFKA_BOOTSTRAP_SERVERS): "
            f"{type(error).__name__}"
        ) from error
    return admin
