"""What lets several test processes run at once: ports of their own, and tests that share a service on one worker.

From: tests/conftest.py. A worker of pytest-xdist is a process; so is every other start of pytest on the machine.
"""

from __future__ import annotations

import fcntl
import functools
import itertools
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

__all__ = ["ByService", "Groups", "claim_ports"]

_ROOT = Path(__file__).parents[2]
# Below the ports of `free_port`, from which `nexus dev` and its processes choose.
_RANGES, _FIRST_PORT, _PORTS_A_RANGE = 40, 10_000, 250
# In the id of a test: the service that it runs on.
_SERVICE = re.compile(r"[\[-](embedded|kafka|debian-15)[\]-]")
# Folders whose tests of a service are dealt to so many workers; each worker has that service for itself. What names no
# service there runs by module.
_DEALT = {"tests/chaos": 2}


def claim_ports() -> tuple[int, int]:
    """First and last port of a range that no other test process has, until this one ends.

    Otherwise a process could choose a port that another process has chosen and not bound yet.
    """
    for number in range(_RANGES):
        path = Path(tempfile.gettempdir()) / f"nexus-tests-ports-{os.getuid()}-{number}.lock"
        # Stays open: the system lets go of the lock when this process ends.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
        else:
            first = _FIRST_PORT + _PORTS_A_RANGE * number
            return first, first + _PORTS_A_RANGE - 1
    raise RuntimeError(f"{_RANGES} test processes run at once: no range of ports is left")


class Groups:
    """The names that tests have in common with those that run on the same worker."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._next: dict[str, Iterator[int]] = {}

    def of(self, nodeid: str) -> str:
        """The name of a test's group: always the same one."""
        if nodeid not in self._names:
            module, _, test = nodeid.partition("::")
            home, service = _home(module), _SERVICE.search(test)
            name = f"{home} {service[1]}" if service else home
            if home in _DEALT:
                numbers = self._next.setdefault(name, itertools.cycle(range(_DEALT[home])))
                name = f"{name} {next(numbers)}" if service else module
            self._names[nodeid] = name
        return self._names[nodeid]


class ByService(LoadScopeScheduling):
    """Sends the tests that share a service to one worker, so that the service starts once.

    ``--dist loadgroup`` of pytest-xdist 3.8 keeps nothing together under pytest 9.2.
    """

    def __init__(self, config: pytest.Config, log: Any) -> None:
        super().__init__(config, log)
        self._groups = Groups()

    def _split_scope(self, nodeid: str) -> str:
        return self._groups.of(nodeid)


@functools.cache
def _home(module: str) -> str:
    """The folder whose conftest.py starts services for all modules below it; else the module itself."""
    for folder in reversed(Path(module).parents):
        conftest = _ROOT / folder / "conftest.py"
        if conftest.is_file() and re.search(r'scope="(package|session)"', conftest.read_text(encoding="utf-8")):
            return folder.as_posix()
    return module
