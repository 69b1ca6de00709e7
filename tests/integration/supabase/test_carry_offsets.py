"""The migration guide's script: the new group begins where the old consumer stopped."""

from __future__ import annotations

from pathlib import Path

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from examples.carry_offsets import carry
from nexus_stream.embedded.broker import EmbeddedBroker
from nexus_stream.kafka.clients import client_options
from nexus_stream.kafka.topics import apply_topics
from nexus_stream.settings import load_settings


async def test_the_new_group_begins_where_the_old_one_stopped(tmp_path: Path) -> None:
    with EmbeddedBroker.start(log_path=tmp_path / "broker.log") as broker:
        settings = load_settings(environ={}, kafka_bootstrap_servers=broker.bootstrap_servers, topic_partitions=2)
        await apply_topics(settings)
        topic = settings.ingestion_topic
        async with AIOKafkaProducer(**client_options(settings)) as producer:
            for partition in (0, 1):
                for n in range(5):
                    await producer.send_and_wait(topic, f"{n}".encode(), partition=partition)
        # Given an old consumer that read three of one partition and nothing of the other
        first, second = TopicPartition(topic, 0), TopicPartition(topic, 1)
        old = AIOKafkaConsumer(**client_options(settings), group_id="old", enable_auto_commit=False)
        async with old:
            old.assign([first])
            await old.commit({first: 3})

        assert await carry(settings, "old", "new", execute=False) == {first: 3}
        assert await carry(settings, "old", "new", execute=True) == {first: 3}

        consumer = AIOKafkaConsumer(
            topic, **client_options(settings), group_id="new", auto_offset_reset="earliest", enable_auto_commit=False
        )
        async with consumer:
            seen: dict[TopicPartition, list[bytes]] = {first: [], second: []}
            while sum(map(len, seen.values())) < 7:
                for partition, records in (await consumer.getmany(timeout_ms=500)).items():
                    seen[partition] += [record.value for record in records]
        assert seen == {first: [b"3", b"4"], second: [b"0", b"1", b"2", b"3", b"4"]}
