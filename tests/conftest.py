"""Settings for every tier: a folder and ports of their own, what runs beside what, what Hypothesis may rely on."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

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

# Values of parameters that name a service: a package's tests of one service run on one worker, which starts it once.
_SERVICES = {"embedded", "kafka", "debian-15"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With ``--dist loadgroup``, keep together what shares a service: a module, or a package and its fixtures."""
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(_group(item)))


def _group(item: pytest.Item) -> str:
    fixtures = item._fixtureinfo.name2fixturedefs.values() if isinstance(item, pytest.Function) else ()
    shared = {last.baseid for *_, last in fixtures if last.scope in {"package", "session"} and last.baseid}
    callspec = getattr(item, "callspec", None)
    parameters = [value for value in callspec.params.values() if isinstance(value, str)] if callspec else []
    where = min(shared, default=item.nodeid.partition("::")[0])
    return "-".join([where, *sorted(_SERVICES.intersection(parameters))])


def pytest_sessionfinish(exitstatus: int) -> None:
    """Remove the folder, unless somebody may want to look into it."""
    if _own_root is None:
        return
    if exitstatus in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}:
        shutil.rmtree(_own_root, ignore_errors=True)
    else:
        print(f"\nThe tests' folders are kept: {_own_root}")
