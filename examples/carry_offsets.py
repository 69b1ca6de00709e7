"""Copy the committed offsets of an old consumer group to a new one, so that nothing is read twice or skipped.

    python examples/carry_offsets.py nexus-consumer-group nexus-enricher [--execute]

It copies the offsets of the ingestion topic and reads the workers' settings (NEXUS_KAFKA_...). Stop both groups first;
otherwise the broker refuses the commit, or a worker overwrites it. Without ``--execute`` it only prints the offsets.
"""

from __future__ import annotations

import argparse
import asyncio

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from nexus_stream.kafka.clients import client_options
from nexus_stream.settings import Settings, load_settings


async def carry(settings: Settings, old_group: str, new_group: str, *, execute: bool) -> dict[TopicPartition, int]:
    """Return the old group's committed offset of each partition. With ``execute``, commit them for the new group."""
    partitions = await _partitions(settings)
    async with _Member(settings, old_group) as old:
        old.assign(partitions)
        committed = {partition: await old.committed(partition) for partition in partitions}
    offsets = {partition: offset for partition, offset in committed.items() if offset is not None}
    if execute and offsets:
        async with _Member(settings, new_group) as new:
            new.assign(list(offsets))
            await new.commit(offsets)
    return offsets


class _Member(AIOKafkaConsumer):  # type: ignore[misc]
    """A client that reads and commits a group's offsets without joining the group."""

    def __init__(self, settings: Settings, group: str) -> None:
        super().__init__(**client_options(settings), group_id=group, enable_auto_commit=False)


async def _partitions(settings: Settings) -> list[TopicPartition]:
    admin = AIOKafkaAdminClient(**client_options(settings))
    await admin.start()
    try:
        (found,) = await admin.describe_topics([settings.ingestion_topic])
    finally:
        await admin.close()
    numbers = sorted(partition["partition"] for partition in found["partitions"])
    return [TopicPartition(settings.ingestion_topic, number) for number in numbers]


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("old_group")
    parser.add_argument("new_group")
    parser.add_argument("--execute", action="store_true")
    options = parser.parse_args()
    settings = load_settings()
    offsets = asyncio.run(carry(settings, options.old_group, options.new_group, execute=options.execute))
    for partition, offset in offsets.items():
        print(f"{partition.topic} {partition.partition}: {offset}")
    if not offsets:
        print(f"{options.old_group} has committed nothing on {settings.ingestion_topic}")
    elif not options.execute:
        print("nothing was committed; add --execute")


if __name__ == "__main__":
    main()
