"""All processes that the files in deploy/ start."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.deploy_files import (
    DEPLOY,
    Process,
    compose_processes,
    env_file,
    kubernetes_processes,
    kustomized,
    systemd_processes,
)

_SECRET = "0123456789abcdef"


@pytest.fixture(scope="session")
def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())
    return document


def all_processes() -> list[Process]:
    """The processes of all files, with secrets filled in."""
    document = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())
    variables = {"NEXUS_CONSOLE_TOKEN": _SECRET}
    variables = {**env_file(DEPLOY / "compose" / "env.example"), **variables}
    # The operator's settings in /etc/nexus-stream/env, with the names of the setup guide.
    shared = {"SUPABASE_DB_URL": "postgresql://user:word@db.example.com/postgres?sslmode=verify-full"}
    systemd = [
        Process(unit.name, unit.argv, {**shared, **unit.environment}, unit.grace_seconds, unit.memory_limited)
        for unit in systemd_processes()
    ]
    return [
        *compose_processes(document, variables),
        *kubernetes_processes([*kustomized("base"), *kustomized("setup")]),
        *systemd,
    ]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """``process``: each process; ``worker``: each process that runs until it is stopped."""
    for name in ("process", "worker"):
        if name in metafunc.fixturenames:
            processes = [item for item in all_processes() if name == "process" or item.role != "tool"]
            metafunc.parametrize(name, processes, ids=lambda item: item.name)
