"""The topics that this software needs, and a comparison with the broker's topics.

Topics never get a broker's defaults. The changelog is declared here too, because Faust requires it to have exactly as
many partitions as the ingestion topic (``PartitionsMismatch``, faust/tables/base.py). Workers refuse to start on a
mismatch.
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
# Compaction removes an old state of a session from the changelog at most this long after the next state.
COMPACTION_LAG_HOURS = 24


def segment_hours(retention_hours: int) -> int:
    """Hours after which a delete-policy topic begins a new file. Kafka keeps a record at most this long past retention.

    Kafka deletes whole files, when their newest record is too old. By default it writes one file for seven days.
    """
    return max(1, min(24, retention_hours // 3))


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """One topic as it must be. ``configs`` uses Kafka's own option names and string values."""

    name: str
    partitions: int
    replication_factor: int
    configs: dict[str, str] = field(default_factory=dict)
    # True if the key decides the partition: a changed count would split a session's history over two partitions.
    partition_count_is_fixed: bool = False


@dataclass(frozen=True, slots=True)
class TopicDifference:
    """The problem with one topic. `apply_topics` can create ``missing`` topics; an operator must fix the rest."""

    name: str
    missing: bool
    detail: str


def max_record_bytes(settings: Settings) -> int:
    """The largest record of any topic: the largest body, or its dead letter with the headers about the failure."""
    return max(1_048_588, settings.max_body_bytes * 2 + 65_536)


def declared_topics(settings: Settings) -> tuple[TopicSpec, ...]:
    """Every topic, in the order of a message's path, with the options that the provider accepts."""
    provider = provider_of(settings)
    return tuple(replace(spec, configs=provider.fit_options(spec.configs)) for spec in _wanted_topics(settings))


def _wanted_topics(settings: Settings) -> tuple[TopicSpec, ...]:
    replication = settings.topic_replication_factor
    # Writes still succeed while one replica is down.
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
            # A bounded lag removes the old state of an erased person from the log within a day.
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
            # The records of a session keep their order only on one partition.
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
            # Only the newest record of each process matters. The record of a killed process expires after a day.
            {**durable, "cleanup.policy": "compact,delete", "retention.ms": str(_DAY_MS), "segment.ms": str(_HOUR_MS)},
        ),
    )


async def compare_topics(settings: Settings, role: PermissionRole = "topics") -> list[TopicDifference]:
    """The differences between the broker's topics and the declared topics; empty if there is none.

    Args:
        settings: Broker, names, counts.
        role: Compare only the topics that this role uses; "topics" uses all.

    Raises:
        AccessDeniedError: the broker refuses the login.
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
    # Kafka lists only the topics that this process may describe.
    unseen = await unseen_topics(settings, missing) if missing else set()
    partitions = {topic["topic"]: len(topic["partitions"]) for topic in described if not topic["error_code"]}
    differences = []
    for spec in specs:
        found = partitions.get(spec.name, 0)
        if spec.name in unseen:
            detail = "missing, or without the Describe permission: grant it (`nexus topics acls`)"
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
    """Create the missing topics and return their names. Never changes or deletes a topic.

    Raises:
        AccessDeniedError: the broker refuses the login, or the creation of topics.
        BrokerUnavailableError: the broker cannot be reached.
        ConfigurationError: the broker refuses the options of a topic; the message holds its reason.
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
            f"Topics were not created, because {principal(settings)} may not create them: {reasons}. Grant the "
            f"permissions with the commands of `nexus topics acls --role topics --principal {principal(settings)}`, or "
            "run this command as another user."
        )
    if codes & {error.errno for error in _UNFIT}:
        raise ConfigurationError(
            f"The broker refuses these topics: {reasons}. See NEXUS_TOPIC_REPLICATION_FACTOR, "
            "NEXUS_TOPIC_PARTITIONS, and NEXUS_KAFKA_PROVIDER for a managed cluster."
        )
    raise BrokerUnavailableError(f"topics were not created: {reasons}")


async def require_topics(settings: Settings, role: PermissionRole = "topics") -> None:
    """Return if every topic that the role uses exists as declared.

    Raises:
        AccessDeniedError: the broker refuses the login.
        BrokerUnavailableError: the broker cannot be reached.
        TopicMismatchError: the message lists each difference and the command to run.
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
    # Check the login first: the client raises the same error for a refused login and for a broker that is down.
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
