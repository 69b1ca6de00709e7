"""``make kafka``: one Apache Kafka node for a developer without Docker, until Ctrl-C.

To: 127.0.0.1:9092, or a free port when that one is taken. Its data stays in ``.nexus/kafka``.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from pathlib import Path

from tests.kafka.jars import available
from tests.kafka.launcher import KafkaCluster

_ROOT = Path(__file__).parents[2]
_WATCH_SECONDS = 1.0


def main() -> int:
    """Run until interrupted; 1 when it cannot run or a node ends by itself."""
    parser = argparse.ArgumentParser(prog="make kafka", description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=9092, help="of the first node; 9092 by default")
    parser.add_argument("--nodes", type=int, default=1, help="1, or 3 for replication")
    parser.add_argument("--data-dir", type=Path, help=".nexus/kafka by default")
    arguments = parser.parse_args()
    if reason := available():
        print(f"{reason}. `make dev` brings a broker of its own; compose.yaml has one for Docker.", file=sys.stderr)
        return 1
    stopping = threading.Event()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signal_number, lambda *_: stopping.set())
    name = "kafka" if arguments.nodes == 1 else f"kafka-{arguments.nodes}"
    data_dir = (arguments.data_dir or _ROOT / ".nexus" / name).resolve()
    print("Starting Apache Kafka ...", flush=True)
    try:
        cluster = KafkaCluster.start(arguments.nodes, data_dir=data_dir, preferred_port=arguments.port)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    with cluster:
        if cluster.node(1).port != arguments.port:
            print(f"Port {arguments.port} is taken: another was chosen.", flush=True)
        print(f"Apache Kafka is ready: {cluster.bootstrap_servers}, data in {data_dir}", flush=True)
        print(f"\n  NEXUS_KAFKA_BOOTSTRAP_SERVERS={cluster.bootstrap_servers}\n", flush=True)
        print("Next: `nexus topics apply` with that variable set. Ctrl-C stops it.", flush=True)
        while not stopping.wait(_WATCH_SECONDS):
            if ended := [node for node in cluster.nodes if node.pid is None]:
                print(f"Kafka node {ended[0].node_id} ended:\n{ended[0].last_log_lines()}", file=sys.stderr)
                return 1
        print("Stopping ...", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
