"""Settings for every tier: a folder and ports of their own, who runs which test, what Hypothesis may rely on."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from nexus_stream.host import free_ports
from tests.support.side_by_side import ByService, claim_ports

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

free_ports._FIRST_PORT, free_ports._LAST_PORT = claim_ports()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByService:
    """With ``-n``: who runs which test."""
    return ByService(config, log)


def pytest_sessionfinish(exitstatus: int) -> None:
    """Remove the folder, unless somebody may want to look into it."""
    if _own_root is None:
        return
    if exitstatus in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}:
        shutil.rmtree(_own_root, ignore_errors=True)
    else:
        print(f"\nThe tests' folders are kept: {_own_root}")
