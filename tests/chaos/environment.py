"""One broker and one PostgreSQL for many rows, and the ways to hurt them.

From: the rows, each with topics, groups and a database of its own. To: the embedded broker, or three Apache Kafka nodes
(replication 3, ``min.insync.replicas`` 2, 384 MB heaps); every process is stopped by whoever started it.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, get_args

import asyncpg

from nexus_stream.embedded.broker import EmbeddedBroker
from nexus_stream.embedded.postgres import EmbeddedPostgres
from tests.kafka.launcher import KafkaCluster, available

__all__ = ["BROKERS", "BrokerKind", "Environment", "missing"]

BrokerKind = Literal["embedded", "kafka"]
BROKERS: tuple[BrokerKind, ...] = get_args(BrokerKind)

_KAFKA_NODES = 3


def missing(kind: BrokerKind) -> str | None:
    """Why that broker cannot run here; None if it can."""
    return available() if kind == "kafka" else None


class Environment:
    """A broker and a database server; a context manager that stops both."""

    def __init__(self, kind: BrokerKind, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # The database server runs as a user of its own.
        folder.chmod(0o755)
        self.kind = kind
        self.folder = folder
        self.kafka: KafkaCluster | None = None
        self.embedded: EmbeddedBroker | None = None
        if kind == "kafka":
            self.kafka = KafkaCluster.start(
                _KAFKA_NODES, data_dir=folder / "kafka", overrides={"min.insync.replicas": "2"}
            )
        else:
            self.embedded = EmbeddedBroker.start(log_path=folder / "broker.log")
        try:
            self.postgres = EmbeddedPostgres.start(folder / "postgres")
        except BaseException:
            self._stop_broker()
            raise

    @property
    def bootstrap_servers(self) -> str:
        """The broker's address."""
        broker = self.kafka or self.embedded
        assert broker is not None
        return broker.bootstrap_servers

    @property
    def variables(self) -> dict[str, str]:
        """Settings that go with this broker."""
        return {"NEXUS_TOPIC_REPLICATION_FACTOR": str(_KAFKA_NODES)} if self.kafka else {}

    async def create_database(self, name: str) -> str:
        """Create a database; returns its DSN."""
        connection = await asyncpg.connect(self.postgres.dsn)
        try:
            await connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
            await connection.execute(f'CREATE DATABASE "{name}"')
        finally:
            await connection.close()
        return self.postgres.dsn.rsplit("/", 1)[0] + f"/{name}"

    # Faults

    async def stop_database_for(self, seconds: float) -> None:
        """Stop the database server, as for maintenance, and start it again on the same port."""
        postgres = self.postgres
        await asyncio.to_thread(postgres.stop)
        await asyncio.sleep(seconds)
        self.postgres = await asyncio.to_thread(EmbeddedPostgres.start, postgres.data_dir, postgres.port)

    async def kill_node_for(self, node_id: int, seconds: float) -> None:
        """``kill -9`` a Kafka node, and start it again on its data."""
        assert self.kafka is not None
        node = self.kafka.node(node_id)
        await asyncio.to_thread(node.kill)
        await asyncio.sleep(seconds)
        node.start()
        await asyncio.to_thread(self.kafka.wait_until_ready)

    def kill_embedded_broker(self) -> None:
        """``kill -9`` the embedded broker."""
        assert self.embedded is not None
        self.embedded.kill()

    async def start_embedded_broker_again(self) -> None:
        """Start another one, empty, on the port of the one that was killed."""
        assert self.embedded is not None
        self.embedded = await asyncio.to_thread(EmbeddedBroker.start, self.embedded.log_path, self.embedded.port)

    def stop(self) -> None:
        """Stop both."""
        self.postgres.stop()
        self._stop_broker()

    def _stop_broker(self) -> None:
        if self.kafka is not None:
            self.kafka.stop()
        if self.embedded is not None:
            self.embedded.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
