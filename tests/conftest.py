"""Settings for every tier: what Hypothesis may take for granted on a shared machine."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# No deadline per example: a busy machine is no bug. In CI the same examples each time: a red run means a change.
settings.register_profile(
    "shared-machine",
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("shared-machine")
