"""The declaration of each topic, without a broker; tests/integration compares it with real topics."""

from __future__ import annotations

import pytest

from nexus_stream.contracts.topics import TopicSpec, declared_topics, max_record_bytes, segment_hours
from nexus_stream.errors import TopicMismatchError
from nexus_stream.kafka.topics import TopicDifference, _raise_on_mismatch
from nexus_stream.settings import Settings, load_settings

HOUR_MS = 3_600_000


def declared(**overrides: object) -> dict[str, TopicSpec]:
    return {spec.name: spec for spec in declared_topics(load_settings(environ={}, **overrides))}


def test_topics_come_in_the_order_of_a_messages_path() -> None:
    settings = Settings()
    assert list(declared()) == [
        settings.ingestion_topic,
        settings.sessions_changelog_topic,
        settings.enriched_topic,
        settings.dead_letter_topic,
        settings.status_topic,
    ]


def test_the_changelog_has_as_many_partitions_as_the_ingestion_topic() -> None:
    """Faust crashes the agent otherwise (PartitionsMismatch)."""
    specs = declared(topic_partitions=11)
    assert specs["nexus-prospect-ingestion"].partitions == 11
    assert specs["nexus-enricher-sessions-changelog"].partitions == 11


def test_the_partition_count_is_fixed_if_keys_decide_the_partition() -> None:
    fixed = {name for name, spec in declared().items() if spec.partition_count_is_fixed}
    assert fixed == {"nexus-prospect-ingestion", "nexus-enricher-sessions-changelog", "prospects-enriched"}


@pytest.mark.parametrize("topic", ["nexus-prospect-ingestion", "prospects-enriched"])
def test_topics_that_workers_consume_are_never_compacted(topic: str) -> None:
    """Faust acknowledges gaps in offsets before the next message is processed."""
    assert declared()[topic].configs["cleanup.policy"] == "delete"


@pytest.mark.parametrize(("replication", "in_sync"), [(1, "1"), (2, "1"), (3, "2"), (5, "4")])
def test_writes_succeed_while_one_replica_is_down(replication: int, in_sync: str) -> None:
    for spec in declared(topic_replication_factor=replication).values():
        assert spec.replication_factor == replication
        assert spec.configs["min.insync.replicas"] == in_sync


def test_retention_is_as_set() -> None:
    specs = declared(ingestion_retention_hours=5, enriched_retention_hours=6, dead_letter_retention_hours=7)
    kept = {name: int(spec.configs.get("retention.ms", 0)) // HOUR_MS for name, spec in specs.items()}
    assert kept == {
        "nexus-prospect-ingestion": 5,
        "nexus-enricher-sessions-changelog": 0,
        "prospects-enriched": 6,
        "nexus-prospect-dlq": 7,
        "nexus-status": 24,
    }


def test_an_old_state_leaves_the_changelog_within_a_day() -> None:
    assert declared()["nexus-enricher-sessions-changelog"].configs["max.compaction.lag.ms"] == str(24 * HOUR_MS)


@pytest.mark.parametrize(("retention", "segment"), [(1, 1), (3, 1), (24, 8), (72, 24), (720, 24)])
def test_a_segment_is_a_third_of_the_retention_within_a_day(retention: int, segment: int) -> None:
    assert segment_hours(retention) == segment


@pytest.mark.parametrize("body_bytes", [1024, 262_144, 600_000, 10_000_000])
def test_a_body_at_its_limit_fits_with_the_headers_of_its_dead_letter(body_bytes: int) -> None:
    settings = load_settings(environ={}, max_body_bytes=body_bytes)
    assert max_record_bytes(settings) >= body_bytes + 65_536
    specs = declared(max_body_bytes=body_bytes)
    for topic in (settings.ingestion_topic, settings.dead_letter_topic):
        assert int(specs[topic].configs["max.message.bytes"]) == max_record_bytes(settings)


def test_a_mismatch_names_each_topic_the_commands_and_the_page() -> None:
    differences = [
        TopicDifference("nexus-status", True, "missing; 1 partitions are needed"),
        TopicDifference("nexus-prospect-ingestion", False, "4 partitions, NEXUS_TOPIC_PARTITIONS says 6"),
    ]
    with pytest.raises(TopicMismatchError) as caught:
        _raise_on_mismatch(differences)
    text = str(caught.value)
    for part in ("nexus-status: missing", "4 partitions", "`nexus topics plan`", "docs/reference/topics.md"):
        assert part in text


def test_without_a_difference_nothing_is_raised() -> None:
    _raise_on_mismatch([])
