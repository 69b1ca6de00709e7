"""Settings for every tier: a folder and ports of their own, what runs beside what, what Hypothesis may rely on."""

from __future__ import annotations

import fcntl
import functools
import itertools
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

from nexus_stream import free_ports

# No deadline per example: a busy machine is no bug. In CI the same examples each time: a red run means a change.
settings.register_profile(
    "shared-machine",
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("shared-machine")

# Every start of pytest closes the folder that all of a user's share to others, the database server's user too.
_ROOT_VARIABLE = "PYTEST_DEBUG_TEMPROOT"
_own_root: Path | None = None
if _ROOT_VARIABLE not in os.environ:
    _own_root = Path(tempfile.mkdtemp(prefix="nexus-tests-"))
    os.environ[_ROOT_VARIABLE] = str(_own_root)

# Each start of pytest chooses its ports from a range of its own. Otherwise one process could choose a port that another
# has chosen and not bound yet. All ranges lie below those of `free_port`, from which `nexus dev` chooses.
_RANGES, _RANGE_START, _RANGE_PORTS = 40, 10_000, 250


def _claim_a_range() -> int:
    """Open and lock the first range's file that nobody holds; the system lets go of it when this process ends."""
    for number in range(_RANGES):
        path = Path(tempfile.gettempdir()) / f"nexus-tests-ports-{os.getuid()}-{number}.lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
        else:
            return number
    raise RuntimeError(f"{_RANGES} test runs at once: no range of ports is left")


free_ports._FIRST_PORT = _RANGE_START + _RANGE_PORTS * _claim_a_range()
free_ports._LAST_PORT = free_ports._FIRST_PORT + _RANGE_PORTS - 1

_ROOT = Path(__file__).parents[1]
# In the id of a test: the service that it runs on.
_SERVICE = re.compile(r"[\[-](embedded|kafka|debian-15)[\]-]")
# Folders whose tests of a service are dealt to so many workers; each worker has that service for itself.
_DEALT = {"tests/chaos": 2}


@functools.cache
def _home(module: str) -> str:
    """The folder whose conftest.py starts services for all modules below it; else the module itself."""
    for folder in reversed(Path(module).parents):
        conftest = _ROOT / folder / "conftest.py"
        if conftest.is_file() and re.search(r'scope="(package|session)"', conftest.read_text(encoding="utf-8")):
            return folder.as_posix()
    return module


class ByService(LoadScopeScheduling):
    """Sends the tests that share a service to one worker, so that the service starts once."""

    def __init__(self, config: pytest.Config, log: Any) -> None:
        super().__init__(config, log)
        self._groups: dict[str, str] = {}
        self._next: dict[str, Iterator[int]] = {}

    def _split_scope(self, nodeid: str) -> str:
        if nodeid not in self._groups:
            module, _, test = nodeid.partition("::")
            home, service = _home(module), _SERVICE.search(test)
            group = f"{home} {service[1]}" if service else home
            if service and home in _DEALT:
                numbers = self._next.setdefault(group, itertools.cycle(range(_DEALT[home])))
                group = f"{group} {next(numbers)}"
            self._groups[nodeid] = group
        return self._groups[nodeid]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """With ``-n``. (``--dist loadgroup`` of pytest-xdist 3.8 keeps nothing together under pytest 9.2.)"""
    return ByService(config, log)


def pytest_sessionfinish(exitstatus: int) -> None:
    """Remove the folder, unless somebody may want to look into it."""
    if _own_root is None:
        return
    if exitstatus in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}:
        shutil.rmtree(_own_root, ignore_errors=True)
    else:
        print(f"\nThe tests' folders are kept: {_own_root}")
