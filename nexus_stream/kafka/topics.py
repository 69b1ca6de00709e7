"""How a broker's topics compare with the declared ones, and how the missing ones are created.

The declarations are in contracts/topics.py. `nexus topics plan|apply|check` and `nexus dev` create and compare topics.
The workers refuse to start on a mismatch.
"""

from __future__ import annotations

from dataclasses import dataclass

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

from nexus_stream.contracts.topics import declared_topics
from nexus_stream.errors import AccessDeniedError, BrokerUnavailableError, ConfigurationError, TopicMismatchError
from nexus_stream.kafka.access import principal, require_login, unseen_topics
from nexus_stream.kafka.clients import client_options
from nexus_stream.kafka.permissions import PermissionRole, permissions
from nexus_stream.settings import Settings

__all__ = [
    "TopicDifference",
    "apply_topics",
    "compare_topics",
    "require_topics",
]

_UNFIT = (InvalidConfigurationError, InvalidPartitionsError, InvalidReplicationFactorError, PolicyViolationError)


@dataclass(frozen=True, slots=True)
class TopicDifference:
    """The problem with one topic. `apply_topics` can create ``missing`` topics; an operator must fix the rest."""

    name: str
    missing: bool
    detail: str


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
