"""Print enriched prospects as they arrive: a subscriber in Python, with aiokafka.

    pip install aiokafka
    python examples/subscriber.py                                 # 127.0.0.1:9092
    python examples/subscriber.py --group my-service --bootstrap broker.example.com:9092

Each line is one record. The header ``ce_type`` names its kind: an enriched prospect
(contracts/enriched-prospect.v1.schema.json) or an erased session (contracts/erased-session.v1.schema.json). Delivery is
at least once: a repeated record has the same ``ce_id`` header. ``snapshot_at_ms``, then ``enriched_at``, give the order
of a session's prospects.
"""

import argparse
import asyncio
import json
import os
import signal

from aiokafka import AIOKafkaConsumer


async def main() -> None:
    """Read until Ctrl-C."""
    parser = argparse.ArgumentParser(description="Print enriched prospects as they arrive.")
    parser.add_argument("--bootstrap", default=os.environ.get("NEXUS_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9092"))
    parser.add_argument("--topic", default=f"{os.environ.get('NEXUS_TOPIC_PREFIX', '')}prospects-enriched")
    parser.add_argument("--group", default="example-subscriber", help="members of one group share the partitions")
    arguments = parser.parse_args()

    consumer = AIOKafkaConsumer(
        arguments.topic,
        bootstrap_servers=arguments.bootstrap,
        group_id=arguments.group,
        auto_offset_reset="earliest",  # a new group reads the topic from its oldest record
        enable_auto_commit=False,
        session_timeout_ms=6000,
        heartbeat_interval_ms=1000,
    )
    await consumer.start()
    stop = asyncio.Event()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signal_number, stop.set)
    print(f"Reading {arguments.topic} at {arguments.bootstrap} as group {arguments.group}. Ctrl-C stops.", flush=True)
    try:
        while not stop.is_set():
            batches = await consumer.getmany(timeout_ms=500)
            for records in batches.values():
                for record in records:
                    show(record.value, dict(record.headers))
            if batches:
                await consumer.commit()  # after the work, never before
    finally:
        await consumer.stop()


def show(value: bytes, headers: dict[str, bytes]) -> None:
    """One record, one line."""
    record = json.loads(value)
    if headers.get("ce_type") == b"nexus.prospect.erased.v1":
        # The person was erased, or the session was idle for too long: delete all your data of the session.
        print(f"{record['erased_at']} {record['session_id']}: erased ({record['reason']})", flush=True)
        return
    prospect = record["prospect"]
    print(
        f"{record['enriched_at']} {record['session_id']}: {prospect['nombre'] or '(no name yet)'}, "
        f"{prospect['email'] or prospect['telefono'] or 'no contact yet'}, interest {prospect['nivel_interes']}/10, "
        f"{prospect['momento_optimo']}, objections {prospect['objeciones']} [{headers.get('ce_id', b'').decode()}]",
        flush=True,
    )


if __name__ == "__main__":
    asyncio.run(main())
