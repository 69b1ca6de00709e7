"""Settings for every tier: a folder of their own, and what Hypothesis may take for granted."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

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


def pytest_sessionfinish(exitstatus: int) -> None:
    """Remove the folder, unless somebody may want to look into it."""
    if _own_root is None:
        return
    if exitstatus in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}:
        shutil.rmtree(_own_root, ignore_errors=True)
    else:
        print(f"\nThe tests' folders are kept: {_own_root}")
