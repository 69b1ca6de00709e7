"""Apache Kafka without Docker: one KRaft node, or several that share a controller quorum, on loopback ports.

From: tests and ``make kafka``. To: `KafkaNode` processes (node.py) with their data under one folder. A second start on
the same folder finds the data, the cluster id and the ports of the first.
"""

from __future__ import annotations

import base64
import json
import socket
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import IO

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from nexus_stream.host.file_lock import DirectoryInUseError, lock_file
from nexus_stream.host.free_ports import LOOPBACK, free_port
from tests.kafka.jars import DEFAULT_CACHE, available, resolve_jars
from tests.kafka.node import KafkaNode, end_leftover
from tests.kafka.security import ClusterAdmin, SecurityOptions, TlsFiles

__all__ = ["KafkaCluster", "SecurityOptions", "available"]

_READY_TIMEOUT_SECONDS = 90.0
_STOP_TIMEOUT_SECONDS = 20.0


class KafkaCluster:
    """Nodes that were started together. Use `KafkaCluster.start`; leaving a ``with`` block stops them."""

    def __init__(self, nodes: Sequence[KafkaNode], cluster_id: str, lock: IO[str], tls: TlsFiles | None = None) -> None:
        self._nodes = tuple(nodes)
        self.cluster_id = cluster_id
        self._lock = lock
        self._tls = tls

    @classmethod
    def start(
        cls,
        nodes: int = 1,
        *,
        data_dir: Path,
        preferred_port: int | None = None,
        overrides: Mapping[str, str] | None = None,
        security: SecurityOptions | None = None,
        jars_cache: Path = DEFAULT_CACHE,
    ) -> KafkaCluster:
        """Start a cluster and return when every node answers and knows the others.

        Args:
            nodes: How many; replication factors of Kafka's own topics follow, up to 3.
            data_dir: One folder per node is made here. Data in it is used again, with its ports if they are free.
            preferred_port: Of the first node, if it is free; else, as for the other nodes, that of the last start here
                or any free one.
            overrides: More ``server.properties`` for every node, Kafka's option names.
            security: TLS, SASL and ACLs (security.py); None for plain text in which everybody may do everything. See
                `bootstrap_servers`, `mtls_bootstrap_servers`, `ca_file`, `client_certificate` and `admin`.
            jars_cache: Where the jars are kept.

        Raises:
            RuntimeError: Java or Maven is missing, another launcher uses the folder, or a node did not come up;
                with its last log lines.
        """
        if reason := available():
            raise RuntimeError(reason)
        jars = resolve_jars(jars_cache)
        data_dir = data_dir.resolve()
        data_dir.mkdir(parents=True, exist_ok=True)
        try:
            lock = lock_file(data_dir / "lock")
        except DirectoryInUseError as error:
            raise RuntimeError(f"{data_dir} is used by {error.owner}") from error
        cluster = cls((), "", lock)
        try:
            # With the lock ours, a JVM that still runs on this folder belongs to no launcher.
            for folder in data_dir.glob("node-*"):
                end_leftover(folder)
            cluster._tls = TlsFiles(data_dir / "tls") if security else None
            layout = _layout(data_dir, nodes, preferred_port)
            cluster.cluster_id = layout.cluster_id
            properties = _properties(data_dir, layout)
            for node_id in properties:
                if cluster._tls and security:
                    properties[node_id] |= cluster._tls.properties(security, layout.listeners(node_id))
                properties[node_id] |= overrides or {}
            cluster._nodes = tuple(
                KafkaNode(
                    *(node_id, data_dir / f"node-{node_id}", port, properties[node_id], jars),
                    admin_port=layout.mtls_ports[node_id - 1] if security else port,
                )
                for node_id, port in enumerate(layout.client_ports, start=1)
            )
            for node in cluster._nodes:
                node.format(cluster.cluster_id)
            # All at once: a quorum answers only when more than half of it runs.
            for node in cluster._nodes:
                node.start()
            cluster.wait_until_ready()
        except BaseException:
            cluster.stop()
            raise
        return cluster

    @property
    def bootstrap_servers(self) -> str:
        """All nodes' addresses, also of those that are down. Of a secured cluster: the ``SASL_SSL`` listener's."""
        return ",".join(f"{LOOPBACK}:{node.port}" for node in self._nodes)

    @property
    def mtls_bootstrap_servers(self) -> str:
        """The addresses of a secured cluster's listener for client certificates (security protocol ``SSL``)."""
        assert self._tls is not None, "the cluster is not secured"
        return ",".join(f"{LOOPBACK}:{node.admin_port}" for node in self._nodes)

    @property
    def ca_file(self) -> Path:
        """A secured cluster's certificate authority, for ``NEXUS_KAFKA_CA_FILE``."""
        assert self._tls is not None, "the cluster is not secured"
        return self._tls.ca_file

    def client_certificate(self, name: str) -> tuple[Path, Path]:
        """Certificate and key of the principal ``User:<name>``, made when first asked for; for a secured cluster."""
        assert self._tls is not None, "the cluster is not secured"
        return self._tls.client_certificate(name)

    @cached_property
    def admin(self) -> ClusterAdmin:
        """Adds users and ACLs to a secured cluster while it runs."""
        assert self._tls is not None, "the cluster is not secured"
        return ClusterAdmin(
            AdminClient({"bootstrap.servers": self.mtls_bootstrap_servers, **self._tls.admin_options()})
        )

    @property
    def nodes(self) -> tuple[KafkaNode, ...]:
        """All nodes, by id."""
        return self._nodes

    def node(self, node_id: int) -> KafkaNode:
        """A node by its id, from 1."""
        return self._nodes[node_id - 1]

    def wait_until_ready(self, timeout_seconds: float = _READY_TIMEOUT_SECONDS) -> None:
        """Wait until each running node answers and lists all running nodes as brokers.

        Raises:
            RuntimeError: a node ended, or the time is up.
        """
        running = [node for node in self._nodes if node.pid is not None]
        expected = {node.node_id for node in running}
        deadline = time.monotonic() + timeout_seconds
        for node in running:
            while not expected <= _known_brokers(node.admin_port, self._tls):
                if node.pid is None:
                    raise RuntimeError(f"Kafka node {node.node_id} ended at start:\n{node.last_log_lines()}")
                if time.monotonic() > deadline:
                    raise RuntimeError(
                        f"Kafka node {node.node_id} not ready in {timeout_seconds} s:\n{node.last_log_lines()}"
                    )
                time.sleep(0.2)

    def stop(self) -> None:
        """Stop all nodes: at once, since the last of a quorum waits for the others when they go one by one."""
        for node in self._nodes:
            node.terminate()
        deadline = time.monotonic() + _STOP_TIMEOUT_SECONDS
        for node in self._nodes:
            node.stop(max(0.1, deadline - time.monotonic()))
        self._lock.close()

    def __enter__(self) -> KafkaCluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def _known_brokers(port: int, tls: TlsFiles | None) -> set[int]:
    """The ids of the brokers a node knows; empty while it does not answer."""
    secured = tls.admin_options() if tls else {}
    # Not librdkafka's default logger: refused connections are expected while a JVM starts.
    quiet: dict[str, str | int] = {"socket.timeout.ms": 2000, "log_level": 0}
    client = AdminClient({"bootstrap.servers": f"{LOOPBACK}:{port}", **quiet, **secured})
    try:
        return {int(broker) for broker in client.list_topics(timeout=2).brokers}
    except KafkaException:
        return set()


