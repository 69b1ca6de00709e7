"""One Apache Kafka process: format its folder once, start it, wait for it, stop it, kill it, start it again.

From: `KafkaCluster` (launcher.py), which knows the other nodes. To: a JVM on loopback ports whose data stays in
``<folder>/log`` across `kill` and `start`. Only the pid this file started is ever signalled.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from nexus_stream.embedded.processes import ProcessIdentity, kill_process, last_lines, spawn, stop_process
from tests.kafka.jars import java

__all__ = ["KafkaNode", "end_leftover"]

_LOG4J = Path(__file__).with_name("log4j2.properties")
_HEAP = ("-Xmx384m", "-Xms256m", "-XX:+UseSerialGC")
# The first compiler alone: a node of minutes never earns back the second. A start takes 5 s of a core instead of 9.
_COMPILER = "-XX:TieredStopAtLevel=1"
_FORMAT_TIMEOUT_SECONDS = 120
_LEFTOVER_SECONDS = 20
_PID_FILE = "pid.json"


@dataclass
class KafkaNode:
    """One node, broker and controller in one.

    Attributes:
        node_id: From 1.
        folder: Holds ``server.properties``, ``server.log``, ``pid.json`` and the data.
        port: Where clients connect, on 127.0.0.1.
        admin_port: Where the launcher connects: the same, or a secured node's listener for certificates.
        properties: Its ``server.properties``, Kafka's option names.
        jars: The classpath's folder.
    """

    node_id: int
    folder: Path
    port: int
    properties: Mapping[str, str]
    jars: Path
    admin_port: int
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def log_file(self) -> Path:
        """What the node printed, all starts appended."""
        return self.folder / "server.log"

    @property
    def pid(self) -> int | None:
        """The running JVM's pid."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def format(self, cluster_id: str) -> None:
        """Write ``server.properties``, and initialise the data folder unless it holds a node already.

        Raises:
            RuntimeError: Kafka's StorageTool failed.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        text = "".join(f"{name}={value}\n" for name, value in self.properties.items())
        self._properties_file.write_text(text)
        if (self.folder / "log" / "meta.properties").exists():
            return
        answer = subprocess.run(
            [
                *self._java(_COMPILER),
                *("kafka.tools.StorageTool", "format"),
                *("--cluster-id", cluster_id, "--config", str(self._properties_file)),
            ],
            capture_output=True,
            text=True,
            timeout=_FORMAT_TIMEOUT_SECONDS,
            check=False,
        )
        if answer.returncode != 0:
            raise RuntimeError(f"StorageTool format failed:\n{(answer.stdout + answer.stderr)[-2000:]}")

    def start(self) -> None:
        """Start the JVM and return at once; `KafkaCluster.wait_until_ready` waits for its answer."""
        if self.pid is not None:
            return
        argv = [*self._java(*_HEAP, _COMPILER), "kafka.Kafka", str(self._properties_file)]
        self._process = spawn(argv, log_path=self.log_file)
        if identity := ProcessIdentity.of("kafka", self._process.pid):
            self._pid_file.write_text(json.dumps(asdict(identity)) + "\n")

    def terminate(self) -> None:
        """Ask it to stop; returns at once."""
        if self.pid is not None and self._process is not None:
            self._process.terminate()

    def stop(self, timeout_seconds: float = 20.0) -> None:
        """Stop gracefully; kill when it takes longer than the timeout."""
        if self._process is not None:
            stop_process(self._process, timeout_seconds)
            self._ended()

    def kill(self) -> None:
        """SIGKILL: nothing is flushed, as when the process dies."""
        if self._process is not None:
            kill_process(self._process)
            self._ended()

    def last_log_lines(self) -> str:
        """The end of the log, for an error message."""
        return last_lines(self.log_file)

    def _ended(self) -> None:
        self._process = None
        self._pid_file.unlink(missing_ok=True)

    @property
    def _properties_file(self) -> Path:
        return self.folder / "server.properties"

    @property
    def _pid_file(self) -> Path:
        return self.folder / _PID_FILE

    def _java(self, *options: str) -> list[str]:
        program = java()
        if program is None:
            raise RuntimeError("there is no java on PATH")
        return [program, *options, f"-Dlog4j2.configurationFile={_LOG4J.as_uri()}", "-cp", f"{self.jars}/*"]


def end_leftover(folder: Path) -> None:
    """End the JVM that a killed launcher left on a node's folder. Only for the holder of the data folder's lock."""
    pid_file = folder / _PID_FILE
    try:
        leftover = ProcessIdentity(**json.loads(pid_file.read_text())).find()
    except (OSError, ValueError, TypeError):
        return
    if leftover is not None:
        try:
            leftover.terminate()
            leftover.wait(_LEFTOVER_SECONDS)
        except psutil.TimeoutExpired:
            leftover.kill()
            leftover.wait(_LEFTOVER_SECONDS)
        except psutil.NoSuchProcess:
            pass  # it ended by itself meanwhile
    pid_file.unlink(missing_ok=True)
