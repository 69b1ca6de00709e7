"""A record that cannot be read is left out of the console's index, and counted."""

from __future__ import annotations

from typing import Any

from aiokafka import ConsumerRecord, TopicPartition
from prometheus_client import REGISTRY

from nexus_stream.console.index.indexer import Indexer
from nexus_stream.delivery.received import Unreadable
from nexus_stream.settings import load_settings

SETTINGS = load_settings(environ={})
CHANGELOG, ENRICHED = SETTINGS.sessions_changelog_topic, SETTINGS.enriched_topic


class _Model:
    def __init__(self) -> None:
        self.applied: dict[str, list[int]] = {}

    def apply(self, records: list[Any]) -> None:
        self.applied[CHANGELOG] = [record.offset for record in records]

    def apply_beside(self, topic: str, records: list[Any]) -> None:
        self.applied[topic] = [record.offset for record in records]


def _record(topic: str, offset: int, value: bytes) -> ConsumerRecord:
    return ConsumerRecord(topic, 0, offset, 1_796_000_000_000, 0, b"k", value, None, 1, len(value), ())


def _left_out(topic: str) -> float:
    return REGISTRY.get_sample_value("nexus_console_left_out_total", {"topic": topic}) or 0.0


def test_it_is_left_out_and_counted() -> None:
    model: Any = _Model()
    damaged = Unreadable.of(b"", problem="the checksum is wrong", first_offset=1)
    before = {topic: _left_out(topic) for topic in (CHANGELOG, ENRICHED)}
    Indexer(SETTINGS, model)._apply(
        {
            TopicPartition(topic, 0): [_record(topic, 0, b"{}"), _record(topic, 4, damaged), _record(topic, 5, b"{}")]
            for topic in (CHANGELOG, ENRICHED)
        }
    )
    assert model.applied == {CHANGELOG: [0, 5], ENRICHED: [0, 5]}
    assert {topic: _left_out(topic) - count for topic, count in before.items()} == {CHANGELOG: 1, ENRICHED: 1}