@dataclass(frozen=True, slots=True)
class _Layout:
    """What a cluster keeps from one start to the next; ports by node, in order."""

    cluster_id: str
    client_ports: list[int]
    controller_ports: list[int]
    mtls_ports: list[int]

    def listeners(self, node_id: int) -> dict[str, int]:
        """A secured node's ports by listener."""
        of_node = node_id - 1
        return {
            "SASL_SSL": self.client_ports[of_node],
            "MTLS": self.mtls_ports[of_node],
            "CONTROLLER": self.controller_ports[of_node],
        }


def _layout(data_dir: Path, nodes: int, preferred_port: int | None) -> _Layout:
    """The cluster id and the ports: those of the last start here, else new ones."""
    file = data_dir / "cluster.json"
    known = json.loads(file.read_text()) if file.exists() else {}
    if known and len(known["client_ports"]) != nodes:
        raise RuntimeError(f"{data_dir} holds a cluster of {len(known['client_ports'])} nodes, not {nodes}")
    client_ports = _still_free(known.get("client_ports")) or _free_ports(nodes)
    if preferred_port is not None and preferred_port not in client_ports and _is_free(preferred_port):
        client_ports[0] = preferred_port
    controller_ports = _still_free(known.get("controller_ports")) or _free_ports(nodes, but_not=client_ports)
    taken = [*client_ports, *controller_ports]
    mtls_ports = _still_free(known.get("mtls_ports")) or _free_ports(nodes, but_not=taken)
    layout = _Layout(known.get("cluster_id") or _new_cluster_id(), client_ports, controller_ports, mtls_ports)
    file.write_text(json.dumps(asdict(layout)) + "\n")
    return layout


