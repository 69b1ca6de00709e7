"""The topics this software needs: names, partitions, and Kafka's options for each.

Topics never get a broker's defaults. The changelog is declared here too, because Faust requires it to have exactly as
many partitions as the ingestion topic (``PartitionsMismatch``, faust/tables/base.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from nexus_stream.settings import Settings, provider_of

__all__ = ["COMPACTION_LAG_HOURS", "TopicSpec", "declared_topics", "max_record_bytes", "segment_hours"]

_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS
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
                # The broker's time of receipt, not what each producer's clock claims: kafka/record_time.py.
                "message.timestamp.type": "LogAppendTime",
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
            # Only the newest record of each process is needed. A killed process is forgotten after a day.
            {**durable, "cleanup.policy": "compact,delete", "retention.ms": str(_DAY_MS), "segment.ms": str(_HOUR_MS)},
        ),
    )
