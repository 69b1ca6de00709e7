"""The files of ``nexus dev``, all below ``./.nexus``.

``dev.json`` has the addresses of a running ``nexus dev``: it exists only while everything is ready. ``dev.pids.json``
exists earlier: it gets every process at its start, so that the start after a ``kill -9`` can stop these processes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from nexus_stream.contracts.json_reading import json_object
from nexus_stream.embedded.processes import ProcessIdentity

__all__ = ["DevDirectory", "DevInfo", "stop_leftovers"]

_GRACE_SECONDS = 10.0
# The other processes need these two for a clean end, so these stop last. SIGINT is a fast shutdown of the database.
_SERVICES = {"broker": signal.SIGTERM, "database": signal.SIGINT}


@dataclass(frozen=True, slots=True)
class DevInfo:
    """The content of ``dev.json``."""

    gateway_url: str
    console_url: str
    database_url: str
    bootstrap_servers: str
    extractor: str
    pids: dict[str, int]


class DevDirectory:
    """The paths below ``./.nexus``; reads and writes its small files."""

    def __init__(self, root: Path = Path(".nexus"), *, ephemeral: bool = False) -> None:
        self.root = root.absolute()
        self.ephemeral = self.root / "ephemeral"
        data = self.ephemeral if ephemeral else self.root
        self.postgres = data / "postgres"
        self.tables = data / "data"
        self.logs = self.root / "logs"
        self.lock = self.root / "dev.lock"
        self.info = self.root / "dev.json"
        self.pids = self.root / "dev.pids.json"

    def log(self, role: str) -> Path:
        """Return the log file of a process."""
        return self.logs / f"{role}.log"

    def write_info(self, info: DevInfo) -> None:
        """Write ``dev.json``: everything is ready."""
        _write_json(self.info, dataclasses.asdict(info))

    def read_info(self) -> DevInfo | None:
        """Read ``dev.json``; None if no ``nexus dev`` is ready here."""
        try:
            return DevInfo(**_read_json(self.info))
        except TypeError:
            return None

    def write_processes(self, processes: list[ProcessIdentity]) -> None:
        """Write the processes started so far."""
        _write_json(self.pids, {"processes": [dataclasses.asdict(process) for process in processes]})

    def read_processes(self) -> list[ProcessIdentity]:
        """Read the processes of an earlier run; empty if it ended well or the file cannot be read."""
        content = _read_json(self.pids)
        try:
            return [ProcessIdentity(**entry) for entry in content["processes"]]
        except (TypeError, KeyError):
            return []

    def forget(self) -> None:
        """Delete the files that only a running ``nexus dev`` has."""
        self.info.unlink(missing_ok=True)
        self.pids.unlink(missing_ok=True)
        shutil.rmtree(self.ephemeral, ignore_errors=True)

    def reset(self) -> list[Path]:
        """Delete the database, the tables and the logs. Return the deleted paths."""
        paths = [self.root / "postgres", self.root / "postgres.lock", self.root / "data", self.logs, self.ephemeral]
        there = [path for path in paths if path.exists()]
        for path in there:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        self.forget()
        return there


def stop_leftovers(directory: DevDirectory) -> list[ProcessIdentity]:
    """Stop the processes that a killed ``nexus dev`` left, and return them. No other process is signalled.

    The caller holds the lock, so the ``nexus dev`` that recorded these processes has ended.
    """
    left = [(identity, process) for identity in directory.read_processes() if (process := identity.find())]
    workers = [process for identity, process in left if identity.role not in _SERVICES]
    _end(workers, signal.SIGTERM)
    for role, request in _SERVICES.items():
        _end([process for identity, process in left if identity.role == role], request)
    return [identity for identity, _ in left]


def _end(processes: list[psutil.Process], request: signal.Signals) -> None:
    for process in processes:
        # psutil compares the start time again right before the signal.
        with contextlib.suppress(psutil.Error):
            process.send_signal(request)
    _, alive = psutil.wait_procs(processes, timeout=_GRACE_SECONDS)
    for process in alive:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(alive, timeout=_GRACE_SECONDS)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    """Replace the file in one step: a reader sees the old or the new content, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}-", delete=False) as file:
        json.dump(content, file, indent=2)
        file.write("\n")
    os.replace(file.name, path)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json_object(path.read_bytes())
    except OSError:
        return {}