def _new_cluster_id() -> str:
    # 22 characters of URL-safe base64; tools take a leading dash for an option (Kafka's own Uuid.randomUuid avoids it).
    while (text := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return text


def _is_free(port: int) -> bool:
    """Whether a JVM could listen on this loopback port now."""
    with socket.socket() as probe:
        # As Java does: connections of a node that just ended are no obstacle to its next start.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def _still_free(ports: list[int] | None) -> list[int] | None:
    return ports if ports and all(_is_free(port) for port in ports) else None


def _free_ports(count: int, but_not: Sequence[int] = ()) -> list[int]:
    ports: list[int] = []
    while len(ports) < count:
        ports.append(free_port([*but_not, *ports]))
    return ports


def _properties(data_dir: Path, layout: _Layout) -> dict[int, dict[str, str]]:
    """``server.properties`` of each node: small, quick to join groups, and nothing created by accident."""
    copies = str(min(3, len(layout.client_ports)))
    voters = ",".join(f"{node_id}@{LOOPBACK}:{port}" for node_id, port in enumerate(layout.controller_ports, start=1))
    ports = zip(layout.client_ports, layout.controller_ports, strict=True)
    properties = {}
    for node_id, (client, controller) in enumerate(ports, start=1):
        properties[node_id] = {
            "process.roles": "broker,controller",
            "node.id": str(node_id),
            "controller.quorum.voters": voters,
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "listeners": f"PLAINTEXT://{LOOPBACK}:{client},CONTROLLER://{LOOPBACK}:{controller}",
            "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{client}",
            "log.dirs": str(data_dir / f"node-{node_id}" / "log"),
            "auto.create.topics.enable": "false",
            # A group's first member need not wait for a second one.
            "group.initial.rebalance.delay.ms": "0",
            "offsets.topic.replication.factor": copies,
            "offsets.topic.num.partitions": "5",
            "transaction.state.log.replication.factor": copies,
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "2",
            "share.coordinator.state.topic.replication.factor": copies,
            "share.coordinator.state.topic.min.isr": "1",
            "num.network.threads": "2",
            "num.io.threads": "4",
            # A killed node is let in again when its old session ends: 9 s by default.
            "broker.heartbeat.interval.ms": "500",
            "broker.session.timeout.ms": "4000",
            # The default of 128 MiB would be a third of this heap.
            "log.cleaner.dedupe.buffer.size": "16777216",
        }
    return properties
