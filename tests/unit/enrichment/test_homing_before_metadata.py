"""A record keyed by something else, read before the consumer knows how many partitions its topic has."""

from __future__ import annotations

import orjson
from aiokafka.partitioner import murmur2

from nexus_stream.delivery.outcomes import Outcome
from nexus_stream.delivery.received import Assignment, Received
from nexus_stream.delivery.stage import StageParts
from nexus_stream.enrichment.stage import Enrichment
from nexus_stream.settings import load_settings
from nexus_stream.testing.broker import InMemoryBroker
from nexus_stream.testing.clock import FakeClock
from nexus_stream.testing.extractor import ScriptedExtractor
from nexus_stream.testing.sessions import InMemorySessionTable

INGESTION = "nexus-prospect-ingestion"


class _BrokerBeforeMetadata(InMemoryBroker):
    def partition_count(self, topic: str) -> int | None:
        return None


class _Seen:
    def __init__(self) -> None:
        self.kinds: list[str] = []

    def outcome(self, record: Received, outcome: Outcome) -> None:
        self.kinds.append(type(outcome).__name__)

    def waiting(self, what: str, since_ms: int | None) -> None:
        pass


async def test_a_foreign_record_read_right_after_a_start_is_sent_home():
    broker, clock, assignment, seen = _BrokerBeforeMetadata(4), FakeClock(), Assignment(), _Seen()
    extractor = ScriptedExtractor()
    stage = Enrichment(
        StageParts(broker=broker, assignment=assignment, clock=clock, observer=seen, on_fatal=lambda error: None),
        settings=load_settings(environ={}, topic_partitions=4, settle_seconds=0),
        table=InMemorySessionTable(broker, assignment, "changelog"),
        extractor=extractor,
        source="/test",
    )
    stage.start()
    await stage.assigned([(INGESTION, number) for number in range(4)])
    home = (murmur2(b"s-1") & 0x7FFFFFFF) % 4
    value = orjson.dumps({"messages": [{"role": "user", "content": "hola"}], "sessionId": "s-1"})
    record = stage.read(INGESTION, (home + 1) % 4, 0, clock.time_ms(), b"random", value, ())
    assert record is not None
    await stage.submit(record)
    await clock.advance(2)
    await stage.stop(drain_seconds=1)
    assert seen.kinds == ["Rerouted"]
    assert [(sent.partition, sent.key) for sent in broker.records(INGESTION)] == [(home, b"s-1")]
    assert extractor.calls == []
